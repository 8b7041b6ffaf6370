"""Soft tokens: as many for a text of any length, what they start from, and that a text's own say more of it than others."""

from __future__ import annotations

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError
from addenda.kinds.soft_tokens import SoftTokens
from pico import pico, pico_tokenizer

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way. "


def test_as_many_for_a_text_of_any_length() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    sizes = set()
    for number, times in enumerate((1, 40)):
        module = base.new(f"m{number}", SoftTokens(count=4), text=TEXT * times)
        assert set(module.tensors()) == {"layers.0.attention.tokens"}
        sizes.add(module.size())
    assert sizes == {4 * base.anatomy.width}


def test_they_start_from_the_mean_embeddings_of_its_stretches() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    ids = base.tokenize(TEXT)
    module = base.new("m", SoftTokens(count=3), text=TEXT)
    embedded = base.model.get_input_embeddings()(ids).detach()
    first = embedded[: len(ids.tensor_split(3)[0])].mean(0)
    found = module.tensors()["layers.0.attention.tokens"]
    torch.testing.assert_close(torch.cosine_similarity(found[0], first, dim=0), torch.tensor(1.0))
    torch.testing.assert_close(found.norm(dim=-1), embedded.norm(dim=-1).mean().expand(3))


def test_one_that_is_a_words_embedding_is_read_as_that_word() -> None:
    """At one place, where rotation is the identity, a soft token gives the keys and values of the token it is."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    ids = base.tokenize(TEXT)[:1]
    module = base.new("m", SoftTokens(count=1), text=TEXT)
    module.load_tensors({"layers.0.attention.tokens": base.model.get_input_embeddings()(ids).detach()})
    with torch.no_grad():
        past = base.model(ids[None], use_cache=True).past_key_values
        made = base.reader.materialise(module)
    for layer, (key, (keys, values)) in zip(past.layers, made.items(), strict=True):
        torch.testing.assert_close(keys, layer.keys[0], msg=key)
        torch.testing.assert_close(values, layer.values[0], msg=key)


@pytest.mark.slow
def test_a_texts_own_soft_tokens_help_more_than_anothers() -> None:
    base = addenda.load_base("tiny")
    documents = {
        "m": [
            "Forty patients with asthma were given the drug twice a day and their lungs were examined each week. " * 6
        ],
        "n": ["Le soir tombait sur la ville et les enfants rentraient en chantant le long de la rivière. " * 6],
    }
    for name, text in documents.items():
        base.new(name, SoftTokens(count=8), text=text[0])
        addenda.train(base, name, corpus=text, tokens=3_000, length=96, batch_rows=4, log=False)
    losses = {}
    for name in documents:
        with base.using(name):
            losses[name] = float(addenda.perplexity(base, documents["n"], tokens=300))
    assert losses["n"] < losses["m"]


@pytest.mark.parametrize("options", [{"count": 0}, {"init": "zeros"}])
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(AddendaError, match="SoftTokens"):
        SoftTokens(**options)  # type: ignore[arg-type]


def test_a_text_that_is_too_short_is_refused() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    with pytest.raises(AddendaError, match="at least 64 tokens"):
        base.new("m", SoftTokens(count=64), text="short")
    assert "m" not in base.modules
