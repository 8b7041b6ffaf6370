"""Held-out French for studies on a real model: novels, documentation, and what rates are chosen by; English beside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from recipes.common import data_folder, documents, hash_of
from recipes.studies.subjects import subject

SUBJECT = "french"
#: characters of a document that is reported on, so that a few thousand tokens are many documents
SHORT = 1200


@cache
def held_out(name: str) -> list[str]:
    """Documents to report on: pages of two novels, of Python's documentation in French, beginnings of English articles.

    "choosing" are others of the first two by turns, for the choice of rates.
    """
    if name == "novels":
        return [text[:SHORT] for text in subject(SUBJECT).held]
    if name == "choosing":
        pages = (text[:SHORT] for text in subject(SUBJECT).choosing)
        return [text for both in zip(pages, documentation()[1::2], strict=False) for text in both]
    if name == "python_docs":
        return documentation()[::2]
    return short(data_folder() / "wikitext2/valid.jsonl.gz")


def documentation() -> list[str]:
    """Beginnings of pages of Python's documentation in French, in an order that means nothing."""
    return short(data_folder() / "french/python_docs_train.jsonl.gz")


def short(file: Path) -> list[str]:
    """The beginnings of a file's texts, by their hashes."""
    return [text[:SHORT] for text in sorted(documents(file), key=hash_of)]
