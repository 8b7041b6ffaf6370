"""Changes in words: learned or forgot, how much, and how sure. `learned` is loss taken off, `forgot` loss added, everywhere.

The word goes before each number, so that no reader has to know whose sign it has.
"""

from __future__ import annotations

from addenda.core.card import ENOUGH

#: said in place of an interval
TOO_FEW = "too few for an interval"


def counted(number: int, what: str) -> str:
    """So many of something: "1 document", "2,918 documents"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def learned_or_forgot(added: float, digits: int = 3) -> str:
    """What a change of the loss is called, from the nats per token that it adds: "learned 0.232", "forgot 0.003"."""
    word, amount = ("forgot", added) if added > 0 else ("learned", -added)
    return f"{word} {abs(amount):.{digits}f}"


def interval_of(added: float, low: float, high: float, digits: int = 3) -> str:
    """The interval of such a change, in the direction of its word: "[0.180, 0.290]"."""
    ends = (low, high) if added > 0 else (-high, -low)
    return "[" + ", ".join(f"{end:.{digits}f}" for end in ends) + "]"


def change_in_words(word: str, value: float, low: float, high: float, documents: int) -> str:
    """A change whose word is known: "learned +0.232 [+0.180, +0.290] nats per token (40 documents)"; few have no interval."""
    of = counted(documents, "document")
    if documents < ENOUGH:
        return f"{word} {value:+.3f} nats per token ({of}: {TOO_FEW})"
    return f"{word} {value:+.3f} [{low:+.3f}, {high:+.3f}] nats per token ({of})"
