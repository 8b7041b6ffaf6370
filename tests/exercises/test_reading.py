"""Reading chunks: sentences end where they end, and lists, tables and lines of key and value are told apart."""

from __future__ import annotations

import pytest

from addenda.exercises.exercise import Chunk
from addenda.exercises.reading import language, plain, read, split
from exercises.written_documents import FRENCH, GERMAN, HANDBOOK, ODD


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Dr. Vogt is in. Ask her.", 2),
        ("It costs 3.40 euros. See No. 5 of the list.", 2),
        ("Open from 9 a.m. to 5 p.m. on weekdays. Closed on Sundays.", 2),
        ("We open at 9 a.m. The desk is shut at noon.", 2),
        ("J. R. Smith wrote it. He is old.", 2),
        ("Tools (e.g. drills, saws etc.) are lent. So are books.", 2),
        ("Is it shut? Yes! It is.", 3),
        ("Am 3. März 2021 begann es. Es war kalt.", 2),
        ("He said: “Stop.” Then he left.", 2),
        ("It was founded in 1998. The house is old.", 2),
        ("The U.S. army left.", 1),
        ("図書館は開きます。会費は三千円です。", 2),
        ("No end", 1),
        ("", 0),
    ],
)
def test_sentences_end_where_they_end(text: str, count: int) -> None:
    found = split(text)
    assert len(found) == count, found
    assert "".join("".join(found).split()) == "".join(text.split())


def test_a_chunk_is_told_apart() -> None:
    held = read(Chunk("a#0", "a", (), HANDBOOK.split("## Prices")[1].strip()))
    assert held.tables[0].columns == ("Tool", "Deposit", "Day rate")
    assert [row[0] for row in held.tables[0].rows] == ["Drill", "Circular saw", "Ladder"]
    assert held.pairs == (("Telephone", "0441 229 118"), ("Head of the workshop", "Tomas Brandt"))
    listed = read(Chunk("a#0", "a", (), "Old. The box is red. It contains:\n\n- plasters\n  of all sizes\n- gel"))
    assert listed.lists[0].lead == "It contains"
    assert listed.lists[0].before == "The box is red."
    assert listed.lists[0].items == ("plasters of all sizes", "gel")


def test_marks_of_emphasis_are_no_words() -> None:
    assert plain("**The** fee [here](http://x.y) is `4` *euros*, a_b_c") == "The fee here is 4 euros, a_b_c"


def test_languages() -> None:
    assert language(HANDBOOK) == "en"
    assert language(FRENCH) == "fr"
    assert language(GERMAN) == "de"
    assert {language(ODD[name]) for name in ("empty", "numbers", "japanese", "marks")} == {""}
