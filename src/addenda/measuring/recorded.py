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

SHARE = "share"


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
            on = text.on
            yield Measure(
                name="loss",
                value=on.nats,
                low=on.low,
                high=on.high,
                n=on.documents,
                on=text.name,
                reference=text.off.nats,
            )
            change = text.difference
            yield Measure(
                name="loss added", value=change.nats, low=change.low, high=change.high, n=change.documents, on=text.name
            )
    for task in found.tasks:
        for one in task.on.values():
            yield _share(task.metric, one, task.task, task.base)
    if found.recall is not None and found.recall.chosen_after is not None:
        told, after = "facts", found.recall
        yield _share("recall, chosen", found.recall.chosen_after, told, after.chosen_before)
        if after.exact_after is not None:
            yield _share("recall, word for word", after.exact_after, told, after.exact_before)
        if after.kept is not None:
            yield _share("untold facts answered as before", after.kept, told)
    if found.edits is not None and found.edits.reliability is not None:
        edits = found.edits
        yield _share("edits, reliability", found.edits.reliability, "edits", edits.reliability_before)
        if edits.generality is not None:
            yield _share("edits, generality", edits.generality, "edits", edits.generality_before)
        if edits.locality is not None:
            yield _share("edits, locality", edits.locality, "edits")
    if found.neutrality is not None:
        change = found.neutrality
        yield _share("tokens left bit-equal", change.untouched, change.on)
        yield Measure(
            name="KL from the base",
            value=change.kl.value,
            low=change.kl.low,
            high=change.kl.high,
            n=change.kl.n,
            on=change.on,
        )
        yield Measure(
            name="largest change of a logit", value=change.largest, unit="logits", n=change.tokens, on=change.on
        )


def _share(name: str, found: Interval, on: str, reference: Interval | None = None) -> Measure:
    return Measure(
        name=name, value=found.value, unit=SHARE, low=found.low, high=found.high, n=found.n, on=on,
        reference=None if reference is None else reference.value,
    )  # fmt: skip
