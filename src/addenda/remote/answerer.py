"""Answerers: whoever is asked in chat, for exercises, general answers or verdicts; each answer is stored, and asked for once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from addenda.exercises.exercise import Ask
from addenda.remote.store import Store, key_of


@dataclass(frozen=True)
class Said:
    """What was answered; `cut` where there was more to say than there were tokens for."""

    text: str
    cut: bool = False


#: is given answers as they come, by the places of what was asked
Keep = Callable[[Mapping[int, Said]], None]


class Answerer(ABC):
    """Answers questions. `name` is what reports call it, `identity` what its answers depend on besides what is asked."""

    name: str
    identity: Mapping[str, Any]

    @abstractmethod
    def answer(self, asks: Sequence[Ask], known: Set[int], keep: Keep) -> None:
        """Answer asks, but for the places whose answers are known.

        Raises:
            AddendaError: it cannot answer; what it said before was given to `keep`.
        """

    def key(self, ask: Ask) -> str:
        """Under which its answer is stored."""
        return key_of({"teacher": dict(self.identity), "messages": list(ask.messages), "tokens": ask.tokens})


def answers(
    answerer: Answerer,
    asks: Sequence[Ask],
    store: Store,
    told: Callable[[int], None] = lambda _: None,
    worth: Callable[[Said], bool] = lambda _: True,
) -> list[Said]:
    """What is said to asks; what is in the store is not asked again.

    `told` is given how many are answered, as they come; what is not `worth` keeping is returned, and not stored.

    Raises:
        AddendaError: it cannot answer; what was said before is in the store.
        Stopped: after a signal; likewise.
    """
    keys = [answerer.key(ask) for ask in asks]
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    order = sorted(first.values())
    known = {at for at, place in enumerate(order) if keys[place] in store}
    fresh: dict[str, Said] = {}
    told(len(known))

    def keep(said: Mapping[int, Said]) -> None:
        new = {keys[order[at]]: one for at, one in said.items() if at not in known}
        if kept := {key: {"said": one.text, "cut": one.cut} for key, one in new.items() if worth(one)}:
            store.add(kept)
        fresh.update(new)
        known.update(said)
        told(len(known))

    if len(known) < len(order):
        answerer.answer([asks[place] for place in order], frozenset(known), keep)
    return [fresh.get(key) or Said(store[key]["said"], bool(store[key].get("cut"))) for key in keys]
