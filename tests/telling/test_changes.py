"""Changes in words: the word says which way, whatever the sign was."""

from __future__ import annotations

import pytest

from addenda.telling.changes import change_in_words, counted, interval_of, learned_or_forgot


@pytest.mark.parametrize(
    ("added", "told"),
    [(-0.2319, "learned 0.232"), (0.0031, "forgot 0.003"), (0.0, "learned 0.000"), (4.5, "forgot 4.500")],
)
def test_the_word_says_which_way(added: float, told: str) -> None:
    assert learned_or_forgot(added) == told


def test_an_interval_goes_the_way_of_its_word() -> None:
    assert interval_of(-0.2, -0.3, 0.1, 1) == "[-0.1, 0.3]"
    assert interval_of(0.2, -0.1, 0.3, 1) == "[-0.1, 0.3]"


@pytest.mark.parametrize("documents", [1, 2, 4])
def test_few_documents_have_no_interval(documents: int) -> None:
    told = change_in_words("learned", 0.232, -1.892, 0.236, documents)
    assert "[" not in told
    assert told.endswith(f"({counted(documents, 'document')}: too few for an interval)")


def test_enough_documents_have_one() -> None:
    told = change_in_words("forgot", -0.003, -0.004, -0.002, 5)
    assert told == "forgot -0.003 [-0.004, -0.002] nats per token (5 documents)"
    assert (counted(1, "module"), counted(2918, "document")) == ("1 module", "2,918 documents")
