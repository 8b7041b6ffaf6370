"""The report of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from addenda.writing.report import TrainReport

CHANGE = {"value": 0.25, "low": 0.2, "high": 0.3, "loss": 2.0, "documents": 9}
FIELDS: dict[str, Any] = {
    "names": ("a", "b"),
    "steps": 10,
    "tokens": 1000,
    "seconds": 4.0,
    "losses": {"a": 1.0, "b": 3.0},
    "learning": {"a": {"pubmed": CHANGE}},
    "forgetting": {},
    "parameters": {"a": 5, "b": 6},
    "stopped_early": False,
    "resumed_from": None,
    "out": Path("runs/a"),
    "data_crc": 7,
    "settings": {"length": 32},
    "history": [{"step": 1}],
}


def test_numbers() -> None:
    report = TrainReport(**FIELDS)
    assert report.loss == 2.0
    assert report.tokens_per_second == 250.0


def test_as_dict_is_json_and_has_no_history() -> None:
    plain = json.loads(json.dumps(TrainReport(**FIELDS).as_dict()))
    assert plain["out"] == "runs/a"
    assert plain["learning"]["a"]["pubmed"]["value"] == 0.25
    assert "history" not in plain


def test_the_speed_of_a_resumed_run_is_that_of_this_call() -> None:
    report = TrainReport(**FIELDS | {"resumed_from": 8, "seconds": 4.0, "seconds_here": 0.5})
    assert report.tokens_per_second == 2 / 10 * 1000 / 0.5
    assert TrainReport(**FIELDS | {"resumed_from": 10, "seconds_here": 0.0}).tokens_per_second == 0.0


def test_remarks_are_told() -> None:
    report = TrainReport(**FIELDS | {"remarks": ("no replay: give some",)})
    assert str(report).splitlines()[-1] == "  no replay: give some"
    assert json.loads(json.dumps(report.as_dict()))["remarks"] == ["no replay: give some"]


def test_in_words() -> None:
    assert str(TrainReport(**FIELDS)).splitlines() == [
        "a, b: trained on 1,000 tokens in 10 steps, 4 s (250 tokens/s); training loss at the end 2.000 nats per token of the "
        "corpus",
        "  a on pubmed: learned +0.250 [+0.200, +0.300] nats per token (9 documents)",
    ]


def test_a_report_without_a_token_of_the_corpus_says_so() -> None:
    report = TrainReport(**(FIELDS | {"losses": {"a": None, "b": None}}))
    assert report.loss is None
    assert "; no token of the corpus counted" in str(report)
    assert TrainReport(**(FIELDS | {"losses": {"a": None, "b": 3.0}})).loss == 3.0


def test_few_documents_have_no_interval_and_a_text_its_own_name() -> None:
    few = CHANGE | {"value": -0.003, "low": -0.003, "high": -0.003, "documents": 1}
    report = TrainReport(**FIELDS | {"learning": {}, "forgetting": {"a": {"forgetting-gen": few}}})
    assert (
        str(report).splitlines()[-1] == "  a on gen: forgot -0.003 nats per token (1 document: too few for an interval)"
    )


def test_what_was_learned_of_the_corpus_itself_is_told_beside_the_bare_base() -> None:
    report = TrainReport(**FIELDS | {"learning": {}, "on_corpus": {"a": {"bare": 4.5, "now": 4.2, "tokens": 2048}}})
    assert str(report).splitlines()[-1] == (
        "  a on 2,048 tokens of its corpus: learned 0.300 nats per token (base 4.500, now 4.200)"
    )
    assert json.loads(json.dumps(report.as_dict()))["on_corpus"]["a"]["bare"] == 4.5
