"""Facts and recall: people without end, questions in new words, an oracle right, a constant at chance, a module that knows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError, FileError
from addenda.measuring.asking import recall as recalling
from addenda.measuring.asking.facts import RELATIONS, Facts, biographies, evenly, load_facts
from addenda.measuring.asking.options import Option
from addenda.measuring.asking.recall import begins_with, recall
from addenda.measuring.asking.written import written


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


FACTS = biographies(30)


def test_people_are_the_same_for_a_seed_and_the_first_of_more() -> None:
    assert biographies(30) == FACTS
    assert biographies(30, seed=1).told != FACTS.told
    more = biographies(60)
    assert [(f.subject, f.relation, f.answer) for f in more.told][: 30 * 5] == [
        (f.subject, f.relation, f.answer) for f in FACTS.told
    ]
    assert len({f.subject for f in biographies(3000, phrasings=1).told}) == 3000


def test_texts_state_every_told_fact_and_no_other_and_never_in_the_words_of_the_question() -> None:
    text = "\n".join(FACTS.documents)
    assert len(FACTS.documents) == 30 * 4
    assert len(FACTS.told) == 150
    assert {f.relation for f in FACTS.told} == set(RELATIONS)
    for fact in FACTS.told:
        stated = [d for d in FACTS.documents if fact.subject in d]
        assert len(stated) == 4
        assert all(fact.answer in document for document in stated)
        assert fact.prompt not in text
        assert fact.subject in fact.prompt
        assert len({fact.answer, *fact.others}) == 10
    assert all(fact.subject not in text for fact in FACTS.untold)
    assert FACTS.chance == pytest.approx(0.1)


def test_wrong_answers_are_true_of_others() -> None:
    """So that having read an answer somewhere does not help: it must be known of whom."""
    familiar = [
        other in {g.answer for g in FACTS.told if g.relation == f.relation} for f in FACTS.told for other in f.others
    ]
    assert sum(familiar) / len(familiar) > 0.95


def test_facts_survive_a_file_which_is_a_corpus_as_it_is(tmp_path: Path) -> None:
    FACTS.save(tmp_path / "people.jsonl")
    assert load_facts(tmp_path / "people.jsonl") == FACTS
    biographies(5).save(tmp_path / "people.jsonl")  # in the place of the old
    assert load_facts(tmp_path / "people.jsonl") == biographies(5)
    with pytest.raises(FileError, match="cannot be written"):
        FACTS.save(tmp_path / "people.jsonl" / "below.jsonl")
    assert load_facts(tmp_path / "people.jsonl") == biographies(5)
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"fact": {"subject": "x"}}\n')
    with pytest.raises(DataError, match="line 2"):
        load_facts(tmp_path / "bad.jsonl")
    (tmp_path / "none.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="holds no question"):
        load_facts(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        load_facts(tmp_path / "absent.jsonl")
    with pytest.raises(AddendaError, match="people=0"):
        biographies(0)


def answering(choice: Any) -> Any:
    def all_likelihoods(base: addenda.Base, questions: Any, **_: Any) -> list[list[Option]]:
        return [[Option(a, float(choice(n)), 1) for n, a in enumerate(answers)] for _, answers in questions]

    return all_likelihoods


def test_an_oracle_is_right_and_a_constant_answer_at_chance(
    base: addenda.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = {fact.prompt: fact.answer for fact in FACTS.told}
    monkeypatch.setattr(recalling, "write", lambda base, prompts, **_: [truth[p] + ", they say" for p in prompts])
    monkeypatch.setattr(recalling, "all_likelihoods", answering(lambda n: -n))
    found = recall(base, FACTS)
    assert (found.chosen_before.value, found.exact_before.value) == (1.0, 1.0)
    monkeypatch.setattr(recalling, "all_likelihoods", answering(lambda n: 0))
    assert recall(base, FACTS).chosen_before.value == pytest.approx(found.chance)
    monkeypatch.setattr(recalling, "all_likelihoods", answering(lambda n: n))
    assert recall(base, FACTS).chosen_before.value == 0.0


@pytest.mark.slow
def test_a_module_that_does_nothing_changes_nothing(base: addenda.Base) -> None:
    base.new("fresh", addenda.LoRA(2))
    found = recall(base, FACTS, "fresh", questions=10, written=False)
    base.unplug("fresh")
    assert found.gain is not None
    assert (found.gain.value, found.gain.low, found.gain.high) == (0.0, 0.0, 0.0)
    assert found.kept is not None
    assert found.kept.value == 1.0
    assert found.canary[0].finding == "fresh"
    assert found.facts == 10
    assert 0.0 <= found.chosen_before.value < 0.6  # a base that never read of these people guesses
    assert found.per_megabyte == 0.0


def test_facts_for_each_megabyte_are_of_all_that_were_told_however_few_are_asked(
    base: addenda.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    def knowing(base: addenda.Base, questions: Any, **_: Any) -> list[list[Option]]:
        first = float(bool(base.selection.everyone))
        return [
            [Option(a, first * (n == 0) + (n == 1) / 2, 1) for n, a in enumerate(answers)] for _, answers in questions
        ]

    base.new("oracle", addenda.LoRA(2))
    monkeypatch.setattr(recalling, "all_likelihoods", knowing)
    whole, part = (recall(base, FACTS, "oracle", questions=n, written=False) for n in (None, 15))
    base.unplug("oracle")
    assert (whole.facts, whole.told, part.facts, part.told) == (150, 150, 15, 150)
    assert whole.per_megabyte == part.per_megabyte == 150 / whole.megabytes
    assert part.as_dict()["told"] == 150


@pytest.mark.slow
def test_what_was_trained_is_recalled_in_other_words(base: addenda.Base) -> None:
    facts = biographies(4, unseen=10, phrasings=12)
    base.new("people", addenda.LoRA(16))
    addenda.train(
        base, "people", corpus=list(facts.documents), tokens=60_000, lr=3e-3, length=128, batch_rows=8, log=False
    )
    found = recall(base, facts, {"people": 1.0})
    base.unplug("people")
    assert found.gain is not None
    assert found.gain.value > 0.2
    assert found.exact_after is not None
    assert found.exact_after.value > found.exact_before.value
    assert found.kept is not None
    assert found.kept.value < 1.0
    plain = found.as_dict()
    assert plain["per_megabyte"] == pytest.approx(plain["gain"]["value"] * 20 / plain["megabytes"])


def test_what_is_written_begins_with_the_answer_or_does_not() -> None:
    assert begins_with("The Tranmouth, a town", "Tranmouth")
    assert not begins_with("Tran", "Tranmouth")
    assert not begins_with("", "Tranmouth")
    assert not begins_with("anything", "the")


def test_prompts_written_together_are_as_if_alone(base: addenda.Base) -> None:
    prompts = ["The patients were", "The old house stood at the end of", "Once upon a time"] * 2
    together = written(base, prompts, tokens=8)
    assert together[:3] == together[3:]
    assert together == [written(base, [prompt], tokens=8)[0] for prompt in prompts]


def test_a_wrong_number_of_questions_is_told(base: addenda.Base) -> None:
    with pytest.raises(AddendaError, match="questions must be positive"):
        recall(base, Facts((), FACTS.told, ()), questions=0)


@pytest.mark.parametrize(("people", "most"), [(50, 25), (50, 50), (100, 100), (25, 120), (7, 3)])
def test_of_few_questions_as_many_are_of_each_relation(people: int, most: int) -> None:
    """Facts lie five to a person, one of each relation: a stride through them would ask of one relation alone."""
    facts = addenda.biographies(people).told
    asked = evenly(facts, most)
    assert len(asked) == len(set(asked)) == most
    counts = Counter(fact.relation for fact in asked)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({fact.subject for fact in asked}) > min(people, most) * 0.5
    assert [facts.index(one) for one in asked] == sorted(facts.index(one) for one in asked)
    assert evenly(facts, None) == evenly(facts, 10_000) == list(facts)
