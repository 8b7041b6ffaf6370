"""What an evaluation found, written into the card of the module that it is of: for inspection, and for the hub's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from addenda.core import card
from addenda.core.errors import AddendaError

if TYPE_CHECKING:
    from addenda.measuring.conducting.evaluate import Evaluation
    from addenda.plug.base import Base


def record(base: Base, evaluation: Evaluation) -> list[card.Measure]:
    """Put what was measured into the card of the one module that acted; `module.save` then writes it to disk.

    A measure that the card has of the same name on the same text, task or file is replaced.

    Raises:
        AddendaError: not one module acted, at weight 1: the numbers are then of no module by itself.
    """
    if list(evaluation.modules.values()) != [1.0]:
        acted = ", ".join(f"{name}={weight:g}" for name, weight in evaluation.modules.items()) or "none"
        raise AddendaError(f"a card records what its module does alone at weight 1; acting were: {acted}")
    (name,) = evaluation.modules
    measures = list(measured(evaluation))
    put(base.modules[name].card, measures)
    return measures


def put(kept: card.Card, measures: Sequence[card.Measure]) -> None:
    """Put measures into a card; those of the same name on the same text are replaced."""
    new = {(measure.name, measure.on) for measure in measures}
    kept.measures = [measure for measure in kept.measures if (measure.name, measure.on) not in new] + list(measures)


def measured(evaluation: Evaluation) -> Iterator[card.Measure]:
    """What was found as measures for a card, each with the bare base's value beside it where it has one."""
    for name, measure in evaluation.measures.items():
        yield from measure.record(evaluation.found[name], evaluation.sources)
