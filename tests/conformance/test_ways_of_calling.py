"""However the base is called, the modules act alike: masks, embeddings, implementations, modes, ways to generate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from addenda.core.errors import UnsupportedError
from addenda.core.registry import methods
from conformance.kinds import CASES, MAIN, REFUSED, usual
from conformance.world import (
    LENGTHS,
    TOKENS,
    Subject,
    assert_alive,
    batch,
    close,
    fresh,
    generate,
    logits,
    positions,
    subject_of,
    throwaway,
)
from pico import ARCHS

ATTENTION = [case for case in MAIN if case.startswith(("registers", "cartridge"))]


def four_dimensional(mask: Tensor, boolean: bool) -> Tensor:
    """The causal mask [B, 1, T, T] of a padded batch, written out."""
    length = mask.shape[1]
    seen = torch.ones(length, length).tril().bool() & mask.bool()[:, None, None, :]
    seen = seen | torch.eye(length).bool()  # a pad sees itself: no row of the softmax is empty
    return seen if boolean else torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("boolean", [True, False])
@pytest.mark.parametrize("arch", usual(["llama", "gpt_neox"]))
@pytest.mark.parametrize("case", MAIN)
def test_a_mask_of_four_dimensions(arch: str, case: str, boolean: bool) -> None:
    if (arch, case) in REFUSED:
        pytest.skip("this architecture does not host it")
    with subject_of(arch, case) as subject:
        subject.plug("m")
        ids, mask = batch(padded=True)
        for chosen in ({"m": 1.0}, {"m": 0.5}):
            with subject.base.using(chosen):
                expected = logits(subject.model, ids, mask)
                with torch.no_grad():
                    found = subject.model(
                        ids, attention_mask=four_dimensional(mask, boolean), position_ids=positions(mask)
                    ).logits
            if subject.gate == "context":  # a mask of four dimensions cannot say which tokens are pads
                continue
            for row, length in enumerate(LENGTHS):
                close(found[row, -length:], expected[row, -length:])


@pytest.mark.parametrize("case", MAIN)
def test_embeddings_in_place_of_ids(case: str) -> None:
    with subject_of("llama", case) as subject, torch.no_grad():
        subject.plug("m")
        ids, mask = batch()
        embeddings = subject.model.get_input_embeddings()(ids)
        rows = [{"m": 1.0}, {}, {"m": 0.5}, {"m": 1.0}]
        with subject.base.rows(rows):
            assert torch.equal(subject.model(inputs_embeds=embeddings).logits, logits(subject.model, ids))
            by_ids = generate(subject.model, ids, num_beams=2).sequences[:, TOKENS:]
            settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "num_beams": 2}
            found = subject.model.generate(inputs_embeds=embeddings, attention_mask=mask, **settings)
            assert torch.equal(found, by_ids)


@pytest.mark.parametrize("arch", usual(arch for arch in ARCHS if arch != "gemma2"))
def test_eager_and_sdpa_attention_agree(arch: str) -> None:
    for case in ATTENTION:
        found = []
        for implementation in ("sdpa", "eager"):
            subject = throwaway(arch, case, attn_implementation=implementation)
            subject.plug("n", seed=1)
            assert subject.model.config._attn_implementation == implementation
            per_row = []
            for padded in (False, True):
                ids, mask = batch(padded)
                for chosen in (
                    subject.base.using(m=1.0, n=0.5),
                    subject.base.rows([{"m": 1.0}, {}, {"n": 0.5}, {"m": 2.0, "n": 1.0}]),
                ):
                    with chosen:
                        values = logits(subject.model, ids, mask)
                    per_row.append(values[mask.bool()])
            found.append(torch.cat(per_row))
        close(found[0], found[1])


@pytest.mark.parametrize("case", MAIN)
def test_attentions_and_hidden_states_can_be_asked_for(case: str) -> None:
    subject = throwaway("llama", case, attn_implementation="eager")
    ids, _ = batch()
    for chosen in (subject.base.using("m"), subject.base.rows([{"m": 1.0}, {}, {"m": 0.5}, {}])):
        with chosen, torch.no_grad():
            plain = subject.model(ids).logits
            out = subject.model(ids, output_attentions=True, output_hidden_states=True)
            assert torch.equal(out.logits, plain)
            assert len(out.hidden_states) == 4


@pytest.mark.parametrize("arch", ["llama", "gemma2", "gpt2", "opt"])
@pytest.mark.parametrize("case", MAIN)
def test_attentions_are_given_for_every_row(arch: str, case: str) -> None:
    """Of the tokens, in the bare base's shape; rows that select nothing have the bare base's own."""
    if (arch, case) in REFUSED:
        pytest.skip("this architecture does not host it")
    subject = throwaway(arch, case, attn_implementation="eager")
    base, (ids, _) = subject.base, batch()
    bare = subject.model(ids, output_attentions=True).attentions
    alone: list[Tensor] | None = None
    entries = [{}, {"m": 1.0}]
    ways = {
        "using": (base.using("m"), [0, 1, 2, 3]),
        "rows": (base.rows([{"m": 1.0}, {}, {"m": 1.0}, {}]), [0, 2]),
        "all rows": (base.rows([{"m": 1.0}] * 4), [0, 1, 2, 3]),
        "index": (base.rows(torch.tensor([0, 1, 1, 0]), table=entries), [1, 2]),
    }
    for way, (chosen, on) in ways.items():
        with chosen, torch.no_grad():
            found = subject.model(ids, output_attentions=True).attentions
        alone = alone or list(found)
        assert [one.shape for one in found] == [one.shape for one in bare], way
        for one, own, plain in zip(found, alone, bare, strict=True):
            off = [row for row in range(4) if row not in on]
            assert torch.equal(one[off], plain[off]), way
            close(one[on], own[on])
            if subject.joint:
                assert bool((one[on].sum(-1) < 1 - 1e-6).any()), "the slots have no share"


def test_attentions_that_the_implementation_cannot_give_are_told_as_the_base_tells(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from transformers.utils import logging

    subject = throwaway("llama", "registers", attn_implementation="sdpa")
    base, (ids, _) = subject.base, batch()
    logger, verbosity = logging.get_logger("transformers"), logging.get_verbosity()
    logger.addHandler(caplog.handler)
    logging.set_verbosity_warning()  # the command line, run in this process by other tests, wants less
    try:
        for chosen in (base.off(), base.using("m"), base.rows([{"m": 1.0}, {}, {}, {"m": 1.0}])):
            caplog.clear()
            logging.warning_once.cache_clear()  # type: ignore[attr-defined]
            with chosen, torch.no_grad():
                assert not subject.model(ids, output_attentions=True).attentions
            assert "`sdpa` attention does not support `output_attentions=True`" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)
        logging.set_verbosity(verbosity)


@pytest.mark.parametrize("case", MAIN)
def test_inference_mode_first_and_training_after(case: str) -> None:
    """Nothing that was computed under inference mode stands in the way of gradients."""
    subject = throwaway("llama", case)
    ids, _ = batch()
    with torch.inference_mode(), subject.base.using("m"):
        before = subject.model(ids).logits.clone()
    with subject.base.using("m"):
        assert torch.equal(logits(subject.model, ids), before)
    with subject.base.trainable("m") as trainable:
        trainable(input_ids=ids, labels=ids).loss.backward()
    assert any(bool(p.grad.any()) for p in subject.base.modules["m"].parameters() if p.grad is not None)
    with torch.inference_mode():
        made = fresh(subject.base, "n", case)  # plugged under inference mode, trained outside of it
    with subject.base.trainable("n") as trainable:
        trainable(input_ids=ids, labels=ids).loss.backward()
    assert any(bool(p.grad.any()) for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("case", MAIN)
def test_autocast(case: str) -> None:
    """A float32 base under bfloat16 autocast: finite, close to float32, rows that select nothing bit-equal."""
    with subject_of("llama", case) as subject:
        subject.plug("m")
        ids, _ = batch()
        with subject.base.using("m"):
            exact = logits(subject.model, ids)
        with torch.autocast("cpu", torch.bfloat16):
            bare = logits(subject.model, ids)
            with subject.base.using("m"):
                on = logits(subject.model, ids)
            with subject.base.rows([{"m": 1.0}, {}, {"m": 1.0}, {}]):
                mixed = logits(subject.model, ids)
        assert torch.equal(mixed[[1, 3]], bare[[1, 3]])
        assert float((on - exact).abs().max()) < 0.1 * float(exact.abs().max())
        assert float((mixed[[0, 2]] - on[[0, 2]]).abs().max()) < 0.1 * float(exact.abs().max())
    subject = throwaway("llama", case)
    with torch.autocast("cpu", torch.bfloat16), subject.base.trainable("m") as trainable:
        loss = trainable(input_ids=ids, labels=ids).loss
    loss.backward()
    grads = [p.grad for p in subject.base.modules["m"].parameters() if p.grad is not None]
    assert grads
    assert all(bool(torch.isfinite(grad).all()) and grad.dtype == torch.float32 for grad in grads)


@pytest.mark.parametrize("case", MAIN)
def test_a_module_in_bfloat16_on_a_float32_base_and_the_other_way_round(case: str) -> None:
    for base_dtype, own in (
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ):
        subject = throwaway("llama", case, base_dtype)
        module = subject.base.modules["m"]
        assert {p.dtype for p in module.parameters()} == {torch.float32}
        with subject.base.off():
            bare = logits(subject.model, *batch())
        with subject.base.using("m"):
            before = logits(subject.model, *batch())
        module.to(own)
        with subject.base.using("m"):
            after = logits(subject.model, *batch())
        assert torch.isfinite(after).all()
        assert float((after - bare).abs().max()) > 1e-2
        assert float((after - before).abs().max()) < 0.1 * float(before.abs().max())
        with subject.base.rows([{"m": 1.0}, {}, {"m": 1.0}, {}]):
            assert torch.equal(logits(subject.model, *batch())[[1, 3]], bare[[1, 3]])


@pytest.mark.parametrize("case", MAIN)
def test_guessing_ahead_gives_the_same_or_is_refused(case: str) -> None:
    """Prompt lookup and assistants crop the cache: the state of a gate cannot be unwound, and says so."""
    with subject_of("llama", case) as subject:
        subject.plug("m")
        ids = batch()[0][:1].repeat(1, 2)
        with subject.base.using("m"):
            expected = generate(subject.model, ids).sequences
            if CASES[case].gate in methods("gate"):
                with pytest.raises(UnsupportedError, match="cropped"):
                    generate(subject.model, ids, prompt_lookup_num_tokens=3)
            else:
                assert torch.equal(generate(subject.model, ids, prompt_lookup_num_tokens=3).sequences, expected)


@pytest.mark.parametrize("arch", usual(ARCHS))
def test_text_longer_than_the_window_and_one_token(arch: str) -> None:
    """From one token to three windows, rows of one token included, cached = uncached for every hosted kind."""
    from pico import random_ids

    cases = [case for case in MAIN if (arch, case) not in REFUSED]
    with subject_of(arch, "lora") as subject, torch.no_grad():
        for case in cases:
            subject.plug("m", case=case)
            with subject.base.using("m"):
                for length in (1, 2, 25):
                    ids = random_ids(2, length, seed=length)
                    whole = logits(subject.model, torch.cat([ids, ids[:, :1]], 1))
                    past = subject.model(ids, use_cache=True).past_key_values
                    close(subject.model(ids[:, :1], past_key_values=past).logits[:, -1], whole[:, -1])
            subject.base.unplug("m")


@pytest.mark.parametrize("case", MAIN)
def test_a_base_without_a_cache_and_without_a_mask(case: str) -> None:
    with subject_of("llama", case) as subject:
        subject.plug("m")
        assert_alive(subject)
        ids, mask = batch()
        with subject.base.using("m"):
            expected = logits(subject.model, ids, mask)
            for more in ({"use_cache": False}, {"use_cache": True}, {"logits_to_keep": 0}):
                close(logits(subject.model, ids, None, **more), expected)


def test_subjects_are_what_they_seem() -> None:
    subject: Subject = throwaway("llama", "lora")
    assert subject.model.config._attn_implementation == "sdpa"
