"""Conversations: history through the chat template, plain text without one, old turns left out where too many."""

from __future__ import annotations

from typing import Any

import pytest

from addenda import AddendaError
from addenda.showing.conversation import Conversation


def test_history_goes_through_the_template(base: Any) -> None:
    talk = Conversation(base, "be kind", max_tokens=4)
    heard: list[str] = []
    answer = talk.say("hello", heard.append)
    assert "".join(heard).strip() == answer.strip()
    talk.say("again")
    assert [turn["role"] for turn in talk.messages] == ["user", "assistant"] * 2
    whole = f"<bos>system: be kind\nuser: hello\nassistant: {answer}<eos>\nassistant: "
    assert talk._prompt(talk.messages[:2])[1] == whole


def test_without_a_template_the_text_goes_on(base: Any) -> None:
    assert not Conversation(base, raw=True).templated
    base.tokenizer.chat_template = None
    talk = Conversation(base, max_tokens=4)
    assert not talk.templated
    answer = talk.say("the river ")
    assert talk._prompt([*talk.messages, {"role": "user", "content": "and"}])[1] == f"the river {answer}\nand"


def test_the_selection_may_change_between_turns(base: Any) -> None:
    plain, other = Conversation(base, max_tokens=6), Conversation(base, max_tokens=6)
    first = plain.say("the patients")
    with base.using("med"):
        assert other.say("the patients") != first
    other.reset()
    assert other.say("the patients") == first


def test_old_turns_are_left_out_where_they_do_not_fit(base: Any) -> None:
    talk = Conversation(base, max_tokens=4)
    for _ in range(3):
        talk.say("x" * 100)
    assert talk.forgotten > 0
    before = list(talk.messages)
    with pytest.raises(AddendaError, match="does not fit the base's context of 256"):
        talk.say("x" * 300)
    assert talk.messages == before


def test_a_tokenizer_is_needed(base: Any) -> None:
    base.tokenizer = None
    with pytest.raises(AddendaError, match="needs a tokenizer"):
        Conversation(base)
