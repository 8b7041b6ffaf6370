"""Records to token ids and loss weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from addenda.core.errors import DataError
from addenda.text.encoding import Encoder, first_ids
from pico import BOS, EOS, VOCAB, pico_tokenizer

CHAT = [
    {"role": "user", "content": "say a"},
    {"role": "assistant", "content": "a it is"},
    {"role": "user", "content": "now b"},
    {"role": "assistant", "content": "b it is"},
]


def learned(encoder: Encoder, record: dict[str, Any]) -> str:
    """The text whose tokens count in the loss; a space before it may be part of its first token."""
    document = encoder.one(record)
    return encoder.tokenizer.decode(document.ids[document.weights == 1].tolist()).replace("<eos> ", "<eos>").lstrip()


def test_a_text_is_encoded_as_the_tokenizer_does_and_closed_on_request() -> None:
    tokenizer = pico_tokenizer()
    plain = tokenizer("the heart")["input_ids"]
    open_, closed = Encoder(tokenizer, VOCAB), Encoder(tokenizer, VOCAB, close=True)
    assert open_.one({"text": "the heart"}).ids.tolist() == plain
    document = closed.one({"text": "the heart"})
    assert document.ids.tolist() == [*plain, EOS]
    assert document.weights.all()
    assert document.bytes == 9
    assert document.ids.dtype == np.int32


def test_a_group_equals_singles_and_keeps_the_order() -> None:
    encoder = Encoder(pico_tokenizer(), VOCAB, close=True)
    records = [{"text": f"text {n}"} for n in range(300)] + [{"messages": CHAT}, {"text": "last"}]
    together = [document.ids.tolist() for document in encoder.documents(records)]
    assert together == [encoder.one(record).ids.tolist() for record in records]


def test_only_what_the_assistant_says_counts() -> None:
    encoder = Encoder(pico_tokenizer(), VOCAB, close=True)
    assert learned(encoder, {"messages": CHAT}) == "a it is<eos>b it is<eos>"
    assert learned(encoder, {"prompt": "say a", "completion": "a it is"}) == "a it is<eos>"
    # a list of messages before: what the assistant said there does not count
    assert learned(encoder, {"prompt": CHAT[:3], "completion": "b it is"}) == "b it is<eos>"
    assert encoder.one({"messages": CHAT}).ids.tolist().count(BOS) == 1


def test_a_template_that_writes_the_last_turn_differently() -> None:
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {% if loop.last and m['role'] == 'assistant' %}<think></think>{% endif %}"
        "{{ m['content'] }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    encoder = Encoder(tokenizer, VOCAB)
    said = learned(encoder, {"messages": CHAT})
    assert said == "a it is<eos><think></think>b it is<eos>"


def test_without_a_template_pairs_are_joined_and_messages_refused() -> None:
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = None
    encoder = Encoder(tokenizer, VOCAB)
    assert learned(encoder, {"prompt": "say a", "completion": " a it is"}) == "a it is<eos>"
    with pytest.raises(DataError, match="has no chat template"):
        encoder.one({"messages": CHAT})


@pytest.mark.parametrize(
    ("vocabulary", "record", "told"),
    [
        (16, {"text": "zebra"}, r"does not match the base: it gave token id \d+, and the base's vocabulary has 16"),
        (VOCAB, {"messages": CHAT[:1]}, "no message of the role 'assistant'"),
    ],
)
def test_what_does_not_fit(vocabulary: int, record: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Encoder(pico_tokenizer(), vocabulary).one(record)
    with pytest.raises(DataError, match="no tokenizer"):
        Encoder(None, VOCAB)


def test_the_first_ids_of_a_source() -> None:
    encoder = Encoder(pico_tokenizer(), VOCAB)
    ids = first_ids(encoder, [{"text": "ab"}, {"text": "cd"}, {"text": "ef"}], 3)
    assert encoder.tokenizer.decode(ids.tolist()) == "abc"
    assert len(first_ids(encoder, [], 3)) == 0
