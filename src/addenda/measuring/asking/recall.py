"""Recall: what a base, modules on and off, answers about facts without their text in the window, and what else changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.measuring.asking.facts import Fact, Facts, evenly
from addenda.measuring.asking.options import BATCH_TOKENS, Option, all_likelihoods, first_wins, normalised
from addenda.measuring.asking.written import written as write
from addenda.measuring.looking.canary import WasOn, proved
from addenda.plug.selection import Names, weights_of
from addenda.telling.intervals import CHANGE, SHARE, Interval, of_mean

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: what the answers about others are called in a certificate and on a card
UNTOLD = "untold facts answered as before"
#: tokens of a written answer
ANSWER_TOKENS = 16


@dataclass(frozen=True)
class Answers:
    """What was answered: for each fact whether the true answer was the likeliest, and whether it was written."""

    options: tuple[tuple[Option, ...], ...]
    written: tuple[str, ...]
    facts: tuple[Fact, ...]

    @property
    def chosen(self) -> np.ndarray:
        """1 where the true answer has the largest likelihood per token, else 0; ties share."""
        return np.array([first_wins([option.mean for option in options]) for options in self.options])

    @property
    def exact(self) -> np.ndarray:
        """1 where what was written begins with the true answer, in words, else 0."""
        return np.array([float(begins_with(text, f.answer)) for text, f in zip(self.written, self.facts, strict=False)])

    @property
    def choices(self) -> list[int]:
        """The likeliest option of each."""
        return [int(np.argmax([option.mean for option in options])) for options in self.options]


@dataclass(frozen=True)
class Recall:
    """Closed-book recall, with the modules and without, and locality on facts that no text told.

    `chosen_*` is the share of told facts whose true answer is the likeliest of its options (by likelihood per token; by chance
    `chance`), `exact_*` the share written word for word; `gain` is the difference in `chosen`, paired; intervals are over
    people. `facts` were asked of the `told` that there are. `kept` is the share of untold facts for which the modules choose
    what the base chooses; `per_megabyte` how many of all told are chosen rightly beyond what the base chooses, for each 10^6
    bytes of modules: the share asked stands for all.
    """

    base: str
    modules: dict[str, float]
    canary: tuple[WasOn, ...]
    facts: int
    told: int
    chance: float
    chosen_before: Interval
    chosen_after: Interval | None
    gain: Interval | None
    exact_before: Interval
    exact_after: Interval | None
    kept: Interval | None
    megabytes: float
    by_relation: dict[str, tuple[float, float | None]]

    @property
    def per_megabyte(self) -> float | None:
        """Facts more of all that were told, for each 10^6 bytes of modules; as many however few of them were asked."""
        return None if self.gain is None or not self.megabytes else self.gain.value * self.told / self.megabytes

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain: dict[str, Any] = {}
        for name, value in vars(self).items():
            plain[name] = value.as_dict() if isinstance(value, Interval) else value
        plain["canary"] = [probe.as_dict() for probe in self.canary]
        return plain | {"per_megabyte": self.per_megabyte}


def recall(
    base: Base,
    facts: Facts,
    modules: Names = (),
    *,
    questions: int | None = None,
    written: bool = True,
    batch_tokens: int = BATCH_TOKENS,
) -> Recall:
    """Ask about facts with modules on and off, without their text in the window.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer; its own selection is put back after.
        facts: as `addenda.biographies` makes them or `load_facts` reads them.
        modules: what acts: names, or a mapping of weights; nothing asks the base alone.
        questions: ask so many of each part, evenly; default: all.
        written: also let answers be written, greedily; slower.
        batch_tokens: tokens of one forward pass.

    Raises:
        AddendaError: a module did not run, or `questions` is not positive.
        DataError: an answer has no token.
    """
    told, untold = evenly(facts.told, questions), evenly(facts.untold, questions)
    weights = weights_of(modules)
    canary = proved(base, weights)
    with base.off():
        before = ask(base, told, written=written, batch_tokens=batch_tokens)
    after = same = None
    if weights:
        with base.using(weights):
            after = ask(base, told, written=written, batch_tokens=batch_tokens)
        same = kept(base, untold, weights, batch_tokens) if untold else None
    people = _people(told)
    relations = dict.fromkeys(fact.relation for fact in told)
    return Recall(
        base=base.name,
        modules=weights,
        canary=tuple(canary),
        facts=len(told),
        told=len(facts.told),
        chance=sum(1 / (1 + len(fact.others)) for fact in told) / len(told),
        chosen_before=of_mean(before.chosen, people, SHARE),
        chosen_after=None if after is None else of_mean(after.chosen, people, SHARE),
        gain=None if after is None else of_mean(after.chosen - before.chosen, people, CHANGE),
        exact_before=of_mean(before.exact, people, SHARE) if written else Interval(0.0, 0.0, 0.0, 0),
        exact_after=None if after is None or not written else of_mean(after.exact, people, SHARE),
        kept=same,
        megabytes=sum(_bytes(base, name) for name in weights) / 1e6,
        by_relation={
            relation: (_mean(before, relation), None if after is None else _mean(after, relation))
            for relation in relations
        },
    )


def ask(base: Base, facts: Sequence[Fact], *, written: bool, batch_tokens: int = BATCH_TOKENS) -> Answers:
    """Ask the base, as selected, about facts."""
    questions = [(fact.prompt, (fact.answer, *fact.others)) for fact in facts]
    options = all_likelihoods(base, questions, batch_tokens=batch_tokens) if questions else []
    prompts = [fact.prompt for fact in facts] if written else []
    texts = write(base, prompts, tokens=ANSWER_TOKENS, batch_tokens=batch_tokens)
    return Answers(tuple(map(tuple, options)), tuple(texts), tuple(facts))


def kept(base: Base, untold: Sequence[Fact], weights: dict[str, float], batch_tokens: int = BATCH_TOKENS) -> Interval:
    """The share of facts, one or more, that no text told for which the base chooses the same with the modules."""
    with base.off():
        before = ask(base, untold, written=False, batch_tokens=batch_tokens).choices
    with base.using(weights):
        after = ask(base, untold, written=False, batch_tokens=batch_tokens).choices
    return of_mean([float(a == b) for a, b in zip(before, after, strict=True)], _people(untold), SHARE)


def begins_with(text: str, answer: str) -> bool:
    """Whether a text begins with an answer, word for word, whatever the case and punctuation."""
    wanted = normalised(answer)
    return bool(wanted) and normalised(text)[: len(wanted)] == wanted


def _people(facts: Sequence[Fact]) -> list[str]:
    return [fact.subject for fact in facts]


def _mean(answers: Answers, relation: str) -> float:
    return float(
        np.mean([c for c, fact in zip(answers.chosen, answers.facts, strict=True) if fact.relation == relation])
    )


def _bytes(base: Base, name: str) -> int:
    return sum(p.numel() * p.element_size() for p in base.modules[name].parameters())
