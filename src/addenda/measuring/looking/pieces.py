"""Documents of stated lengths, cut from texts: taken evenly over as many as are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from addenda.core.errors import DataError
from addenda.plug.scoring import encoded_documents, pace_of
from addenda.telling.progress import about, shown, tick
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

LENGTHS = (64, 128, 256, 512)
#: tokens of one batch
PASS = 4096


def documents_of(base: Base, source: Texts, lengths: Sequence[int] | None, tokens: int) -> Iterator[tuple[int, Tensor]]:
    """Batches of documents of one length: the length, and ids [B, length], cut from texts that are opened as scored ones.

    Raises:
        DataError: no text is as long as the shortest length.
    """
    for length, ids, _ in pieces_of(base, source, lengths, tokens):
        yield length, ids


def long_enough(base: Base, given: Any, length: int) -> Texts:
    """A text that holds a document of a length, or of the base's context where that is shorter.

    Raises:
        DataError: it cannot be read, or no document is that long.
    """
    source, length = texts(given), min(length, base.context or length)
    next(documents_of(base, source, [length], length))
    return source


@torch.no_grad()
def pieces_of(
    base: Base, source: Texts, lengths: Sequence[int] | None, tokens: int
) -> Iterator[tuple[int, Tensor, list[int]]]:
    """As `documents_of`, and for each of the B pieces the number of the text of `source` that it was cut from.

    Pieces of one text are alike: an interval draws texts whole.
    """
    chosen = _lengths(base, lengths)
    some = False
    for length in chosen:
        taken = _taken(base, source, length, tokens)
        size = max(1, PASS // length)
        for at in range(0, len(taken), size):
            some = True
            rows = [row for _, row in taken[at : at + size]]
            ids = torch.from_numpy(np.stack(rows).astype(np.int64)).to(base.device)
            tick(ids.numel())
            yield length, ids, [number for number, _ in taken[at : at + size]]
    if not some:
        raise DataError(f"no text of '{source.name}' has {chosen[0]} tokens, the shortest document length")


def _lengths(base: Base, lengths: Sequence[int] | None) -> list[int]:
    """Document lengths, in their order."""
    most = base.context or max(LENGTHS)
    return sorted(lengths or [length for length in LENGTHS if length <= most])


def _taken(base: Base, source: Texts, length: int, tokens: int) -> list[tuple[int, np.ndarray]]:
    """The pieces of one length [length], each with the number of its document."""
    documents: list[list[np.ndarray]] = []
    wanted = max(1, tokens // length)
    for document in encoded_documents(Encoder(base.tokenizer, base.vocabulary), source, None):
        pieces = [document.ids[at : at + length] for at in range(0, len(document.ids) - length + 1, length)]
        documents.append(pieces)
        if sum(map(bool, documents)) >= wanted:
            break
    return evenly(documents, wanted)


def foretell_calibration(base: Base, name: str, source: Texts, lengths: Sequence[int] | None, tokens: int) -> None:
    """Tell whoever watches what calibrating will read, and about how long that takes.

    Raises:
        DataError: no text is as long as the shortest length.
    """
    watched = shown()
    if watched is None:
        return
    chosen = _lengths(base, lengths)
    next(documents_of(base, source, chosen[:1], chosen[0]))
    pace, read = pace_of(base), sum(length * len(_taken(base, source, length, tokens)) for length in chosen)
    # once for the gates' values, and once more, modules off and on, to see what is left alone
    each = ", ".join(map(str, chosen))
    watched.say(
        f"calibrating {name} on {source.name}: documents of {each} tokens, {read:,} tokens in all, read in two rounds "
        f"({2 * read:,}); about {about(3 * read / pace)} at {pace:,.0f} tokens/s, as timed on this machine just now"
    )
    watched.begin(total=2 * read)


def evenly(documents: list[list[np.ndarray]], wanted: int) -> list[tuple[int, np.ndarray]]:
    """So many pieces, each with its document's number: shared out over documents as evenly as these allow, spread over each."""
    shares, left = [0] * len(documents), wanted
    while left > 0:
        open_ = [number for number, pieces in enumerate(documents) if shares[number] < len(pieces)][:left]
        if not open_:
            break
        for number in open_:
            shares[number] += 1
        left -= len(open_)
    return [
        (number, pieces[at])
        for number, (share, pieces) in enumerate(zip(shares, documents, strict=True))
        for at in np.arange(share) * len(pieces) // max(1, share)
    ]
