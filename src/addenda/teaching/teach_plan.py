"""The plan of `teach`: the study, what is trained on it, and what each part takes; told before anything is done."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.files import kept_json, replace_text
from addenda.core.module import unused
from addenda.core.registry import written
from addenda.measuring.asking.asked import load_questions
from addenda.teaching.choice import Choice, choose, kind_for
from addenda.teaching.earlier import Earlier
from addenda.teaching.study import plan_study
from addenda.teaching.study_plan import StudyPlan, studied_anew, tokens_of, writing_pace
from addenda.teaching.teach_settings import TeachSettings
from addenda.teaching.update import Update
from addenda.telling.progress import about
from addenda.tiny.asked import chats
from addenda.writing.settings import compare

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: fitting and calibrating a gate takes up to such a share of the training's time; a plan is late where it takes so much more
FITTING, LATE = 0.25, 1.1
#: tokens of an answer to a general prompt, about; general prompts that a base answers, at least and at most
SAID, LEAST, MOST = 64, 64, 160


class TeachPlan:
    """What `teach` will do: the study, what is trained on it, and the seconds of each part."""

    def __init__(
        self, base: Base, documents: Any, minutes: float | None, settings: TeachSettings, asked: Mapping[str, Any],
        earlier: Earlier | None = None,
    ) -> None:  # fmt: skip
        held = [] if asked.get("held_out") is None else load_questions(asked["held_out"])
        self.study: StudyPlan = plan_study(base, documents, log=settings.log, **asked)
        whole = "\n\n".join(chunk.read for chunk in self.study.chunks.values())
        kind = kind_for(base, settings, len(base.tokenize(whole)))
        #: the documents, for a kind that starts from text: chunk after chunk, each under its headings
        self.text = whole if kind.starts_from_text else None
        _check(base, kind, settings.gate, self.text)
        self.update = None if earlier is None else Update(base, earlier, self.study, settings.held)
        if self.update is not None:
            self.study = studied_anew(base, self.study, self.update.changes.new, self.update)
            self.studied, past = self.update.tokens, min(settings.held, len(self.update.past))
        else:
            self.studied, past = sum(tokens_of(base, [*self.study.mined, *self.study.own])), 0
        writes = writing_pace(base)
        self.judged = 2 * (settings.held + sum(bool(one.accepted) for one in held)) if settings.judge else 0
        examined = 2 * (settings.held + past + len(held)) + 4 * len(chats())
        self.examining = examined * SAID / writes
        around = self.study.seconds + self.examining + (MOST * SAID / writes if settings.replay_share else 0.0)
        left = None if minutes is None else (60 * minutes - around) / (1 + FITTING * (settings.gate is not None))
        self.choice: Choice = choose(base, settings, kind, self.studied, left)
        if left is not None and self.choice.seconds > max(0.0, left) * LATE:
            needed = about(around + self.choice.seconds * (1 + FITTING))
            raise AddendaError(
                f"{minutes:g} minutes are too few: at least {needed} are needed; give more, or fewer documents"
            )
        wanted = max(LEAST, math.ceil(self.choice.tokens * settings.replay_share / SAID))
        self.replayed = min(MOST, wanted) if settings.replay_share else 0
        known = 0 if self.update is None else self.update.answered
        self.replaying = max(0, self.replayed - known) * SAID / writes
        self.base, self.name, self.settings = base, base.name, settings

    def kept(self, file: Path, seed: int, again: bool) -> None:
        """Write down what was chosen; or, where a call is gone on with, take what was chosen then.

        A probe of speed never tells twice the same.

        Raises:
            TrainingError: the call that is gone on with was asked for something else; says what.
        """
        mine = {"base": self.base.fingerprint, "seed": seed, **self.settings.plain()}
        if self.update is not None:
            mine["update"] = self.update.identity
        if again and file.exists():
            before = kept_json(file)
            compare(before["asked"], mine)
            passes = before["tokens"] * self.choice.passes / self.choice.tokens
            self.choice = replace(self.choice, tokens=before["tokens"], passes=passes, precision=before["precision"])
            self.replayed = before["replayed"]
            return
        chosen = {
            "asked": mine,
            "tokens": self.choice.tokens,
            "replayed": self.replayed,
            "precision": self.choice.precision,
        }
        replace_text(file, json.dumps(chosen, ensure_ascii=False, indent=1) + "\n")

    @property
    def seconds(self) -> float:
        """Of all parts."""
        return self.study.seconds + self.replaying + self.choice.seconds + self.examining

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        parts = {
            "study": self.study.seconds,
            "replay": self.replaying,
            "train": self.choice.seconds,
            "examine": self.examining,
        }
        chosen = {"kind": written(self.choice.kind), "gate": self.settings.gate, "tokens": self.choice.tokens}
        return {
            "study": self.study.as_dict(),
            **({} if self.update is None else {"update": self.update.as_dict()}),
            **chosen,
            "passes": self.choice.passes,
            "judged": self.judged,
            "seconds": parts,
            "all": self.seconds,
        }

    def __str__(self) -> str:
        behind = f" behind the gate '{self.settings.gate}'" if self.settings.gate else ""
        return "\n".join([
            str(self.study), *([] if self.update is None else [str(self.update)]),
            f"teach: {self.choice}{behind}",
            f"  replay: {self.name} answers {self.replayed:,} general prompts, {about(self.replaying)}",
            f"  training: {about(self.choice.seconds)} at {self.choice.pace:,.0f} tokens/s",
            f"  questions at the end: {about(self.examining)}",
            *([f"  {self.settings.judge} is asked about up to {self.judged:,} answers"] if self.judged else []),
            f"  in all about {about(self.seconds)}",
        ])  # fmt: skip


def _check(base: Base, kind: Kind, gate: Any, text: str | None) -> None:
    """See that the kind can stand beside this base, behind the gate that is asked for, and start, before anything is done.

    Raises:
        AddendaError: it cannot; says why.
    """
    name = unused("teach", base.modules)
    base.new(name, kind, gate=gate, text=text)
    base.unplug(name)
