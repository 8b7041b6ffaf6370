"""One run of a study: a module, or every weight, trained on a subject and measured; its record is a JSON file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch

import addenda
from addenda.comparing.cost import ratios
from addenda.comparing.making import Trained
from addenda.comparing.window import first_documents
from addenda.core.gate import behind
from addenda.core.site import Seam
from addenda.core.standing import gate_named
from addenda.measuring.asking.recall import recall
from addenda.plug.base import Base
from addenda.plug.scoring import Score, score
from addenda.writing.plain import PlainTraining
from recipes.common import kind_as_recorded, load, precision, study_texts
from recipes.records import LATER, name_of, recorded, stamp
from recipes.studies.subjects import facts_of, short, subject

#: rows of a step, and tokens of a row
ROWS, LENGTH = 8, 256
#: tokens of general text of which it is seen whether each is left bit-equal; questions asked about people
ALONE, QUESTIONS = 8_000, 120
#: tokens among which rows are shuffled: to fill a larger reservoir takes longer than a short run
SHUFFLE = 2**17
#: tokens of a prompt that is timed
PROMPT = 128
#: where checkpoints of runs under way are
WORK = Path("runs/studies")
#: share of a step's tokens that is replay
SHARE = 0.1
#: every weight of the base
FULL = "full"


@dataclass(frozen=True)
class Run:
    """One training run. `method` is what it is called in tables; `subject` may be several, joined by `+`.

    `corpus_tokens` limits the corpus to so many tokens of it, read again and again; `held` are scored of each held-out text;
    the module stands behind `gate`, where its kind has none of its own.
    """

    study: str
    part: str
    method: str
    subject: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    tokens: int = 1_000_000
    seed: int = 0
    replay_share: float = SHARE
    corpus_tokens: int | None = None
    held: int = 12_000
    gate: str | None = field(default=None, metadata=LATER)

    @property
    def id(self) -> str:
        """A short name that changes with every option."""
        words = re.sub(r"[^a-z0-9.%]+", "-", f"{self.part} {self.method} {self.subject}".lower()).strip("-")
        return name_of(self, words, self.seed)

    @property
    def subjects(self) -> list[str]:
        """Those that it learns."""
        return self.subject.split("+")


def execute(run: Run, records: Path) -> str:
    """Train, measure, write the record."""
    base, work = load(attn_implementation="eager"), WORK / run.id
    # before anything is trained: computed when first asked for
    facts = stamp(run, base)
    chooses = run.part == "sweep"
    before = {name: _bare(name, chooses, run.held) for name in (*run.subjects, "general")}
    with trained(run, base, work) as made:
        with made.on():
            result: dict[str, Any] = {"gains": {}}
            for name in run.subjects:
                result["gains"][name] = triple(before[name].minus(_scored(made.base, name, chooses, run.held)))
            result["forgetting"] = triple(_scored(made.base, "general", chooses, run.held).minus(before["general"]))
        if run.kind != FULL and not chooses:
            result["untouched"] = addenda.neutral_share(made.base, "m", study_texts().general_valid, tokens=ALONE).share
        if run.subject.startswith("people-"):
            result["recall"] = _recalled(made, run)
        if run.part == "methods" and run.kind != FULL:
            result["cost"] = _cost(made, run)
        result |= {"parameters": made.parameters, "seconds": made.seconds}
    return finished(run, records, result | facts)


def finished(run: Run, records: Path, result: dict[str, Any]) -> str:
    """Write a run's record; its checkpoints are then of no more use."""
    shutil.rmtree(WORK / recorded(run, records, result), ignore_errors=True)
    return run.id


def _cost(made: Trained, run: Run) -> list[float]:
    """Time of prefill and of a decoded token on the subject, over the bare base's."""
    ids = made.base.tokenizer("\n".join(held_out(run.subject, False)[:4]), return_tensors="pt")["input_ids"][0, :PROMPT]
    return [median(column) for column in ratios(made.base, made.on, made.base.off, ids, None, pairs=9)]


@contextmanager
def trained(run: Run, base: Base, work: Path) -> Iterator[Trained]:
    """What a run makes, at work in this block; an interrupted one goes on from its checkpoints in `work`."""
    corpus, replay = corpus_of(run, base), study_texts().replay if run.replay_share else None
    if run.kind == FULL:
        torch.manual_seed(run.seed)
        training = PlainTraining(
            base.model, base.tokenizer, corpus, replay, lr=run.lr, seed=run.seed, rows=ROWS, length=LENGTH,
            share=run.replay_share, precision=precision(), shuffle_tokens=SHUFFLE, work=work,
        )  # fmt: skip
        training.run(run.tokens)
        base.model.eval()
        size = sum(p.numel() for p in training.names)
        yield Trained(base, nullcontext, parameters=size, seconds=training.seconds)
        return
    module = base.new("m", kind_of(run, base), seed=run.seed, gate=run.gate)
    try:
        report = learn(run, base, "m", corpus, replay, work / "m")
        yield Trained(base, lambda: base.using("m"), parameters=module.size(), seconds=report.seconds)
    finally:
        base.unplug("m")


def learn(run: Run, base: Base, name: str, corpus: list[str], replay: Any, work: Path) -> Any:
    """Train a plugged module as a run says, from its checkpoints beside `work` where there are some."""
    rows = run.settings.get("batch_rows", ROWS)
    more: dict[str, Any] = {
        "batch_rows": rows,
        **run.settings,
        **({"replay_share": run.replay_share} if replay is not None else {}),
    }
    return addenda.train(
        base, name, corpus=corpus, replay=replay, tokens=run.tokens, lr=run.lr, seed=run.seed, log=False, out=work, resume=True,
        precision=precision(), length=LENGTH, shuffle_tokens=SHUFFLE,
        checkpoint_every=max(1, run.tokens // (rows * LENGTH) // 4), **more,
    )  # fmt: skip


def kind_of(run: Run, base: Base) -> Any:
    """The kind of a run's module; a LoRA may be asked for by `extra`, its share of the base's parameters."""
    options, anatomy = dict(run.options), base.anatomy
    if run.kind == "LoRA" and "extra" in options:
        if run.gate is not None:
            anatomy = behind(anatomy, gate_named(run.gate).site(anatomy, Seam.LINEAR))
        options["rank"] = addenda.LoRA.rank_for(round(options.pop("extra") * base.anatomy.parameters), anatomy)
    return kind_as_recorded(run.kind, options)


def corpus_of(run: Run, base: Base) -> list[str]:
    """The documents of a run's subjects, up to its limit of tokens; of several as much text of each."""
    documents = evenly_of([subject(name).corpus for name in run.subjects])
    return documents if run.corpus_tokens is None else first_documents(base, documents, run.corpus_tokens)


def evenly_of(parts: Sequence[Sequence[str]]) -> list[str]:
    """Documents of all parts, next always one of the part of which least was taken, until one part is at its end."""
    documents: list[str] = []
    taken, characters = [0] * len(parts), [0] * len(parts)
    while True:
        least = min(range(len(parts)), key=lambda at: characters[at])
        if taken[least] == len(parts[least]):
            return documents
        documents.append(parts[least][taken[least]])
        taken[least] += 1
        characters[least] += len(documents[-1])


def held_out(name: str, chooses: bool) -> Any:
    """Held-out text of a subject, or general text: to choose a rate by, or to report on."""
    if name == "general":
        every = study_texts()
        return every.calibration if chooses else short(every.general_valid)
    texts = subject(name)
    return texts.choosing if chooses else texts.held


def _scored(base: Base, name: str, chooses: bool, tokens: int) -> Score:
    return score(base, list(held_out(name, chooses)), tokens=tokens, length=LENGTH, precision=precision())


@cache
def _bare(name: str, chooses: bool, tokens: int) -> Score:
    """The bare base's loss, once a process."""
    return _scored(load(attn_implementation="eager"), name, chooses, tokens)


def triple(difference: Any) -> list[float]:
    """A difference, its 95% interval over documents, and how many they are."""
    return [difference.nats, difference.low, difference.high, difference.documents]


def _recalled(made: Trained, run: Run) -> dict[str, Any]:
    facts = facts_of(run.subject)
    recalled = recall(made.base, facts, ("m",), questions=QUESTIONS, written=run.part != "sweep").as_dict()
    return {key: value for key, value in recalled.items() if key not in ("canary", "modules", "base")}
