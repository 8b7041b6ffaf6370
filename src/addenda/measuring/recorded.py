"""What an evaluation found, written into the card of the module that it is of: for inspection, and for the hub's page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from addenda.core.card import Measure
from addenda.core.errors import AddendaError
from addenda.intervals import Interval

if TYPE_CHECKING:
    from addenda.measuring.evaluate import Evaluation
    from addenda.plugging import Base
    from addenda.scoring import Difference, Score

SHARE, NATS = "share", "nats per token"


def record(base: Base, found: Evaluation) -> list[Measure]:
    """Put what was found into the card of the one module that acted; `module.save` then writes it down.

    A measure that the card has of the same name on the same text is replaced.

    Raises:
        AddendaError: not one module acted, at weight 1: the numbers are then of no module by itself.
    """
    if list(found.modules.values()) != [1.0]:
        acted = ", ".join(f"{name}={weight:g}" for name, weight in found.modules.items()) or "none"
        raise AddendaError(f"a card records what its module does alone at weight 1; acting were: {acted}")
    (name,) = found.modules
    card, measures = base.modules[name].card, list(measured(found))
    new = {(one.name, one.on) for one in measures}
    card.measures = [one for one in card.measures if (one.name, one.on) not in new] + measures
    return measures


def measured(found: Evaluation) -> Iterator[Measure]:
    """What was found as measures for a card, each with the bare base's value beside it where it has one."""
    for text in found.texts:
        if text.on is not None and text.difference is not None:
            yield _nats("loss", text.on, text.name, text.off.nats)
            yield _nats("loss added", text.difference, text.name)
    for task in found.tasks:
        for one in task.on.values():
            yield _of(task.metric, one, task.task, task.base)
    if found.recall is not None:
        asked, facts = found.recall, "facts"
        yield from _if(asked.chosen_after, "recall, chosen", facts, asked.chosen_before)
        yield from _if(asked.exact_after, "recall, word for word", facts, asked.exact_before)
        yield from _if(asked.kept, "untold facts answered as before", facts)
    if found.edits is not None:
        scores, edits = found.edits, "edits"
        yield from _if(scores.reliability, "edits, reliability", edits, scores.reliability_before)
        yield from _if(scores.generality, "edits, generality", edits, scores.generality_before)
        yield from _if(scores.locality, "edits, locality", edits)
    if found.neutrality is not None:
        change = found.neutrality
        yield _of("tokens left bit-equal", change.untouched, change.on)
        yield _of("KL from the base", change.kl, change.on, unit=NATS)
        yield Measure(
            name="largest change of a logit", value=change.largest, unit="logits", n=change.tokens, on=change.on
        )


def _if(found: Interval | None, name: str, on: str, reference: Interval | None = None) -> Iterator[Measure]:
    """A measure, where it was taken."""
    if found is not None:
        yield _of(name, found, on, reference)


def _of(name: str, found: Interval, on: str, reference: Interval | None = None, unit: str = SHARE) -> Measure:
    return Measure(
        name=name, value=found.value, unit=unit, low=found.low, high=found.high, n=found.n, on=on,
        reference=None if reference is None else reference.value,
    )  # fmt: skip


def _nats(name: str, found: Score | Difference, on: str, reference: float | None = None) -> Measure:
    return Measure(
        name=name, value=found.nats, low=found.low, high=found.high, n=found.documents, on=on, reference=reference
    )
