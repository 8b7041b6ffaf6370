"""Three settings: the same questions from parameters alone, with retrieval from an old snapshot, and from the current text.

Source: "Memory in LLMs: Mechanisms, Evaluation, Evolution" (2025), the three-setting protocol and its certificate (F1-F7).
The differences tell what a model can do from what was put before it: a module that holds the facts raises the first setting; what
was told since the snapshot only the third can know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.core.errors import AddendaError
from addenda.core.plain import Plain
from addenda.measuring.asking.certificate import Certificate, certificate, check_idle, moved
from addenda.measuring.asking.facts import Fact, Facts, evenly
from addenda.measuring.asking.options import BATCH_TOKENS, Option, all_likelihoods, first_wins
from addenda.measuring.asking.retrieval import PASSAGE, Passages, with_passages
from addenda.measuring.looking.canary import proved
from addenda.plug.selection import Names, weights_of
from addenda.telling.intervals import CHANGE, SHARE, Interval, holm, of_mean, sign_flip

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: closed: parameters alone; offline: passages of the snapshot; online: of the current text; oracle: the very text
SETTINGS = ("closed", "offline", "online", "oracle")


@dataclass(frozen=True)
class Change:
    """One setting's share against another's, on the same questions: the difference, and p, for three tests adjusted by Holm.

    The test flips signs of whole people: questions about one person are answered alike.
    """

    first: str
    second: str
    difference: Interval
    p: float


@dataclass(frozen=True)
class ThreeSettings(Plain):
    """Shares of questions whose true answer is the likeliest, by setting; `oracle` has the text that states it in the window.

    `reliance` is closed / oracle (PPR): 1 where parameters serve as well as the text itself. `stale` is the share of the
    questions about what changed since the snapshot that the offline setting answers with what was true then.
    """

    base: str
    modules: dict[str, float]
    questions: int
    chance: float
    shares: dict[str, Interval]
    changes: tuple[Change, ...]
    reliance: float | None
    stale: Interval | None
    certificate: Certificate


def three_settings(
    base: Base,
    facts: Facts,
    modules: Names = (),
    *,
    snapshot: Facts | None = None,
    passages: int = 1,
    questions: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    regression: Mapping[str, Interval] | None = None,
) -> ThreeSettings:
    """Ask the same questions in three settings, with the same prompts, by the likelihood of options.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer; its own selection is put back after.
        facts: current texts and questions.
        modules: what acts, in all settings; nothing asks the base alone.
        snapshot: what the offline index was made from; default: the current facts, so that offline is online.
        passages: retrieved for each question.
        questions: ask so many, evenly; default: all.
        batch_tokens: tokens of one forward pass.
        regression: for the certificate, what is known of what else the modules move, by the names that `certificate.moved` has;
            it measures what is missing.

    Raises:
        AddendaError: bm25s is not installed, a module did not run or is being trained, or a number is not positive.
    """
    if passages < 1:
        raise AddendaError(f"passages must be positive; got {passages}")
    check_idle(base)
    asked = evenly(facts.told, questions)
    before = facts if snapshot is None else snapshot
    context = _contexts(base, facts, before, passages)
    weights = weights_of(modules)
    canary = proved(base, weights)
    answers: dict[str, list[list[Option]]] = {}
    with base.using(weights):
        for setting in SETTINGS:
            prompts = [with_passages(context[setting](fact), fact.prompt) for fact in asked]
            options = [(prompt, (fact.answer, *fact.others)) for prompt, fact in zip(prompts, asked, strict=True)]
            answers[setting] = all_likelihoods(base, options, batch_tokens=batch_tokens)
    right = {name: np.array([first_wins([o.mean for o in each]) for each in lists]) for name, lists in answers.items()}
    picked = [max(each, key=lambda option: option.mean).text for each in answers["offline"]]
    people = [fact.subject for fact in asked]
    shares, changes = {name: of_mean(values, people, SHARE) for name, values in right.items()}, _changes(right, people)
    return ThreeSettings(
        base=base.name,
        modules=weights,
        questions=len(asked),
        chance=sum(1 / (1 + len(fact.others)) for fact in asked) / len(asked),
        shares=shares,
        changes=changes,
        reliance=shares["closed"].value / shares["oracle"].value if shares["oracle"].value else None,
        stale=_stale(asked, before, picked, people),
        certificate=certificate(
            base, weights, facts, before, canary, verification=_verified(len(asked), shares, changes),
            regression=moved(base, weights, facts, regression or {}, batch_tokens),
        ),
    )  # fmt: skip


def _contexts(base: Base, facts: Facts, before: Facts, passages: int) -> Mapping[str, Callable[[Fact], Sequence[str]]]:
    """For each setting what stands in the window before a question."""
    offline = Passages(base, list(before.documents), tokens=PASSAGE)
    online = offline if before is facts else Passages(base, list(facts.documents), tokens=PASSAGE)
    return {
        "closed": lambda fact: (),
        "offline": lambda fact: offline.search(fact.prompt, passages),
        "online": lambda fact: online.search(fact.prompt, passages),
        "oracle": lambda fact: [text for text in facts.documents if fact.subject in text][:1],
    }


def _verified(questions: int, shares: Mapping[str, Interval], changes: Sequence[Change]) -> dict[str, Any]:
    """What the certificate says was asked and found."""
    return {
        "questions": questions,
        "true answer likeliest": {setting: share.as_dict() for setting, share in shares.items()},
        "changes": {f"{c.second} less {c.first}": c.difference.as_dict() | {"p": c.p} for c in changes},
    }


def _changes(right: Mapping[str, np.ndarray], people: Sequence[str]) -> tuple[Change, ...]:
    pairs = list(combinations(("closed", "offline", "online"), 2))
    adjusted = holm([sign_flip(right[second] - right[first], people) for first, second in pairs])
    return tuple(
        Change(first, second, of_mean(right[second] - right[first], people, CHANGE), p)
        for (first, second), p in zip(pairs, adjusted, strict=True)
    )


def _stale(asked: Sequence[Fact], before: Facts, picked: Sequence[str], people: Sequence[str]) -> Interval | None:
    """How often what was true in the snapshot is answered, of what has changed."""
    then = {(fact.subject, fact.relation): fact.answer for fact in before.told}
    old = [(then.get((fact.subject, fact.relation)), fact, text) for fact, text in zip(asked, picked, strict=True)]
    kept = [
        (float(text == was), who)
        for (was, fact, text), who in zip(old, people, strict=True)
        if was not in (None, fact.answer)
    ]
    return of_mean([said for said, _ in kept], [who for _, who in kept], SHARE) if kept else None
