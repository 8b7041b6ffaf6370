"""Accuracy on question sets through lm-evaluation-harness, modules on and off, paired question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError
from addenda.core.plain import Plain
from addenda.measuring.asking.tasks import tasks_named
from addenda.plug.selection import Names
from addenda.telling.intervals import CHANGE, SHARE, Interval, of_mean

if TYPE_CHECKING:
    from addenda.plug.base import Base


@dataclass(frozen=True)
class OnTask(Plain):
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
    through = harness()
    if base.tokenizer is None:
        raise AddendaError("lm-eval asks in words, and the base has no tokenizer: addenda.attach(model, tokenizer)")
    if limit is not None and limit < 1:
        raise AddendaError(f"limit must be positive; got {limit}")
    chosen = tasks_named(list(tasks), data)
    bare = through.answered(through.AddendaLM(base=base, batch_size=batch_size), chosen, limit)
    scores = {
        name: through.answered(through.AddendaLM(base=base, modules=names, batch_size=batch_size), chosen, limit)
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


def harness() -> Any:
    """What needs lm-eval, imported where it is asked for: it is optional, and slow to import.

    Raises:
        AddendaError: it is not installed.
    """
    try:
        from addenda.measuring.conducting import harness as through
    except ImportError as error:
        raise AddendaError(f"tasks need lm-eval ({error}): pip install lm-eval") from None
    return through
