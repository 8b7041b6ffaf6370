"""The pico models themselves: they run, they vary, and their cache is invisible."""

from __future__ import annotations

import pytest
import torch

from pico import ARCHS, BOS, EOS, PAD, VOCAB, pico, pico_tokenizer, random_ids


@pytest.mark.parametrize("arch", ARCHS)
def test_cached_generation_equals_uncached(arch: str) -> None:
    model, ids = pico(arch), random_ids(2, 12)
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "attention_mask": torch.ones_like(ids)}
    cached = model.generate(ids, use_cache=True, **settings)
    uncached = model.generate(ids, use_cache=False, **settings)
    assert cached.shape == (2, 20)
    assert torch.equal(cached, uncached)


@pytest.mark.parametrize("arch", ARCHS)
def test_logits_vary_and_are_seeded(arch: str) -> None:
    model, ids = pico(arch), random_ids(2, 12)
    with torch.no_grad():
        logits = model(ids).logits
        assert torch.equal(logits, pico(arch)(ids).logits)
        assert not torch.equal(logits, pico(arch, seed=1)(ids).logits)
    assert logits.shape == (2, 12, VOCAB)
    assert torch.isfinite(logits).all()
    assert logits.std(-1).min() > 0.3
    assert logits.argmax(-1).unique().numel() > 6
    assert not model.training
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (PAD, BOS, EOS)


def test_the_architectures_have_the_features_that_tests_rely_on() -> None:
    assert pico("mistral").config.sliding_window == 8
    assert set(pico("gemma3").config.layer_types) == {"sliding_attention", "full_attention"}
    assert set(pico("gemma2").config.layer_types) == {"sliding_attention", "full_attention"}
    assert 0 in pico("smollm3").config.no_rope_layers
    assert pico("llama", num_hidden_layers=2).config.num_hidden_layers == 2
    assert pico("llama", attn_implementation="eager").config._attn_implementation == "eager"
    assert pico("llama", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    pico("llama")
    random_ids(2, 2)
    assert torch.equal(before, torch.get_rng_state())


def test_tokenizer_is_lossless_on_ascii_and_pads_on_the_left() -> None:
    tokenizer = pico_tokenizer()
    text = 'The heart, and the lungs:\n\tno -- 3.5 mg/kg of "it" (see [1]).'
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert max(ids) < VOCAB
    assert len(tokenizer) <= VOCAB
    batch = tokenizer(["a", "the longer one"], padding=True, return_tensors="pt")
    assert batch["input_ids"][0, 0] == PAD
    assert batch["attention_mask"][0, 0] == 0
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<bos>user: hi\nassistant: yes<eos>\n"
    assert tokenizer("<eos>")["input_ids"] == [EOS]
