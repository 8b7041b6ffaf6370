"""Bases as one finds them: attached twice, dispatched by accelerate, offloaded, quantised, in pipelines, refused."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from accelerate.hooks import remove_hook_from_submodules
from transformers import pipeline

import addenda
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.site import Seam
from conformance.kinds import MAIN
from conformance.world import (
    batch,
    close,
    logits,
    perturbed,
    structure,
    subject_of,
    throwaway,
    twin_of,
)
from pico import pico, pico_tokenizer


def test_attaching_twice_gives_the_same_base() -> None:
    model = pico("llama")
    base = addenda.attach(model)
    assert addenda.attach(model) is base
    assert base.tokenizer is None
    tokenizer = pico_tokenizer()
    assert addenda.attach(model, tokenizer) is base
    assert base.tokenizer is tokenizer
    perturbed(base, "m", "lora")
    assert addenda.attach(model).modules["m"] is base.modules["m"]
    base.detach()
    assert torch.equal(logits(model, *batch()), logits(twin_of("llama"), *batch()))
    again = addenda.attach(model)
    assert again is not base
    assert not again.modules
    perturbed(again, "m", "lora")
    with again.using("m"):
        assert not torch.equal(logits(model, *batch()), logits(twin_of("llama"), *batch()))


def test_a_base_that_nobody_holds_any_more_leaves_no_trace() -> None:
    """Model and base go when the last reference goes; detach is not needed for that."""
    model = pico("llama")
    base = addenda.attach(model)
    perturbed(base, "m", "registers-neutral")
    with base.using("m"):
        logits(model, *batch())
    gone = weakref.ref(model), weakref.ref(base)
    del model, base
    gc.collect()
    assert gone[0]() is None
    assert gone[1]() is None


def test_a_base_dropped_while_its_modules_are_plugged_lives_on_with_the_model() -> None:
    model = pico("llama")
    perturbed(addenda.attach(model), "m", "lora")
    gc.collect()
    base = addenda.attach(model)
    assert "m" in base.modules, "the base was lost, and its hooks are still in the model"
    base.detach()
    assert torch.equal(logits(model, *batch()), logits(twin_of("llama"), *batch()))


DEVICES = {"": "cpu"}


@pytest.mark.parametrize("case", MAIN)
@pytest.mark.parametrize("when", ["before", "after"])
def test_dispatched_by_accelerate(case: str, when: str) -> None:
    """Hooks of accelerate before ours, or ours before accelerate's: the module acts, and unplugs without a trace."""
    expected = throwaway("llama", case)
    with expected.base.using("m"):
        wanted = logits(expected.model, *batch())
    model = pico("llama")
    if when == "before":
        model = dispatch_model(model, device_map=DEVICES, main_device="cpu", force_hooks=True)
    before = structure(model)
    base = addenda.attach(model)
    perturbed(base, "m", case)
    if when == "after":
        model = dispatch_model(model, device_map=DEVICES, main_device="cpu", force_hooks=True)
    with base.using("m"):
        assert torch.equal(logits(model, *batch()), wanted)
    assert torch.equal(logits(model, *batch()), expected.bare())
    base.detach()
    assert torch.equal(logits(model, *batch()), expected.bare())
    if when == "before":
        assert structure(model) == before
    remove_hook_from_submodules(model)
    assert torch.equal(logits(model, *batch()), expected.bare())


@pytest.mark.parametrize("case", MAIN)
def test_offloaded_to_the_cpu(case: str) -> None:
    """Weights on the meta device between calls, fetched for each: fingerprint, modules and unplugging work."""
    expected = throwaway("llama", case)
    with expected.base.using("m"):
        wanted = logits(expected.model, *batch())
    model = pico("llama")
    cpu_offload(model, torch.device("cpu"))
    base = addenda.attach(model)
    assert base.fingerprint == expected.base.fingerprint
    perturbed(base, "m", case)
    with base.using("m"):
        close(logits(model, *batch()), wanted)
    base.detach()
    close(logits(model, *batch()), expected.bare())


def quantised(arch: str) -> Any:
    """A pico model whose linear layers, but for the head, are int8 weight-only by torchao."""
    torchao = pytest.importorskip("torchao.quantization")
    model = pico(arch)
    torchao.quantize_(
        model,
        torchao.Int8WeightOnlyConfig(),
        lambda module, name: isinstance(module, torch.nn.Linear) and "lm_head" not in name,
    )
    return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torchao's own deprecations
@pytest.mark.parametrize("arch", ["llama", "gemma3"])
@pytest.mark.parametrize("case", MAIN)
def test_quantised_linears(arch: str, case: str) -> None:
    model = quantised(arch)
    bare = logits(model, *batch())
    assert float((bare - logits(twin_of(arch), *batch())).abs().max()) > 1e-4  # really quantised
    base = addenda.attach(model, pico_tokenizer())
    module = perturbed(base, "m", case)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    with base.using("m"):
        on = logits(model, *batch())
        assert float((on - bare).abs().max()) > 1e-2
    with base.rows([{"m": 1.0}, {}, {"m": 1.0}, {}]):
        mixed = logits(model, *batch())
    assert torch.equal(mixed[[1, 3]], bare[[1, 3]])
    close(mixed[[0, 2]], on[[0, 2]])
    ids, _ = batch()
    with base.trainable("m") as trainable:
        trainable(input_ids=ids, labels=ids).loss.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
    base.detach()
    assert torch.equal(logits(model, *batch()), bare)


@pytest.mark.parametrize("case", MAIN)
def test_a_pipeline_as_it_is(case: str) -> None:
    """`pipeline("text-generation")` on an attached model honours the selection, in batches too."""
    with subject_of("llama", case) as subject:
        subject.plug("m")
        tokenizer = pico_tokenizer()
        made = pipeline("text-generation", model=subject.model, tokenizer=tokenizer, device="cpu")
        settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "return_full_text": False}
        settings["eos_token_id"] = None
        texts = ["The heart pumps", "A town by the river", "It rains"]
        bare = [made(text, **settings)[0]["generated_text"] for text in texts]
        with subject.base.using("m"):
            on = [made(text, **settings)[0]["generated_text"] for text in texts]
            together = [found[0]["generated_text"] for found in made(texts, batch_size=3, **settings)]
        assert on != bare
        assert together == on
        with subject.base.rows([{"m": 1.0}, {}, {"m": 1.0}]):
            mixed = [found[0]["generated_text"] for found in made(texts, batch_size=3, **settings)]
        assert mixed == [on[0], bare[1], on[2]]
        subject.base.use("m")
        assert made(texts[0], **settings)[0]["generated_text"] == on[0]
        subject.base.use()
        assert made(texts[0], **settings)[0]["generated_text"] == bare[0]


def test_what_cannot_be_hosted_is_refused_by_name() -> None:
    with pytest.raises(AddendaError, match="causal language model"):
        addenda.attach(torch.nn.Linear(2, 2))
    model = pico("llama")
    model.config.model_type = "nonsense"
    with pytest.raises(UnsupportedError, match="nonsense.*llama"):
        addenda.attach(model)
    model = pico("llama")
    with pytest.raises(UnsupportedError, match=r"has no 'model\.layers'"):
        addenda.attach(model.model)
    base = addenda.attach(model)
    base.host.config._attn_implementation_internal = "flex_attention"
    assert base.host.refusal(Seam.FFN) is None
    with pytest.raises(UnsupportedError, match=r"flex_attention.*sdpa"):
        base.new("m", addenda.Registers(2))
    base.new("m", addenda.LoRA(2))
