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
from addenda.prompting import check_ids, prompt_ids

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
        """Encode a single record."""
        if "text" in record:
            return next(self._texts([record["text"]]))
        if "messages" in record:
            return self._chat(record["messages"])
        prompt, completion = record["prompt"], record["completion"]
        if self.tokenizer.chat_template is None and isinstance(prompt, str) and isinstance(completion, str):
            return self._joined(prompt, completion)
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        said = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
        return self._chat([*asked, *said], first=len(asked))

    def _texts(self, group: list[str]) -> Iterator[Encoded]:
        rows = self.tokenizer(group, return_attention_mask=False, verbose=False)["input_ids"]
        for text, row in zip(group, rows, strict=True):
            ids = self._ids(row)
            yield Encoded(ids, np.ones(len(ids), np.uint8), len(text.encode()))

    def _ids(self, row: list[int]) -> np.ndarray:
        eos = self.tokenizer.eos_token_id
        if self.close and eos is not None and (not row or row[-1] != eos):
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

    def _chat(self, messages: list[dict[str, str]], first: int = 0) -> Encoded:
        if self.tokenizer.chat_template is None:
            raise DataError("the record has messages, and the tokenizer has no chat template")
        whole = self._render(messages)
        spans = [self._span(messages, at, whole) for at in range(first, len(messages)) if _assistant(messages[at])]
        if not spans:
            raise DataError("the record has no message of the role 'assistant' to learn from")
        ids, offsets = self._with_offsets(whole)
        weights = np.zeros(len(ids), np.uint8)
        for start, end in spans:
            for at, (left, right) in enumerate(offsets):
                if left < end and right > start:  # a token that reaches into the span belongs to it
                    weights[at] = 1
        said = sum(len(m["content"].encode()) for m in messages[first:] if _assistant(m))
        return Encoded(self._ids_as_they_are(ids), weights, said)

    def _ids_as_they_are(self, row: list[int]) -> np.ndarray:
        close, self.close = self.close, False
        try:
            return self._ids(row)
        finally:
            self.close = close

    def _render(self, messages: list[dict[str, str]], prompt: bool = False) -> str:
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # noqa: BLE001 - templates raise what they like
            raise DataError(f"the chat template refuses the messages: {error}") from None

    def _span(self, messages: list[dict[str, str]], at: int, whole: str) -> tuple[int, int]:
        """Where in `whole` the assistant's message `at` stands, with the token that ends it."""
        before, through = self._render(messages[:at], prompt=True), self._render(messages[: at + 1])
        if through.startswith(before) and whole.startswith(through.rstrip()):
            return len(before), len(through.rstrip())
        # the template writes earlier turns differently from the last: look for the words themselves
        content = messages[at]["content"].strip()
        start = whole.find(content, sum(len(m["content"].strip()) for m in messages[:at]))
        if start < 0:
            raise DataError("the chat template rewrites what the assistant says; its words cannot be found again")
        rest = whole[start + len(content) :]
        return start, start + len(content) + len(rest.split("\n", 1)[0])

    def _with_offsets(self, whole: str) -> tuple[list[int], list[tuple[int, int]]]:
        if not self.tokenizer.is_fast:
            raise DataError("messages need a fast tokenizer, which knows where each token stands in the text")
        coded = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return coded["input_ids"], coded["offset_mapping"]


def _assistant(message: dict[str, str]) -> bool:
    return message["role"] == "assistant"


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
    found: list[np.ndarray] = []
    for document in encoder.documents(islice(records, count)):
        found.append(document.ids)
        if sum(map(len, found)) >= count:
            break
    return np.concatenate(found)[:count] if found else np.zeros(0, np.int32)
