"""Fused use computes what plain use does, touches nothing of the base, and follows every change."""

from __future__ import annotations

import contextvars
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from addenda.core.errors import SelectionError, UnsupportedError
from addenda.measuring.looking.canary import was_on
from conformance.kinds import REFUSED
from conformance.world import IDS, Subject, batch, generate, logits, subject_of, throwaway
from pico import ARCHS, pico

FOLDS = ("lora", "locas-glu", "locas-mlp")
PAIRS = [
    pytest.param(arch, case, id=f"{arch}-{case}") for case in FOLDS for arch in ARCHS if (arch, case) not in REFUSED
]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def plain_of(subject: Subject, *names: Any) -> torch.Tensor:
    """Logits under a selection, not fused."""
    with subject.base.using(*names):
        return logits(subject.model, IDS)


def forwards(model: Any) -> dict[str, Any]:
    """Every forward that stands on an instance."""
    return {name: module.__dict__["forward"] for name, module in model.named_modules() if "forward" in module.__dict__}


@pytest.mark.parametrize(("arch", "case"), PAIRS)
def test_fused_is_plain_and_leaves_no_trace(arch: str, case: str) -> None:
    with subject_of(arch, case) as subject:
        subject.plug("m")
        before, state = forwards(subject.model), {k: v.clone() for k, v in subject.model.state_dict().items()}
        ids, mask = batch(padded=True)
        with subject.base.using("m"):
            plain, tokens = logits(subject.model, ids, mask), generate(subject.model, IDS[:1]).sequences
        with subject.base.fused("m"):
            fused, theirs = logits(subject.model, ids, mask), generate(subject.model, IDS[:1]).sequences
            assert subject.model.state_dict().keys() == state.keys()
        real = mask.bool()
        assert apart(fused[real], plain[real]) < 1e-5
        assert apart(subject.bare(padded=True)[real], plain[real]) > 1e-3
        assert torch.equal(tokens, theirs)
        assert forwards(subject.model).keys() == before.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in subject.model.state_dict().items())
        assert torch.equal(logits(subject.model, IDS), subject.bare())


def _subject(subject: Subject) -> None:
    subject.plug("m")
    subject.plug("other", case="locas-glu-random", seed=2)  # on some layers only
    subject.plug("linear", case="lora", seed=3)


def test_several_modules_and_weights() -> None:
    with subject_of("llama", "locas-glu") as subject:
        _subject(subject)
        weights = {"m": 0.5, "other": -2.0, "linear": 1.5}
        plain = plain_of(subject, weights)
        with subject.base.fused(weights):
            assert apart(logits(subject.model, IDS), plain) < 1e-5


def test_blocks_inside_stand_in_its_place() -> None:
    with subject_of("llama", "locas-glu") as subject:
        _subject(subject)
        base, model = subject.base, subject.model
        with base.using("other"):
            other = logits(model, IDS)
        with base.using("m"):
            plain = logits(model, IDS)
            with base.fused("m"):
                with base.off():
                    assert torch.equal(logits(model, IDS), subject.bare())
                with base.using("other"):
                    assert torch.equal(logits(model, IDS), other)
                with base.fused("other"):
                    assert apart(logits(model, IDS), other) < 1e-5
                assert apart(logits(model, IDS), plain) < 1e-5
                base.use("other")
                assert torch.equal(logits(model, IDS), other)
            assert torch.equal(logits(model, IDS), plain)


def test_another_thread_has_the_bare_base_where_it_asks_for_it() -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")

        def bare() -> torch.Tensor:
            with subject.base.off():
                return logits(subject.model, IDS)

        with subject.base.fused("m"), ThreadPoolExecutor(1) as pool:
            assert torch.equal(pool.submit(bare).result(), subject.bare())
            with pytest.raises(SelectionError, match="nothing was chosen in this thread"):
                pool.submit(logits, subject.model, IDS).result()
        assert torch.equal(logits(subject.model, IDS), subject.bare())


@pytest.mark.parametrize("what", ["parameter", "load", "base"])
def test_copies_follow_every_change(what: str) -> None:
    with subject_of("llama", "locas-glu") as subject:
        module = subject.plug("m")
        kept = {name: tensor.clone() for name, tensor in module.tensors().items()}
        base_weight = subject.base.host.submodule("model.layers.0.mlp.up_proj").weight
        own = base_weight.detach().clone()
        with subject.base.fused("m"):
            before = logits(subject.model, IDS)
            with torch.no_grad():
                if what == "parameter":
                    next(module.parameters()).mul_(2.0)
                elif what == "load":
                    module.load_tensors({name: tensor * 1.5 for name, tensor in kept.items()})
                else:
                    base_weight.mul_(1.1)
            after = logits(subject.model, IDS)
        plain = plain_of(subject, "m")
        with torch.no_grad():
            base_weight.copy_(own)
        assert apart(before, plain) > 1e-4
        assert apart(after, plain) < 1e-5


def test_what_is_plugged_or_unplugged_inside_leaves_no_trace() -> None:
    with subject_of("llama", "locas-glu") as subject:
        subject.plug("m")
        plain = plain_of(subject, "m")
        with subject.base.fused("m"):
            subject.plug("linear", case="lora", seed=1)  # its hooks stand on the same matrices
            assert apart(logits(subject.model, IDS), plain) < 1e-5
            subject.base.unplug("linear")
            assert apart(logits(subject.model, IDS), plain) < 1e-5
            subject.base.unplug("m")
            with pytest.raises(SelectionError, match="'m' is fused, and was unplugged"):
                logits(subject.model, IDS)
        assert torch.equal(logits(subject.model, IDS), subject.bare())
        gc.collect()  # the error's traceback held the copies
        subject.base.use()
        assert forwards(subject.model) == {}


def test_detaching_inside_leaves_no_trace() -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        with subject.base.fused("m"):
            subject.base.detach()
            assert forwards(subject.model) == {}
            assert torch.equal(logits(subject.model, IDS), subject.bare())
        assert forwards(subject.model) == {}


def test_blocks_of_threads_may_overlap() -> None:
    with subject_of("llama", "locas-glu") as subject:
        _subject(subject)
        before = forwards(subject.model)
        wanted = {}
        for name in ("m", "other"):
            with subject.base.using(name):
                wanted[name] = logits(subject.model, IDS)
        entered, left, found = threading.Event(), threading.Event(), {}

        def second() -> None:
            with subject.base.fused("other"):
                entered.set()
                left.wait(30)
                found["other"] = logits(subject.model, IDS)

        thread = threading.Thread(target=second)
        with subject.base.fused("m"):
            thread.start()
            entered.wait(30)
            found["m"] = logits(subject.model, IDS)
        left.set()
        thread.join()
        for name, reference in wanted.items():
            assert apart(found[name], reference) < 1e-5
        assert torch.equal(logits(subject.model, IDS), subject.bare())
        assert forwards(subject.model).keys() == before.keys()


def test_a_context_copied_inside_keeps_it() -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        plain = plain_of(subject, "m")
        with subject.base.fused("m"):
            context = contextvars.copy_context()
        assert torch.equal(logits(subject.model, IDS), subject.bare())
        assert apart(context.run(logits, subject.model, IDS), plain) < 1e-5


def test_names_may_come_from_anywhere_and_zero_is_off() -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        subject.plug("gated", case="neutral", seed=1)
        plain = plain_of(subject, "m")
        with subject.base.fused(name for name in ["m"]):
            assert apart(logits(subject.model, IDS), plain) < 1e-5
        with subject.base.fused({"m": 1.0, "gated": 0.0}):
            assert apart(logits(subject.model, IDS), plain) < 1e-5
        with subject.base.fused(m=0.0):
            assert torch.equal(logits(subject.model, IDS), subject.bare())


def test_beams_and_the_canary_see_it() -> None:
    with subject_of("llama", "locas-glu") as subject:
        subject.plug("m")
        with subject.base.using("m"):
            plain = generate(subject.model, IDS, num_beams=3).sequences
        with subject.base.fused("m"):
            assert torch.equal(generate(subject.model, IDS, num_beams=3).sequences, plain)
            assert [one.name for one in was_on(subject.base)] == ["m"]


@pytest.mark.parametrize("case", ["neutral", "neutral-context", "neutral-sigmoid", "registers", "cartridge"])
def test_what_does_not_fold_is_refused(case: str) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        before = forwards(subject.model)
        with pytest.raises(UnsupportedError, match="'m' .* cannot be fused"), subject.base.fused("m"):
            pass
        assert forwards(subject.model).keys() == before.keys()


def test_nothing_and_nobody() -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        with subject.base.fused():
            assert torch.equal(logits(subject.model, IDS), subject.bare())
        with pytest.raises(SelectionError, match="nobody"), subject.base.fused("nobody"):
            pass


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision_is_as_near_as_half_precision_is(dtype: torch.dtype) -> None:
    with subject_of("qwen3", "locas-glu", dtype) as subject:
        subject.plug("m")
        plain = plain_of(subject, "m")
        with subject.base.fused("m"):
            fused = logits(subject.model, IDS)
    assert apart(fused, plain) < 0.05
    assert apart(subject.bare(), plain) > 2 * apart(fused, plain)


@pytest.mark.slow
def test_a_compiled_model_sees_it() -> None:
    subject = throwaway("llama", "locas-glu", num_hidden_layers=2)
    bare = logits(pico("llama", num_hidden_layers=2), IDS)
    compiled = torch.compile(subject.model, backend="eager", dynamic=False)
    plain = plain_of(subject, "m")
    assert apart(plain, bare) > 1e-3
    assert apart(logits(compiled, IDS), bare) < 1e-5
    with subject.base.fused("m"):
        assert apart(logits(compiled, IDS), plain) < 1e-5
    assert apart(logits(compiled, IDS), bare) < 1e-5


def test_a_matrix_that_is_left_out_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: values are not folded, so that the memory adds nothing."""
    from addenda.bases import folding

    right = folding.Folding.add_units

    def wrong(self: Any, name: str, layer: int, units: Any) -> None:
        right(self, name, layer, folding.replace(units, values=units.values * 0))

    monkeypatch.setattr(folding.Folding, "add_units", wrong)
    with pytest.raises(AssertionError):
        test_fused_is_plain_and_leaves_no_trace("llama", "locas-glu")
