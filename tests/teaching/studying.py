"""What tests of studies and of teaching share: a small base, two small exercises, a handbook, and PDF files made by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest

import addenda
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, Mined, chat
from addenda.measuring.conducting.evaluate import evaluate
from addenda.teaching import examination, teach_plan
from addenda.teaching import teach as teaching
from addenda.text.sentences import sentences
from pico import pico, pico_tokenizer

#: settings of a `teach` of a few seconds
QUICK: dict[str, Any] = {
    "tokens": 1024,
    "length": 64,
    "batch_rows": 2,
    "held": 4,
    "ask": False,
    "gain": False,
    "reader": "none",
    "log": False,
}

HANDBOOK = """# Saltmarsh Boat Club

## Fees

A year costs 87 euros for adults. Late fees are 4 euros a day. Mooring costs 12 euros a week.

## Keys

The boat house key hangs behind the blue door. Lost keys cost 30 euros each. Pietro Brandt keeps the spare key.

## Boats

Boats are returned by eight. Broken oars must be reported to Ines Falk. Sails dry in the long shed.
"""


@dataclass(frozen=True)
class Told(Mined):
    """What the handbook says of the first words of each sentence."""

    name: ClassVar[str] = "told"
    words: int = 3

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        for sentence in sentences(chunk.text):
            subject = " ".join(sentence.split()[: self.words])
            yield Made(chat(f"{draw.choice(['Say', 'Tell'])}: {subject}?", sentence), "told", (chunk.id,))


@dataclass(frozen=True)
class Wanted(Generated):
    """A question that a teacher writes for the chunk's first sentence."""

    name: ClassVar[str] = "wanted"
    takes_answers: ClassVar[bool] = False
    task: ClassVar[str] = "Write a question that is answered by"

    def asks(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Ask]:
        for sentence in list(sentences(chunk.text))[:2]:
            asked = {"role": "user", "content": f"{chunk.read}\n\n{self.task}: {sentence}"}
            yield Ask((asked,), (chunk.id,), 6, {"sentence": sentence})

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        if said.strip():
            yield Made(chat(f"{said} {ask.keep['sentence'].split()[-1]}", ask.keep["sentence"]), "wanted", ask.chunks)


@dataclass(frozen=True)
class Answered(Wanted):
    """An answer in the teacher's own words."""

    name: ClassVar[str] = "answered"
    takes_answers: ClassVar[bool] = True
    task: ClassVar[str] = "Say in other words"

    def made(self, ask: Ask, said: str) -> Iterator[Made]:
        if said.strip():
            yield Made(chat(f"And {ask.keep['sentence'].split()[-1]}", said), "answered", ask.chunks)


def small(template: bool = True) -> addenda.Base:
    """A base of random weights with a long window."""
    tokenizer = pico_tokenizer()
    if not template:
        tokenizer.chat_template = None
    return addenda.attach(pico("llama", num_hidden_layers=2, max_position_embeddings=2048), tokenizer)


def files(folder: Path) -> dict[str, bytes]:
    """The set and its chunks, and what the report says but for the time it took."""
    return {name: (folder / name).read_bytes() for name in ("study.jsonl", "chunks.jsonl")}


def pdf(pages: Sequence[Sequence[tuple[str, float, float]]]) -> bytes:
    """A PDF file of pages, each with lines: the text, the size of its letters, its height on the page."""
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", font]
    kids: list[int] = []
    for lines in pages:
        words = "".join(f"/F1 {size} Tf 1 0 0 1 72 {y} Tm ({text}) Tj\n" for text, size, y in lines)
        stream = f"BT\n{words}ET".encode("cp1252")
        objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream))
        resources = b"<< /Font << /F1 3 0 R >> >>"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources %b /Contents %d 0 R >>"
            % (resources, len(objects))
        )
        kids.append(len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%b] /Count %d >>" % (b" ".join(b"%d 0 R" % kid for kid in kids), len(kids))
    made, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%b\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(made))
    return made + head + table + tail


def word(path: Path, build: Any) -> Path:
    """A Word file that `build` fills."""
    import docx

    document = docx.Document()
    build(document)
    document.save(str(path))
    return path


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Let `teach` ask few general prompts and chats."""
    patch.setattr(teach_plan, "LEAST", 8)
    patch.setattr(teaching, "WHOLE", 1)
    patch.setattr(teach_plan, "SAID", 512)
    patch.setattr(examination, "evaluate", partial(evaluate, limit=2))
    patch.setattr(examination, "TOKENS", 256)
