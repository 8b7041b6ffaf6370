"""What an evaluation found, written into the card of the module that it is of: for inspection, and for the hub's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from addenda.core.card import Measure
from addenda.core.errors import AddendaError
from addenda.modulefile.modelcard import MMLU
from addenda.telling.intervals import Interval, of_means

if TYPE_CHECKING:
    from addenda.measuring.asking.recall import Recall
    from addenda.measuring.asking.three_settings import ThreeSettings
    from addenda.measuring.asking.zero_shot import ZeroShot
    from addenda.measuring.conducting.evaluate import Evaluation
    from addenda.measuring.conducting.harness import OnTask
    from addenda.measuring.looking.spectrum import Health
    from addenda.plug.base import Base
    from addenda.plug.scoring import Difference, Score

SHARE, NATS = "share", "nats per token"
#: subjects of MMLU that are named where what is added to them is told together
NAMED = 3


def record(base: Base, evaluation: Evaluation) -> list[Measure]:
    """Put what was measured into the card of the one module that acted; `module.save` then writes it to disk.

    A measure that the card has of the same name on the same text, task or file is replaced.

    Raises:
        AddendaError: not one module acted, at weight 1: the numbers are then of no module by itself.
    """
    if list(evaluation.modules.values()) != [1.0]:
        acted = ", ".join(f"{name}={weight:g}" for name, weight in evaluation.modules.items()) or "none"
        raise AddendaError(f"a card records what its module does alone at weight 1; acting were: {acted}")
    (name,) = evaluation.modules
    card, measures = base.modules[name].card, list(measured(evaluation))
    new = {(measure.name, measure.on) for measure in measures}
    card.measures = [measure for measure in card.measures if (measure.name, measure.on) not in new] + measures
    return measures


def measured(evaluation: Evaluation) -> Iterator[Measure]:
    """What was found as measures for a card, each with the bare base's value beside it where it has one."""
    for text in evaluation.texts:
        if text.on is not None and text.difference is not None:
            yield _nats("loss", text.on, text.name, text.off.nats)
            yield _nats("loss added", text.difference, text.name)
    yield from _of_tasks(evaluation.tasks)
    if evaluation.recall is not None:
        yield from _of_recall(evaluation.recall, evaluation.sources.get("facts", "facts"))
    if evaluation.settings is not None:
        yield from _of_settings(evaluation.settings, evaluation.sources.get("facts", "facts"))
    if evaluation.edits is not None:
        scores, edits = evaluation.edits, evaluation.sources.get("edits", "edits")
        yield from _if(scores.reliability, "edits, reliability", edits, scores.reliability_before)
        yield from _if(scores.generality, "edits, generality", edits, scores.generality_before)
        yield from _if(scores.locality, "edits, locality", edits)
    for change in evaluation.neutrality:
        yield _of("tokens left bit-equal", change.untouched, change.on)
        yield _of("KL from the base", change.kl, change.on, unit=NATS)
        yield Measure(
            name="largest change of a logit", value=change.largest, unit="logits", n=change.tokens, on=change.on
        )
    if evaluation.chats is not None:
        yield _of("answers changed", evaluation.chats.changed, evaluation.chats.on)
        yield _of("answers changed early", evaluation.chats.early, evaluation.chats.on)
    if evaluation.questions is not None:
        yield from _of_questions(evaluation.questions)
    for sites in evaluation.spectrum.values():
        yield from _of_spectrum(sites, evaluation.sources.get("spectrum", "texts"))


def _of_tasks(tasks: Sequence[OnTask]) -> Iterator[Measure]:
    """Accuracy of each task, and what the module adds to it, paired; of MMLU the latter over all subjects asked.

    A subject's row in the table of the model card is its accuracy: what is added stands under another name.
    """
    for task in tasks:
        for accuracy in task.on.values():
            yield _of(task.metric, accuracy, task.task, task.base)
    for task in tasks:
        if not task.task.startswith(MMLU):
            yield from (_of(f"{task.metric} added", change, task.task) for change in task.difference.values())
    subjects = [task for task in tasks if task.task.startswith(MMLU)]
    names = [task.task.removeprefix(MMLU) for task in subjects]
    if changes := [change for task in subjects for change in task.difference.values()]:
        which = ", ".join(names) if len(names) <= NAMED else f"mean of {len(names)} subjects"
        yield _of("acc added", of_means(changes), f"mmlu: {which}")


def _of_questions(asked: ZeroShot) -> Iterator[Measure]:
    """The usual metric of each set, and what is added to it, set by set and pooled."""
    for row in (*(row for row in asked.sets if row.usual), asked.pooled):
        if row.on is not None and row.change is not None:
            metric = "zero-shot" if row is asked.pooled else f"zero-shot {row.metric}"
            yield _of(metric, row.on, row.name, row.off)
            yield _of(f"{metric} added", row.change, row.name)


def _of_recall(asked: Recall, facts: str) -> Iterator[Measure]:
    yield from _if(asked.chosen_after, "recall, chosen", facts, asked.chosen_before)
    yield from _if(asked.gain, "recall, chosen, added", facts)
    yield from _if(asked.exact_after, "recall, word for word", facts, asked.exact_before)
    yield from _if(asked.kept, "untold facts answered as before", facts)
    if asked.gain is not None and asked.per_megabyte is not None:
        each = asked.told / asked.megabytes
        many = Interval(asked.per_megabyte, asked.gain.low * each, asked.gain.high * each, asked.gain.n)
        yield _of("facts more per megabyte", many, facts, unit="facts per 10^6 bytes")


def _of_settings(asked: ThreeSettings, facts: str) -> Iterator[Measure]:
    for name, share in asked.shares.items():
        yield _of(f"three settings, {name}", share, facts)
    for change in asked.changes:
        yield _of(f"three settings, {change.second} less {change.first}", change.difference, facts)
    if asked.reliance is not None:
        yield Measure(
            name="three settings, closed / oracle", value=asked.reliance, unit="ratio", n=asked.questions, on=facts
        )
    yield from _if(asked.stale, "three settings, offline says what was true then", facts)


def _of_spectrum(sites: Sequence[Health], text: str) -> Iterator[Measure]:
    """The four numbers, means over the module's sites, with the host's beside its own units', and of how many dimensions.

    And the least of one site: one that has collapsed is lost in a mean.
    """
    for part, what in (("module", "units"), ("added", "what is added")):
        pairs = [(mine, site.host) for site in sites if (mine := getattr(site, part)) is not None]
        hosts = [host for _, host in pairs if host is not None] if part == "module" else []
        for name, unit in (("participation", "directions"), ("entropy", "nats"), ("early", "share"), ("shift", "nats")):
            mine = [value for spectrum, _ in pairs if (value := getattr(spectrum, name)) is not None]
            theirs = [value for host in hosts if (value := getattr(host, name)) is not None]
            if mine:
                yield Measure(
                    name=f"spectrum of {what}, {name}", value=sum(mine) / len(mine), unit=f"{unit}, mean over sites",
                    n=len(mine), on=text, reference=sum(theirs) / len(theirs) if len(theirs) == len(mine) else None,
                )  # fmt: skip
        if pairs:
            least, host = min(pairs, key=lambda pair: pair[0].participation)
            yield Measure(
                name=f"spectrum of {what}, least participation", value=least.participation,
                unit=f"of {least.dimensions} directions", n=len(pairs), on=text,
                reference=host.participation if part == "module" and host is not None else None,
            )  # fmt: skip


def _if(interval: Interval | None, name: str, on: str, reference: Interval | None = None) -> Iterator[Measure]:
    """A measure, where it was taken."""
    if interval is not None:
        yield _of(name, interval, on, reference)


def _of(name: str, interval: Interval, on: str, reference: Interval | None = None, unit: str = SHARE) -> Measure:
    return Measure.over(
        interval.n, name, interval.value, interval.low, interval.high, unit=unit, on=on,
        reference=None if reference is None else reference.value,
    )  # fmt: skip


def _nats(name: str, loss: Score | Difference, on: str, reference: float | None = None) -> Measure:
    return Measure.over(loss.documents, name, loss.nats, loss.low, loss.high, on=on, reference=reference)
