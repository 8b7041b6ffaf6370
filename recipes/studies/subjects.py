"""Subjects to learn, by name: text to train on, text to choose a rate by, text to report on; and facts of made-up people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

import addenda
from addenda import tiny
from addenda.measuring.asking.facts import Facts, biographies
from addenda.tiny.corpus import RunHasher, contains
from recipes.common import data_folder, documents, hash_of
from recipes.locas import text_of

#: characters of the pieces that books are cut into, and at most of a document to choose a rate by
PIECE = 6000
#: characters of a document that is reported on: short ones are many, and an interval over a handful means nothing
SHORT = 1000
#: subjects whose documents repeat each other's clauses: what the corpus has too is not held out
REPEATING = ("law",)
#: a book for composition; its last tenth is held out
BOOK = "Eliot_Daniel"
FILES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pubmed": (
        ("pubmed/abstracts_train", "pubmed/fulltext_train"),
        ("pubmed/abstracts_valid", "pubmed/fulltext_valid"),
    ),
    "french": (("french/novels_train",), ("french/novels_valid",)),
    "law": (("law/contracts_train",), ("law/contracts_valid",)),
    # the articles that the embedded base was not trained on
    "wiki": (("wikipedia_en/train_3",), ()),
}


#: of which the package has a sample
SHIPPED = ("pubmed", "french")


@dataclass(frozen=True)
class Subject:
    """Documents to train on, and two halves of what is held out: to choose by, and to report on."""

    name: str
    corpus: tuple[str, ...]
    choosing: tuple[str, ...]
    held: tuple[str, ...]


@cache
def subject(name: str) -> Subject:
    """A subject: a name in `FILES`, `book`, or `people-N`, biographies of so many people that do not exist.

    Raises:
        AddendaError: there is no such subject, or `ADDENDA_DATA` does not have it.
    """
    if name.startswith("people-"):
        return _people(name)
    if name == "book":
        pieces = _pieces(text_of(BOOK))
        corpus, held = pieces[: len(pieces) * 9 // 10], pieces[len(pieces) * 9 // 10 :]
    elif name in FILES:
        corpus, held = (_read(files) for files in FILES[name])
        if not held:
            corpus, held = corpus[: len(corpus) * 9 // 10], corpus[len(corpus) * 9 // 10 :]
    else:
        raise addenda.AddendaError(f"no subject '{name}'; there are {', '.join(FILES)}, book, people-N")
    held = sorted((text[:PIECE] for text in held), key=hash_of)
    reported = short(held[1::2])
    if name in REPEATING:
        reported = new_ones(corpus, reported)
    return Subject(name, tuple(corpus), tuple(held[::2]), tuple(reported))


def short(texts: Sequence[str]) -> list[str]:
    """The beginning of each document."""
    return [text[:SHORT] for text in texts]


def new_ones(corpus: Sequence[str], held: Sequence[str]) -> list[str]:
    """The held-out texts that share no run of 13 words with the corpus."""
    hasher = RunHasher()
    runs = [hasher.runs(hasher.codes(text)) for text in held]
    wanted = np.unique(np.concatenate(runs))
    known = [own[contains(wanted, own)] for own in (hasher.runs(hasher.codes(text)) for text in corpus)]
    seen = np.unique(np.concatenate(known))
    return [text for text, own in zip(held, runs, strict=True) if not contains(seen, own).any()]


def lacking(name: str) -> str | None:
    """What of the data a subject lacks here; None where it can be had."""
    if name == "book":
        files = ("long_books",)
    else:
        files = tuple(f"{file}.jsonl.gz" for parts in FILES.get(name, ()) for file in parts if name not in SHIPPED)
    return next((file for file in files if not (data_folder() / file).exists()), None)


@cache
def facts_of(name: str) -> Facts:
    """The facts of a subject `people-N`."""
    return biographies(int(name.removeprefix("people-")))


def _people(name: str) -> Subject:
    """Texts of which one more phrasing of each person is held out."""
    told = facts_of(name).documents
    more = set(biographies(int(name.removeprefix("people-")), phrasings=5).documents) - set(told)
    held = sorted(more, key=hash_of)
    return Subject(name, told, tuple(held[::2]), tuple(held[1::2]))


def _read(names: tuple[str, ...]) -> list[str]:
    """Documents of some files, novels in pieces; without `ADDENDA_DATA` the samples that ship with the package."""
    pieces: list[str] = []
    for name in names:
        path = data_folder() / f"{name}.jsonl.gz"
        if not path.exists():
            of, split = name.split("/")[0], name.rsplit("_")[-1]
            if of not in SHIPPED:
                raise addenda.AddendaError(f"no '{path}'; ADDENDA_DATA names the folder of the data")
            if "fulltext" in name:
                continue
            path = tiny.sample(f"{of}_{split}")
        texts = documents(path)
        pieces += [piece for text in texts for piece in _pieces(text)] if "novels" in name else texts
    return pieces


def _pieces(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
