"""Subjects to learn, by name: text to train on, text to choose a rate by, text to report on; and facts of made-up people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import addenda
from addenda import tiny
from addenda.measuring.facts import Facts, biographies
from recipes.common import data_folder, documents, hash_of
from recipes.locas import text_of

#: characters of a document that are held out at most, and of the pieces that books are cut into
PIECE = 6000
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
    return Subject(name, tuple(corpus), tuple(held[::2]), tuple(held[1::2]))


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
    """Documents of some files, novels in pieces; of PubMed without `ADDENDA_DATA` the sample that ships with the package."""
    found: list[str] = []
    for name in names:
        path = data_folder() / f"{name}.jsonl.gz"
        if not path.exists() and name.startswith("pubmed/abstracts"):
            path = tiny.sample(f"pubmed_{name.rsplit('_')[-1]}")
        elif not path.exists() and name.startswith("pubmed"):
            continue
        elif not path.exists():
            raise addenda.AddendaError(f"no '{path}'; ADDENDA_DATA names the folder of the data")
        texts = documents(path)
        found += [piece for text in texts for piece in _pieces(text)] if "novels" in name else texts
    return found


def _pieces(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
