"""Drift: how far each part of a module moved since earlier copies of it, and the few that moved tuned again by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from addenda.core import card
from addenda.core.errors import AddendaError, DataError, known
from addenda.core.module import KnowledgeModule
from addenda.core.plain import Plain
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, option
from addenda.modulefile import hub, storage

#: parts that are shown
SHOWN = 8
UNIT = "mean absolute change of a parameter"


@dataclass(frozen=True)
class PartDrift:
    """One part of a module: its parameters, and their mean absolute change from each copy to the next, `steps`.

    `jump` is the last step over the mean of those before it: how much more than usual it moved. None where there is one step.
    """

    part: str
    numbers: int
    steps: tuple[float, ...]
    jump: float | None


@dataclass(frozen=True)
class Drift(Plain):
    """How far a module moved: what its copies are called, the oldest first, it itself last; parts, those first that jumped most.

    Where there is one step they stand by how far they moved.
    """

    copies: tuple[str, ...]
    parts: tuple[PartDrift, ...]


@dataclass(frozen=True)
class Drifted(Measure):
    """How far each part of a module moved since earlier copies of it: which few jump where another subject is learned.

    Between two copies a part, all that a module has at one site, moves by (1/n) ||theta_2 - theta_1||_1 over its n parameters.
    Several copies tell a usual step (within a subject) from a jump (to another). `only` then tunes the few again on a little old
    text, for some steps every now and then (k-FPF), while all else stays bit-equal. Training asks for no replay meanwhile.

    Source: Zhao et al. 2023, "Does Continual Learning Equally Forget All Parameters?", ICML (FPF, k-FPF). Differs: parts of a
    module, not of a whole network; the few are those that jumped most, by number, where the paper tries which to tune.

    Measured: `tiny`, a LoRA of rank 8, 16,384 tokens of French (copies at half and at the end), then 16,384 of PubMed (n=2 seeds,
    CPU, 5,000 held-out tokens): no few stand out; of 42 parts the last step was 1.8 times the one before at most, 0.9 at least.
    0.69 and 0.58 nats of French were forgotten. 4,096 tokens of eight French texts on the 4 parts that jumped most bring 0.44 and
    0.35 back, and cost 0.73 and 0.27 of PubMed; on the 4 that jumped least 0.26 and 0.35, at 0.01 and 0.03; on all 0.67 and
    0.54, at 0.29 and 0.69. That the few should be those that drifted is not borne out.
    """

    name: ClassVar[str] = "drift"
    place: ClassVar[int] = 95
    of_modules: ClassVar[bool] = True

    drift: Any = option(
        "An earlier copy of the module, a folder: how far each part moved since; of several the oldest first.", "texts"
    )

    def open(self, acting: Acting) -> Opened:
        if len(acting.weights) != 1:
            raise AddendaError(f"drift is of one module; acting are {', '.join(acting.weights)}")
        module = acting.base.modules[next(iter(acting.weights))]
        given = [self.drift] if isinstance(self.drift, str | Path) else list(self.drift)
        copies = [(Path(folder).name or str(folder), _copy(module, folder)) for folder in given]
        now = {name: parameter.detach().cpu() for name, parameter in module.learning().items()}
        return Opened([*copies, (module.name, now)])

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        yield Reading("drift", 0)

    def run(self, acting: Acting, opened: Opened) -> Drift:
        copies: list[dict[str, Tensor]] = [tensors for _, tensors in opened.inputs]
        parts = dict.fromkeys(map(_part, copies[-1]))
        found = [_drift(part, [_of(part, copy) for copy in copies]) for part in parts]
        found.sort(key=lambda one: -(one.steps[-1] if one.jump is None else one.jump))
        return Drift(tuple(name for name, _ in opened.inputs), tuple(found))

    def record(self, found: Drift, sources: Mapping[str, str]) -> Iterator[card.Measure]:
        numbers, since = sum(one.numbers for one in found.parts), found.copies[-2]
        mean = sum(one.numbers * one.steps[-1] for one in found.parts) / numbers
        most = max(found.parts, key=lambda one: one.steps[-1])
        yield card.Measure(name="drift", value=mean, unit=UNIT, n=numbers, on=since)
        yield card.Measure(
            name=f"drift of {most.part}, the most", value=most.steps[-1], unit=UNIT, n=most.numbers, on=since
        )

    def rows(self, found: Drift, base: str, label: str) -> Iterator[Table]:
        steps = [f"{a}\nto {b}" for a, b in pairwise(found.copies)]
        jumps = len(steps) > 1
        rows = [
            [
                one.part,
                f"{one.numbers:,}",
                *(f"{step:.2e}" for step in one.steps),
                *([f"{one.jump:.2f}"] if jumps else []),
            ]
            for one in found.parts[:SHOWN]
        ]
        left = len(found.parts) - len(rows)
        yield Table(
            f"How far the parts of '{found.copies[-1]}' moved: {UNIT}",
            ["part", "parameters", *steps, *(["last over those before"] if jumps else [])],
            rows,
            f"{SHOWN} of {len(found.parts)} parts, the most moved first; --json has all" if left else None,
        )


@contextmanager
def only(module: KnowledgeModule, parts: Iterable[str]) -> Iterator[None]:
    """In this block nothing of a module learns but some of its parts: what FPF tunes again on a little text of what came before.

    Raises:
        AddendaError: the module has no such part that learns; says which it has.
    """
    learning = module.learning()
    there, chosen = {_part(name) for name in learning}, set(parts)
    for part in chosen - there:
        raise AddendaError(f"module '{module.name}' has no part '{part}' that learns; there are {known(part, there)}")
    try:
        for name, parameter in learning.items():
            parameter.requires_grad_(_part(name) in chosen)
        yield
    finally:
        for parameter in learning.values():
            parameter.requires_grad_(True)


def _copy(module: KnowledgeModule, folder: str | Path) -> dict[str, Tensor]:
    """The parameters of an earlier copy, under the module's names.

    Raises:
        FileError: there is no module of that name, or it is malformed.
        DataError: it is no copy of this one; says how they differ.
    """
    own = module.learning()
    saved = storage.load_folder(hub.resolve(folder, None))
    kept, tensors = saved.card, saved.tensors
    wrong = [f"it is a {kept.kind}, not a {module.card.kind}"] if kept.kind != module.card.kind else []
    for name, parameter in own.items():
        shape = tuple(tensors[name].shape) if name in tensors else None
        if shape != tuple(parameter.shape):
            wrong.append(f"'{name}' is {'absent' if shape is None else shape}, not {tuple(parameter.shape)}")
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"'{folder}' is no earlier copy of '{module.name}': {'; '.join(wrong[:3])}{more}")
    return {name: tensors[name] for name in own}


def _part(name: str) -> str:
    """The site of a tensor, `layers.3.ffn` of `layers.3.ffn.up`; or `gate`."""
    return name.rpartition(".")[0] or name


def _of(part: str, copy: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensor.double() for name, tensor in copy.items() if _part(name) == part]


def _drift(part: str, copies: Sequence[Sequence[Tensor]]) -> PartDrift:
    """A part's drift, from its tensors in each copy."""
    numbers = sum(tensor.numel() for tensor in copies[-1])
    steps = [
        sum(float((b - a).abs().sum()) for a, b in zip(old, new, strict=True)) / numbers
        for old, new in pairwise(copies)
    ]
    *before, last = steps
    usual = sum(before) / max(1, len(before))
    jump = None if not before else last / usual if usual else math.inf if last else 0.0
    return PartDrift(part, numbers, tuple(steps), jump)
