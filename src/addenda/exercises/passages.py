"""Passages: a heading back to what stands under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from addenda.exercises.exercise import Chunk, Made, Mined, chat
from addenda.exercises.known import known
from addenda.exercises.reading import plain, read
from addenda.exercises.wording import several, titled

_ASKED = {
    "en": (
        'What does it say under "{0}"?', 'What do you know about "{0}"?', 'What stands in the section "{0}"?',
        'Tell me about "{0}".',
    ),
    "fr": ("Que dit la section « {0} » ?", "Que sais-tu de « {0} » ?"),
    "de": ("Was steht unter „{0}“?", "Was weißt du über „{0}“?"),
    "es": ("¿Qué dice la sección «{0}»?", "¿Qué sabes de «{0}»?"),
    "it": ("Che cosa dice la sezione «{0}»?", "Che cosa sai di «{0}»?"),
}  # fmt: skip


@dataclass(frozen=True)
class Passages(Mined):
    """What stands under a heading: its passage, or the passage's first sentences, of at most so many words."""

    phrasings: int = 2
    words: int = 90

    name: ClassVar[str] = "passages"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Of the first chunk under each heading."""
        first = next(
            (other for other in others if other.document == chunk.document and other.headings == chunk.headings), chunk
        )
        asked = _ASKED.get(known(chunk, others).language(chunk))
        if not chunk.headings or first.id != chunk.id or not asked:
            return
        answer, count = self._answer(chunk), len(chunk.headings)
        section, title = chunk.headings[-1], titled(chunk)
        name = f"{title}: {section}" if count > 1 and title and draw.random() < 0.5 else section
        for question in several((form.format(name) for form in asked), self.phrasings, draw) if answer else ():
            yield Made(chat(question, answer), self.called(), (chunk.id,))

    def _answer(self, chunk: Chunk) -> str:
        """The passage, where it is short; else as many of its first sentences as are."""
        whole = plain(chunk.text)
        if (
            len(whole.split()) <= self.words
            and "|" not in whole
            and "#" not in whole
            and whole.endswith((".", "!", "?", "。"))
        ):
            return whole
        said, count = "", 0
        for sentence in read(chunk).sentences:
            count += len(sentence.text.split())
            if count > self.words or sentence.item:
                break
            said += f" {sentence.text}"
        return said.strip()
