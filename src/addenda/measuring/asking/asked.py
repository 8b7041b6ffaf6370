"""Questions about documents, from a file: answers that count, wrong ones to choose among, and what documents do not say."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking.options import normalised
from addenda.text.files import json_lines
from addenda.text.records import check_unicode, messages_of

#: answers to choose among, the right one included
OPTIONS = 10
FORM = (
    '{"question": "...", "answers": ["..."]}, with "answers": [] where the documents do not say, or a record of a study set '
    "(messages, or prompt with completion)"
)


@dataclass(frozen=True)
class Asked:
    """A question: what is said, the user last; the answers that count, none where the documents do not say; wrong ones.

    Where `needed` is given, an answer is right that says one form of each group, in any words around them.
    """

    messages: tuple[dict[str, str], ...]
    accepted: tuple[str, ...]
    others: tuple[str, ...] = ()
    kind: str = ""
    needed: tuple[tuple[str, ...], ...] = ()

    @property
    def question(self) -> str:
        """What is asked last."""
        return self.messages[-1]["content"]


def load_questions(path: str | Path) -> list[Asked]:
    """Questions from JSON lines, in the order of the file.

    A line has a `question` with `answers` (or one `answer`), any of which counts; none where the documents do not say. It may
    have `others`, wrong answers to choose among, `needed`, groups of words of which an answer must have one each (`[["14 days",
    "two weeks"], ["blue"]]`), and a `kind`. A record of a study set is one too: `messages` that end in the
    answer (`"answered": false` where it is a refusal), or a `prompt` with its `completion`.

    Raises:
        DataError: the file cannot be read, a line is not of the form (which one), or there is no question.
    """
    try:
        found = [_asked(where, record) for where, record in json_lines(Path(path).expanduser())]
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from None
    if not found:
        raise DataError(f"'{path}' holds no question; a line of it is {FORM}")
    return found


def opened_questions(given: Any) -> tuple[str, list[Asked]]:
    """What a file of questions is called, and what it holds; a name with a list of `Asked` is taken as it is.

    Raises:
        DataError: as `load_questions`.
        AddendaError: it is neither a path nor a list of questions.
    """
    if isinstance(given, str | Path):
        return Path(given).name.removesuffix(".jsonl"), load_questions(given)
    if isinstance(given, tuple) and len(given) == 2 and given[1] and all(isinstance(one, Asked) for one in given[1]):
        return str(given[0]), list(given[1])
    raise AddendaError(f"questions come from a file of JSON lines; got {type(given).__name__}")


def _asked(where: str, record: Mapping[str, Any]) -> Asked:
    if "question" in record:
        said: list[dict[str, str]] = [{"role": "user", "content": _text(where, "question", record["question"])}]
        accepted = _texts(where, "answers", record["answers"]) if "answers" in record else _one(where, record)
    elif "messages" in record:
        *said, last = messages_of(where, record["messages"])
        if last["role"] != "assistant" or not said or said[-1]["role"] != "user":
            raise DataError(f"{where}: messages end in a question of the user's and its answer by the assistant")
        accepted = (_text(where, "content", last["content"]),)
    elif "prompt" in record and "completion" in record:
        prompt = _text(where, "prompt", record["prompt"]).strip()
        prompt = prompt.removeprefix("Question:").removesuffix("Answer:").strip()
        said, accepted = [{"role": "user", "content": prompt}], (_text(where, "completion", record["completion"]),)
    else:
        fields = ", ".join(record) or "none"
        raise DataError(f"{where}: no question in it, only the fields {fields}; a line is {FORM}")
    if record.get("answered") is False:
        accepted = ()
    kind = record.get("kind", "")
    if not isinstance(kind, str):
        raise DataError(f"{where}: 'kind' is text; got {type(kind).__name__}")
    needed = record.get("needed", [])
    if not isinstance(needed, list):
        raise DataError(f"{where}: 'needed' is a list of lists of texts; got {type(needed).__name__}")
    groups = tuple(_texts(where, "needed", group) for group in needed) if accepted else ()
    return Asked(tuple(said), accepted, _texts(where, "others", record.get("others", [])), kind, groups)


def _one(where: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    if "answer" not in record:
        raise DataError(f"{where}: the question has no 'answers'; give [] where the documents do not say")
    return () if record["answer"] in (None, "") else (_text(where, "answer", record["answer"]),)


def _texts(where: str, field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise DataError(f"{where}: '{field}' is a list of texts; got {type(value).__name__}")
    return tuple(_text(where, field, one) for one in value)


def _text(where: str, field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: '{field}' is text; got {type(value).__name__}")
    check_unicode(where, value)
    if not normalised(value):
        raise DataError(f"{where}: '{field}' has no word: {value[:40]!r}")
    return value


def options_of(asked: Sequence[Asked], seed: int = 0) -> dict[int, tuple[str, ...]]:
    """For each question that is answered, by its place: the answer and at most nine wrong ones, itself first.

    Where a question brings no `others` they are the answers of other questions, of its own kind before any other, drawn with a
    seed. A question with no wrong answer is left out.
    """
    options: dict[int, tuple[str, ...]] = {}
    for at, one in enumerate(asked):
        if one.accepted:
            taken, wrong = {tuple(normalised(answer)) for answer in one.accepted}, list[str]()
            for other in one.others or _elsewhere(asked, at, random.Random(f"{seed} {one.question}")):
                words = tuple(normalised(other))
                if words not in taken and len(wrong) < OPTIONS - 1:
                    taken.add(words)
                    wrong.append(other)
            if wrong:
                options[at] = (one.accepted[0], *wrong)
    return options


def _elsewhere(asked: Sequence[Asked], at: int, draw: random.Random) -> Iterator[str]:
    """The answers of other questions, those of the same kind first, each part shuffled."""
    for same in (True, False):
        part = [one.accepted[0] for n, one in enumerate(asked)
                if n != at and one.accepted and (one.kind == asked[at].kind) == same]  # fmt: skip
        draw.shuffle(part)
        yield from part
