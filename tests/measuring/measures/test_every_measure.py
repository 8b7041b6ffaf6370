"""What holds of every measure: it is asked for by its first option, which has a flag of its own, and by nothing else."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

import addenda
from addenda.core.errors import AddendaError
from addenda.measuring.conducting.evaluate import known_measures
from addenda.measuring.conducting.measure import leading
from pico import pico

EVERY: dict[str, Any] = dict(known_measures())


@pytest.mark.parametrize("name", EVERY)
def test_a_measure_is_asked_for_by_its_first_option_alone(name: str) -> None:
    measure, first = EVERY[name], leading(EVERY[name])
    assert measure.place < 100, "those of other packages come after"
    assert not measure().asked
    assert not any(measure(**{option.name: 1}).asked for option in fields(measure) if option.name != first)
    assert fields(measure)[0].metadata["flag"].help
    assert json.loads(json.dumps(measure.nothing)) in (None, [], {})
    others = [leading(other) for other in EVERY.values() if other is not measure]
    assert first not in others


@pytest.mark.parametrize("name", EVERY)
def test_what_a_measure_needs_is_told_by_the_option_that_asks_for_it(name: str) -> None:
    base, measure = addenda.attach(pico("llama")), EVERY[name]
    asked = {leading(measure): ("x",) if leading(measure) in ("tasks", "neutrality", "drift") else {"a": "x"}}
    if measure.of_modules:
        with pytest.raises(AddendaError, match=f"^{leading(measure)}: what modules do is measured, and none acts"):
            addenda.evaluate(base, **asked)
    base.new("m", addenda.LoRA(rank=2))
    if measure.in_words:
        with pytest.raises(AddendaError, match=f"^{leading(measure)}: asked in words, and the base has no tokenizer"):
            addenda.evaluate(base, modules="m", **asked)
