"""What a teacher reads of a record: its text that the student does not see, then the same conversation, token for token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from addenda.core.errors import DataError
from addenda.text.encoding import Encoded, Encoder
from addenda.text.prompting import marks, prompt_ids, templated
from addenda.text.records import PAIR, conversation

#: between what the teacher reads and what both read, where a chat template puts nothing
BETWEEN = "\n\n"
_PROBE = "addenda-asks"


@dataclass(frozen=True)
class Lesson:
    """One record as its teacher reads it: `ids` int32 [T]; `places` int64 [n], where the tokens to learn stand in it.

    There are as many as the student learns, in the same order, and the same ones. `reads` is what the teacher alone reads,
    `tokens` how many the student does.
    """

    ids: np.ndarray
    places: np.ndarray
    reads: str
    tokens: int


class Teaching:
    """Turns records into what their teacher reads. `longest` is the base's context, None where it has no limit."""

    def __init__(self, encoder: Encoder, longest: int | None = None) -> None:
        self.encoder, self.longest = encoder, longest
        self._system: bool | None = None

    def lesson(self, record: dict[str, Any]) -> Lesson:
        """A record for its teacher; without `reads` it is the student's own.

        Raises:
            DataError: it cannot be encoded, is too long for the base, or the template writes the answer otherwise once the
                teacher's text stands before it.
        """
        student, reads = self.encoder.one(record), record.get("reads", "")
        learned = student.weights.astype(bool)
        learned[:1] = False  # the first token of all is never predicted
        ids, places = student.ids, learned.nonzero()[0]
        if reads:
            try:
                ids, places = self._with(record, student, reads, places)
            except DataError as error:
                raise _at(record, str(error)) from None
            if not np.array_equal(ids[places], student.ids[learned]):
                raise _at(
                    record, "the chat template writes the answer otherwise once the teacher's text stands before it"
                )
        if self.longest is not None and len(ids) > self.longest:
            more = len(ids) - self.longest
            raise _at(
                record,
                f"the teacher would read {len(ids):,} tokens, and the base's context is {self.longest:,}; make 'reads', or the "
                f"conversation, {more:,} tokens shorter",
            )
        return Lesson(ids, places, reads, len(student.ids))

    def _with(
        self, record: dict[str, Any], student: Encoded, reads: str, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids with what the teacher reads before them, and where the learned ones stand there."""
        spoken = conversation(record)
        if spoken is not None and self.encoder.tokenizer.chat_template is not None:
            asked, said = spoken
            told = {"prompt": self._told(asked, reads), "completion": said} if asked else {}
            told = told or {"messages": self._told(said, reads)}
            coded = self.encoder.one(told | {key: part for key, part in record.items() if key == "tools"})
            return coded.ids, coded.weights.nonzero()[0]
        tokenizer = self.encoder.tokenizer
        opening = marks(tokenizer)[0]
        opened = len(opening) if list(student.ids[: len(opening)]) == opening else 0
        front = np.asarray(prompt_ids(tokenizer, reads + BETWEEN), np.int32)
        return np.concatenate([front, student.ids[opened:]]), places - opened + len(front)

    def _told(self, messages: list[dict[str, Any]], reads: str) -> list[dict[str, Any]]:
        """A conversation with a text that is read first: as a system message, or else before what the user says first."""
        first = messages[0] if messages else {}
        if self._system is None:
            self._system = takes_system(self.encoder.tokenizer)
        if self._system and first.get("role") != "system":
            return [{"role": "system", "content": reads}, *messages]
        wanted = "system" if self._system else "user"
        at = next((at for at, message in enumerate(messages) if message["role"] == wanted), None)
        if at is None:
            raise DataError(
                "the chat template has no system message, and the conversation no user's, to put 'reads' into"
            )
        told = {**messages[at], "content": reads + BETWEEN + messages[at]["content"]}
        return [*messages[:at], told, *messages[at + 1 :]]


def takes_system(tokenizer: Any) -> bool:
    """Whether a chat template has a place for a system message: it takes one, and says it."""
    asked = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "a"}]
    try:
        return _PROBE in tokenizer.apply_chat_template(asked, tokenize=False)
    except Exception:  # noqa: BLE001 - templates raise what they like
        return False


def question(record: dict[str, Any]) -> list[dict[str, Any]] | str | None:
    """What a student is asked in a record: the messages before the assistant's last, or a plain prompt; None: nothing."""
    if all(isinstance(record.get(part), str) for part in PAIR):
        return record["prompt"]
    spoken = conversation(record)
    if spoken is None:
        return None
    messages = [*spoken[0], *spoken[1]]
    last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    return messages[:last] or None


def question_ids(tokenizer: Any, asked: list[dict[str, Any]] | str) -> list[int]:
    """The ids of a question, up to where the answer begins.

    Raises:
        AddendaError: the chat template refuses it.
    """
    if isinstance(asked, str):
        if tokenizer.chat_template is None:
            return prompt_ids(tokenizer, asked)
        asked = [{"role": "user", "content": asked}]
    return templated(tokenizer, asked)[0]


def _at(record: dict[str, Any], words: str) -> DataError:
    where = getattr(record, "where", None)
    return DataError(words if where is None else f"{where}: {words}")
