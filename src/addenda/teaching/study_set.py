"""The study set: a folder with exercises that a person can read and edit, the chunks that they come from, and a report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addenda.core.errors import DataError, meant
from addenda.core.files import replace_text
from addenda.exercises.exercise import Chunk, Made, Message
from addenda.text.chunks import identity
from addenda.text.files import json_lines
from addenda.text.records import messages_of

#: the files of a study's folder: the set, its chunks, what was found, the base's own answers to general prompts, and what is
#: kept so that nothing is asked or scored twice
SET, CHUNKS, REPORT, REPLAY, WORK = "study.jsonl", "chunks.jsonl", "report.json", "replay.jsonl", "work"
#: of a next version: what is answered otherwise now, or no longer; in `work/`: what `teach` chose, so that a call that is gone
#: on with takes the same
PAST, CHOSEN = "gone.jsonl", "teach.json"
#: what a team's own questions are called
OWN = "own"


@dataclass(frozen=True)
class StudySet:
    """A study set as it stands in its folder: `records` are a corpus for `addenda.train`.

    A record has `messages` (or `prompt` and `completion`), `chunk` (a name, or None), `kind` and `gain` (nats per token, or
    None); `chunks`, where it comes from several; `answered`, false where the documents do not say.
    """

    folder: Path
    records: tuple[dict[str, Any], ...]
    chunks: Mapping[str, Chunk]

    def reads(self, record: Mapping[str, Any]) -> str | None:
        """What has to be read to know the answer: the chunks of a record; None where it has none."""
        found = [self.chunks[name].read for name in chunks_of(record)]
        return "\n\n".join(found) or None


def study_folder(place: Path) -> Path:
    """Where the study set of a module stands."""
    return place.with_name(f"{place.name}.study")


def chunks_of(record: Mapping[str, Any]) -> list[str]:
    """The names of the chunks that a record comes from."""
    several = record.get("chunks")
    return list(several) if several else [record["chunk"]] if record.get("chunk") else []


def load_study(folder: str | Path) -> StudySet:
    """Read a study set, as it was made or edited since.

    Raises:
        DataError: a file is not there, a line is no exercise or no chunk, or names a chunk that is not there; says which.
    """
    place = Path(folder).expanduser()
    for name in (SET, CHUNKS):
        if not (place / name).is_file():
            raise DataError(f"{place} holds no study set: {name} is missing{'' if place.exists() else meant(place)}")
    chunks = {chunk.id: chunk for chunk in _chunks(place / CHUNKS)}
    records = tuple(_record(where, value, chunks) for where, value in json_lines(place / SET))
    if not records:
        raise DataError(f"{place / SET} is empty: there is no exercise in it")
    return StudySet(place, records, chunks)


def _chunks(file: Path) -> Iterator[Chunk]:
    for where, value in json_lines(file):
        headings = value.get("headings", [])
        strings = all(isinstance(value.get(key), str) for key in ("id", "document", "text"))
        if not strings or not isinstance(headings, list) or not all(isinstance(part, str) for part in headings):
            raise DataError(f"{where}: a chunk has 'id', 'document' and 'text', and 'headings', a list of texts")
        yield Chunk(value["id"], value["document"], tuple(headings), value["text"])


def _record(where: str, value: dict[str, Any], chunks: Mapping[str, Chunk]) -> dict[str, Any]:
    record = value | answered_messages(where, value)
    named = value.get("chunks", [])
    if not isinstance(named, list):
        raise DataError(f"{where}: 'chunks' is a list of chunks' names")
    for name in [value.get("chunk"), *named]:
        if name is not None and (not isinstance(name, str) or name not in chunks):
            raise DataError(f"{where}: no chunk is called {name!r}; those there are stand in {CHUNKS}")
    return record


def answered_messages(where: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """The conversation of a record with its answer, in one of three forms: messages, prompt and completion, question and answer.

    Raises:
        DataError: it has none of them, or nothing is asked or answered in it.
    """
    if "messages" in value:
        messages = messages_of(where, value["messages"])
        roles = [message["role"] for message in messages]
        if roles[-1:] != ["assistant"] or "user" not in roles or not messages[-1]["content"].strip():
            raise DataError(f"{where}: 'messages' end with what the assistant answers, after what the user asks")
        return {"messages": messages}
    answers = value.get("answers")
    if isinstance(answers, list) and answers and "answer" not in value:  # as `evaluate --questions` takes them
        value = {**value, "answer": answers[0]}
    for asked, said in (("prompt", "completion"), ("question", "answer")):
        if asked in value and said in value:
            parts = (value[asked], value[said])
            if not all(isinstance(part, str) and part.strip() for part in parts):
                raise DataError(f"{where}: '{asked}' and '{said}' are texts, and not empty")
            return {asked: parts[0], said: parts[1]}
    raise DataError(f"{where}: no 'messages', nor 'question' with 'answer'; fields found: {', '.join(value) or 'none'}")


def own_questions(file: str | Path) -> list[tuple[tuple[Message, ...], str | None]]:
    """A team's own questions: JSON lines of `question` and `answer`, or `messages`; each with the `chunk` that it names, if any.

    Raises:
        DataError: the file cannot be read, or a line is of another form.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file '{file}'{meant(path)}")
    found: list[tuple[tuple[Message, ...], str | None]] = []
    for where, value in json_lines(path):
        parts, chunk = answered_messages(where, value), value.get("chunk")
        if chunk is not None and not isinstance(chunk, str):
            raise DataError(f"{where}: 'chunk' is a chunk's name; got {type(chunk).__name__}")
        if "messages" in parts:
            messages: tuple[Message, ...] = tuple(parts["messages"])
        else:
            asked, said = parts.values()
            messages = ({"role": "user", "content": asked}, {"role": "assistant", "content": said})
        found.append((messages, chunk))
    if not found:
        raise DataError(f"{file} is empty: there is no question in it")
    return found


def held_out_questions(file: str | Path) -> tuple[tuple[Message, ...], ...]:
    """Questions that no exercise may ask, as conversations that end with an answer, which may be empty: what is asked matters.

    Raises:
        DataError: the file cannot be read, or a line asks nothing.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file '{file}'{meant(path)}")
    found: list[tuple[Message, ...]] = []
    for where, value in json_lines(path):
        if "messages" in value:
            messages = messages_of(where, value["messages"])
            while messages and messages[-1]["role"] != "user":
                messages.pop()
        else:
            asked = value.get("question", value.get("prompt"))
            messages = [{"role": "user", "content": asked}] if isinstance(asked, str) and asked.strip() else []
        if not messages:
            raise DataError(f"{where}: it asks nothing; a line has 'question', or 'messages' in which the user asks")
        said = value.get("answer", value.get("completion", ""))
        found.append((*messages, {"role": "assistant", "content": said if isinstance(said, str) else ""}))
    return tuple(found)


# --- forms -----------------------------------------------------------------------------------------------------------


def form(tokenizer: Any, messages: Sequence[Message]) -> dict[str, Any]:
    """A conversation as the base reads it: messages, or where it has no chat template `Question: ... Answer:`."""
    if getattr(tokenizer, "chat_template", None) is not None:
        return {"messages": [dict(message) for message in messages]}
    lines = [f"{'Answer' if said['role'] == 'assistant' else 'Question'}: {said['content']}" for said in messages[:-1]]
    return {"prompt": "\n".join([*lines, "Answer:"]), "completion": f" {messages[-1]['content']}"}


# --- writing ---------------------------------------------------------------------------------------------------------


def record_of(tokenizer: Any, made: Made, gain: float | None) -> dict[str, Any]:
    """An exercise as a line of the set."""
    more: dict[str, Any] = {"chunks": list(made.chunks)} if len(made.chunks) > 1 else {}
    if not made.answered:
        more["answered"] = False
    first = made.chunks[0] if made.chunks else None
    told = None if gain is None else round(gain, 4)
    return form(tokenizer, made.messages) | {"chunk": first, "kind": made.kind, "gain": told} | more


def chunk_record(chunk: Chunk) -> dict[str, Any]:
    """A chunk as a line of its file; `sha256` tells whether it has changed."""
    return {
        "id": chunk.id, "document": chunk.document, "headings": list(chunk.headings), "text": chunk.text,
        "sha256": identity(chunk.headings, chunk.text),
    }  # fmt: skip


def write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON-lines file, whole or not at all.

    Raises:
        FileError: it cannot be written.
    """
    replace_text(file, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
