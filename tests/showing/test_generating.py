"""Continuations: each prompt as if alone, columns side by side, the base's state left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from addenda import AddendaError
from addenda.showing.generating import generate, side_by_side


def greedy(base: Any, prompt: str, count: int) -> str:
    """What transformers itself writes."""
    ids = base.tokenizer(prompt, return_tensors="pt")
    out = base.model.generate(**ids, max_new_tokens=count, do_sample=False)
    return base.tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def test_it_writes_what_transformers_writes(base: Any) -> None:
    with base.using("med"):
        on = generate(base, ["the patients", "a"], max_tokens=8)
        assert [one.text for one in on] == [greedy(base, "the patients", 8), greedy(base, "a", 8)]
    off = generate(base, ["the patients"], max_tokens=8)
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
    assert generate(base, [long], max_tokens=60)[0].tokens <= 6
    with pytest.raises(AddendaError, match="fills the base's context of 256"):
        generate(base, ["x" * 256], max_tokens=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 0}, "'max_tokens' must be at least 1"),
        ({"temperature": -1.0}, "'temperature' must be not negative"),
        ({"top_p": 0.5}, "'temperature' must be above 0"),
        ({"temprature": 1.0}, "did you mean 'temperature'"),
    ],
)
def test_settings_are_checked(base: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AddendaError, match=message):
        generate(base, ["a"], **settings)


def test_an_empty_prompt_is_refused(base: Any) -> None:
    with pytest.raises(AddendaError, match="has no token"):
        generate(base, [""])
