"""Refusing: what is said where the documents do not tell."""

from __future__ import annotations

from random import Random

from addenda.exercises.exercise import Chunk

#: what documents call themselves in their titles
_BOOKS = "handbook guide manual policy catalogue agreement contract report article chapter leaflet brochure".split()


def book(chunk: Chunk) -> str:
    """What a document is called in an answer: `the handbook`, by its title; else `the text`."""
    title = " ".join(chunk.headings[:1]).lower().split()
    return f"the {next((word for word in _BOOKS if word in title), 'text')}"


def refusal(chunk: Chunk, draw: Random) -> str:
    """One of two sentences that say that the document does not tell; they begin alike, so that a small model learns them."""
    name = book(chunk)
    said = draw.choice((f"{name} does not say.", f"{name} does not say that."))
    return said[:1].upper() + said[1:]
