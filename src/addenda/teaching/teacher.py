"""Teachers: whoever is asked for exercises, and for general answers; each answer is stored, and asked for once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from addenda.exercises.exercise import Ask
from addenda.measuring.asking.chats import prompt_of
from addenda.plug.continuing import continued
from addenda.teaching.store import Store, key_of
from addenda.telling.progress import tick

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: asks that the base answers at a time; tokens of a batch, prompts and answers
ROWS, BATCH_TOKENS = 16, 8192


@dataclass(frozen=True)
class Said:
    """What a teacher said; `cut` where it had more to say than it was given tokens for."""

    text: str
    cut: bool = False


#: is given answers as they come, by the places of what was asked
Keep = Callable[[Mapping[int, Said]], None]


class Teacher(ABC):
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
    teacher: Teacher, asks: Sequence[Ask], store: Store, told: Callable[[int], None] = lambda _: None
) -> list[Said]:
    """What a teacher says to asks; what is in the store is not asked again. `told` is given how many are answered, as they come.

    Raises:
        AddendaError: the teacher cannot answer; what it said before is in the store.
        Stopped: after a signal; likewise.
    """
    keys = [teacher.key(ask) for ask in asks]
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    order = sorted(first.values())
    known = {at for at, place in enumerate(order) if keys[place] in store}
    told(len(known))

    def keep(said: Mapping[int, Said]) -> None:
        new = {keys[order[at]]: one for at, one in said.items() if at not in known}
        store.add({key: {"said": one.text, "cut": one.cut} for key, one in new.items()})
        known.update(said)
        told(len(known))

    if len(known) < len(order):
        teacher.answer([asks[place] for place in order], frozenset(known), keep)
    return [Said(store[key]["said"], bool(store[key].get("cut"))) for key in keys]


class BaseTeacher(Teacher):
    """The bare base itself: greedy, in batches that do not depend on what is known already, so that its answers do not either."""

    def __init__(self, base: Base) -> None:
        self.base, self.name = base, f"{base.name} itself"
        self.identity = {"base": base.fingerprint}

    def answer(self, asks: Sequence[Ask], known: Set[int], keep: Keep) -> None:
        """Batch by batch, all asks of a batch together."""
        prompts = [prompt_of(self.base, list(ask.messages)) for ask in asks]
        for group in self._batches(asks, [len(prompt) for prompt in prompts]):
            if known >= set(group):
                continue
            tokens = asks[group[0]].tokens
            tick()
            with self.base.off():
                said = continued(
                    self.base, [prompts[at] for at in group], tokens=tokens, batch_tokens=2 * BATCH_TOKENS, padded=True
                )
            keep({at: self._said(ids, tokens) for at, ids in zip(group, said, strict=True)})

    def _said(self, ids: Sequence[int], tokens: int) -> Said:
        text = self.base.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return Said(text, cut=len(ids) >= tokens)

    def _batches(self, asks: Sequence[Ask], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Asks of as many tokens and like length."""
        group: list[int] = []
        for at in sorted(range(len(asks)), key=lambda at: (asks[at].tokens, lengths[at], at)):
            size = (len(group) + 1) * (lengths[at] + asks[at].tokens)
            if group and (asks[group[0]].tokens != asks[at].tokens or len(group) == ROWS or size > BATCH_TOKENS):
                yield group
                group = []
            group.append(at)
        if group:
            yield group
