"""Law 1, off is off: rows that select nothing, and a base given back, are the bare base bit for bit."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.bases import attention
from addenda.bases.hooks import Replaced
from addenda.plug.base import Base
from addenda.plug.machinery import Machinery
from addenda.plug.selection import Selection
from conformance.kinds import MAIN, REFUSED, pairs, spread
from conformance.world import (
    Subject,
    assert_alive,
    assert_values,
    bare,
    batch,
    differences,
    logits,
    model_of,
    structure,
    subject_of,
    throwaway,
    twin_of,
    values,
)
from pico import ARCHS, pico

OFF_ROWS = [1, 3]


def check_rows(subject: Subject, padded: bool) -> None:
    """Off for a block, at weight zero, by default, and for some rows of a batch: bit-equal to the bare base."""
    base, (ids, mask) = subject.base, batch(padded)
    expected = subject.bare(padded)

    def same(rows: Any = slice(None)) -> Tensor:
        found = logits(base.model, ids, mask)
        assert torch.equal(found[rows], expected[rows]), "rows that select nothing differ from the bare base"
        return found

    same()
    base.use("m")
    with base.off():
        same()
    with base.using():
        same()
    with base.using(m=0.0):
        same()
    with base.rows([{}, {"m": 0.0}, [], {}]):
        same()
    on = {"m": 1.0}
    mixed = []
    with base.rows([on, {}, {"m": 0.5}, {"m": 0.0}]):
        mixed.append(same(OFF_ROWS))
    with base.rows(torch.tensor([1, 0, 2, 0]), table=[{}, on, {"m": 0.5}]):
        mixed.append(same(OFF_ROWS))
    with base.rows(torch.zeros(4, dtype=torch.long), table=[{}, on]):
        same()
    real = mask.bool()
    for found in mixed:
        for row in (0, 2):
            assert not torch.equal(found[row][real[row]], expected[row][real[row]]), f"row {row} selects m, and is bare"
    base.use()
    same()


def check_given_back(subject: Subject, before: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    """While plugged only instance forwards differ; unplugged and detached, nothing does."""
    base, model = subject.base, subject.model
    (ids, mask), expected = batch(), subject.bare()
    base.use("m")
    logits(model, ids, mask)
    plugged = structure(model)
    for part in ("type", "keys", "modules", "hooks", "tensors", "training", "config", "attention", "generation"):
        assert plugged[part] == before[part], f"plugging changed the base's {part}"
    base.unplug("m")
    assert not differences(structure(model), before), "unplugging left something behind"
    assert torch.equal(logits(model, ids, mask), expected)
    subject.plug("m")
    base.use("m")
    base.detach()
    assert not differences(structure(model), before), "detaching left something behind"
    assert torch.equal(logits(model, ids, mask), expected)
    assert_values(model, numbers)


@pytest.mark.parametrize(("arch", "case"), pairs())
def test_off_is_off(arch: str, case: str) -> None:
    model = model_of(arch)
    before, numbers = structure(model), values(model)
    with subject_of(arch, case) as subject:
        subject.plug("m")
        assert_alive(subject)
        check_rows(subject, padded=False)
        check_rows(subject, padded=True)
        check_given_back(subject, before, numbers)


@pytest.mark.parametrize(("arch", "case"), [("llama", case) for case in MAIN] + [("gemma2", "cartridge")])
def test_off_is_off_in_bfloat16(arch: str, case: str) -> None:
    with subject_of(arch, case, torch.bfloat16) as subject:
        subject.plug("m")
        assert_alive(subject)
        check_rows(subject, padded=False)
        check_rows(subject, padded=True)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "implementation"), [(torch.bfloat16, "sdpa"), (torch.float16, "eager")])
@pytest.mark.parametrize(("arch", "case"), spread())
def test_off_is_off_in_half_precision(arch: str, case: str, dtype: torch.dtype, implementation: str) -> None:
    if arch == "gemma2":  # its soft-cap exists in eager attention alone
        implementation = "eager"
    subject = throwaway(arch, case, dtype, attn_implementation=implementation)
    twin = copy.deepcopy(twin_of(arch)).to(dtype)
    twin.set_attn_implementation(implementation)
    for padded in (False, True):
        expected = logits(twin, *batch(padded))
        subject.bare = lambda _=False, e=expected: e.clone()  # type: ignore[method-assign]
        check_rows(subject, padded)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_model_saves_and_copies_as_if_nothing_were_plugged(arch: str, tmp_path: Path) -> None:
    hosted = [case for case in MAIN if (arch, case) not in REFUSED]
    subject = throwaway(arch, hosted[0])  # saving notes the class in a model's config: not on the shared one
    for number, case in enumerate(hosted):
        subject.plug(f"m{number}", case=case)
    subject.base.use("m0,m1")
    assert not torch.equal(logits(subject.model, *batch()), subject.bare())
    twin = copy.deepcopy(subject.model)
    subject.model.save_pretrained(tmp_path / "plugged")
    pico(arch).save_pretrained(tmp_path / "bare")
    files = sorted(path.name for path in (tmp_path / "bare").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "plugged").iterdir())
    for name in files:
        assert (tmp_path / "bare" / name).read_bytes() == (tmp_path / "plugged" / name).read_bytes(), name
    subject.base.use()
    assert_a_model_of_its_own(twin, arch)
    assert torch.equal(logits(subject.model, *batch()), subject.bare())


def assert_a_model_of_its_own(twin: Any, arch: str) -> None:
    """A deep copy has nothing selected and computes with its own weights, not the original's."""
    assert torch.equal(logits(twin, *batch()), bare(arch))
    expected = pico(arch)
    with torch.no_grad():
        for model in (twin, expected):
            for parameter in model.parameters():
                parameter.mul_(0.8)
    assert torch.equal(logits(twin, *batch()), logits(expected, *batch())), (
        "the copy computes with the original's weights"
    )
    assert not torch.equal(logits(twin, *batch()), bare(arch))


@pytest.mark.parametrize("case", MAIN)
def test_a_base_in_training_mode_or_partly_frozen_keeps_its_flags(case: str) -> None:
    subject = throwaway("llama", case)
    for number, parameter in enumerate(subject.model.parameters()):
        parameter.requires_grad_(number % 3 > 0)
    before = structure(subject.model)["tensors"]
    with subject.base.trainable("m") as trainable:
        assert not any(parameter.requires_grad for parameter in subject.model.parameters())
        assert all(parameter.requires_grad for parameter in trainable.parameters())
    assert structure(subject.model)["tensors"] == before
    trainable = subject.base.trainable("m")
    subject.base.unplug("m")
    assert structure(subject.model)["tensors"] == before
    subject.base.detach()
    assert structure(subject.model)["tensors"] == before


@pytest.mark.parametrize("case", MAIN)
def test_an_error_inside_the_model_leaves_no_trace(case: str) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        ids, mask = batch()
        with pytest.raises(IndexError), subject.base.using("m"):
            logits(subject.model, ids - 10_000, mask)
        assert torch.equal(logits(subject.model, ids, mask), subject.bare())
        with pytest.raises(addenda.AddendaError), subject.base.rows([{"m": 1.0}]):
            logits(subject.model, ids, mask)
        assert torch.equal(logits(subject.model, ids, mask), subject.bare())


# -- mutants --------------------------------------------------------------------------------------------------------


def off_only_freezes(patch: pytest.MonkeyPatch) -> None:
    """`off` clears requires_grad and leaves the module in the forward."""

    @contextlib.contextmanager
    def off(base: Base) -> Any:
        for module in base.modules.values():
            module.requires_grad_(False)
        yield

    patch.setattr(Base, "off", off)


def slots_are_masked_out(patch: pytest.MonkeyPatch) -> None:
    """Rows that select nothing see the slots at minus infinity instead of making the base's own call."""

    def joint(mixed: Any, shares: list[Any]) -> Any:
        rows = mixed.call.batch
        weights = [
            share.weight
            if isinstance(share.weight, Tensor) and share.rows is None
            else torch.tensor([float(share.by_row.get(row, 0.0)) for row in range(rows)]).view(-1, 1, 1)
            if share.rows is not None
            else share.weight
            for share in shares
        ]
        return mixed._with_slots(None, list(zip(shares, weights, strict=True)))

    patch.setattr(attention._Mixed, "joint", joint)


def zero_weight_rows_are_touched(patch: pytest.MonkeyPatch) -> None:
    """The fast path adds a little of the module to rows of weight zero."""
    original = Selection._by_index

    def touched(self: Selection, *args: Any) -> Any:
        shares = original(self, *args)
        for share in shares:
            share.weight = share.weight.clamp(min=1e-3)
        return shares

    patch.setattr(Selection, "_by_index", touched)


def copies_share_their_forward(patch: pytest.MonkeyPatch) -> None:
    """Forwards are replaced by plain functions, which a deep copy shares."""
    original = Replaced.__init__

    def plain(self: Replaced, module: Any, make: Any, name: str = "forward") -> None:
        original(self, module, make, name)
        bound = self.ours
        self.ours = lambda *args, **kwargs: bound(*args, **kwargs)  # type: ignore[assignment]
        setattr(module, name, self.ours)

    patch.setattr(Replaced, "__init__", plain)


def unplug_leaves_hooks(patch: pytest.MonkeyPatch) -> None:
    """Unplugging forgets the module and leaves the replaced forwards."""
    original = Machinery.refit
    patch.setattr(Machinery, "refit", lambda self: original(self) if self.base.modules else None)


def detach_leaves_the_attention_config(patch: pytest.MonkeyPatch) -> None:
    """The attention modules keep the config that names our function."""
    patch.setattr(attention.AttentionSwitch, "undo", lambda _: None)


def the_base_drifts(patch: pytest.MonkeyPatch) -> None:
    """A forward with a module on writes into a parameter of the base."""
    original = Machinery._call

    def drift(self: Any, *args: Any, **marks: Any) -> Any:
        with torch.no_grad():
            next(self.base.model.parameters()).add_(1e-6)
        return original(self, *args, **marks)

    patch.setattr(Machinery, "_call", drift)


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        (off_only_freezes, "lora"),
        (off_only_freezes, "registers"),
        (slots_are_masked_out, "registers"),
        (slots_are_masked_out, "cartridge"),
        (zero_weight_rows_are_touched, "parallel"),
        (zero_weight_rows_are_touched, "neutral"),
        (unplug_leaves_hooks, "lora"),
        (detach_leaves_the_attention_config, "registers-neutral"),
        (the_base_drifts, "neutral"),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = throwaway("llama", case).model
    addenda.attach(model).detach()
    before, numbers = structure(model), values(model)
    subject = Subject(addenda.attach(model), "llama", case)
    subject.plug("m")
    mutant(monkeypatch)
    with pytest.raises(AssertionError):  # noqa: PT012
        check_rows(subject, padded=False)
        check_rows(subject, padded=True)
        check_given_back(subject, before, numbers)


def test_a_shared_forward_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    copies_share_their_forward(monkeypatch)
    subject = throwaway("llama", "lora")
    with pytest.raises(AssertionError, match="original's weights"):
        assert_a_model_of_its_own(copy.deepcopy(subject.model), "llama")
