"""Teach: from documents to a module that answers from them, and leaves everything else as it was; one call."""

# budget: the docstring of `teach` is the reference of the whole call
from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError, TrainingError, known
from addenda.core.files import check_place
from addenda.core.registry import asked_for
from addenda.measuring.asking.judge import VERDICTS, Judge
from addenda.measuring.looking.neutrality import calibrate
from addenda.modulefile.storage import MEMBERS
from addenda.objectives.objective import Objective
from addenda.teaching.choice import FITTED
from addenda.teaching.earlier import earlier_of
from addenda.teaching.examination import examine
from addenda.teaching.examined import answer_of, split, with_answer
from addenda.teaching.gone import Past, examine_gone
from addenda.teaching.practice import NOTHING, begin_from
from addenda.teaching.replay import replay as answered
from addenda.teaching.study import study_planned
from addenda.teaching.study_report import StudyReport
from addenda.teaching.study_set import CHOSEN, WORK, StudySet, load_study, study_folder
from addenda.teaching.study_settings import StudySettings
from addenda.teaching.teach_page import write_page
from addenda.teaching.teach_plan import TeachPlan
from addenda.teaching.teach_report import TeachReport
from addenda.teaching.teach_settings import TeachSettings
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.telling.progress import Progress
from addenda.text.files import json_lines
from addenda.text.texts import texts
from addenda.writing.asked import check_seed, folder_of
from addenda.writing.checkpoint import folders, run_folder
from addenda.writing.gate_fit import fit_on
from addenda.writing.report import TrainReport
from addenda.writing.signals import TrainingStopped
from addenda.writing.train import train

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: one in so many of the base's own answers is not replayed: the gate is calibrated on those
CALIBRATED = 4
#: general answers to learn from, at least; what a whole sentence ends with
WHOLE, ENDS = 8, (".", "!", "?", "\u3002", "\uff01", "\uff1f")
#: general text that is replayed too, a document for two answers, up to so many letters: a gate that met chats alone opens on it
PLAIN, CUT = "general_train", 800
#: tokens of a general chat on which it is calibrated
LENGTHS = (48,)


def plan_teach(
    base: Base, documents: Any, *, update: str | Path | None = None, minutes: float | None = None, seed: int = 0,
    **settings: Any,
) -> TeachPlan:  # fmt: skip
    """What `teach` would do and cost; nothing is asked, trained or written. Arguments are those of `teach`.

    Raises:
        AddendaError: as `teach`.
    """
    chosen, asked = _settings(settings)
    chosen, asked, earlier = earlier_of(base, update, chosen, asked, settings)
    return TeachPlan(base, documents, _minutes(minutes), chosen, {"seed": seed, **asked}, earlier)


def teach(
    base: Base,
    name: str,
    documents: Any,
    *,
    out: str | Path,
    update: str | Path | None = None,
    resume: bool = False,
    finish: bool = False,
    minutes: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> TeachReport:
    """Teach a base documents: a module that answers from them, with nothing of them in the window.

    A study set is made of the documents (`addenda.study`). A module is trained on it behind a gate, with the base's own answers
    to general prompts as replay, and the gate is calibrated. Then it is asked what it learned, in words that it did not study,
    and general questions, with the module off and on. Beside the module's folder `out`, `<out>.study` has the study set, which a
    person may edit, and `<out>.html` shows what was learned and what else moved.

    With `update`, the folder of a module that was taught an earlier version of the documents, their next version is taught:
    chunks are compared, exercises of unchanged ones taken over, those of new ones studied beside them, from the old module's
    weights, and what the documents no longer tell is studied to be refused. At the end both are asked what is no longer so.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer.
        name: of the module; a new one.
        documents: a file (.txt, .md, .html, .docx, .pdf), a folder of them, a list of both; or texts in Markdown by name.
        out: folder of the module.
        update: folder of the earlier module, its study beside it. The new one has its kind, gate and base; it stays as it is.
        resume: go on where an interrupted call stopped, to the same bits. Where training is finished, questions are asked again.
        finish: make the module from the last checkpoint of interrupted training, and go on from there to the questions.
        minutes: that all of it may take; training gets what study and questions leave. Default: as long as is good.
        seed: of all that is drawn.
        settings: of `addenda.teaching.teach_settings.TeachSettings`, and those of `addenda.study`: `teacher`, the address of a
            larger model that writes exercises, or `ask=True` where the base itself reads well; `questions`, a file of a team's
            own questions with answers, all studied; `held_out`, a file of questions that are not studied but asked at the
            end; `exercises` and so on.

    Returns:
        What was learned and what else moved; the module stays plugged under its name.

    Raises:
        DataError: a document or file cannot be read; says which and why.
        FileError: `out` holds something else than a module, or the module to update is for another base.
        AddendaError: a setting is out of range, the minutes are too few, or the name is taken; in the documents of the module to
            update nothing changed, or another kind was asked for than its own. `Stopped` after a signal: what was done is kept.
    """
    check_seed(seed)
    chosen, asked = _settings(settings)
    asked |= {"seed": seed}
    place, began = _place(base, name, out, resume or finish, finish), time.perf_counter()
    chosen_before = study_folder(place) / WORK / CHOSEN
    begun = (resume or finish) and chosen_before.exists()
    chosen, asked, earlier = earlier_of(base, update, chosen, asked, settings, place)
    plan = TeachPlan(base, documents, None if begun else _minutes(minutes), chosen, asked, earlier)
    judge = _judge(chosen, study_folder(place) / WORK / VERDICTS.name)
    plan.kept(chosen_before, seed, begun)
    if chosen.log:
        _say(str(plan))
    try:
        studied = _studied(base, place, plan, resume or finish)
        report, alone = _trained(base, name, place, plan, studied, seed, resume=resume, finish=finish)
        kept = "stopping after this batch; the module is saved, and the same call with resume=True asks it again"
        with Interrupts(kept), Progress(f"asking {name}", by_ticks=True, show=chosen.log):
            found = examine(base, name, studied.held, asked.get("held_out"), judge)
            if earlier is not None:
                past = Past.load(study_folder(place))
                found["gone"] = examine_gone(base, name, earlier.folder, past, chosen.held)
    except TrainingStopped:
        raise
    except Stopped as stopped:
        again = f"what was done is kept beside {place}, and the same call with resume=True goes on"
        raise Stopped(f"stopped by {stopped.signal}; {again}", stopped.signal) from None
    module = base.modules[name]
    module.save(place)
    told = TeachReport(
        name=name,
        base=base.name,
        out=place,
        page=place.with_name(f"{place.name}.html"),
        study=studied.report.as_dict(),
        kind=type(module.kind).__name__,
        parameters=module.size(),
        bytes=sum(file.stat().st_size for file in place.iterdir()),
        tokens=report.tokens if report else 0,
        passes=plan.choice.times(report.tokens) if report else 0.0,
        loss=report.loss if report else None,
        alone=alone,
        seconds=time.perf_counter() - began,
        remarks=report.remarks if report else (),
        **found,
    )
    write_page(base, told)
    return told


@dataclass(frozen=True)
class Studied:
    """A study set, what is held out of it, and the base's answers to general prompts: `replayed`, or `left` to calibrate on."""

    report: StudyReport
    set: StudySet
    learn: list[Mapping[str, Any]]
    held: list[Mapping[str, Any]]
    replayed: list[Mapping[str, Any]]
    left: list[Mapping[str, Any]]


def _studied(base: Base, place: Path, plan: TeachPlan, again: bool) -> Studied:
    """Make the study set, and let the base answer general prompts; what is done is read."""
    folder = study_folder(place)
    log = plan.settings.log
    report = study_planned(base, plan.study, out=folder, resume=again and folder.exists())
    found = load_study(folder)
    if plan.update is None:
        learn, held = split(found.records, plan.settings.held)
    else:
        learn, held = plan.update.split(found.records)
        plan.update.begin(folder)
    answers: list[Mapping[str, Any]] = []
    if plan.replayed:
        answers = [one for _, one in json_lines(answered(base, folder, count=plan.replayed, log=log))]
    left = answers[::CALIBRATED]
    replayed = [ended for at, one in enumerate(answers) if at % CALIBRATED and (ended := _ended(one)) is not None]
    if plan.replayed and len(replayed) < WHOLE:
        raise AddendaError(
            f"only {len(replayed)} of {base.name}'s answers to general prompts have a whole sentence, too few to learn from "
            "where to be silent; teach it without: gate=None, replay_share=0"
        )
    plain = [{"text": one["text"][:CUT]} for one in islice(texts(PLAIN), len(replayed) // 2)]
    return Studied(report, found, learn, held, [*replayed, *plain], left)


def _trained(
    base: Base, name: str, place: Path, plan: TeachPlan, studied: Studied, seed: int, *, resume: bool, finish: bool,
) -> tuple[TrainReport | None, float | None]:  # fmt: skip
    """Train the module, or let it read, and calibrate its gate: the run, and the share of general tokens that is left alone."""
    chosen, taught = plan.settings, asked_for(Objective, plan.settings.objective).taught
    reader = chosen.reader if chosen.reader is not None else plan.practice and plan.practice.learned(chosen.log)
    if name not in base.modules:
        module = base.new(name, plan.choice.kind, seed=seed, gate=chosen.gate)
        if reader is not None and reader != NOTHING:
            begin_from(base, module, reader)
        if plan.text is not None:
            base.start_from_text(name, plan.text)
        if plan.update is not None:
            plan.update.start(base.modules[name])
    corpus = [_learned(one) | (_reads(studied.set, one) if taught else {}) for one in studied.learn]
    replayed = [_learned(one) for one in studied.replayed] or None
    rows = {
        "isolate": True,
        "length": chosen.length,
        "batch_rows": chosen.batch_rows,
        "precision": plan.choice.precision,
    }
    report, gate = None, base.modules[name].gate
    if plan.choice.tokens:
        report = train(
            base, name, corpus=corpus, replay=replayed, tokens=plan.choice.tokens, lr=chosen.lr, seed=seed, out=place,
            resume=resume and run_folder(place).exists(), finish=finish, objective=chosen.objective, log=chosen.log, **rows,
            **({"replay_share": chosen.replay_share} if replayed else {}),
        )  # fmt: skip
    elif gate is not None and gate.fresh and replayed:
        tokens = max(FITTED * plan.studied, chosen.length * chosen.batch_rows)
        kept = "stopping; the study is kept, and the same call with resume=True goes on"
        with Interrupts(kept), Progress(f"fitting the gate of {name}", by_ticks=True, show=chosen.log):
            fit_on(base, name, corpus=corpus, replay=replayed, tokens=tokens, seed=seed, **rows)
    if gate is None or not studied.left:
        return report, None
    general = [{"text": _spoken(base, one)} for one in studied.left]
    kept = "stopping; the module is saved, and the same call with resume=True calibrates it"
    with Interrupts(kept), Progress(f"calibrating {name}", by_ticks=True, show=chosen.log):
        return report, float(calibrate(base, name, general, share=chosen.share, lengths=LENGTHS).measured)


def _learned(record: Mapping[str, Any]) -> dict[str, Any]:
    """What training reads of a record."""
    return {key: record[key] for key in ("messages", "prompt", "completion", "text") if key in record}


def _ended(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A general answer that has an end to learn: one that was cut off, up to its last whole sentence; None where it has none."""
    if not record.get("cut"):
        return record
    said = answer_of(record)
    whole = said[: max(said.rfind(mark) for mark in ENDS) + 1]
    if not whole.strip():
        return None
    return with_answer(record, whole)


def _reads(found: StudySet, record: Mapping[str, Any]) -> dict[str, str]:
    """What a teacher alone reads before a record: its chunks."""
    return {"reads": found.reads(record) or ""}


def _spoken(base: Base, record: Mapping[str, Any]) -> str:
    """A chat as the base reads it."""
    if "messages" in record:
        return base.tokenizer.apply_chat_template(record["messages"], tokenize=False)
    return f"{record['prompt']}{record['completion']}"


# --- before anything is done ------------------------------------------------------------------------------------------


def _settings(given: Mapping[str, Any]) -> tuple[TeachSettings, dict[str, Any]]:
    """Settings of teaching, checked, and those that go on to the study.

    Raises:
        AddendaError: there is none of a name, or one is out of range.
    """
    mine, study_s = TeachSettings.__dataclass_fields__, StudySettings.__dataclass_fields__
    others = {"teacher", "questions", "held_out", *study_s} - {"log"}
    for word in given:
        if word not in mine and word not in others:
            raise AddendaError(f"teach has no setting '{word}'; it has {known(word, [*mine, *sorted(others)])}")
    chosen = TeachSettings(**{word: value for word, value in given.items() if word in mine})
    # what is mined is the documents' own words: what a teacher writes is asked for by name, and looked at by its gain
    asks = given.get("ask", given.get("teacher") is not None)
    asked = {"gain": asks, **{word: given[word] for word in given if word in others}, "ask": asks}
    return chosen, asked


def _judge(chosen: TeachSettings, file: Path) -> Judge | None:
    """Who is asked at the end which answers are right, tried before anything is done."""
    return None if chosen.judge is None else Judge(chosen.judge, chosen.judge_model, file)


def _minutes(minutes: float | None) -> float | None:
    if minutes is not None and (isinstance(minutes, bool) or not minutes > 0):
        raise AddendaError(f"minutes must be a positive number; got {minutes!r}")
    return minutes


def _place(base: Base, name: str, out: Any, again: bool, finish: bool) -> Path:
    """Where the module will be saved, looked at before anything is done."""
    place = folder_of(out)
    if place is None:
        raise AddendaError("out is the folder of the module; it is needed, for the study set stands beside it")
    check_place(place, MEMBERS)
    if name in base.modules and not again:
        raise TrainingError(f"a module is called '{name}' already; unplug it, or give another name")
    if place.exists() and any(place.iterdir()) and not again:
        raise AddendaError(f"'{place}' holds a module; give another out=, remove it, or go on with resume=True")
    folder = study_folder(place)
    if folder.exists() and any(folder.iterdir()) and not again:
        raise AddendaError(
            f"'{folder}' holds a study, of a call that resume=True goes on with; or remove it, or give another out="
        )
    if finish and not place.exists() and not folders(run_folder(place)):
        raise TrainingError(f"there is no checkpoint beside {place} to finish from; go on with resume=True")
    return place


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
