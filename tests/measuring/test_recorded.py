"""What an evaluation found, in the card of its module."""

from __future__ import annotations

from pathlib import Path

import pytest

import addenda
from addenda.core.errors import AddendaError
from addenda.intervals import Interval
from addenda.measuring.evaluate import evaluate
from addenda.measuring.facts import biographies
from addenda.measuring.harness import OnTask
from addenda.measuring.inspection import inspect
from addenda.measuring.recorded import measured, record
from conformance.world import perturbed
from pico import pico, pico_tokenizer


@pytest.fixture
def base() -> addenda.Base:
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    perturbed(base, "m", "neutral")
    perturbed(base, "n", "lora")
    return base


def test_everything_found_is_a_measure_with_the_base_beside_it(base: addenda.Base) -> None:
    texts = {"general": ["the cat sat on the mat and looked at the dog " * 3, "it is the same all over again " * 4]}
    found = evaluate(base, texts, "m", facts=biographies(3), neutrality=["the cat sat on the mat " * 60], limit=3)
    by_name = {one.name: one for one in record(base, found)}
    on = found.texts[0]
    assert on.on is not None
    assert (by_name["loss"].value, by_name["loss"].reference) == (on.on.nats, on.off.nats)
    assert by_name["loss added"].value == pytest.approx(on.on.nats - on.off.nats)
    assert found.recall is not None
    assert by_name["recall, chosen"].reference == found.recall.chosen_before.value
    assert found.neutrality is not None
    assert by_name["tokens left bit-equal"].value == found.neutrality.untouched.value
    assert set(by_name) == {
        "loss", "loss added", "recall, chosen", "recall, word for word", "untold facts answered as before",
        "tokens left bit-equal", "KL from the base", "largest change of a logit",
    }  # fmt: skip


def test_a_second_evaluation_replaces_what_it_measures_again_and_nothing_else(
    base: addenda.Base, tmp_path: Path
) -> None:
    first = evaluate(base, {"a": ["some text to read " * 4], "b": ["another text to read " * 4]}, "m")
    record(base, first)
    record(base, evaluate(base, {"b": ["quite another text to read " * 4]}, "m"))
    measures = base.modules["m"].card.measures
    assert sorted((one.name, one.on) for one in measures) == [(n, on) for n in ("loss", "loss added") for on in "ab"]
    kept = {one.on: one.value for one in measures if one.name == "loss"}
    assert first.texts[0].on is not None
    assert kept["a"] == first.texts[0].on.nats
    base.modules["m"].save(tmp_path / "m")
    inspected = inspect(tmp_path / "m")
    assert inspected.card.measures == measures  # type: ignore[union-attr]


def test_tasks_stand_under_their_names(base: addenda.Base) -> None:
    from dataclasses import replace

    before, after = Interval(0.2, 0.1, 0.3, 50), Interval(0.4, 0.3, 0.5, 50)
    task = OnTask("mmlu_anatomy", "acc", 50, 0.25, before, {"on": after}, {"on": after})
    found = replace(evaluate(base, {"a": ["some text to read " * 4]}, "m"), tasks=(task,))
    one = next(m for m in measured(found) if m.on == "mmlu_anatomy")
    assert (one.name, one.value, one.reference, one.low, one.high, one.n) == ("acc", 0.4, 0.2, 0.3, 0.5, 50)


@pytest.mark.parametrize("modules", [(), ("m", "n"), {"m": 0.5}])
def test_numbers_of_no_module_by_itself_go_into_no_card(base: addenda.Base, modules: object) -> None:
    found = evaluate(base, {"a": ["some text to read " * 4]}, modules)  # type: ignore[arg-type]
    with pytest.raises(AddendaError, match="alone at weight 1"):
        record(base, found)
    assert not base.modules["m"].card.measures
