"""Law 2, fresh is neutral: a new module leaves the logits bit-equal, unless it shares the tokens' softmax; and it can learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from addenda import AddendaError
from addenda.gates.context import ContextGate
from addenda.kinds import neutral_residues, registers
from conformance.kinds import CASES, REFUSED, TEXT, home, pairs
from conformance.world import Subject, assert_alive, bare, batch, fresh, logits, subject_of, throwaway


def check_fresh(subject: Subject) -> None:
    """A fresh module is bit-equal to the base (or must change it: its softmax is shared), and has a gradient."""
    module = fresh(subject.base, "fresh", subject.case)
    neutral = module.kind.fresh_is_neutral
    assert neutral != subject.joint, "only kinds that share the tokens' softmax may be exempt"
    assert module.kind.shared_softmax == subject.joint
    for padded in (False, True):
        ids, mask = batch(padded)
        expected = subject.bare(padded)
        with subject.base.using("fresh"):
            on = logits(subject.model, ids, mask)
        with subject.base.rows([{"fresh": 1.0}, {}, {"fresh": 0.5}, {}]):
            mixed = logits(subject.model, ids, mask)
        real = mask.bool()
        assert torch.equal(on[real], expected[real]) == neutral, (
            "a fresh module changes the base, or a joint one does not"
        )
        assert torch.equal(mixed[real], expected[real]) == neutral
    ids, mask = batch()
    with subject.base.frozen(), subject.base.using("fresh"):
        subject.model(ids, attention_mask=mask, labels=ids).loss.backward()
    steps = [p.grad for p in module.parameters() if p.grad is not None]
    learns = any(bool((grad != 0).any()) for grad in steps)
    assert learns != CASES[subject.case].calibrated, "a fresh module has no gradient: it can never learn"
    subject.base.unplug("fresh")


@pytest.mark.parametrize(("arch", "case"), pairs())
def test_fresh_is_neutral(subject: Subject) -> None:
    assert_alive(subject)  # the same kind, perturbed, is not neutral
    check_fresh(subject)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].text])
def test_a_module_that_awaits_its_text_is_a_valid_fresh_one(case: str) -> None:
    with subject_of(home(case), case) as subject:
        base = subject.base
        module = base.new("m", CASES[case].make(base.anatomy), gate=CASES[case].behind)
        assert module.awaits_text
        with base.using("m"):
            before = logits(base.model, *batch())
        assert torch.isfinite(before).all()
        assert torch.equal(before, bare(home(case))) == module.kind.fresh_is_neutral
        base.start_from_text("m", base.tokenize(TEXT))
        assert not module.awaits_text
        with pytest.raises(AddendaError, match="tokens of text"):
            base.new("short", CASES[case].make(base.anatomy), gate=CASES[case].behind, text="a")
        base.new("other", CASES[case].make(base.anatomy), gate=CASES[case].behind, text=TEXT)
        for name, tensor in module.tensors().items():
            assert torch.equal(tensor, base.modules["other"].tensors()[name])


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].text])
def test_a_text_is_read_by_the_bare_base(case: str) -> None:
    """Whatever is selected, in this block or by default, while a module starts from its text."""
    with subject_of(home(case), case) as subject:
        expected = fresh(subject.base, "bare", case).tensors()
        subject.plug("m", case="lora")
        subject.plug("n", case="registers")
        subject.base.use("m", "n")
        with subject.base.using("m"):
            found = [fresh(subject.base, "block", case).tensors()]
        found.append(fresh(subject.base, "default", case).tensors())
        for tensors in found:
            assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("arch", ["llama", "opt", "qwen3_moe"])
def test_a_base_that_cannot_host_a_kind_says_why(arch: str) -> None:
    with subject_of(arch, "lora") as subject:
        for case in CASES:
            if (arch, case) in REFUSED:
                with pytest.raises(
                    AddendaError, match=r"router over experts|gated: LocasGLU fits|\(GLU\); those of opt are plain"
                ):
                    fresh(subject.base, "m", case)
            else:
                fresh(subject.base, "m", case)
                subject.base.unplug("m")
        assert not subject.base.modules


def test_every_kind_is_in_the_table() -> None:
    from addenda.core.registry import kinds

    with subject_of("llama", "lora") as subject:
        tested = {type(case.make(subject.base.anatomy)).__name__ for case in CASES.values()}
    assert tested == set(kinds()), "a kind without a line in tests/conformance/kinds.py is tested by no law"


# -- mutants --------------------------------------------------------------------------------------------------------


def down_starts_at_random(patch: pytest.MonkeyPatch) -> None:
    """The output matrix of a neutral residue starts a little off zero."""
    original = neutral_residues.NeutralAdapter.__init__

    def start(self: neutral_residues.NeutralAdapter, *args: object, **options: object) -> None:
        original(self, *args, **options)  # type: ignore[arg-type]
        torch.nn.init.normal_(self.down, std=1e-4)

    patch.setattr(neutral_residues.NeutralAdapter, "__init__", start)


def gate_starts_shut(patch: pytest.MonkeyPatch) -> None:
    """The context gate starts at zero in front of its relu: neutral, and dead for good."""
    original = ContextGate.__init__

    def start(self: ContextGate, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        torch.nn.init.zeros_(self.bias)

    patch.setattr(ContextGate, "__init__", start)


def registers_start_at_zero(patch: pytest.MonkeyPatch) -> None:
    """Neutral registers and their head scales both start at zero: on a base without biases no gradient flows."""
    original = registers.RegisterAdapter.__init__

    def start(self: registers.RegisterAdapter, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        torch.nn.init.zeros_(self.registers)

    patch.setattr(registers.RegisterAdapter, "__init__", start)


def head_scales_start_at_one(patch: pytest.MonkeyPatch) -> None:
    """Neutral registers start with open head scales; zero registers read as zero only on bases without biases."""
    original = registers.RegisterAdapter.__init__

    def start(self: registers.RegisterAdapter, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        if not self.joint:
            torch.nn.init.ones_(self.scale)

    patch.setattr(registers.RegisterAdapter, "__init__", start)


@pytest.mark.parametrize(
    ("mutant", "arch", "case"),
    [
        (down_starts_at_random, "llama", "neutral"),
        (gate_starts_shut, "llama", "neutral-context"),
        (registers_start_at_zero, "llama", "registers-neutral"),
        (head_scales_start_at_one, "qwen2", "registers-neutral"),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], arch: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = throwaway(arch, case)
    check_fresh(subject)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check_fresh(subject)
