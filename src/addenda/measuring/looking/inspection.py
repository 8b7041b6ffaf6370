"""Inspection: what a base offers and what a module is, from its card and tensors, without loading more than needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from addenda.core.card import Card
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.module import unused
from addenda.core.registry import build_kind
from addenda.core.site import Anatomy, Seam
from addenda.measuring.looking.activity import Activity, activity
from addenda.modulefile import hub, peft_format, storage
from addenda.plug.cost import BaseCost, cost_of
from addenda.remembering.text_memory import TextMemory

if TYPE_CHECKING:
    from addenda.plug.base import Base


@dataclass(frozen=True)
class PartSize:
    """What a module has at one layer (or in its gate): tensors, parameters, bytes."""

    at: str
    sites: int
    numbers: int
    bytes: int
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    """of its tensors, by their names within the layer"""


@dataclass(frozen=True)
class ModuleInspection:
    """A module's card, its size layer by layer, and on request what it did on a text."""

    card: Card
    parts: tuple[PartSize, ...]
    dtype: str
    beside: Mapping[str, int] = field(default_factory=dict[str, int])
    """bytes of what methods keep beside it, by whose they are: moments, router"""
    turns: int | None = None
    """turns or documents that a text memory holds"""
    activity: Activity | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "module": self.card.name,
            "card": self.card.model_dump(mode="json"),
            "dtype": self.dtype,
            "parts": [vars(part) for part in self.parts],
            "beside": dict(self.beside),
            "turns": self.turns,
            "activity": None if self.activity is None else self.activity.as_dict(),
        }


@dataclass(frozen=True)
class BaseInspection:
    """A base's anatomy: sizes, and how many sites it offers for each seam and layer; on request what it costs here."""

    name: str
    fingerprint: str
    dtype: str
    device: str
    anatomy: Anatomy
    refusals: dict[str, str]
    cost: BaseCost | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        anatomy = {key: value for key, value in asdict(self.anatomy).items() if key != "sites"}
        sites = {seam.value: [site.key for site in self.anatomy.at(seam)] for seam in Seam}
        plain = {key: getattr(self, key) for key in ("name", "fingerprint", "dtype", "device", "refusals")}
        cost = {} if self.cost is None else {"cost": self.cost.as_dict()}
        return {"base": plain.pop("name"), **plain, "anatomy": anatomy, "sites": sites, **cost}


Inspection = ModuleInspection | BaseInspection


def inspect(
    target: Base | str | Path, *, base: Base | None = None, text: str | None = None, cost: bool = False
) -> Inspection:
    """What a base offers, or what a module is and, with `text`, where it acts.

    Args:
        target: a base, or a module's folder or hub id.
        base: the base that a module is plugged into, for as long as this takes; needed for `text` and for PEFT folders.
        text: what the module is watched on.
        cost: of a base: find out by a probe of a few seconds what it costs on this machine (`addenda.cost_of`).

    Raises:
        FileError: it is no module's folder, or malformed, or made for another base; lists everything wrong.
        AddendaError: a base is needed and none is given, or a text is given for a base.
        DataError: the text has no token.
    """
    if not isinstance(target, str | Path):
        if text is not None:
            raise AddendaError("a text shows where a module acts, and a base was given: give the module's folder")
        return _of_base(target, cost_of(target) if cost else None)
    folder = hub.resolve(target, None)
    if text is None and not peft_format.is_peft_folder(folder):
        return _of_module(storage.load_folder(folder))
    if base is None:
        raise AddendaError(f"'{target}' can only be looked at with its base: inspect(..., base=...)")
    name = unused("inspected", base.modules)
    module = base.plug(folder, name=name)
    try:
        if module.memory is not None:
            raise UnsupportedError(
                f"'{module.card.name}' is text in the window: it acts at no site that could be shown"
            )
        seen = None if text is None else activity(base, name, text)
        card = storage.described(module, name=module.card.name)
        inspected = _of_module(storage.Saved(card, module.tensors(), module.side, None))
    finally:
        base.unplug(name)
    return replace(inspected, activity=seen)


def _of_module(saved: storage.Saved) -> ModuleInspection:
    card, tensors = saved.card, saved.tensors
    parts: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        words = name.split(".")
        parts.setdefault(f"layer {words[1]}" if words[0] == "layers" else words[0], []).append((name, tensor))
    sizes = tuple(
        PartSize(
            at,
            len({name.rsplit(".", 1)[0] for name, _ in members}),
            sum(tensor.numel() for _, tensor in members),
            sum(tensor.numel() * tensor.itemsize for _, tensor in members),
            {_within(name): tuple(tensor.shape) for name, tensor in members},
        )
        for at, members in sorted(parts.items(), key=lambda part: _order(part[0]))
    )
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    beside: dict[str, int] = {}
    for name, tensor in saved.side.items():
        owner = name.partition(".")[0]
        beside[owner] = beside.get(owner, 0) + tensor.numel() * tensor.itemsize
    kind = build_kind(card.kind, card.config)
    turns = None if saved.memory is None else cast("TextMemory", kind).turns(saved.memory)
    return ModuleInspection(card, sizes, ", ".join(dtypes), beside, turns)


def _of_base(base: Base, cost: BaseCost | None) -> BaseInspection:
    refusals = {seam.value: why for seam in Seam if (why := base.host.refusal(seam)) is not None}
    dtype = str(base.host.dtype()).removeprefix("torch.")
    device = str(base.device)
    return BaseInspection(base.name, base.fingerprint, dtype, device, base.anatomy, refusals, cost)


def _within(name: str) -> str:
    """A tensor's name without its layer."""
    words = name.split(".")
    return ".".join(words[2:] if words[0] == "layers" else words[1:])


def _order(at: str) -> tuple[int, str]:
    words = at.split()
    return (int(words[1]), "") if len(words) == 2 and words[1].isdigit() else (1 << 30, at)
