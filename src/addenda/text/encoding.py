"""Encoding: records to token ids, each with the weight it has in the loss.

Knows tokenizers and chat templates; nothing of files, rows or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from addenda.core.errors import DataError
from addenda.text.chat_spans import Chat
from addenda.text.prompting import check_ids, prompt_ids
from addenda.text.records import PAIR, conversation

#: texts handed to the tokenizer at a time, in characters: enough for its threads, little in memory
CHARACTERS = 2**19


@dataclass(frozen=True)
class Encoded:
    """One document: `ids` int32 [T], `weights` uint8 [T] (1 where the token counts in the loss), bytes of its text."""

    ids: np.ndarray
    weights: np.ndarray
    bytes: int


class Encoder:
    """Turns records into token ids as the base's tokenizer does.

    A running text takes the tokenizer's own special tokens; with `close`, the tokenizer's eos ends it too, as in
    pre-training. Messages, and prompt with completion, go through the chat template; there only what the assistant
    says, and the token that ends it, counts in the loss.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, *, close: bool = False) -> None:
        if tokenizer is None:
            raise DataError("the base has no tokenizer; give one to addenda.attach(model, tokenizer)")
        self.tokenizer, self.vocabulary, self.close = tokenizer, vocabulary, close

    def documents(self, records: Iterable[dict[str, Any]]) -> Iterator[Encoded]:
        """Encode records, a group of texts at a time.

        Raises:
            DataError: an id lies outside the base's vocabulary, or a record cannot go through the chat template.
        """
        source = iter(records)
        while group := _group(source):
            if all("text" in record for record in group):
                yield from self._texts([record["text"] for record in group])
            else:
                yield from (self.one(record) for record in group)

    def one(self, record: dict[str, Any]) -> Encoded:
        """Encode a single record; an error names the place that a record of `texts` carries."""
        try:
            return self._one(record)
        except DataError as error:
            where = getattr(record, "where", None)
            raise error if where is None else DataError(f"{where}: {error}") from None

    def _one(self, record: dict[str, Any]) -> Encoded:
        spoken = conversation(record)
        if spoken is None:
            return next(self._texts([record["text"]]))
        if self.tokenizer.chat_template is None and all(isinstance(record.get(part), str) for part in PAIR):
            return self._joined(record["prompt"], record["completion"])
        return self._chat(record, *spoken)

    def _texts(self, group: list[str]) -> Iterator[Encoded]:
        rows = self.tokenizer(group, return_attention_mask=False, verbose=False)["input_ids"]
        for text, row in zip(group, rows, strict=True):
            ids = self._ids(row)
            yield Encoded(ids, np.ones(len(ids), np.uint8), len(text.encode()))

    def _ids(self, row: list[int], close: bool | None = None) -> np.ndarray:
        eos = self.tokenizer.eos_token_id
        if (self.close if close is None else close) and eos is not None and (not row or row[-1] != eos):
            row = [*row, eos]
        ids = np.asarray(row, np.int32)
        check_ids(ids, self.vocabulary)
        return ids

    def _joined(self, prompt: str, completion: str) -> Encoded:
        head = prompt_ids(self.tokenizer, prompt)
        eos = self.tokenizer.eos_token_id
        tail = self.tokenizer(completion, add_special_tokens=False, verbose=False)["input_ids"]
        ids = self._ids([*head, *tail, *([] if eos is None else [eos])])
        weights = np.zeros(len(ids), np.uint8)
        weights[len(head) :] = 1
        return Encoded(ids, weights, len(completion.encode()))

    def _chat(self, record: dict[str, Any], asked: list[dict[str, Any]], spoken: list[dict[str, Any]]) -> Encoded:
        messages, first = [*asked, *spoken], len(asked)
        chat = Chat(self.tokenizer, messages, record.get("tools"))
        spans = chat.spans(first)
        if not self.tokenizer.is_fast:
            raise DataError("messages need a fast tokenizer, which knows where each token stands in the text")
        coded = self.tokenizer(chat.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = np.asarray(coded["offset_mapping"], np.int64).reshape(-1, 2)
        weights = np.zeros(len(places), np.uint8)
        for start, end in spans:  # a token that reaches into a span belongs to it
            weights[(places[:, 0] < end) & (places[:, 1] > start)] = 1
        said = sum(len(m["content"].encode()) for m in messages[first:] if m["role"] == "assistant")
        return Encoded(self._ids(coded["input_ids"], close=False), weights, said)


def _group(source: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The next records of one sort, up to CHARACTERS of text."""
    group: list[dict[str, Any]] = []
    size = 0
    for record in source:
        group.append(record)
        size += len(record["text"]) if "text" in record else 2**12
        if size >= CHARACTERS or len(group) >= 256:
            break
    return group


def first_ids(encoder: Encoder, records: Iterable[dict[str, Any]], count: int) -> np.ndarray:
    """The first `count` token ids of a source, documents one after another: int32 [<= count]."""
    parts: list[np.ndarray] = []
    for document in encoder.documents(islice(records, count)):
        parts.append(document.ids)
        if sum(map(len, parts)) >= count:
            break
    return np.concatenate(parts)[:count] if parts else np.zeros(0, np.int32)
