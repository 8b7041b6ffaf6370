"""Examination: exercises held out of training, asked at the end; which they are, and what counts as their answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from addenda.measuring.asking.asked import Asked
from addenda.measuring.asking.options import normalised
from addenda.teaching.study_set import OWN

#: ways of asking for one answer, of which at least so many are left to study when one is held out
LEFT = 2
#: at most this share of all is held out
MOST = 0.1
#: what an answer tells: a number, a code, a name
_TELLING = re.compile(r"[\w.,:/-]*\d[\w.,:/-]*|(?<=\s)[A-Z][\w-]+")
#: sentences to complete are no questions
_QUESTION = "?"


def split(records: Sequence[Mapping[str, Any]], most: int) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The records to study, and those that are held out: one wording of a fact that is studied in others.

    So what is asked at the end was told, in words that were not. Which these are is told by a hash of the question. A team's own
    questions are all studied.
    """
    by_answer: dict[tuple[Any, str], list[int]] = {}
    for at, record in enumerate(records):
        if (
            record.get("answered", True)
            and record.get("kind") != OWN
            and asked_of(record).question.strip().endswith(_QUESTION)
        ):
            by_answer.setdefault((record.get("chunk"), answer_of(record)), []).append(at)
    able = [min(places, key=lambda at: _hash(records[at])) for places in by_answer.values() if len(places) > LEFT]
    able.sort(key=lambda at: _hash(records[at]))
    held = set(able[: min(most, int(MOST * len(records)))])
    return [r for at, r in enumerate(records) if at not in held], [records[at] for at in sorted(held)]


def asked_of(record: Mapping[str, Any]) -> Asked:
    """A record of a study set as a question; where its answer tells numbers, codes or names, these are what counts."""
    said, answer = list(said_in(record)), answer_of(record)
    needed = tuple((word,) for word in telling(said[-1]["content"], answer))
    accepted = (answer,) if record.get("answered", True) else ()
    return Asked(tuple(said), accepted, (), str(record.get("kind", "")), needed if accepted else ())


def telling(question: str, answer: str) -> list[str]:
    """The numbers, codes and names of an answer that do not stand in the question."""
    known = set(normalised(question))
    found = (match.group().strip(".,:;-") for match in _TELLING.finditer(answer))
    return list(dict.fromkeys(word for word in found if normalised(word) and not set(normalised(word)) <= known))


def answer_of(record: Mapping[str, Any]) -> str:
    """What is to be said."""
    if "messages" in record:
        return record["messages"][-1]["content"]
    return record.get("completion", record.get("answer", "")).strip()


def with_answer(record: Mapping[str, Any], said: str) -> dict[str, Any]:
    """A record with something else to be said."""
    if "messages" in record:
        return {**record, "messages": [*record["messages"][:-1], {**record["messages"][-1], "content": said}]}
    return {**record, "completion": f" {said}"} if "completion" in record else {**record, "answer": said}


def said_in(record: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What is said before the answer."""
    if "messages" in record:
        yield from ({"role": one["role"], "content": one["content"]} for one in record["messages"][:-1])
        return
    prompt = record.get("prompt", record.get("question", "")).strip()
    yield {"role": "user", "content": prompt.removeprefix("Question:").removesuffix("Answer:").strip()}


def conversation(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """All that is said, the answer last."""
    return [*said_in(record), {"role": "assistant", "content": answer_of(record)}]


def _hash(record: Mapping[str, Any]) -> str:
    said = "\n".join(one["content"] for one in said_in(record))
    return sha256(f"{said}\n{answer_of(record)}".encode()).hexdigest()
