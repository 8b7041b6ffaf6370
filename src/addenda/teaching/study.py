"""Study: from documents to a study set, exercises with their answers, mined and asked for, filtered, and resumable to the bit."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError, known
from addenda.core.files import kept_json, replace_text
from addenda.core.modes import own_modes
from addenda.remote.answerer import Answerer
from addenda.remote.endpoint import Endpoint
from addenda.teaching.base_teacher import BaseTeacher
from addenda.teaching.study_plan import StudyPlan, plan_identity, plan_of
from addenda.teaching.study_report import StudyReport
from addenda.teaching.study_set import CHUNKS, PAST, REPLAY, REPORT, SET, WORK
from addenda.teaching.study_settings import StudySettings
from addenda.teaching.study_work import StudyWork
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.writing.asked import check_seed, folder_of

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: in `work/`: what a study was asked for
ASKED = "study.json"


def study(
    base: Base,
    documents: Any,
    *,
    out: str | Path,
    resume: bool = False,
    seed: int = 0,
    teacher: str | None = None,
    questions: str | Path | None = None,
    held_out: str | Path | None = None,
    earlier: str | Path | None = None,
    **settings: Any,
) -> StudyReport:
    """Make a study set of documents: questions with their answers, from which a module learns to answer.

    The documents are cut into chunks. Exercises are mined from their words, and asked of a teacher that reads them. What names no
    subject, is held out, nearly repeats another, or is as likely without its chunk as with it, is left out. The folder `out` then
    holds `study.jsonl`, which a person may edit, `chunks.jsonl` and `report.json`; `work` keeps what was asked and scored.

    Args:
        base: that is to learn. Its tokenizer counts, its chat template gives the form, and without a teacher it is asked itself.
        documents: a file (.txt, .md, .html, .docx, .pdf), a folder of them, a list of both; or texts in Markdown by name.
        out: folder of the study.
        resume: go on where an interrupted study stopped, to the same bits; a finished one is read.
        seed: of all that is drawn.
        teacher: address of a chat endpoint as OpenAI's (`http://localhost:8000/v1`); its key, if it wants one, is read from the
            environment: ADDENDA_TEACHER_KEY. Default: the base itself, as far as it reads well.
        questions: a file of a team's own questions, JSON lines of `question` and `answer`, or `messages`: all are kept.
        held_out: a file of questions that no exercise may ask, in the same form.
        earlier: folder of an earlier study, whose teacher's answers are not asked for again.
        settings: see `addenda.teaching.study_settings.StudySettings`.

    Raises:
        DataError: a document or a file cannot be read; says which and why.
        FileError: `out` holds something else, or cannot be written to.
        AddendaError: a setting is out of range, the teacher cannot be asked, or the folder has another study.
        Stopped: after a signal; what was done is kept.
    """
    began, place = time.perf_counter(), _place(out, resume)
    more: dict[str, Any] = {"teacher": teacher, "questions": questions, "held_out": held_out}
    plan = plan_study(base, documents, seed=seed, **more, **settings)
    return _made(base, plan, place, resume, began, earlier=earlier)


def study_planned(base: Base, plan: StudyPlan, *, out: str | Path, resume: bool = False) -> StudyReport:
    """Make the study set of a plan, which the caller has told.

    Raises:
        AddendaError: as `study`.
    """
    return _made(base, plan, _place(out, resume), resume, time.perf_counter(), told=True)


@own_modes()
def _made(
    base: Base,
    plan: StudyPlan,
    place: Path,
    resume: bool,
    began: float,
    *,
    earlier: str | Path | None = None,
    told: bool = False,
) -> StudyReport:
    if _begun(place, plan_identity(plan, base), resume):
        return StudyReport.of(kept_json(place / REPORT), place)
    if plan.settings.log and not told:
        _say(str(plan))
    with _kept(place):
        return StudyWork(base, plan, place, earlier).run(began)


@own_modes()
def plan_study(
    base: Base,
    documents: Any,
    *,
    seed: int = 0,
    teacher: str | None = None,
    questions: str | Path | None = None,
    held_out: str | Path | None = None,
    **settings: Any,
) -> StudyPlan:
    """What `study` would do and cost; nothing is asked, scored or written.

    Raises:
        AddendaError: as `study`.
    """
    chosen, asks = _asked(base, teacher, seed, settings)
    more: dict[str, Any] = {"questions": questions, "held_out": held_out}
    return plan_of(base, documents, chosen, seed=seed, teacher=asks, remote=teacher is not None, **more)


# --- before anything is done -----------------------------------------------------------------------------------------


def _asked(
    base: Base, teacher: str | None, seed: int, given: Mapping[str, Any]
) -> tuple[StudySettings, Answerer | None]:
    """Settings, checked, and who is asked."""
    check_seed(seed)
    for name in given:
        if name not in StudySettings.__dataclass_fields__:
            raise AddendaError(
                f"study has no setting '{name}'; it has {known(name, StudySettings.__dataclass_fields__)}"
            )
    chosen = StudySettings(**given)
    if teacher is not None:
        return chosen, Endpoint(teacher, chosen.teacher_model, chosen.patience) if chosen.ask else None
    return chosen, BaseTeacher(base) if chosen.ask and base.tokenizer is not None else None


def _place(out: Any, resume: bool) -> Path:
    """The folder of the study, looked at before anything is done.

    Raises:
        AddendaError: it holds a study and none is resumed, or something else.
    """
    place = folder_of(out)
    if place is None:
        raise AddendaError(
            "out is the folder of the study; it is needed, for answers that were paid for are kept there"
        )
    if place.exists() and not place.is_dir():
        raise AddendaError(f"'{out}' is a file; give a new or empty folder")
    there = {entry.name for entry in place.iterdir()} if place.exists() else set[str]()
    others = there - {SET, CHUNKS, REPORT, REPLAY, PAST, WORK}
    foreign = sorted(
        name for name in others if not name.startswith(".") and not name.endswith("~")
    )  # editors leave such
    if foreign:
        raise AddendaError(
            f"'{out}' holds what is not a study's ({', '.join(foreign[:5])}); give a new or empty folder"
        )
    if not resume and REPORT in there:
        raise AddendaError(
            f"'{out}' holds a finished study; give another out=, or remove it, or read it with resume=True"
        )
    if not resume and (place / WORK / ASKED).exists():
        raise AddendaError(f"'{out}' holds a study that was interrupted: the same call with resume=True goes on")
    return place


def _begun(place: Path, identity: dict[str, Any], resume: bool) -> bool:
    """Note what is asked for, or see that it is the same as before; whether the study is finished.

    Raises:
        AddendaError: the folder's study was asked for something else; says what.
    """
    file = place / WORK / ASKED
    if not resume or not file.exists():
        replace_text(file, json.dumps(identity, ensure_ascii=False, indent=1) + "\n")
        return False
    before = kept_json(file)
    differing = sorted(name for name in before.keys() | identity.keys() if before.get(name) != identity.get(name))
    if differing:
        raise AddendaError(
            f"the study in '{place}' was begun with other {', '.join(differing)}: resume it with the same, or give another out="
        )
    return (place / REPORT).exists()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def _kept(place: Path) -> Iterator[None]:
    """A block that the first signal ends between two batches, in words."""
    kept = f"what was asked and scored is kept in {place}, and the same call with resume=True goes on"
    try:
        with Interrupts(f"stopping after this batch; {kept}"):
            yield
    except Stopped as stopped:
        raise Stopped(f"stopped by {stopped.signal}; {kept}", stopped.signal) from None
