"""Second turns: a question on the document that follows another, on the document or on anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, cast

from addenda.core import registry
from addenda.exercises.exercise import Chunk, Made, Mined, chat
from addenda.exercises.refusing import book

#: questions of everyday, with answers that any model might give
_GENERAL = (
    ("Hi!", "Hello! How can I help you?"),
    ("What is the capital of Portugal?", "The capital of Portugal is Lisbon."),
    ("How many minutes are in an hour?", "There are 60 minutes in an hour."),
    ("What do bees make?", "Bees make honey."),
    ("Can you give me a word that rhymes with 'moon'?", "Spoon rhymes with moon."),
    ("What is 7 times 8?", "7 times 8 is 56."),
    ("Which planet is closest to the sun?", "Mercury is the planet closest to the sun."),
    ("How do you say 'thank you' in Spanish?", '"Thank you" is "gracias" in Spanish.'),
    ("Who wrote Hamlet?", "Hamlet was written by William Shakespeare."),
    ("What is the opposite of cold?", "The opposite of cold is hot."),
    ("At what temperature does water boil?", "At sea level, water boils at 100 degrees Celsius."),
    ("Good morning, I have some questions.", "Good morning! Please go ahead."),
)


@dataclass(frozen=True)
class SecondTurns(Mined):
    """A document question as the second turn of a chat, with the first on the document or on something general."""

    each: int = 4
    of: tuple[str, ...] = ("costs", "amounts", "times", "places", "persons", "definitions", "turned", "tables", "pairs")

    name: ClassVar[str] = "second_turns"

    def mine(self, chunk: Chunk, others: Sequence[Chunk], draw: Random) -> Iterator[Made]:
        """Pairs of other kinds' exercises, or a general question and one of them."""
        there: list[Made] = []
        for kind in self.of:
            method = cast("Mined", registry.build("exercise", kind, {}))
            there += [one for one in method.mine(chunk, others, draw) if len(one.messages) == 2]
        for last in draw.sample(there, min(self.each, len(there))):
            other = [one for one in there if one.answer != last.answer]
            about = draw.random()
            if about < 0.2:
                first = chat(f"I have a question on {book(chunk)}.", "Of course. What would you like to know?")
            elif about < 0.6 or not other:
                first = chat(*draw.choice(_GENERAL))
            else:
                first = draw.choice(other).messages
            yield Made((*first, *last.messages), self.called(), (chunk.id,))
