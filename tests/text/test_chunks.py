"""Chunks: each under its headings, never longer than asked, never in the middle of a sentence, known by what they say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addenda.core.errors import DataError
from addenda.exercises.exercise import Chunk
from addenda.text.chunks import chunks
from addenda.text.documents import documents
from addenda.text.sentences import sentences
from pico import pico_tokenizer

TOKENIZER: Any = pico_tokenizer()
RULES = """# Club

Welcome to the club. It has boats.

## Fees

A year costs 87 euros. Late fees are 4 euros a day.

| What | Price |
| --- | --- |
| Oar | 3 euros |
| Sail | 9 euros |

### For guests

Guests pay 5 euros.

## Keys

- The key hangs behind the door.
- The spare key is kept by Dr. Brandt.
"""


def cut(text: str, tokens: int = 64) -> list[Chunk]:
    return chunks(documents({"rules.md": text}), TOKENIZER, tokens)


def size(chunk: Chunk) -> int:
    return len(TOKENIZER(chunk.read, add_special_tokens=False)["input_ids"])


def test_each_chunk_stands_under_its_headings() -> None:
    found = cut(RULES, 512)
    assert [one.headings for one in found] == [
        ("Club",),
        ("Club", "Fees"),
        ("Club", "Fees", "For guests"),
        ("Club", "Keys"),
    ]
    assert found[1].text.startswith("A year costs 87 euros. Late fees are 4 euros a day.\n\n| What | Price |")
    assert {one.document for one in found} == {"rules.md"}


@pytest.mark.parametrize("tokens", [56, 64, 100])
def test_no_chunk_is_longer_than_asked_and_no_sentence_is_cut_that_fits(tokens: int) -> None:
    found = cut(RULES, tokens)
    assert max(map(size, found)) <= tokens
    told = "\n".join(one.text for one in found)
    for sentence in ("Welcome to the club.", "Late fees are 4 euros a day.", "Guests pay 5 euros."):
        assert sentence in told
    assert sum(one.text.count("87 euros") for one in found) == 1


def test_a_table_that_is_cut_has_its_head_in_each_part() -> None:
    rows = "\n".join(f"| Boat {number} | {number} euros |" for number in range(40))
    found = cut(f"| What | Price |\n| --- | --- |\n{rows}\n", 96)
    assert len(found) > 3
    assert all(one.text.startswith("| What | Price |\n| --- | --- |\n| Boat") for one in found)
    assert re.findall(r"Boat (\d+)", "\n".join(one.text for one in found)) == [str(number) for number in range(40)]


def test_a_chunk_is_known_by_what_it_says_whatever_changes_around_it() -> None:
    before, after = cut(RULES), cut(RULES.replace("87 euros", "88 euros").replace("# Club\n", "# Club\n\nNew.\n", 1))
    same = {one.id for one in before} & {one.id for one in after}
    assert {one.id for one in before if "Keys" in one.headings} <= same
    assert not {one.id for one in before if "87 euros" in one.text} & same
    assert [one.id for one in cut(RULES)] == [one.id for one in before]
    twice = cut("# A\n\nSame.\n\n# B\n\nOther.\n\n# A\n\nSame.\n")
    assert len({one.id for one in twice}) == 3


def test_one_line_of_very_many_characters_is_cut_at_sentences_or_else_anywhere() -> None:
    words = cut("The oar is long. " * 4000, 128)
    assert max(map(size, words)) <= 128
    assert all(one.text.endswith(".") and one.text.startswith("The") for one in words)
    assert sum(one.text.count("oar") for one in words) == 4000
    letters = cut("x" * 20_000, 128)
    assert max(map(size, letters)) <= 128
    assert "".join(one.text for one in letters) == "x" * 20_000


def test_long_headings_leave_room_for_the_text() -> None:
    found = cut("# " + "very long " * 60 + "\n\n## Fees\n\nA year costs 87 euros.\n")
    assert max(map(size, found)) <= 64
    assert found[0].headings == ("Fees",)
    alone = cut("# " + "very long " * 60 + "\n\nA year costs 87 euros.\n")
    assert max(map(size, alone)) <= 64
    assert alone[0].headings[0].startswith("very long")


@given(st.text(st.sampled_from(" \nab.#-|1"), min_size=1, max_size=400), st.integers(32, 80))
def test_any_text_is_cut_into_chunks_that_fit_and_lose_no_letter(text: str, tokens: int) -> None:
    try:
        read = documents({"x.md": text})
    except DataError:
        return
    found = chunks(read, TOKENIZER, tokens)
    assert all(size(one) <= tokens for one in found)
    wanted = "".join(block.text for one in read for block in one.blocks if not block.level)
    have = "".join(one.text for one in found)
    assert sorted(c for c in wanted if c in "ab1") <= sorted(c for c in have if c in "ab1")


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="at least 32"):
        cut(RULES, 31)


def test_sentences_survive_abbreviations_numbers_and_other_scripts() -> None:
    text = "Dr. Brandt has 3.5 keys, e.g. the blue one. J. Falk has none! Really? 鍵は扉の後ろです。予備もあります。 "
    text += "See No. 5. (It is old.) Yes"
    assert list(sentences(text)) == [
        "Dr. Brandt has 3.5 keys, e.g. the blue one.",
        "J. Falk has none!",
        "Really?",
        "鍵は扉の後ろです。",
        "予備もあります。",
        "See No. 5.",
        "(It is old.)",
        "Yes",
    ]
