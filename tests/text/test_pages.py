"""Pages: texts laid out as tokens that know their line and page; put together the lines are the text."""

from __future__ import annotations

import pytest

import addenda
from addenda.core.errors import DataError
from addenda.text.pages import laid_out, lines_of
from pico import pico_tokenizer

PAGE = "# Fees\n\nA year costs 87 euros. Late fees are 4 euros a day.\n\n- Mooring: 12 euros\n- Winter: free\n\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\n",
        "One.",
        PAGE,
        "  Two  spaces.  And   more.\n",
        "a a a. a a. a",
        "Dr. Ito came. He left!\n\n\nYes?",
        "１。２。",
    ],
)
def test_the_lines_are_the_text(text: str) -> None:
    assert "".join(lines_of(text)) == text


def test_a_line_is_a_sentence_a_heading_or_an_entry() -> None:
    said = ["# Fees", "A year costs 87 euros.", "Late fees are 4 euros a day.", "- Mooring: 12 euros", "- Winter: free"]
    assert [line.strip() for line in lines_of(PAGE)] == said


def test_tokens_know_their_line_and_page() -> None:
    tokenizer = pico_tokenizer()
    ids = laid_out(tokenizer, [PAGE, "", "Sails dry. Keys hang."])
    assert tokenizer.decode(ids[:, 0]) == PAGE + "Sails dry. Keys hang."
    for page, text in enumerate((PAGE, "Sails dry. Keys hang.")):
        assert tokenizer.decode(ids[ids[:, 2] == page, 0]) == text
    lines = [tokenizer.decode(ids[ids[:, 1] == line, 0]) for line in range(int(ids[-1, 1]) + 1)]
    assert lines == [*lines_of(PAGE), "Sails dry.", " Keys hang."]


def test_the_tokens_are_those_of_the_whole_page() -> None:
    """Cut before the space that a word begins with, no token is another one."""
    tokenizer = addenda.load_base("tiny").tokenizer
    page = "The boat club. It has 40 members; a year costs 87 euros.\nKeys hang behind the door."
    assert laid_out(tokenizer, [page])[:, 0].tolist() == tokenizer(page)["input_ids"]


def test_each_page_begins_as_a_text_does() -> None:
    tokenizer = pico_tokenizer()
    plain = laid_out(tokenizer, ["One.", "Two."])
    tokenizer.add_bos_token = True
    opener = tokenizer("a")["input_ids"][: len(tokenizer("a")["input_ids"]) - 1]
    found = laid_out(tokenizer, ["One.", "Two."])
    assert len(found) == len(plain) + 2 * len(opener)


def test_pages_without_text_are_refused() -> None:
    with pytest.raises(DataError, match="no text on any page"):
        laid_out(pico_tokenizer(), ["", ""])
