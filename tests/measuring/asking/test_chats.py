"""Changed answers: none where nothing acts, all where everything is changed, and each as it is written alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking.chats import EARLY, answers, asked_of, changed_answers, parts_at, prompt_of
from addenda.measuring.asking.written import continued, written
from addenda.tiny.asked import chats
from conformance.world import perturbed
from pico import pico, pico_tokenizer

TURNS = [
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "sat"},
    {"role": "user", "content": "and the dog"},
]


@pytest.fixture(scope="module")
def tiny() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


@pytest.fixture
def base() -> addenda.Base:
    return addenda.attach(pico("llama"), pico_tokenizer())


def test_the_bare_base_asked_twice_and_a_fresh_module_change_nothing(tiny: addenda.Base) -> None:
    tiny.new("fresh", addenda.LoRA(2))
    found = changed_answers(tiny, "fresh", limit=12, tokens=20)
    tiny.unplug("fresh")
    assert (found.changed.value, found.early.value, found.changed.n) == (0.0, 0.0, 12)
    assert all(one.off == one.on and one.parts_at is None for one in found.answers)
    assert found.changed.high > 0.1, "of twelve, none is no certainty"


def test_a_module_that_always_says_one_thing_changes_every_answer(tiny: addenda.Base) -> None:
    """The worst there is: in the place of every answer, one and the same word."""
    asked = asked_of("general", 8)[1]
    module = tiny.new("m", addenda.LoRA(4))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=1.0)
    found = changed_answers(tiny, "m", limit=8)
    with tiny.using("m"):
        on = answers(tiny, asked)
    tiny.unplug("m")
    assert (found.changed.value, found.early.value) == (1.0, 1.0)
    assert [one.on for one in found.answers] == [
        tiny.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in on
    ]
    assert [one.said for one in found.answers] == [one.messages[-1]["content"] for one in chats(8)]


def test_padded_answers_are_those_of_each_chat_alone(tiny: addenda.Base) -> None:
    asked = asked_of("general", 10)[1]
    prompts = [prompt_of(tiny, one) for one in asked]
    assert len({len(one) for one in prompts}) > 3
    together = continued(tiny, prompts, tokens=16, padded=True)
    alone = [continued(tiny, [one], tokens=16)[0] for one in prompts]
    assert together == alone
    assert continued(tiny, prompts, tokens=16, padded=True, batch_tokens=64) == alone


def test_an_answer_ends_where_the_model_ends_it(base: addenda.Base) -> None:
    prompt = base.tokenize("the cat sat on")
    (whole,) = continued(base, [prompt], tokens=12)
    assert len(whole) == 12
    at = next(place for place, one in enumerate(whole) if one not in whole[:place] and place > 2)
    base.model.generation_config.eos_token_id = [whole[at], 1]
    (cut,) = continued(base, [prompt], tokens=12)
    assert cut == whole[:at]
    pair = continued(base, [prompt, prompt[1:]], tokens=12, padded=True)
    assert pair[0] == cut
    assert base.tokenizer.decode(cut).strip().split("\n")[0] == written(base, ["the cat sat on"], tokens=12)[0]


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        ([1, 2], [1, 2], None),
        ([], [], None),
        ([1, 2], [1, 3], 1),
        ([1, 2], [1], 1),
        ([], [5], 0),
        ([4] * 20, [4] * 17, 17),
    ],
)
def test_where_two_answers_part(one: list[int], other: list[int], place: int | None) -> None:
    assert parts_at(one, other) == place
    assert parts_at(other, one) == place


def test_early_counts_what_parts_within_the_first_tokens(base: addenda.Base, monkeypatch: pytest.MonkeyPatch) -> None:
    from addenda.measuring.asking import chats as file

    same, late, soon = list(range(20, 60)), [*range(20, 20 + EARLY), 7], [*range(20, 20 + EARLY - 1), 7]
    said = iter([[same] * 4, [same, late, soon, []]])
    monkeypatch.setattr(file, "answers", lambda *_, **__: next(said))
    perturbed(base, "m", "lora")
    found = changed_answers(base, "m", ["a", "b", "c", "d"])
    assert (found.changed.value, found.early.value) == (0.75, 0.5)
    assert [one.parts_at for one in found.answers] == [None, EARLY, EARLY - 1, 0]


def test_chats_go_through_the_template_and_else_as_questions_and_answers(base: addenda.Base) -> None:
    assert base.tokenizer is not None
    base.tokenizer.chat_template = None
    plain = base.tokenizer.decode(prompt_of(base, TURNS), skip_special_tokens=True)
    assert plain == "Question: the cat\nAnswer: sat\nQuestion: and the dog\nAnswer:"
    turns = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    base.tokenizer.chat_template = turns + "{% if add_generation_prompt %}[assistant]{% endif %}"
    shown = base.tokenizer.decode(prompt_of(base, TURNS))
    assert shown == "[user] the cat\n[assistant] sat\n[user] and the dog\n[assistant]"
    base.tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(AddendaError, match="chat template refuses"):
        prompt_of(base, TURNS)


def test_chats_of_ones_own_are_asked_up_to_what_the_user_says_last(tmp_path: Path) -> None:
    answered = [*TURNS, {"role": "assistant", "content": "ran"}]
    (tmp_path / "mine.jsonl").write_text('{"messages": [{"role": "user", "content": "hello"}]}\n')
    assert asked_of(tmp_path / "mine.jsonl") == ("mine.jsonl", [[{"role": "user", "content": "hello"}]])
    given: list[Any] = [{"messages": answered}, {"prompt": "why", "completion": "so"}, "a text"]
    assert asked_of(given)[1] == [
        TURNS,
        [{"role": "user", "content": "why"}],
        [{"role": "user", "content": "a text"}],
    ]
    assert len(asked_of(given, 2)[1]) == 2
    with pytest.raises(DataError, match="record 1 of 'texts' has nothing that the user says"):
        asked_of([{"messages": [TURNS[1]]}])
    with pytest.raises(DataError, match="it holds no chat"):
        asked_of([])


def test_no_chat_is_a_mistake() -> None:
    for source in ("general", ["The river ran."]):
        with pytest.raises(DataError, match="at least one chat is asked; got a limit of 0"):
            asked_of(source, 0)


def test_a_selection_and_a_tokenizer_are_needed(base: addenda.Base) -> None:
    with pytest.raises(AddendaError, match="name the modules"):
        changed_answers(base, ())
    bare = addenda.attach(pico("qwen3"))
    bare.new("m", addenda.LoRA(2))
    with pytest.raises(AddendaError, match="no tokenizer"):
        changed_answers(bare, "m")
