"""Tasks: accuracy on question sets, through lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from addenda.core import card
from addenda.measuring.asking.accuracy import OnTask, evaluate_tasks, harness
from addenda.measuring.asking.tasks import tasks_named
from addenda.measuring.conducting.foretold import QUESTION
from addenda.measuring.conducting.lines import on_card, share, times
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, limit, option
from addenda.modulefile.modelcard import MMLU
from addenda.telling.intervals import of_means

#: the column of an evaluation's one selection
MODULES = "modules"
#: subjects of MMLU that are named where what is added to them is told together
NAMED = 3


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
        return len(self.tasks) > 0

    def open(self, acting: Acting) -> Opened:
        chosen = tasks_named(list(self.tasks))
        harness()
        return Opened(chosen)

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        each = [
            round(min(self.limit or task.questions, task.questions) * QUESTION / max(0.1, task.chance))
            for task in opened.inputs
        ]
        yield Reading(", ".join(self.tasks), times(acting.weights) * sum(each))

    def run(self, acting: Acting, opened: Opened) -> tuple[OnTask, ...]:
        columns = {MODULES: acting.weights} if acting.weights else None
        return tuple(evaluate_tasks(acting.base, self.tasks, columns, limit=self.limit))

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
