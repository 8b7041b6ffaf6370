"""Gone: whether a module still says what its documents no longer do, and says what they do now, beside the version before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.card import Measure
from addenda.core.errors import DataError
from addenda.core.module import unused
from addenda.core.plain import plain_of
from addenda.measuring.asking.answers import answers_to, is_right, refuses
from addenda.measuring.asking.asked import Asked
from addenda.measuring.conducting.lines import on_card
from addenda.measuring.conducting.recorded import put
from addenda.teaching.examined import asked_of
from addenda.teaching.study_set import PAST
from addenda.telling.intervals import SHARE, Interval, of_mean
from addenda.text.files import json_lines

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: what it is called in cards and tables; questions that are shown
ON, SHOWN = "facts that are gone", 8


@dataclass(frozen=True)
class Past:
    """A question that is answered otherwise now, or no longer (`now` is None): what was said then; whether it is studied."""

    messages: list[dict[str, str]]
    then: str
    now: str | None
    studied: bool = True

    @classmethod
    def load(cls, folder: Path) -> list[Past]:
        """Those of a study.

        Raises:
            DataError: a line of the file is none.
        """
        found: list[Past] = []
        for where, value in json_lines(folder / PAST):
            try:
                found.append(cls(**value))
            except TypeError:
                raise DataError(
                    f"{where}: it has 'messages', 'then', 'now' and 'studied'; got {', '.join(value)}"
                ) from None
        return found


@dataclass(frozen=True)
class Gone:
    """Questions whose answer is another now, or none: the shares to which the old answer was given (`before`), and is (`still`).

    `anew` is the share of those with another answer that get it, `refused` the share of the others that are refused; None where
    there are none. `shown` has some: the question, the old answer, the new one, what the old module said, what the new one says.
    """

    before: Interval
    still: Interval
    anew: Interval | None
    refused: Interval | None
    shown: tuple[tuple[str, str, str | None, str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {name: plain_of(value) for name, value in vars(self).items()}

    def on_card(self) -> Iterator[Measure]:
        """Lines of the module's card."""
        yield from on_card("the old answer, by the version before", self.before, ON)
        yield from on_card("the old answer still", self.still, ON)
        yield from on_card("the new answer", self.anew, ON)
        yield from on_card("refused, no longer told", self.refused, ON)


def examine_gone(base: Base, name: str, folder: Path, past: Sequence[Past], most: int) -> Gone | None:
    """Ask the next version of a module, and the one before it, what is no longer so; None where nothing of the kind can be asked.

    Args:
        base: the new module is plugged in it.
        name: of the new module; what was found is written into its card.
        folder: of the old module.
        past: questions with what was to be said; those that were not studied are asked first.
        most: questions that are asked.
    """
    told = [(one, then, now) for one in past for then, now in [_asked(one)] if not _same(one, then)]
    told.sort(key=lambda each: (each[0].studied, sha256(f"{each[0].messages}{each[0].then}".encode()).hexdigest()))
    told = told[:most]
    if not told:
        return None
    chats = [list(then.messages) for _, then, _ in told]
    old = unused("before", base.modules)
    base.plug(folder, old)
    try:
        with base.using({old: 1.0}):
            before = answers_to(base, chats)
    finally:
        base.unplug(old)
    with base.using({name: 1.0}):
        after = answers_to(base, chats)
    changed = [is_right(now, said) for (_, _, now), said in zip(told, after, strict=True) if now is not None]
    gone = [refuses(said) for (_, _, now), said in zip(told, after, strict=True) if now is None]
    thens = [then for _, then, _ in told]
    found = Gone(
        before=of_mean([float(is_right(then, said)) for then, said in zip(thens, before, strict=True)], within=SHARE),
        still=of_mean([float(is_right(then, said)) for then, said in zip(thens, after, strict=True)], within=SHARE),
        anew=of_mean([float(one) for one in changed], within=SHARE) if changed else None,
        refused=of_mean([float(one) for one in gone], within=SHARE) if gone else None,
        shown=tuple(
            (then.question, one.then, one.now, was, says)
            for (one, then, _), was, says in list(zip(told, before, after, strict=True))[:SHOWN]
        ),
    )
    put(base.modules[name].card, list(found.on_card()))
    return found


def _asked(one: Past) -> tuple[Asked, Asked | None]:
    """The question with its old answer, and with the new one."""

    def with_(said: str) -> Asked:
        return asked_of({"messages": [*one.messages, {"role": "assistant", "content": said}]})

    return with_(one.then), None if one.now is None else with_(one.now)


def _same(one: Past, then: Asked) -> bool:
    """Whether the new answer would count as the old one, so that the two cannot be told apart."""
    return one.now is not None and is_right(then, one.now)
