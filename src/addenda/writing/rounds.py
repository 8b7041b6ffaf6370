"""Rounds: between them the base with the module answers the records' questions, and its answers are what it learns from next.

Answers lie in the run's folder, `answers/NAME/round-1.jsonl`: records as any corpus has them. They are written part by part,
and what is drawn depends on the seed, the round and the part alone, so a run that was broken off writes the same again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from addenda.core.errors import AddendaError, DataError, TrainingError
from addenda.core.files import replace_text
from addenda.objectives.objective import Answering
from addenda.plug.continuing import continued
from addenda.telling.progress import part, tick
from addenda.text.encoding import Encoder
from addenda.text.records import conversation
from addenda.text.teaching import question, question_ids
from addenda.text.texts import Record, Texts, texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: records that are answered at a time, and kept together
PART = 64
#: what may be lost of a round's tokens because answers are shorter than those of the records
MARGIN = 1.5


@dataclass(frozen=True)
class Asked:
    """A record's question as token ids, and the record."""

    ids: list[int]
    record: Record


class Rounds:
    """The rounds of one run of `steps`; round 0 is the first. `folder` keeps the answers."""

    def __init__(self, base: Base, answering: Answering, folder: Path, *, steps: int, seed: int) -> None:
        self.base, self.answering, self.folder, self.seed = base, answering, folder, seed
        count = min(answering.rounds, steps)
        #: the step at which each round begins
        self.starts = [number * steps // count for number in range(count)]
        self.steps = steps

    def at(self, step: int) -> int:
        """The round that a step belongs to."""
        return max(number for number, start in enumerate(self.starts) if start <= step)

    def length(self, number: int) -> int:
        """Steps of a round."""
        return [*self.starts, self.steps][number + 1] - self.starts[number]

    def answered(self, number: int) -> bool:
        """Whether the student answers before a round."""
        return number > 0 or not self.answering.as_given

    def file(self, name: str, number: int) -> Path:
        """Where the answers of a module before a round are kept."""
        return self.folder / _plain(name) / f"round-{number}.jsonl"

    def source(self, name: str, number: int) -> Texts:
        """The records that a module learns from in a round that was answered.

        Raises:
            TrainingError: they are gone.
        """
        file = self.file(name, number)
        if not file.is_file():
            raise TrainingError(
                f"what '{name}' answered before round {number + 1} is gone from {file}: the run cannot go on; start anew"
            )
        return texts(str(file))

    def clear(self) -> None:
        """Remove what an earlier run answered."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def answer(
        self, name: str, weights: dict[str, float], source: Texts, number: int, tokens: Sequence[int], need: int
    ) -> None:
        """Let the base with a module answer before a round, and keep its answers; nothing where they are kept already.

        Args:
            name: of the module.
            weights: of the modules that are on.
            source: the records.
            number: of the round.
            tokens: that each record has.
            need: tokens that the round reads of them: no more records are answered than make these, with a margin.

        Raises:
            DataError: a record has no question.
            Stopped: a signal came; what is answered is kept.
        """
        file = self.file(name, number)
        if file.is_file():
            return
        chosen = self._chosen(number, tokens, need)
        records = dict(_picked(source, set(chosen)))
        parts = [chosen[at : at + PART] for at in range(0, len(chosen), PART)]
        with part(f"{name} answers {len(chosen):,} questions"):
            for at, group in enumerate(parts):
                held = file.with_name(f"round-{number}-{at:05d}.part")
                if not held.is_file():
                    lines = self._lines([records[one] for one in group], weights, (number, at))
                    replace_text(held, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
        held = [file.with_name(f"round-{number}-{at:05d}.part") for at in range(len(parts))]
        replace_text(file, "".join(one.read_text(encoding="utf-8") for one in held))
        for one in held:
            one.unlink()

    def _chosen(self, number: int, tokens: Sequence[int], need: int) -> list[int]:
        """Which records are answered, drawn anew for each round."""
        order = np.random.default_rng([self.seed, number]).permutation(len(tokens))
        enough = np.searchsorted(np.cumsum(np.asarray(tokens)[order]), need * MARGIN) + 1
        return order[:enough].tolist()

    def _lines(
        self, records: Sequence[Record], weights: dict[str, float], draw: tuple[int, int]
    ) -> list[dict[str, Any]]:
        """Records with the student's answers in the place of their own; its own where it said nothing that can be encoded."""
        encoder = Encoder(self.base.tokenizer, self.base.vocabulary, close=True)
        asked = [self._asked(record) for record in records]
        seed = int(np.random.default_rng([self.seed, *draw]).integers(2**62))
        with self.base.using(weights):
            written = continued(
                self.base, [torch.tensor(one.ids) for one in asked], tokens=self.answering.tokens, padded=True,
                temperature=self.answering.temperature, seed=seed,
            )  # fmt: skip
        said = [self.base.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        lines = [_with_answer(one.record, words) for one, words in zip(asked, said, strict=True)]
        return [line if _learned(encoder, line) else dict(record) for line, record in zip(lines, records, strict=True)]

    def _asked(self, record: Record) -> Asked:
        asked = question(record)
        if asked is None:
            raise DataError(f"{record.where}: the record asks nothing that the student could answer; give it messages")
        try:
            ids = question_ids(self.base.tokenizer, asked)
        except AddendaError as error:
            raise DataError(f"{record.where}: {error}") from None
        if self.base.context is not None and len(ids) + self.answering.tokens > self.base.context:
            raise DataError(
                f"{record.where}: the question has {len(ids):,} tokens, and with an answer of {self.answering.tokens} does not "
                f"fit the base's context of {self.base.context:,}; shorten it, or give a smaller answer_tokens"
            )
        return Asked(ids, record)


def _with_answer(record: Record, said: str) -> dict[str, Any]:
    """A record that learns another answer to its last question."""
    kept = {key: part for key, part in record.items() if key in ("tools", "reads")}
    asked = question(record)
    return {"prompt": asked, "completion": said} | kept


def _learned(encoder: Encoder, line: dict[str, Any]) -> bool:
    """Whether there is something in an answer, and the tokenizer's chat template takes it."""
    if not line["completion"].strip():
        return False
    with suppress(DataError):
        return bool(encoder.one(line).weights.any())
    return False


def _picked(source: Texts, numbers: set[int]) -> Iterator[tuple[int, Record]]:
    """Some records, each with its number."""
    for number, record in enumerate(source):
        tick()
        if number in numbers:
            yield number, record


def check_asks(source: Texts) -> None:
    """Refuse a text whose first record asks nothing: its rounds would have no answers.

    Raises:
        DataError: so it is.
    """
    first = next(iter(source), None)
    if first is not None and conversation(first) is None:
        raise DataError(f"{first.where}: 'on_policy' answers questions; give messages, or a prompt with its completion")


def _plain(name: str) -> str:
    """A module's name as that of a folder."""
    return "".join(letter if letter.isalnum() or letter in "-_" else f"%{ord(letter):x}" for letter in name)
