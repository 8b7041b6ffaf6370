"""Whether a run's records say what their teacher reads, and what its replay rows cost then."""

from __future__ import annotations

from collections.abc import Sequence

from addenda.core.errors import DataError, TrainingError
from addenda.core.registry import asked_for
from addenda.objectives.objective import Objective
from addenda.text.texts import Texts
from addenda.writing.settings import Settings


def studied_by(objective: Objective, settings: Settings, corpora: Sequence[Texts]) -> bool:
    """Whether a teacher reads each record with its own `reads`, once, before the first step; the first record tells.

    Raises:
        DataError: some corpora have such records and others have not, or the objective needs them and there are none.
        TrainingError: a setting of a teacher was given that would be ignored.
    """
    firsts = [next(iter(source), None) for source in corpora] if objective.taught else []
    given = [first is not None and "reads" in first for first in firsts]
    studied = any(given)
    if studied and not all(given):
        names = ", ".join(f"'{source.name}'" for source, has in zip(corpora, given, strict=True) if not has)
        raise DataError(f"the records of {names} have no 'reads', and those of another corpus have: train them apart")
    if objective.answering is not None and not studied:
        raise DataError(
            f"the objective '{objective.called()}' needs records with 'reads', the text that the teacher alone reads; "
            f"those of '{corpora[0].name}' have none"
        )
    if settings.teacher is not None and not studied:
        raise TrainingError(
            "teacher= is the folder for what a teacher says of records with 'reads', and here are none: leave it out"
        )
    if studied and settings.context is not None:
        raise TrainingError(
            f"context={settings.context} is for running text: here the teacher reads what each record says (reads); leave it out"
        )
    return studied


def replay_objective(settings: Settings, objective: Objective, studied: bool) -> Objective | None:
    """What replay rows cost, where that is told apart: as was asked, or, beside studied records, as those."""
    if settings.replay_objective is not None:
        return asked_for(Objective, settings.replay_objective)
    return objective if studied else None
