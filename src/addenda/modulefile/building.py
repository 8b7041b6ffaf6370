"""A module from a card: its kind, its adapters without memory, and what the card's tensors must look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from addenda.core.card import Card
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, known
from addenda.core.files import refuse, several, shown
from addenda.core.module import KnowledgeModule
from addenda.core.registry import build_kind, kind_named
from addenda.core.site import Anatomy
from addenda.core.standing import adapters_of, gate_for, gate_told
from addenda.modulefile.tensorfile import Spec


def build_module(
    card: Card, tensors: Mapping[str, Tensor], anatomy: Anatomy, name: str | None = None
) -> KnowledgeModule:
    """The module that a card describes, for a base of this anatomy, made of these tensors, dtype included.

    Raises:
        FileError: lists every unknown option, missing, extra or mis-shaped tensor.
    """
    problems: list[str] = []
    kind = kind_of(card, problems)
    module = skeleton(kind, card, anatomy, name, problems) if kind is not None else None
    if module is not None:
        compare_specs(specs_of(tensors), specs_of(module.tensors()), problems)
    if problems or module is None:
        refuse(f"cannot build module '{name or card.name}'", problems)
    return filled(module, tensors)


def kind_of(card: Card, problems: list[str]) -> Kind | None:
    """The card's kind; None, with every unknown option noted, where there is none."""
    try:
        cls = kind_named(card.kind)
        assert is_dataclass(cls)
        allowed = {field.name for field in fields(cls)}
        problems.extend(
            f"{cls.__name__} has no option {shown(option)}; its options are {known(option, allowed)}"
            for option in card.config
            if option not in allowed
        )
        return build_kind(card.kind, {key: value for key, value in card.config.items() if key in allowed})
    except AddendaError as error:
        made = card.versions.get("kind")  # at the end: what it says of the kinds there are is long
        problems.append(f"{error}" + (f"; it was made with the package {shown(made)}: install that" if made else ""))
        return None


def skeleton(kind: Kind, card: Card, anatomy: Anatomy, name: str | None, problems: list[str]) -> KnowledgeModule | None:
    """The module without memory, so that a card's sizes cost nothing; None, with the reason noted, if it cannot be."""
    try:
        with torch.device("meta"):
            adapters, gate = adapters_of(kind, anatomy, gate_for(kind, gate_told(card.gate)))
            module = KnowledgeModule(name or card.name, kind, adapters, card, gate)
    except (AddendaError, RuntimeError, TypeError, OverflowError, ArithmeticError) as error:
        problems.append(f"{card.kind} does not fit this base: {str(error).splitlines()[0] if str(error) else error!r}")
        return None
    module.probe = card.probe
    module.awaits_text = card.awaits_text
    return module


def specs_of(tensors: Mapping[str, Tensor]) -> dict[str, Spec]:
    """Dtype and shape of each tensor."""
    return {name: Spec.of(tensor) for name, tensor in tensors.items()}


def compare_specs(stored: Mapping[str, Spec], expected: Mapping[str, Spec], problems: list[str]) -> None:
    """Note tensors that are missing, extra, of another shape or of a dtype that does not fit."""
    if missing := expected.keys() - stored.keys():
        problems.append(f"missing {several(missing)}")
    if extra := stored.keys() - expected.keys():
        problems.append(f"not known to this kind on this base: {several(extra)}")
    shapes, dtypes = [], []
    for name in sorted(expected.keys() & stored.keys()):
        have, want = stored[name], expected[name]
        if have.shape != want.shape:
            shapes.append(f"{name} is {list(have.shape)} and should be {list(want.shape)}")
        same = have.dtype == want.dtype or (have.dtype.is_floating_point and want.dtype.is_floating_point)
        if not same:
            dtypes.append(f"{name} is {have.dtype} and should be {want.dtype}".replace("torch.", ""))
    if shapes:
        problems.append(f"wrong shape of {several(shapes)}")
    if dtypes:
        problems.append(f"wrong dtype of {several(dtypes)}")


def filled(module: KnowledgeModule, tensors: Mapping[str, Tensor]) -> KnowledgeModule:
    """A module without memory, with these tensors as its own."""
    module.adopt(tensors)
    left = [name for name, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    assert not left, f"{type(module.kind).__name__} keeps tensors outside its file: {left}"
    return module
