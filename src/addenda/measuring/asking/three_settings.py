"""Three settings: the same questions from parameters alone, with retrieval from an old snapshot, and from the current text.

Source: "Memory in LLMs: Mechanisms, Evaluation, Evolution" (2025), the three-setting protocol and its certificate (F1-F7).
The differences tell what a model can do from what was put before it: a module that holds the facts raises the first setting; what
was told since the snapshot only the third can know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from addenda.core import card
from addenda.core.errors import AddendaError
from addenda.measuring.asking.certificate import Certificate, certificate, check_idle, moved
from addenda.measuring.asking.facts import Fact, Facts, evenly, opened_facts
from addenda.measuring.asking.options import BATCH_TOKENS, Option, all_likelihoods, first_wins
from addenda.measuring.asking.retrieval import PASSAGE, Passages, with_passages
from addenda.measuring.conducting.foretold import QUESTION
from addenda.measuring.conducting.measure import (
    Measure,
    Opened,
    Reading,
    Table,
    file_name,
    limit,
    on_card,
    option,
    share,
)
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
class ThreeSettings:
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

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


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


#: what each setting is, in words
TOLD = {
    "closed": "closed: parameters alone", "offline": "offline: passages of the snapshot",
    "online": "online: passages of the current texts", "oracle": "oracle: the very text in the window",
}  # fmt: skip


@dataclass(frozen=True)
class InThreeSettings(Measure):
    """The questions of `facts` from parameters alone, with passages of an old snapshot, and with those of today's texts.

    Source: "Memory in LLMs: Mechanisms, Evaluation, Evolution" (2025), the three-setting protocol and its certificate.
    """

    name: ClassVar[str] = "settings"
    place: ClassVar[int] = 40
    in_words: ClassVar[bool] = True

    snapshot: Facts | str | Path | None = option(
        "The facts at an earlier time: asked closed-book and with retrieval from either.", "file"
    )
    facts: Facts | str | Path | None = None
    limit: int | None = limit()

    def open(self, base: Base, weights: Mapping[str, float]) -> Opened:
        """Today's facts and the snapshot's."""
        if self.facts is None:
            raise AddendaError("a snapshot is of facts at an earlier time: name the facts of today too")
        if find_spec("bm25s") is None:
            raise AddendaError("the snapshot is retrieved from, which needs bm25s: pip install bm25s")
        check_idle(base)
        files = {"facts": self.facts, "snapshot": self.snapshot}
        return Opened([opened_facts(given) for given in files.values()], sources=file_name(files))

    def reads(self, base: Base, weights: Mapping[str, float], opened: Opened) -> Iterator[Reading]:
        """Each question in each setting, with what stands before it."""
        yield Reading("facts in three settings", 8 * QUESTION * len(opened.inputs[0].told[: self.limit]))

    def run(
        self, base: Base, weights: Mapping[str, float], opened: Opened, moved: Mapping[str, Interval]
    ) -> ThreeSettings:
        """See `three_settings`."""
        facts, snapshot = opened.inputs
        return three_settings(
            base, facts, dict(weights), snapshot=snapshot, questions=self.limit, regression=dict(moved)
        )

    def files(self, found: ThreeSettings) -> dict[str, Callable[[Path], None]]:
        """The certificate."""
        return {"certificate.json": found.certificate.save}

    def record(self, found: ThreeSettings, sources: Mapping[str, str]) -> Iterator[card.Measure]:
        """The share of each setting, and their differences."""
        facts = sources.get("facts", "facts")
        for name, of_setting in found.shares.items():
            yield from on_card(f"three settings, {name}", of_setting, facts)
        for change in found.changes:
            yield from on_card(f"three settings, {change.second} less {change.first}", change.difference, facts)
        if found.reliance is not None:
            name = "three settings, closed / oracle"
            yield card.Measure(name=name, value=found.reliance, unit="ratio", n=found.questions, on=facts)
        yield from on_card("three settings, offline says what was true then", found.stale, facts)

    def rows(self, found: ThreeSettings, base: str, label: str) -> Iterator[Table]:
        """Shares by setting, and their differences."""
        rows = [(TOLD[name], share(interval)) for name, interval in found.shares.items()]
        rows += [
            (f"{change.second} less {change.first}", f"{share(change.difference, '+')}, p {change.p:.3g} (Holm)")
            for change in found.changes
        ]
        if found.stale is not None:
            rows.append(("of what changed since: offline says what was true then", share(found.stale)))
        holds = "yes" if found.certificate.rollback["holds"] else "NO"
        rows.append(("everything unplugged: the base is what it was, bit for bit", holds))
        title = f"{found.questions:,} questions in three settings, chance {found.chance:.0%} [95% interval over people]"
        yield Table(title, ["setting", "true answer likeliest"], rows)
