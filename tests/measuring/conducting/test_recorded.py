"""What an evaluation found, in the card of its module."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import addenda
from addenda.core.errors import AddendaError
from addenda.measuring.asking.accuracy import OnTask
from addenda.measuring.asking.facts import biographies
from addenda.measuring.conducting.evaluate import evaluate
from addenda.measuring.conducting.recorded import measured, record
from addenda.measuring.looking.inspection import inspect
from addenda.measuring.measures.tasks import Accuracy
from addenda.modulefile.modelcard import render
from addenda.telling.intervals import Interval
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
    found = evaluate(base, texts, "m", facts=biographies(6), neutrality=["the cat sat on the mat " * 60])
    by_name = {one.name: one for one in record(base, found)}
    on = found.texts[0]
    assert on.on is not None
    assert (by_name["loss"].value, by_name["loss"].reference) == (on.on.nats, on.off.nats)
    assert by_name["loss added"].value == pytest.approx(on.on.nats - on.off.nats)
    assert found.recall is not None
    assert by_name["recall, chosen"].reference == found.recall.chosen_before.value
    assert by_name["tokens left bit-equal"].value == found.neutrality[0].untouched.value
    assert found.recall.gain is not None
    gain = by_name["recall, chosen, added"]
    assert (gain.value, gain.low, gain.high) == (found.recall.gain.value, found.recall.gain.low, found.recall.gain.high)
    many = by_name["facts more per megabyte"]
    assert many.value == found.recall.per_megabyte
    assert many.low is not None
    assert many.low == pytest.approx(gain.low * found.recall.told / found.recall.megabytes)  # type: ignore[operator]
    assert set(by_name) == {
        "loss", "loss added", "recall, chosen", "recall, chosen, added", "recall, word for word",
        "untold facts answered as before", "facts more per megabyte", "tokens left bit-equal", "KL from the base",
        "largest change of a logit",
    }  # fmt: skip


def test_changed_answers_and_zero_shot_questions_are_measures_too(base: addenda.Base) -> None:
    found = evaluate(base, modules="m", chats="general", zero_shot=True, limit=3)
    by_name = {(one.name, one.on): one for one in record(base, found)}
    assert found.chats is not None
    assert found.zero_shot is not None
    changed = by_name["answers changed", "general chats"]
    assert (changed.value, changed.n) == (found.chats.changed.value, 3)
    assert by_name["answers changed early", "general chats"].value == found.chats.early.value
    pooled = by_name["zero-shot", "all sets"]
    assert found.zero_shot.pooled.on is not None
    assert (pooled.value, pooled.reference) == (found.zero_shot.pooled.on.value, found.zero_shot.pooled.off.value)
    added = by_name["zero-shot added", "all sets"]
    assert added.value == pytest.approx(pooled.value - found.zero_shot.pooled.off.value)
    sets = {name for name, on in by_name if on == "boolq"}
    assert sets == {"zero-shot acc", "zero-shot acc added"}
    assert "zero-shot" in render(base.modules["m"].card)


def test_each_file_of_facts_and_of_edits_stands_under_its_own_name(base: addenda.Base, tmp_path: Path) -> None:
    for name, seed in (("people", 0), ("others", 1)):
        biographies(3, seed=seed).save(tmp_path / f"{name}.jsonl")
        edit = {"subject": "the cat", "prompt": "the cat sat on the", "target_true": "mat", "target_new": "dog"}
        with gzip.open(tmp_path / f"edits-{name}.jsonl.gz", "wt") as out:
            out.write(json.dumps(edit) + "\n")
        files = {"facts": tmp_path / f"{name}.jsonl", "edits": tmp_path / f"edits-{name}.jsonl.gz"}
        found = evaluate(base, modules="m", limit=2, **files)  # type: ignore[arg-type]
        assert found.as_dict()["sources"] == {"facts": name, "edits": f"edits-{name}"}
        record(base, found)
    measures = base.modules["m"].card.measures
    assert {one.on for one in measures if one.name == "recall, chosen"} == {"people", "others"}
    assert {one.on for one in measures if one.name == "edits, reliability"} == {"edits-people", "edits-others"}


def test_three_settings_and_spectra_are_in_the_card_too(base: addenda.Base, tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    facts = biographies(3)
    text = ["the cat sat on the mat and looked at the dog " * 60]
    found = evaluate(base, modules="m", facts=facts, snapshot=facts, spectrum=text, limit=3)
    by_name = {one.name: one for one in record(base, found)}
    assert found.settings is not None
    for name, one in found.settings.shares.items():
        assert by_name[f"three settings, {name}"].value == one.value
    assert by_name["three settings, online less offline"].value == 0.0
    sites = found.spectrum["m"]
    own = by_name["spectrum of units, participation"]
    assert own.value == pytest.approx(sum(one.module.participation for one in sites if one.module) / len(sites))
    assert own.reference == pytest.approx(sum(one.host.participation for one in sites if one.host) / len(sites))
    assert (own.n, own.on) == (2, "texts")
    least = by_name["spectrum of what is added, least participation"]
    assert least.value == min(one.added.participation for one in sites if one.added)
    base.modules["m"].save(tmp_path / "m")
    assert inspect(tmp_path / "m").card.measures == base.modules["m"].card.measures  # type: ignore[union-attr]


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


def test_tasks_stand_under_their_names_and_what_is_added_beside_them(base: addenda.Base, tmp_path: Path) -> None:
    from dataclasses import replace

    def asked(name: str, added: float) -> OnTask:
        before, after = Interval(0.2, 0.1, 0.3, 50), Interval(0.2 + added, 0.1 + added, 0.3 + added, 50)
        change = Interval(added, added - 0.1, added + 0.1, 50)
        return OnTask(name, "acc", 50, 0.25, before, {"on": after}, {"on": change})

    tasks = (asked("mmlu_anatomy", 0.2), asked("mmlu_virology", 0.4), asked("copa", 0.1))
    found = evaluate(base, {"a": ["some text to read " * 4]}, "m")
    found = replace(found, found={"tasks": tasks}, measures={"tasks": Accuracy()})
    by_name = {(one.name, one.on): one for one in record(base, found)}
    one = by_name["acc", "mmlu_anatomy"]
    assert (one.value, one.reference, one.low, one.n) == pytest.approx((0.4, 0.2, 0.3, 50))
    one = by_name["acc added", "copa"]
    assert (one.value, one.low, one.high, one.reference) == pytest.approx((0.1, 0.0, 0.2, None))
    one = by_name["acc added", "mmlu: anatomy, virology"]
    assert one.low is not None
    assert (one.value, one.n) == (pytest.approx(0.3), 100)
    assert one.value - one.low == pytest.approx(0.1 / 2**0.5)  # two subjects, each known as well
    page = render(base.modules["m"].card)
    subjects = page[page.index("## MMLU") : page.index("## Trained on")]
    assert subjects.count("| anatomy |") == 1
    assert "| mean of 2 subjects | 20.0% | 50.0% |" in subjects
    many = (asked(f"mmlu_{name}", 0.1) for name in "abcd")
    assert any(m.on == "mmlu: mean of 4 subjects" for m in measured(replace(found, found={"tasks": tuple(many)})))


@pytest.mark.parametrize("modules", [(), ("m", "n"), {"m": 0.5}])
def test_numbers_of_no_module_by_itself_go_into_no_card(base: addenda.Base, modules: object) -> None:
    found = evaluate(base, {"a": ["some text to read " * 4]}, modules)  # type: ignore[arg-type]
    with pytest.raises(AddendaError, match="alone at weight 1"):
        record(base, found)
    assert not base.modules["m"].card.measures
