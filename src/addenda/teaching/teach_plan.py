"""The plan of `teach`: the study, what is trained on it, and what each part takes; told before anything is done."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.files import kept_json, replace_text
from addenda.core.module import unused
from addenda.core.registry import written
from addenda.measuring.asking.asked import load_questions
from addenda.teaching.choice import LARGE, Choice, choose, kind_for
from addenda.teaching.earlier import Earlier
from addenda.teaching.practice import NOTHING, Practice, begin_from
from addenda.teaching.study import plan_study
from addenda.teaching.study_plan import StudyPlan, studied_anew, tokens_of, writing_pace
from addenda.teaching.teach_settings import TeachSettings
from addenda.teaching.update import Update
from addenda.telling.progress import about
from addenda.text.pages import laid_out
from addenda.text.prompting import chats as learned_to_chat
from addenda.tiny.asked import chats
from addenda.writing.settings import compare

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: fitting and calibrating a gate takes up to such a share of the training's time; a plan is late where it takes so much more
FITTING, LATE = 0.25, 1.1
#: questions of a team's own on a page
ASKED = 8
#: of the minutes that there are, practice may take such a share
PRACTISING = 0.5
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
        laid = laid_out(
            base.tokenizer, [*(f"{chunk.read}\n\n" for chunk in self.study.chunks.values()), *_asked(self.study)]
        )
        kind = kind_for(base, settings, laid)
        #: the documents' token ids [T, 3], for a kind that starts from text: chunk after chunk, each under its headings
        self.text = laid if kind.starts_from_text else None
        sites = _check(base, kind, settings, self.text)
        #: what the base learns first, where it begins from that
        self.practice = self._practice(base, kind, sites, minutes, settings) if kind.starts_from_text else None
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
        practising = self.practice.seconds if self.practice else 0.0
        around = (
            practising + self.study.seconds + self.examining + (MOST * SAID / writes if settings.replay_share else 0.0)
        )
        left = None if minutes is None else (60 * minutes - around) / (1 + FITTING * (settings.gate is not None))
        reads = self.practice is not None or settings.reader not in (None, NOTHING)
        self.choice: Choice = choose(base, settings, kind, self.studied, left, reads)
        if left is not None and self.choice.seconds > max(0.0, left) * LATE:
            needed = about(around + self.choice.seconds * (1 + FITTING))
            raise AddendaError(
                f"{minutes:g} minutes are too few: at least {needed} are needed; give more, or fewer documents"
            )
        wanted = max(LEAST, math.ceil(self.choice.tokens * settings.replay_share / SAID))
        self.replayed = (min(MOST, wanted) if self.choice.tokens else MOST) if settings.replay_share else 0
        known = 0 if self.update is None else self.update.answered
        self.replaying = max(0, self.replayed - known) * SAID / writes
        self.base, self.name, self.settings = base, base.name, settings

    def _practice(
        self, base: Base, kind: Kind, sites: Sequence[str], minutes: float | None, settings: TeachSettings
    ) -> Practice | None:
        """What the base practises before it is taught: nothing where another start was asked for, or that takes too long."""
        if settings.reader is not None or settings.kind is not None or base.anatomy.parameters > LARGE:
            return None
        if getattr(base.tokenizer, "chat_template", None) is not None and not learned_to_chat(base.tokenizer):
            return None  # a base that never learned to chat learns no reading from so little
        practice = Practice(base, kind, sites)
        return practice if minutes is None or practice.seconds <= PRACTISING * 60 * minutes else None

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
            self.choice = replace(self.choice, tokens=before["tokens"], precision=before["precision"])
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
        practising = self.practice.seconds if self.practice else 0.0
        return practising + self.study.seconds + self.replaying + self.choice.seconds + self.examining

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        parts = {
            "practice": self.practice.seconds if self.practice else 0.0,
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
            "passes": self.choice.times(self.choice.tokens),
            "judged": self.judged,
            "seconds": parts,
            "all": self.seconds,
        }

    def __str__(self) -> str:
        behind = f" behind the gate '{self.settings.gate}'" if self.settings.gate else ""
        return "\n".join([
            str(self.study), *([] if self.update is None else [str(self.update)]),
            f"teach: {self.choice}{behind}", *([f"  {self.practice}"] if self.practice else []),
            f"  replay: {self.name} answers {self.replayed:,} general prompts, {about(self.replaying)}",
            f"  {'training' if self.choice.tokens else 'fitting the gate'}: {about(self.choice.seconds)} at "
            f"{self.choice.pace:,.0f} tokens/s",
            f"  questions at the end: {about(self.examining)}",
            *([f"  {self.settings.judge} is asked about up to {self.judged:,} answers"] if self.judged else []),
            f"  in all about {about(self.seconds)}",
        ])  # fmt: skip


def _asked(study: StudyPlan) -> list[list[str]]:
    """A team's own questions as pages, each a line with its answer."""
    told = [f"{made.messages[-2]['content']} {made.messages[-1]['content']}\n" for made in study.own]
    return [told[at : at + ASKED] for at in range(0, len(told), ASKED)]


def _check(base: Base, kind: Kind, settings: TeachSettings, text: Tensor | None) -> list[str]:
    """See that the kind can stand beside this base, behind the gate that is asked for, and start; returns where it stands.

    Raises:
        AddendaError: it cannot; says why.
    """
    name = unused("teach", base.modules)
    module = base.new(name, kind, gate=settings.gate)
    try:
        if settings.reader not in (None, NOTHING):
            begin_from(base, module, settings.reader)
        if text is not None:
            base.start_from_text(name, text)
        return list(module.sites())
    finally:
        base.unplug(name)
