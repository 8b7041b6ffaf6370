"""Study: what each kind of module learns of a new subject against what it forgets of the old, as curves.

    python -m recipes.learning_forgetting --tokens 2000000 --seeds 0 1 2      # every run, then tables and plots
    python -m recipes.learning_forgetting --report                            # tables and plots of the runs there are

The base is `tiny`, the subject PubMed, the old domain general English that the base was trained on. Each method is
traced by its own knobs: learning rate; for the neutral kinds also the local weight, and after training the gate's
threshold; and by early points of training. A run is a JSON file named by the hash of its configuration, so that
finished runs are kept, interrupted ones resume, and the report can be drawn at any time. Numbers are nats per token
on held-out documents: gain = base - module on medical text, forgetting = module - base on general text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import addenda
from addenda.core.registry import build_kind
from addenda.scoring import score
from recipes.common import Texts, full_finetune, study_texts

SHARES = (0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class Run:
    """One training run; `method` is the curve it belongs to."""

    method: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    tokens: int = 2_000_000
    seed: int = 0

    @property
    def id(self) -> str:
        """A short name that changes with every option."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.method}-{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def plan(tokens: int, seeds: list[int]) -> list[Run]:
    """Every run of the study, the most telling settings of each method first."""
    residues = {"extra": 0.2}
    sweeps: list[tuple[str, str, dict[str, Any], dict[str, Any], float]] = [
        ("neutral-token", "NeutralResidues", residues, {"local": 1.0}, 3e-3),
        (
            "neutral-context",
            "NeutralResidues",
            {**residues, "gate": "context"},
            {"local": 0.0, "gate_weight": 0.1},
            1e-3,
        ),
        ("lora", "LoRA", {}, {}, 1e-3),
        ("adapter", "ParallelAdapter", residues, {}, 1e-3),
        ("full", "full", {}, {}, 3e-4),
        ("registers-joint", "Registers", {"count": 128, "init": "text"}, {}, 1e-2),
        ("registers-neutral", "Registers", {"count": 128, "init": "text", "gate": "neutral"}, {"local": 1.0}, 1e-2),
        ("neutral-token", "NeutralResidues", residues, {"local": 0.1}, 3e-3),
        ("lora", "LoRA", {}, {}, 3e-4),
        ("adapter", "ParallelAdapter", residues, {}, 3e-4),
        ("full", "full", {}, {}, 1e-4),
        ("registers-joint", "Registers", {"count": 128, "init": "text"}, {}, 3e-3),
        ("registers-joint", "Registers", {"count": 128}, {}, 1e-2),
        (
            "registers-context",
            "Registers",
            {"count": 128, "init": "text", "gate": "context"},
            {"gate_weight": 0.1},
            1e-2,
        ),
        ("neutral-token", "NeutralResidues", residues, {"local": 10.0}, 3e-3),
        ("neutral-token", "NeutralResidues", residues, {"local": 0.01}, 3e-3),
        (
            "neutral-context",
            "NeutralResidues",
            {**residues, "gate": "context"},
            {"local": 0.0, "gate_weight": 1.0},
            1e-3,
        ),
    ]
    return [
        Run(method, kind, options, settings, lr, tokens, seed)
        for seed in seeds
        for method, kind, options, settings, lr in sweeps
    ]


def execute(run: Run, texts: Texts, out: Path) -> None:
    """Train one run and write its points: early points of training, the end, and the gate's thresholds."""
    base = addenda.load_base("tiny", dtype=torch.float32)
    shared = {"precision": "bf16", "validate_every": None, "validation_tokens": texts.validation_tokens, **run.settings}
    validation = {"medical": texts.medical_valid, "forgetting-general": texts.general_valid}
    points: list[dict[str, Any]]
    extra: dict[str, Any] = {}
    if run.kind == "full":
        points = full_finetune(base, texts, lr=run.lr, tokens=run.tokens, seed=run.seed)
    else:
        options = dict(run.options)
        if run.kind == "LoRA":  # of equal size to the neutral residues
            twin = build_kind("NeutralResidues", {"extra": 0.2}).adapters(base.anatomy)
            size = sum(p.numel() for adapter in twin.values() for p in adapter.parameters())
            options = {"rank": addenda.LoRA.rank_for(size, base.anatomy), **options}
        module = base.new("m", build_kind(run.kind, options), seed=run.seed)
        work = out / run.id
        report = addenda.train(
            base, "m", corpus=texts.corpus, replay=texts.replay, replay_share=0.1, tokens=run.tokens, lr=run.lr,
            seed=run.seed, out=work, resume=work.with_name(f"{work.name}.run").exists(), validation=validation, **shared,
        )  # fmt: skip
        points = _trace(report)
        extra = {"parameters": module.size()}
        if module.gate is not None or any(name.endswith("threshold") for name in module.tensors()):
            points += _thresholds(base, texts)
        extra["alone"] = asdict(addenda.neutral_share(base, "m", texts.general_valid))
    record = {"run": asdict(run), "points": points, **extra, "base": base.fingerprint, "torch": torch.__version__}
    temporary = out / f"{run.id}.tmp"
    temporary.write_text(json.dumps(record, indent=1, default=float))
    temporary.replace(out / f"{run.id}.json")


def _trace(report: addenda.TrainReport) -> list[dict[str, Any]]:
    """Points at each validation of a run."""
    points = []
    for entry in report.history:
        if "validation" in entry:
            found = entry["validation"]["m"]
            at = round(entry["step"] * report.tokens / report.steps)
            points.append(_point("training", at, found["medical"], found["forgetting-general"]))
    return points


def _point(origin: str, at: float, gain: dict[str, Any], forgetting: dict[str, Any]) -> dict[str, Any]:
    keys = ("value", "low", "high")
    return {
        "origin": origin,
        "at": at,
        "gain": [gain[key] for key in keys],
        "forgetting": [forgetting[key] for key in keys],
    }


def _thresholds(base: addenda.Base, texts: Texts) -> list[dict[str, Any]]:
    """Points with the gate's threshold calibrated so that a share of general tokens is left exactly alone."""
    options = {"tokens": texts.validation_tokens, "precision": "bf16"}
    with base.off():
        bare = {name: score(base, source, **options) for name, source in texts.held_out.items()}
    points = []
    for share in SHARES:
        addenda.calibrate(base, "m", texts.calibration, share=share)
        with base.using("m"):
            on = {name: score(base, source, **options) for name, source in texts.held_out.items()}
        gain, lost = bare["medical"].minus(on["medical"]), on["general"].minus(bare["general"])
        points.append(
            {
                "origin": "threshold",
                "at": share,
                "gain": [gain.nats, gain.low, gain.high],
                "forgetting": [lost.nats, lost.low, lost.high],
            }
        )
    return points


def main() -> None:
    """Run what is not done yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2_000_000, help="tokens seen by each run, both streams")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", help="only these curves")
    parser.add_argument("--out", type=Path, default=Path("runs/learning_forgetting"))
    parser.add_argument("--docs", type=Path, help="write the table and the plots here, e.g. docs/results")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and what is done")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    runs = [r for r in plan(given.tokens, given.seeds) if not given.methods or r.method in given.methods]
    if given.dry_run:
        for run in runs:
            print("done" if (given.out / f"{run.id}.json").exists() else "to do", run)
        return
    texts = None
    for number, run in enumerate(runs, 1):
        if given.report or (given.out / f"{run.id}.json").exists():
            continue
        texts = texts or study_texts()
        print(f"run {number} of {len(runs)}: {run}", flush=True)
        execute(run, texts, given.out)
    from recipes.frontier import report

    records = [json.loads(path.read_text()) for path in sorted(given.out.glob("*.json"))]
    print(report([r for r in records if r["run"]["tokens"] == given.tokens], given.docs or given.out))


if __name__ == "__main__":
    torch.manual_seed(0)
    np.random.seed(0)
    main()
