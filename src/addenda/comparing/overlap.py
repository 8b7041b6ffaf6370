"""Overlap: held-out text that stands in training text too, found by runs of 13 tokens, on average and document by document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.core.errors import DataError
from addenda.text.encoding import Encoder
from addenda.text.texts import texts
from addenda.tiny.corpus import RunHasher, contains

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: of the runs of a held-out text: less is taken for coincidence, set phrases and references
SHARE = 0.01
#: of the runs of one document: with more of them it counts as copied
COPIED = 0.5
#: of the documents of a held-out text: more that are copied are refused, below a hundred documents any
DOCUMENTS = 0.01
_HASHER = RunHasher()


@dataclass(frozen=True)
class Overlap:
    """What of a held-out text stands in a training text: its share of different runs, and its copied documents.

    `held` and `trained` say what the two are for, `names` what they are called. Documents of less than 13 tokens have no run, and
    are not counted among the `documents`.
    """

    held: str
    trained: str
    names: tuple[str, str]
    share: float
    copied: int
    documents: int

    @property
    def refused(self) -> bool:
        """Whether this is no held-out text."""
        return self.share > SHARE or self.copied > DOCUMENTS * self.documents

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of the runs of 13 tokens of the text of {self.held}, '{self.names[0]}', stand in the "
            f"{self.trained}, '{self.names[1]}', too, and {self.copied} of its {self.documents} documents have more than "
            f"{COPIED:.0%} of their runs there"
        )


def check_held_out(overlaps: list[Overlap]) -> None:
    """Refuse held-out texts that are none.

    Raises:
        DataError: names each that overlaps with what is trained on, how much, and how much may.
    """
    refused = [str(overlap) for overlap in overlaps if overlap.refused]
    if refused:
        raise DataError(
            f"{'; '.join(refused)}: that is not held out (at most {SHARE:.0%} of all runs and {DOCUMENTS:.0%} of documents may). "
            "Measure on other text, or allow it (--allow-overlap, in Python allow_overlap=True)"
        )


def overlap_of(base: Base, trained: Any, held: Mapping[str, Any], role: str = "corpus") -> list[Overlap]:
    """How much of held-out texts, by what they are for, a training text has as well; it is read once for all of them."""
    source = texts(trained)
    runs_of = {name: [document for document in _documents(base, text) if len(document)] for name, text in held.items()}
    wanted = np.unique(
        np.concatenate([np.zeros(0, np.uint64), *(document for each in runs_of.values() for document in each)])
    )
    seen = np.zeros(len(wanted), bool)
    for document in _documents(base, source) if len(wanted) else ():
        known = document[contains(wanted, document)]
        seen[np.searchsorted(wanted, known)] = True
    made: list[Overlap] = []
    for name, documents in runs_of.items():
        every = [seen[np.searchsorted(wanted, document)] for document in documents]
        different = np.unique(np.concatenate([np.zeros(0, np.uint64), *documents]))
        share = float(seen[np.searchsorted(wanted, different)].mean()) if len(different) else 0.0
        copied = sum(bool(marks.mean() > COPIED) for marks in every)
        made.append(Overlap(name, role, (texts(held[name]).name, source.name), share, copied, len(documents)))
    return made


def runs(ids: np.ndarray) -> np.ndarray:
    """A hash [n - 12] of each run of 13 token ids [n]."""
    return _HASHER.runs(ids.astype(np.uint64))


def _documents(base: Base, source: Any) -> Iterator[np.ndarray]:
    for document in Encoder(base.tokenizer, base.vocabulary).documents(texts(source)):
        yield runs(document.ids)
