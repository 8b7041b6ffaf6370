"""Accuracy on question sets through lm-evaluation-harness, modules on and off, paired question by question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from addenda.core import card
from addenda.core.errors import AddendaError
from addenda.measuring.asking.tasks import tasks_named
from addenda.measuring.conducting.foretold import QUESTION
from addenda.measuring.conducting.measure import Measure, Opened, Reading, Table, limit, on_card, option, share, times
from addenda.modulefile.modelcard import MMLU
from addenda.plug.selection import Names
from addenda.telling.intervals import CHANGE, SHARE, Interval, of_mean, of_means

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: the column of an evaluation's one selection
MODULES = "modules"
#: subjects of MMLU that are named where what is added to them is told together
NAMED = 3


@dataclass(frozen=True)
class OnTask:
    """One task by one metric: what guessing gets, what the base gets, and for each selection its score and the paired difference.

    `metric` is `acc`, or `acc_norm` where a choice's log-likelihood is divided by its characters. `constant` is the share that
    the best constant answer gets of the questions asked: the commonest true answer's.
    """

    task: str
    metric: str
    questions: int
    chance: float
    base: Interval
    on: dict[str, Interval]
    difference: dict[str, Interval]
    constant: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def evaluate_tasks(
    base: Base,
    tasks: Sequence[str],
    columns: Mapping[str, Names] | None = None,
    *,
    data: Path | None = None,
    limit: int | None = None,
    batch_size: int = 16,
) -> list[OnTask]:
    """Score local question sets through lm-eval: the base alone, and each selection of `columns`, question by question.

    The base is loaded once; before a selection is scored a canary proves that its modules run. A task that is usually scored by
    `acc_norm` too comes twice, by `acc` first.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer.
        tasks: names as in `measuring.asking.tasks`; `mmlu` is all its subjects.
        columns: selections by a name of yours: `{"pubmed": "pubmed", "both": {"pubmed": 1.0, "law": 0.5}}`.
        data: the data folder; default `ADDENDA_DATA`, else `../shared/data`.
        limit: so many questions of each task, the first; default: all.
        batch_size: rows of one forward pass.

    Raises:
        DataError: there is no such task.
        AddendaError: a module did not run; the base has no tokenizer; or lm-eval is not installed.
    """
    harness = _harness()
    if base.tokenizer is None:
        raise AddendaError("lm-eval asks in words, and the base has no tokenizer: addenda.attach(model, tokenizer)")
    if limit is not None and limit < 1:
        raise AddendaError(f"limit must be positive; got {limit}")
    chosen = tasks_named(list(tasks), data)
    bare = harness.answered(harness.AddendaLM(base=base, batch_size=batch_size), chosen, limit)
    scores = {
        name: harness.answered(harness.AddendaLM(base=base, modules=names, batch_size=batch_size), chosen, limit)
        for name, names in (columns or {}).items()
    }
    return [
        OnTask(
            task=task.name,
            metric=metric,
            questions=len(off),
            chance=task.chance,
            base=of_mean(off, within=SHARE),
            on={name: of_mean(by_task[task.name][metric], within=SHARE) for name, by_task in scores.items()},
            difference={
                name: of_mean(by_task[task.name][metric] - off, within=CHANGE) for name, by_task in scores.items()
            },
            constant=task.constant(len(off)),
        )
        for task in chosen
        for metric, off in bare[task.name].items()
    ]


def _harness() -> Any:
    """What needs lm-eval, imported where it is asked for: it is optional, and slow to import."""
    try:
        from addenda.measuring.conducting import harness
    except ImportError as error:
        raise AddendaError(f"tasks need lm-eval ({error}): pip install lm-eval") from None
    return harness


@dataclass(frozen=True)
class Accuracy(Measure):
    """Question sets through lm-evaluation-harness, each beside what guessing and the best constant answer get."""

    name: ClassVar[str] = "tasks"
    place: ClassVar[int] = 20
    in_words: ClassVar[bool] = True
    nothing: ClassVar[Any] = ()

    tasks: Sequence[str] = option(
        "A question set of ADDENDA_DATA, e.g. piqa, mmlu, mmlu_anatomy.", "texts", "--task", default=()
    )
    limit: int | None = limit()

    @property
    def asked(self) -> bool:
        """Whether any was named."""
        return len(self.tasks) > 0

    def open(self, base: Base, weights: Mapping[str, float]) -> Opened:
        """The sets, and lm-eval."""
        chosen = tasks_named(list(self.tasks))
        _harness()
        return Opened(chosen)

    def reads(self, base: Base, weights: Mapping[str, float], opened: Opened) -> Iterator[Reading]:
        """Each question with each of its answers."""
        each = [
            round(min(self.limit or task.questions, task.questions) * QUESTION / max(0.1, task.chance))
            for task in opened.inputs
        ]
        yield Reading(", ".join(self.tasks), times(weights) * sum(each))

    def run(
        self, base: Base, weights: Mapping[str, float], opened: Opened, moved: Mapping[str, Interval]
    ) -> tuple[OnTask, ...]:
        """See `evaluate_tasks`."""
        return tuple(evaluate_tasks(base, self.tasks, {MODULES: dict(weights)} if weights else None, limit=self.limit))

    def record(self, found: tuple[OnTask, ...], sources: Mapping[str, str]) -> Iterator[card.Measure]:
        """Accuracy of each task, and what the module adds to it, paired; of MMLU the latter over all subjects asked.

        A subject's row in the table of the model card is its accuracy: what is added stands under another name.
        """
        for task in found:
            for accuracy in task.on.values():
                yield from on_card(task.metric, accuracy, task.task, task.base)
        for task in found:
            for change in task.difference.values() if not task.task.startswith(MMLU) else ():
                yield from on_card(f"{task.metric} added", change, task.task)
        subjects = [task for task in found if task.task.startswith(MMLU)]
        names = [task.task.removeprefix(MMLU) for task in subjects]
        if changes := [change for task in subjects for change in task.difference.values()]:
            which = ", ".join(names) if len(names) <= NAMED else f"mean of {len(names)} subjects"
            yield from on_card("acc added", of_means(changes), f"mmlu: {which}")

    def rows(self, found: tuple[OnTask, ...], base: str, label: str) -> Iterator[Table]:
        """Accuracy of each task."""
        on = any(task.on for task in found)
        rows = [
            [
                *(task.task, task.metric, f"{task.questions:,}", f"{task.chance:.1%}", f"{task.constant:.1%}"),
                share(task.base),
                *([share(task.on[MODULES]), share(task.difference[MODULES], "+")] if on else []),
            ]
            for task in found
        ]
        columns = ["task", "metric", "questions", "chance", "best constant answer", "base"]
        more = [f"with {label}", "change"] if on else []
        yield Table("Accuracy [95% interval over questions]", [*columns, *more], rows)
