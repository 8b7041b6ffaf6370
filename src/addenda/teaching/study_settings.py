"""Settings of a study: frozen, checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from addenda.core.errors import AddendaError
from addenda.core.registry import asked_for, methods, recorded
from addenda.exercises.exercise import Exercise
from addenda.text.chunks import LEAST, TOKENS


@dataclass(frozen=True)
class StudySettings:
    """How a study set is made; every field may be given to `addenda.study` by name."""

    chunk_tokens: int = TOKENS
    """tokens of a chunk at most, its headings among them"""
    exercises: Sequence[Any] | None = None
    """kinds of exercises by name, or with their options in Python (`addenda methods exercise`); default: all"""
    ask: bool = True
    """ask a teacher too, not only what is mined; the base itself is asked where no `teacher` is given and it reads well enough"""
    gain: bool = True
    """leave out answers that the chunk in the window does not make likelier"""
    teacher_model: str | None = None
    """the model that is asked for at the teacher's address; default: the first that it offers"""
    patience: float = 60.0
    """seconds that the teacher's address has for an answer, and about those it is tried again after failing"""
    log: bool = True
    """say on standard error what the study will do and how it goes"""

    #: what may differ between a study and its resumption
    free: ClassVar[frozenset[str]] = frozenset({"patience", "log"})

    def __post_init__(self) -> None:
        if not isinstance(self.chunk_tokens, int) or isinstance(self.chunk_tokens, bool) or self.chunk_tokens < LEAST:
            raise AddendaError(f"setting 'chunk_tokens' must be a whole number from {LEAST}; got {self.chunk_tokens!r}")
        if not self.patience > 0:
            raise AddendaError(f"setting 'patience' must be a positive number of seconds; got {self.patience!r}")
        if isinstance(self.exercises, str) or (self.exercises is not None and not self.exercises):
            raise AddendaError(f"setting 'exercises' is a list of names, at least one; got {self.exercises!r}")
        self.methods()

    def methods(self) -> dict[str, Exercise]:
        """The exercises that are made, by name, in the order of their names.

        Raises:
            AddendaError: there is none of a name, or two are asked for under one.
        """
        chosen = [
            asked_for(Exercise, one) for one in (methods("exercise") if self.exercises is None else self.exercises)
        ]
        by_name = {one.called(): one for one in sorted(chosen, key=lambda one: one.called())}
        if len(by_name) < len(chosen):
            raise AddendaError(
                f"setting 'exercises' names one of them twice: {', '.join(one.called() for one in chosen)}"
            )
        return by_name

    def plain(self) -> dict[str, Any]:
        """The settings that decide what the set is, as plain data."""
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in self.free}
        return found | {"exercises": [recorded(one) for one in self.methods().values()]}
