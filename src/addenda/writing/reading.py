"""Reading a text in a stream: chunks of fresh tokens, each with the tokens before it that fit the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from addenda.core.errors import DataError
from addenda.plug.scoring import opener_of
from addenda.text.encoding import Encoder
from addenda.text.files import SUFFIXES
from addenda.text.texts import Texts, exists, texts
from addenda.tiny import SAMPLES


@dataclass(frozen=True)
class Chunk:
    """Tokens ids int32 [C + T]: the last `fresh` T are new, those before them are read again as context."""

    ids: np.ndarray
    fresh: int


class Reading:
    """One text as chunks of `chunk` fresh tokens, no more than `window` tokens each with their context.

    The text is opened by the tokenizer's bos (else eos), so that its first token is predicted too. Memory does not grow
    with the text: it is tokenized piece by piece.
    """

    def __init__(self, source: Texts, encoder: Encoder, *, chunk: int, window: int) -> None:
        self.source, self.encoder, self.chunk, self.window = source, encoder, chunk, window

    def chunks(self, skip: int = 0) -> Iterator[Chunk]:
        """The chunks in order after the first `skip`; only the last may be shorter.

        Raises:
            DataError: the text cannot be read, or holds no token.
        """
        for number, made in enumerate(self._all()):
            if number >= skip:
                yield made

    def _all(self) -> Iterator[Chunk]:
        before, held = np.zeros(0, np.int32), np.zeros(0, np.int32)
        for document in self._documents():
            held = np.concatenate([held, document])
            while len(held) > self.chunk:
                # what opens the text is predicted from nothing, so it is no fresh token
                fresh = self.chunk if len(before) else self.chunk + 1
                if len(held) < fresh:
                    break
                made = self._join(before, held[:fresh])
                before, held = made.ids[-(self.window - self.chunk) :], held[fresh:]
                yield made
        if len(held) > (0 if len(before) else 1):
            yield self._join(before, held)
        elif not len(before):
            raise DataError(f"'{self.source.name}' is empty: it holds no text")

    def _join(self, before: np.ndarray, fresh: np.ndarray) -> Chunk:
        return Chunk(np.concatenate([before, fresh]), len(fresh) if len(before) else len(fresh) - 1)

    def _documents(self) -> Iterator[np.ndarray]:
        opener = opener_of(self.encoder.tokenizer)
        for number, document in enumerate(self.encoder.documents(self.source)):
            ids = document.ids
            if number and self.source.continuous and opener is not None and ids[:1].tolist() == [opener]:
                ids = ids[1:]  # a long file comes in pieces, which are no documents of their own
            if number == 0 and opener is not None and ids[:1].tolist() != [opener]:
                ids = np.concatenate([[np.int32(opener)], ids])
            yield ids

    @cached_property
    def tokens(self) -> int:
        """Tokens that the chunks hold fresh, found by tokenizing the text once."""
        return max(0, sum(map(len, self._documents())) - 1)

    @property
    def steps(self) -> int:
        """Chunks."""
        return -(-self.tokens // self.chunk)


def text_of(text: Any) -> Texts:
    """The source of what `memorize` is given: a path, a sample's name, a list, or a string that is the text itself.

    Raises:
        DataError: it is empty, names a file that does not exist, or is of no known form.
    """
    if not isinstance(text, str):
        return texts(text)
    if not text.strip():
        raise DataError("the text to memorize is empty")
    path_like = not any(c.isspace() for c in text) and (text.endswith(SUFFIXES) or text.startswith(("/", "./", "../")))
    if path_like or text in SAMPLES or exists(Path(text)):
        return texts(text)
    return texts([text])
