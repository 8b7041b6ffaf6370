"""Study: what each kind of module learns of a new subject against what it forgets of the old, as curves.

    python -m recipes.learning_forgetting                 # every run that has no record yet, then tables and plots
    python -m recipes.learning_forgetting --report        # tables and plots of the records there are
    python -m recipes.learning_forgetting --dry-run       # what is done and what is to do

The base is `tiny`, the subject PubMed, the old domain general English that the base was trained on. First a sweep:
each method at several learning rates on a short run, until the best has one on either side. Then the study itself:
each method at the rate that learned most in the sweep, for every seed. Then its knobs: other local weights and gate
weights, lower learning rates. Runs are computed in bfloat16 where the CPU has instructions for it, else in float32; what
that changes is seen on short runs of some methods, made again in float32. Each run gives a curve: points along training,
and the module at smaller weights; gated kinds also give thresholds calibrated after it. A run's record is a JSON file
named by the hash of its configuration; a run that has one is not made again, an interrupted one resumes.
Numbers are nats per token on held-out documents: gain = base - module on medical text, forgetting = module - base on
general text.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import addenda
from addenda.plug.scoring import Score
from addenda.writing.plain import PlainTraining
from recipes.common import Precision, computing_in, kind_as_recorded, load, losses, precision, study_texts
from recipes.frontier import LENGTH, report
from recipes.records import Named, Records, recorded, stamp
from recipes.study import conduct, parser_of

#: shares of general tokens to leave alone, the document lengths at which that is looked at, and tokens read at each
SHARES = (0.5, 0.75, 0.9, 0.99)
DOCUMENTS = (64, 256, 512)
#: weights below one at which a trained module is tried
WEIGHTS = (0.25, 0.5, 0.75)
SHARE_TOKENS = 8000
#: rows of a step, each of LENGTH tokens
ROWS = 16
#: tokens scored of each held-out text, along training and at the end
ALONG, END = 30_000, 60_000
SWEEP_TOKENS, SWEEP_SEED = 200_000, 0


@dataclass(frozen=True)
class Run(Named):
    """One training run; `method` is the curve it belongs to, `part` the part of the study."""

    FRONT = ("part", "method", "seed")
    part: str
    method: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    tokens: int = 2_000_000
    seed: int = 0


RESIDUES = {"extra": 0.2}
REGISTERS = {"count": 128, "init": "text"}
#: kind, options, settings and the learning rates of the sweep, by method
METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any], tuple[float, ...]]] = {
    "neutral-token": ("NeutralResidues", {**RESIDUES, "gate": "token"}, {"local": 1.0}, (1e-3, 3e-3, 1e-2)),
    "neutral-context": (
        "NeutralResidues",
        {**RESIDUES, "gate": "context"},
        {"local": 0.0, "gate_weight": 1.0},
        (1e-3, 3e-3, 1e-2),
    ),
    "lora": ("LoRA", {}, {}, (3e-4, 1e-3, 3e-3, 1e-2)),
    "adapter": ("ParallelAdapter", RESIDUES, {}, (3e-4, 1e-3, 3e-3, 1e-2)),
    "full": ("full", {}, {}, (1e-4, 3e-4, 1e-3, 3e-3)),
    "registers-joint": ("Registers", REGISTERS, {}, (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
    "registers-neutral": ("Registers", {**REGISTERS, "gate": "neutral"}, {"local": 0.1}, (1e-2, 3e-2, 1e-1)),
}
#: what else traces a method's curve: other options and settings, at the method's chosen rate times a factor
KNOBS: list[tuple[str, dict[str, Any], dict[str, Any], float]] = [
    ("lora", {}, {}, 1 / 3),
    ("adapter", {}, {}, 1 / 3),
    ("full", {}, {}, 1 / 3),
    ("registers-joint", {"init": "zeros"}, {}, 1.0),
    ("neutral-token", {}, {"local": 0.1}, 1.0),
    ("neutral-token", {}, {"local": 10.0}, 1.0),
    ("neutral-context", {}, {"gate_weight": 0.1}, 1.0),
    ("neutral-context", {}, {"gate_fit": False, "gate_lr": 1.0}, 1.0),
    ("registers-neutral", {}, {"local": 1.0}, 1.0),
]


#: methods whose run of the sweep, at the chosen rate, is made again in float32
COMPARED = ("lora", "adapter", "neutral-token", "registers-joint")


def run_of(part: str, method: str, lr: float, tokens: int, seed: int = SWEEP_SEED, **more: dict[str, Any]) -> Run:
    """A run of a method; `options` and `settings` go on top of its own."""
    kind, options, settings, _ = METHODS[method]
    own = (options | more.get("options", {}), settings | more.get("settings", {}))
    return Run(part, method, kind, *own, lr, tokens, seed)


def in_float32(rates: dict[str, float], tokens: int) -> list[Run]:
    """Short runs that tell what the precision of the others changes."""
    return [run_of("precision", method, rates[method], tokens) for method in COMPARED if method in rates]


def sweep(methods: Iterable[str], tokens: int) -> list[Run]:
    """Short runs at several learning rates a method."""
    return [run_of("sweep", name, lr, tokens) for name in METHODS if name in methods for lr in METHODS[name][3]]


def chosen_rates(records: Records) -> dict[str, float]:
    """The learning rate of each method that learned most in the sweep, with the method's options and settings of now."""
    best: dict[str, tuple[float, float]] = {}
    for record in records:
        run = record["run"]
        if run["part"] == "sweep" and (run["options"], run["settings"]) == METHODS[run["method"]][1:3]:
            gain = next(p["gain"][0] for p in record["points"] if p["origin"] == "end")
            best[run["method"]] = max(best.get(run["method"], (float("-inf"), 0.0)), (gain, run["lr"]))
    return {method: lr for method, (_, lr) in best.items()}


def study(rates: dict[str, float], tokens: int, seeds: list[int], knob_tokens: int | None = None) -> list[Run]:
    """Every method at its rate, seed after seed; then the knobs, seed after seed too, on as many tokens if not said."""
    runs = [run_of("study", name, rates[name], tokens, seed) for seed in seeds for name in METHODS if name in rates]
    for seed in seeds:
        for name, options, settings, factor in (knob for knob in KNOBS if knob[0] in rates):
            lr, more = float(f"{rates[name] * factor:.1e}"), {"options": options, "settings": settings}
            runs.append(run_of("knobs", name, lr, knob_tokens or tokens, seed, **more))
    return runs


def make(run: Run, records: Path, out: Path) -> str:
    """Train, measure, write the record; an interrupted run goes on from its checkpoints in `out`."""
    with computing_in("fp32" if run.part == "precision" else precision()):
        base = load(attn_implementation="eager")
        facts = stamp(run, base)  # before every weight is trained: the fingerprint is computed when first asked for
        measured = _every_weight if run.kind == "full" else _module
        return recorded(run, records, facts | measured(run, base, out / run.id))


def _every_weight(run: Run, base: addenda.Base, work: Path) -> dict[str, Any]:
    """Points along the training of every weight of a base, in place, from the rows that a module would see; and its end."""
    texts = study_texts()
    training = PlainTraining(
        base.model, base.tokenizer, texts.corpus, texts.replay, lr=run.lr, seed=run.seed, rows=ROWS, length=LENGTH,
        precision=precision(), work=work,
    )  # fmt: skip

    def after(step: int, steps: int) -> None:
        if step == steps or step % max(1, steps // 5) == 0:
            found = _point(base, None, "training", step * ROWS * LENGTH, ALONG)
            training.kept["points"] = [*training.kept.get("points", []), found]

    training.run(run.tokens, after)
    return {"points": [*training.kept.get("points", []), _point(base, None, "end", run.tokens, END)]}


def _module(run: Run, base: addenda.Base, work: Path) -> dict[str, Any]:
    """Points along a module's training and at its end; of the study and its knobs also at smaller weights and thresholds."""
    texts, options = study_texts(), dict(run.options)
    if run.kind == "LoRA":  # of equal size to the neutral residues
        twin = kind_as_recorded("NeutralResidues", {**RESIDUES, "gate": "token"}).adapters(base.anatomy)
        size = sum(p.numel() for adapter in twin.values() for p in adapter.parameters())
        options = {"rank": addenda.LoRA.rank_for(size, base.anatomy), **options}
    module, swept = (
        base.new("m", kind_as_recorded(run.kind, options), seed=run.seed),
        run.part not in ("study", "knobs"),
    )
    report = addenda.train(
        base, "m", corpus=texts.corpus, replay=texts.replay, replay_share=0.1, tokens=run.tokens, lr=run.lr,
        seed=run.seed, out=work, resume=True, log=False, precision=precision(), batch_rows=ROWS, length=LENGTH,
        validate_every=max(1, run.tokens // (ROWS * LENGTH) // (1 if swept else 5)),
        validation={"medical": texts.medical_valid, "forgetting-general": texts.general_valid},
        validation_tokens=ALONG, **run.settings,
    )  # fmt: skip
    points = [*_along(report), _point(base, {"m": 1.0}, "end", run.tokens, END)]
    alone = addenda.neutral_share(base, "m", texts.general_valid, tokens=SHARE_TOKENS)
    result = {"points": points, "parameters": module.size(), "seconds": report.seconds, "alone": asdict(alone)}
    if not swept:
        result["weights"] = [_point(base, {"m": weight}, "weight", weight, ALONG) for weight in WEIGHTS]
    if run.part == "study" and gated(run):
        result["thresholds"] = _calibrated(base)
    return result


def _along(report: addenda.TrainReport) -> Iterator[dict[str, Any]]:
    """Points at each validation of a run."""
    for entry in report.history:
        if "validation" in entry:
            changes = entry["validation"]["m"]
            gain, lost = (
                [changes[on][key] for key in ("value", "low", "high")] for on in ("medical", "forgetting-general")
            )
            yield {"origin": "training", "at": entry["step"] * ROWS * LENGTH, "gain": gain, "forgetting": lost}


def _calibrated(base: addenda.Base) -> list[dict[str, Any]]:
    """What a gated module gains and forgets under calibrated thresholds.

    Each threshold leaves a share of calibration text alone; the share is then measured on other held-out text, and
    gain and forgetting on documents of several lengths.
    """
    texts, points, before = study_texts(), list[dict[str, Any]](), dict[str, float]()
    for share in (None, *SHARES):
        if share is not None:
            now = addenda.calibrate(base, "m", texts.calibration, share=share, tokens=SHARE_TOKENS).thresholds
            if now == before:  # that share was left alone already
                points += [{**scored, "at": share} for scored in points[-len(DOCUMENTS) :]]
                continue
            before = now
        alone = addenda.neutral_share(base, "m", texts.general_valid, lengths=DOCUMENTS, tokens=SHARE_TOKENS)
        for length in DOCUMENTS:
            scored = _point(base, {"m": 1.0}, "threshold", share or 0.0, ALONG, length)
            points.append({**scored, "length": length, "alone": alone.by_length[length]})
    return points


def gated(run: Run) -> bool:
    """Whether a run's module has a gate whose threshold can be calibrated."""
    return run.kind == "NeutralResidues" or run.options.get("gate") in ("neutral", "context")


def _point(base: Any, on: Any, origin: str, at: float, tokens: int, length: int = LENGTH) -> dict[str, Any]:
    """A point of a curve: gain on medical text and forgetting on general text, each with its 95% interval."""
    bare, now = _bare(tokens, length, precision()), _scored(base, on, tokens, length)
    gain, lost = bare["medical"].minus(now["medical"]), now["general"].minus(bare["general"])
    ends = {"gain": [gain.nats, gain.low, gain.high], "forgetting": [lost.nats, lost.low, lost.high]}
    return {"origin": origin, "at": at, **ends}


def _scored(base: addenda.Base, on: Any, tokens: int, length: int) -> dict[str, Score]:
    return losses(base, study_texts().held_out, on, tokens=tokens, length=length, precision=precision())


@cache
def _bare(tokens: int, length: int, computed: Precision) -> dict[str, Score]:
    """The bare base's losses, scored once a process and precision."""
    return _scored(load(attn_implementation="eager"), None, tokens, length)


def then(given: argparse.Namespace, records: Records) -> list[Run]:
    """What follows from the sweep's records."""
    rates = {method: lr for method, lr in chosen_rates(records).items() if method in given.methods}
    return study(rates, given.tokens, given.seeds, given.knob_tokens) + in_float32(rates, given.sweep_tokens)


def main() -> None:
    """Run what is not done yet, then report."""
    parser = parser_of(__doc__, workers=2, tokens=2_000_000, sweep_tokens=SWEEP_TOKENS)
    parser.add_argument("--knob-tokens", type=int, help="seen by each run of a knob; default: as many")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="only these curves")
    parser.add_argument("--out", type=Path, default=Path("runs/learning_forgetting"), help="checkpoints and modules")
    stages = [lambda given, _: sweep(given.methods, given.sweep_tokens), then]
    given = parser.parse_args()
    conduct("learning_forgetting", given, stages, partial(make, out=given.out), report)


if __name__ == "__main__":
    main()
