"""Continuations: each prompt as if alone, columns side by side, the base's state left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda import AddendaError
from addenda.measuring.asking.written import written
from addenda.showing.conversation import Conversation
from addenda.showing.generating import Continuation, Sampling, generate, side_by_side


def greedy(base: Any, prompt: str, count: int) -> str:
    """What transformers itself writes."""
    ids = base.tokenizer(prompt, return_tensors="pt")
    out = base.model.generate(**ids, max_new_tokens=count, do_sample=False)
    return base.tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def test_it_writes_what_transformers_writes(base: Any) -> None:
    with base.using("med"):
        on = generate(base, ["the patients", "a"], raw=True, max_tokens=8)
        assert [one.text for one in on] == [greedy(base, "the patients", 8), greedy(base, "a", 8)]
    off = generate(base, ["the patients"], raw=True, max_tokens=8)
    assert off[0].text == greedy(base, "the patients", 8) != on[0].text
    assert 0 < on[0].tokens <= 8


def test_a_prompt_is_alone_and_the_seed_is_its_own(base: Any) -> None:
    drawn = {"max_tokens": 10, "temperature": 1.0, "seed": 3}
    state = torch.get_rng_state()
    both = generate(base, ["the", "an"], **drawn)
    assert torch.equal(state, torch.get_rng_state())
    assert generate(base, ["an"], **drawn) == both[1:]
    assert generate(base, ["an"], **(drawn | {"seed": 4})) != both[1:]


def test_columns_stand_side_by_side_and_the_selection_is_put_back(base: Any) -> None:
    base.use(med=0.5)
    rows = side_by_side(base, ["the patients"], {"base": {}, "on": "med"}, max_tokens=6)
    with base.off():
        assert rows[0]["base"] == generate(base, ["the patients"], max_tokens=6)[0]
    with base.using("med"):
        assert rows[0]["on"] == generate(base, ["the patients"], max_tokens=6)[0]
    assert base.selection.everyone == {"med": 0.5}


def test_the_context_is_never_outgrown(base: Any) -> None:
    long = "x" * 250
    (cut,) = generate(base, [long], raw=True, max_tokens=60)
    assert cut.tokens <= 6
    assert cut.full != cut.ended  # it is told that the context was full, unless the model itself stopped
    assert not generate(base, ["x"], raw=True, max_tokens=4)[0].full
    with pytest.raises(AddendaError, match="fills the base's context of 256"):
        generate(base, ["x" * 256], raw=True, max_tokens=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 0}, "'max_tokens' must be at least 1"),
        ({"temperature": -1.0}, "'temperature' must be 0 .the likeliest token each time., or at least"),
        ({"top_p": 0.5}, "'temperature' must be above 0"),
        ({"temprature": 1.0}, "did you mean 'temperature'"),
    ],
)
def test_settings_are_checked(base: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AddendaError, match=message):
        generate(base, ["a"], **settings)


def test_an_empty_prompt_is_refused(base: Any) -> None:
    with pytest.raises(AddendaError, match="has no token"):
        generate(base, [""], raw=True)


def test_a_prompt_is_asked_in_the_chats_form_where_there_is_one(base: Any) -> None:
    asked = generate(base, ["the patients"], max_tokens=8)
    whole = "<bos>user: the patients\nassistant: "
    assert [one.text for one in asked] == [greedy(base, whole, 8)]
    told = generate(base, ["the patients"], system="be kind", max_tokens=8)
    assert told[0].text == greedy(base, "<bos>system: be kind\nuser: the patients\nassistant: ", 8)
    base.tokenizer.init_kwargs["chat_learned"] = False
    assert generate(base, ["the patients"], max_tokens=8) == generate(base, ["the patients"], raw=True, max_tokens=8)
    assert generate(base, ["the patients"], raw=False, max_tokens=8) == asked
    with pytest.raises(AddendaError, match="no place for a system text"):
        generate(base, ["the patients"], system="be kind")
    base.tokenizer.chat_template = None
    with pytest.raises(AddendaError, match="has no chat template"):
        generate(base, ["the patients"], raw=False)
    base.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(AddendaError, match="refuses the conversation: roles must alternate"):
        generate(base, ["the patients"], raw=False)


def test_the_embedded_base_goes_on_with_text_though_it_has_a_template() -> None:
    tiny = addenda.load_base("tiny")
    assert tiny.tokenizer.chat_template is not None
    asked = generate(tiny, ["The river flows"], max_tokens=4)
    assert asked == generate(tiny, ["The river flows"], raw=True, max_tokens=4)


def test_an_answer_that_ends_at_once_says_so(base: Any) -> None:
    first = int(base.model.generate(base.tokenize("the patients")[None], max_new_tokens=1, do_sample=False)[0, -1])
    base.model.generation_config.eos_token_id = [first]
    (answer,) = generate(base, ["the patients"], raw=True, max_tokens=8)
    assert (answer.tokens, answer.ended) == (1, True)
    assert Continuation("", "", (2,), True).ended_at_once
    assert not Continuation("", "", (5,) * 60, False).ended_at_once


INHERITED: dict[str, dict[str, Any]] = {
    "a dictionary": {"return_dict_in_generate": True, "output_scores": True, "output_logits": True},
    "hidden states": {"output_hidden_states": True, "output_attentions": True, "return_dict_in_generate": True},
    "several sequences": {"num_return_sequences": 3, "do_sample": True},
    "beams": {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5, "early_stopping": True},
    "a length": {"max_length": 4, "min_length": 50, "min_new_tokens": 40},
    "forced tokens": {"forced_bos_token_id": 5, "forced_eos_token_id": 2},
    "stop strings": {"stop_strings": ["the"]},
    "drawing": {"do_sample": True, "temperature": 3.0, "top_k": 90, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.9},
    "penalties": {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "exponential_decay_length_penalty": (1, 2.0)},
    "a cache": {"cache_implementation": "static", "use_cache": False},
    "guessing ahead": {"prompt_lookup_num_tokens": 4},
    "a time": {"max_time": 1e-9},
    "a watermark": {"watermarking_config": {"bias": 9.0}},
}


@pytest.mark.parametrize("said", INHERITED)
def test_what_the_models_own_settings_say_besides_is_put_aside(said: str, base: Any) -> None:
    plain = generate(base, ["the patients"], max_tokens=8), written(base, ["the patients"], tokens=8)
    base.model.generation_config.update(**INHERITED[said])
    before = base.model.generation_config.to_dict()
    assert generate(base, ["the patients"], max_tokens=8) == plain[0]
    assert written(base, ["the patients"], tokens=8) == plain[1]
    heard: list[str] = []
    assert Conversation(base, raw=True, max_tokens=8, temperature=0.0).say("the patients", heard.append)
    assert base.model.generation_config.to_dict() == before


def test_the_models_end_tokens_hold(base: Any) -> None:
    (long,) = generate(base, ["the patients"], raw=True, max_tokens=12)
    ids = base.tokenizer(long.text, add_special_tokens=False)["input_ids"]
    base.model.generation_config.eos_token_id = [2, ids[3]]
    (short,) = generate(base, ["the patients"], raw=True, max_tokens=12)
    assert (short.ended, short.tokens) == (True, ids.index(ids[3]) + 1)
    base.model.generation_config.eos_token_id = None  # as of a file that names none: the tokenizer's own
    base.tokenizer.eos_token = base.tokenizer.convert_ids_to_tokens(ids[3])
    assert generate(base, ["the patients"], raw=True, max_tokens=12)[0].tokens == short.tokens


def test_a_conversation_draws_as_the_model_says_and_else_takes_the_likeliest(base: Any) -> None:
    assert Conversation(base).sampling == Sampling()
    base.model.generation_config.update(do_sample=True, temperature=0.3, top_p=0.8, repetition_penalty=1.3)
    own = Conversation(base).sampling
    assert (own.temperature, own.top_p, own.top_k, own.repetition_penalty) == (0.3, 0.8, None, 1.0)
    assert Conversation(base, temperature=0.9, repetition_penalty=1.1).sampling == Sampling(
        temperature=0.9, top_p=0.8, repetition_penalty=1.1
    )
    assert Conversation(base, temperature=0.0).sampling == Sampling()
    base.model.generation_config.do_sample = False
    assert Conversation(base).sampling == Sampling()


def test_settings_read_as_a_sentence() -> None:
    assert str(Sampling()) == "the likeliest token each time"
    drawn = Sampling(temperature=0.6, top_p=0.95, repetition_penalty=1.1)
    assert str(drawn) == "drawn at temperature 0.6, top_p 0.95, repetition penalty 1.1"
