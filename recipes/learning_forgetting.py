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
named by the hash of its configuration; a run that has one is not made again (but for what a record lacks and its module,
no longer there, must be made for), an interrupted one resumes. Numbers are nats per token on held-out documents:
gain = base - module on medical text, forgetting = module - base on general text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import addenda
from addenda.writing.plain import PlainTraining
from recipes.common import Texts, computing_in, kind_as_recorded, load, point, precision, scores, study_texts
from recipes.frontier import LENGTH
from recipes.records import Named, in_processes, read_records, recorded, stamp, write_record
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


def in_float32(rates: dict[str, float], tokens: int) -> list[Run]:
    """Short runs that tell what the precision of the others changes."""
    runs = []
    for method in (m for m in COMPARED if m in rates):
        kind, options, settings, _ = METHODS[method]
        runs.append(Run("precision", method, kind, options, settings, rates[method], tokens, SWEEP_SEED))
    return runs


def sweep(methods: Iterable[str], tokens: int) -> list[Run]:
    """Short runs at several learning rates a method."""
    return [
        Run("sweep", method, kind, options, settings, lr, tokens, SWEEP_SEED)
        for method, (kind, options, settings, rates) in METHODS.items()
        if method in methods
        for lr in rates
    ]


def chosen_rates(records: Iterable[dict[str, Any]]) -> dict[str, float]:
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
    runs = []
    for seed in seeds:
        for method, lr in ((m, rates[m]) for m in METHODS if m in rates):
            kind, options, settings, _ = METHODS[method]
            runs.append(Run("study", method, kind, options, settings, lr, tokens, seed))
    for seed in seeds:
        for method, more, settings, factor in (knob for knob in KNOBS if knob[0] in rates):
            kind, options, own, _ = METHODS[method]
            lr = float(f"{rates[method] * factor:.1e}")
            runs.append(
                Run("knobs", method, kind, {**options, **more}, {**own, **settings}, lr, knob_tokens or tokens, seed)
            )
    return runs


def execute(run: Run, texts: Texts, out: Path, records: Path) -> None:
    """Train one run and write its record: points along training, and the end."""
    base = load(attn_implementation="eager")
    facts = stamp(run, base)  # before every weight is trained: the fingerprint is computed when first asked for
    bare, extra = _bare(base, texts, END, LENGTH), dict[str, Any]()
    if run.kind == "full":
        points = fine_tuned(base, texts, lr=run.lr, seed=run.seed, rows=ROWS, work=out / run.id, tokens=run.tokens)
        points.append(point("end", run.tokens, bare, scores(base, texts, tokens=END, length=LENGTH)))
    else:
        points, extra = _module_points(run, base, texts, bare, out / run.id)
    recorded(run, records, facts | {"points": points, **extra})


def fine_tuned(
    base: addenda.Base,
    texts: Texts,
    *,
    lr: float,
    seed: int,
    rows: int,
    work: Path,
    tokens: int,
    points: int = 5,
    scored: int | None = None,
) -> list[dict[str, Any]]:
    """Train every weight of a base, in place, from the rows that a module would see; points along the way.

    An interrupted run goes on from its checkpoints in `work`.
    """
    training = PlainTraining(
        base.model, base.tokenizer, texts.corpus, texts.replay, lr=lr, seed=seed, rows=rows, length=LENGTH,
        precision=precision(), work=work,
    )  # fmt: skip
    few = scored or ALONG
    bare = _bare(load(attn_implementation=base.model.config._attn_implementation), texts, few, LENGTH)

    def after(step: int, steps: int) -> None:
        if step == steps or step % max(1, steps // points) == 0:
            found = point("training", step * rows * LENGTH, bare, scores(base, texts, tokens=few, length=LENGTH))
            training.kept["points"] = [*training.kept.get("points", []), found]

    training.run(tokens, after)
    return training.kept.get("points", [])


def _module_points(
    run: Run, base: addenda.Base, texts: Texts, bare: Any, work: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    options = dict(run.options)
    if run.kind == "LoRA":  # of equal size to the neutral residues
        twin = kind_as_recorded("NeutralResidues", {**RESIDUES, "gate": "token"}).adapters(base.anatomy)
        size = sum(p.numel() for adapter in twin.values() for p in adapter.parameters())
        options = {"rank": addenda.LoRA.rank_for(size, base.anatomy), **options}
    module = base.new("m", kind_as_recorded(run.kind, options), seed=run.seed)
    report = addenda.train(
        base, "m", corpus=texts.corpus, replay=texts.replay, replay_share=0.1, tokens=run.tokens, lr=run.lr,
        seed=run.seed, out=work, resume=work.with_name(f"{work.name}.run").exists(), log=False, precision=precision(),
        batch_rows=ROWS, length=LENGTH,
        validate_every=max(1, run.tokens // (ROWS * LENGTH) // (5 if run.part in ("study", "knobs") else 1)),
        validation={"medical": texts.medical_valid, "forgetting-general": texts.general_valid},
        validation_tokens=ALONG, **run.settings,
    )  # fmt: skip
    points = list(_along(report))
    with base.using("m"):
        points.append(point("end", run.tokens, bare, scores(base, texts, tokens=END, length=LENGTH)))
    alone = addenda.neutral_share(base, "m", texts.general_valid, tokens=SHARE_TOKENS)
    return points, {"parameters": module.size(), "seconds": report.seconds, "alone": asdict(alone)}


def _along(report: addenda.TrainReport) -> Iterator[dict[str, Any]]:
    """Points at each validation of a run."""
    for entry in report.history:
        if "validation" in entry:
            changes = entry["validation"]["m"]
            gain, lost = (
                [changes[on][key] for key in ("value", "low", "high")] for on in ("medical", "forgetting-general")
            )
            yield {"origin": "training", "at": entry["step"] * ROWS * LENGTH, "gain": gain, "forgetting": lost}


def calibrated(run: Run, texts: Texts, out: Path, records: Path) -> None:
    """Add to a gated run's record what its module gains and forgets under calibrated thresholds.

    Each threshold leaves a share of calibration text alone; the share is then measured on other held-out text, and
    gain and forgetting on documents of several lengths.
    """
    path = records / f"{run.id}.json"
    record = json.loads(path.read_text())
    base = load(attn_implementation="eager")
    base.plug(out / run.id, name="m")
    bare = {length: _bare(base, texts, ALONG, length) for length in DOCUMENTS}
    points: list[dict[str, Any]] = []
    before: dict[str, float] = {}
    for share in (None, *SHARES):
        if share is not None:
            now = addenda.calibrate(base, "m", texts.calibration, share=share, tokens=SHARE_TOKENS).thresholds
            if now == before:  # that share was left alone already
                points += [{**scored, "at": share} for scored in points[-len(DOCUMENTS) :]]
                continue
            before = now
        alone = addenda.neutral_share(base, "m", texts.general_valid, lengths=DOCUMENTS, tokens=SHARE_TOKENS)
        with base.using("m"):
            for length in DOCUMENTS:
                on = scores(base, texts, tokens=ALONG, length=length)
                scored = point("threshold", share or 0.0, bare[length], on)
                points.append({**scored, "length": length, "alone": alone.by_length[length]})
    write_record(path, record | {"thresholds": points})


def weighted(run: Run, texts: Texts, out: Path, records: Path) -> None:
    """Add to a run's record what its module gains and forgets at smaller weights, scored as along training."""
    path = records / f"{run.id}.json"
    base = load(attn_implementation="eager")
    base.plug(out / run.id, name="m")
    bare = _bare(base, texts, ALONG, LENGTH)
    points = []
    for weight in WEIGHTS:
        with base.using(m=weight):
            points.append(point("weight", weight, bare, scores(base, texts, tokens=ALONG, length=LENGTH)))
    write_record(path, json.loads(path.read_text()) | {"weights": points})


def gated(run: Run) -> bool:
    """Whether a run's module has a gate whose threshold can be calibrated."""
    return run.kind == "NeutralResidues" or run.options.get("gate") in ("neutral", "context")


_BARE: dict[tuple[Any, ...], dict[str, Any]] = {}


def _bare(base: addenda.Base, texts: Texts, tokens: int, length: int) -> dict[str, Any]:
    """The bare base's losses, scored once a process."""
    key = (id(texts), tokens, length)
    if key not in _BARE:
        with base.off():
            _BARE[key] = scores(base, texts, tokens=tokens, length=length)
    return _BARE[key]


@cache
def _texts() -> Texts:
    return study_texts()


def _work(run: Run, out: Path, records: Path) -> str:
    with computing_in("fp32" if run.part == "precision" else precision()):
        return _made(run, out, records)


def _made(run: Run, out: Path, records: Path) -> str:
    path = records / f"{run.id}.json"
    if not path.exists() or not (out / run.id).exists():  # what is missing from a record is measured on its module
        execute(run, _texts(), out, records)
    for key, add in _added(run).items():
        if key not in json.loads(path.read_text()):
            add(run, _texts(), out, records)
    return run.id


def _added(run: Run) -> dict[str, Callable[[Run, Texts, Path, Path], None]]:
    """What is measured of a run's module after training, by its key in the record."""
    if run.part in ("sweep", "precision") or run.kind == "full":
        return {}
    return {"weights": weighted} | ({"thresholds": calibrated} if run.part == "study" and gated(run) else {})


def _done(run: Run, records: Path) -> bool:
    path = records / f"{run.id}.json"
    return path.exists() and _added(run).keys() <= json.loads(path.read_text()).keys()


def perform(runs: list[Run], out: Path, records: Path, workers: int) -> None:
    """Make every run that has no record, then what records lack, `workers` at a time."""
    todo = [run for run in runs if not _done(run, records)]
    todo.sort(key=lambda run: (records / f"{run.id}.json").exists())
    in_processes(_work, [(run, out, records) for run in todo], workers)


def main() -> None:
    """Run what is not done yet, then report; a run whose record lacks something is not done."""
    from recipes.frontier import report

    parser = parser_of(__doc__, workers=2, tokens=2_000_000, sweep_tokens=SWEEP_TOKENS)
    parser.add_argument("--knob-tokens", type=int, help="seen by each run of a knob; default: as many")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="only these curves")
    parser.add_argument("--out", type=Path, default=Path("runs/learning_forgetting"), help="checkpoints and modules")
    given = parser.parse_args()
    records = given.docs / "learning_forgetting"
    for folder in (given.out, records):
        folder.mkdir(parents=True, exist_ok=True)
    first = sweep(given.methods, given.sweep_tokens)
    if not (given.report or given.dry_run):
        perform(first, given.out, records, given.workers)
    rates = {method: lr for method, lr in chosen_rates(read_records(records)).items() if method in given.methods}
    runs = study(rates, given.tokens, given.seeds, given.knob_tokens) + in_float32(rates, given.sweep_tokens)
    for run in first + runs if given.dry_run else ():
        print("done " if _done(run, records) else "to do", run)
    if not (given.report or given.dry_run):
        perform(runs, given.out, records, given.workers)
    conduct("learning_forgetting", given, [], _work, report)


if __name__ == "__main__":
    main()
