"""What every exercise promises, mined or generated, whatever the document: well-formed chats in the document's words."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from random import Random
from typing import cast

import pytest

from addenda.core import registry
from addenda.exercises import untold, words
from addenda.exercises.exercise import Ask, Chunk, Exercise, Generated, Made, Mined
from exercises.written_documents import FRENCH, GERMAN, HANDBOOK, ODD, PEOPLE, chunks

ALL = {name: cast("Exercise", registry.build("exercise", name, {})) for name in registry.methods("exercise")}
MINED = {name: method for name, method in ALL.items() if isinstance(method, Mined)}
GENERATED = {name: method for name, method in ALL.items() if isinstance(method, Generated)}
DOCUMENTS = {
    "handbook": chunks(HANDBOOK),
    "people": chunks(PEOPLE, "people.md", "The people of the Lantern Society"),
    "french": chunks(FRENCH, "fr.md", "Guide des outils"),
    "german": chunks(GERMAN, "de.md", "Handbuch der Werkzeuge"),
    **{name: [Chunk(f"{name}#0", name, ("A title",), text)] for name, text in ODD.items()},
}
LONG = Chunk("long#0", "long", ("Long",), "the fee is 4 euros e.g. for you and is **not** back " * 5000)
#: words that answers have of their own, beside the documents'
OWN = {words.stem(word) for word in "yes no higher is are".split()}
REFUSES = re.compile(r"does not say|says nothing|is not in")


def mined(method: Mined, document: Sequence[Chunk], seed: int = 0) -> list[Made]:
    return [one for chunk in document for one in method.mine(chunk, document, Random(f"{seed} {chunk.id}"))]


def asks(method: Generated, document: Sequence[Chunk], seed: int = 0) -> list[Ask]:
    return [one for chunk in document for one in method.asks(chunk, document, Random(f"{seed} {chunk.id}"))]


def well_formed(one: Made, kind: str, document: Sequence[Chunk]) -> None:
    assert one.kind == kind
    assert [said["role"] for said in one.messages] == ["user", "assistant"] * (len(one.messages) // 2)
    assert all(
        set(said) == {"role", "content"} and said["content"] == said["content"].strip() != "" for said in one.messages
    )
    assert one.question[0] == one.question[0].upper()
    assert one.question.endswith(("?", ".", "...", '"')), one.question
    assert "  " not in one.question
    assert not re.search(r"\.\?|\?\?|,\?", one.question), one.question
    assert one.chunks
    assert len(set(one.chunks)) == len(one.chunks)
    assert set(one.chunks) <= {chunk.id for chunk in document}
    assert one.answered != bool(REFUSES.search(one.answer) and len(one.answer.split()) < 8)
    if one.answered:
        assert one.answer.rstrip(".").lower() not in one.question.lower()
        there = " ".join(chunk.read for chunk in document if chunk.id in one.chunks)
        known = {words.stem(word) for word in words.words(there)} | OWN
        new = [word for word in words.content(one.answer) if words.stem(word) not in known]
        assert not new, f"{one.answer!r} has {new}, which the document has not"


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("name", MINED)
def test_what_is_mined_is_well_formed_and_in_the_documents_words(name: str, document: str) -> None:
    there = DOCUMENTS[document]
    for one in mined(MINED[name], there):
        well_formed(one, name, there)
        assert one.chunks[0] in {chunk.id for chunk in there}


@pytest.mark.parametrize("name", MINED)
def test_every_miner_finds_something_and_the_same_again(name: str) -> None:
    found = mined(MINED[name], DOCUMENTS["handbook"])
    assert found
    assert mined(MINED[name], list(DOCUMENTS["handbook"])) == found
    asked = [one.messages for one in found]
    assert len({json.dumps(messages) for messages in asked}) > 0.9 * len(asked)  # hardly any twice


@pytest.mark.parametrize("name", MINED)
def test_a_question_names_what_it_is_about(name: str) -> None:
    for one in mined(MINED[name], DOCUMENTS["handbook"]):
        there = " ".join(chunk.read for chunk in DOCUMENTS["handbook"] if chunk.id in one.chunks)
        about = {words.stem(word) for word in words.content(one.question)}
        assert not one.answered or about & {words.stem(word) for word in words.words(there)}, one.question
        assert not re.search(
            r"^\W*(?:what|how|when|where|who) (?:is|are|does|do|much is) (?:it|they|this|that)\b(?! sentence)",
            one.question.lower(),
        )


@pytest.mark.parametrize("name", ALL)
def test_a_document_in_another_language_is_never_asked_in_english(name: str) -> None:
    english = re.compile(r"\b(?:what|who|when|where|how|which|does|about|complete the)\b")
    method = ALL[name]
    for language in ("french", "german", "japanese"):
        there = DOCUMENTS[language]
        if isinstance(method, Mined):
            assert not [one.question for one in mined(method, there) if english.search(one.question.lower())]
        else:
            assert all(
                "Use its language" in one.messages[-1]["content"]
                for one in asks(cast("Generated", method), there)
                if language != "japanese"
            )


@pytest.mark.parametrize("name", ALL)
def test_a_very_long_line_is_read_in_seconds(name: str) -> None:
    began = time.perf_counter()
    method = ALL[name]
    list(
        method.mine(LONG, [LONG], Random(0))
        if isinstance(method, Mined)
        else cast("Generated", method).asks(LONG, [LONG], Random(0))
    )
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("name", GENERATED)
def test_what_a_teacher_is_asked_is_plain_and_the_same_again(name: str, document: str) -> None:
    there, method = DOCUMENTS[document], GENERATED[name]
    found = asks(method, there)
    assert asks(method, list(there)) == found
    for one in found:
        assert one.tokens > 0
        assert one.messages[-1]["role"] == "user"
        assert set(one.chunks) <= {chunk.id for chunk in there}
        assert json.loads(json.dumps(dict(one.keep))) == dict(one.keep)


BAD = (
    "", "   \n", "Sure!", "I cannot help with that.", "The fee is 4 euros.", "What", "What does it cost?", "Who is he?",
    "What is this?",
    "What does the sentence say about the passage?", "Question:", "What is the answer to the question in the text?",
    "What is what is what is what is what is what is what is?", "How much does the", "?", "???", "Write a question",
    "\x00\ud7ff?",
    "What does the Harbour Tool Library, which was founded long ago and which has many members, stewards, cards, keys and also a",
)  # fmt: skip


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_no_good_question_is_dropped(name: str) -> None:
    method = GENERATED[name]
    for one in asks(method, DOCUMENTS["handbook"]):
        answer = str(one.keep["answer"])
        for said in (
            *BAD,
            one.messages[-1]["content"],
            answer,
            f"Is it true that {answer[:1].lower()}{answer[1:].rstrip('.')}?",
        ):
            assert not list(method.made(one, said)), (said, one)


@pytest.mark.parametrize("name", GENERATED)
def test_a_good_question_is_taken_out_of_what_stands_around_it(name: str) -> None:
    """Said is all that is mined, and questions on what the document does not tell: for some of it each kind must have use."""
    method, there = GENERATED[name], DOCUMENTS["handbook"]
    everything = [one for miner in MINED.values() for one in mined(miner, there)]
    good = {one.question for one in everything if one.question.count("?") == 1 and one.question.endswith("?")}
    good = {question for question in good if not set(question) & set('":')}
    good |= {f"How much does the {topic} cost at the library?" for topic in untold.THINGS + untold.EVENTS}
    direct = "costs amounts times places persons numbered objects".split()
    by_answer: dict[str, list[str]] = {}
    for one in everything:
        if one.kind in direct and one.question in good:
            by_answer.setdefault(one.answer, []).append(one.question)
    taken = 0
    for ask in asks(method, there):
        first, second = (by_answer.get(str(ask.keep.get(part)), []) for part in ("one", "two"))
        both = {f"{one.rstrip('?')}, and {two[:1].lower()}{two[1:]}" for one in first for two in second}
        for question in sorted(good | both):
            found = list(method.made(ask, question))
            taken += len(found)
            for one in found:
                well_formed(one, name, there)
                assert (one.question, one.answer) == (question, ask.keep["answer"])
            if found:
                dressed = list(method.made(ask, f'Question: "{question}"\nAnswer: 4'))
                assert [one.messages for one in dressed] == [one.messages for one in found]
    assert taken
