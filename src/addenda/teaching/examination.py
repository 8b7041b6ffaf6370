"""What a taught module is asked: exercises that it did not study, a team's questions, general chats; and general text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.measuring.asking.answers import OnQuestions, on_questions
from addenda.measuring.asking.asked import opened_questions
from addenda.measuring.asking.judge import Judge
from addenda.measuring.conducting.evaluate import Evaluation, evaluate
from addenda.measuring.conducting.recorded import put, record
from addenda.teaching.examined import asked_of
from addenda.telling.intervals import Interval

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: what the exercises that were held out are called; the general text, and how much of it is scored
HELD, GENERAL, TOKENS = "held-out exercises", "general_valid", 4_000
#: questions that are shown of each sort
SHOWN = 8


def examine(
    base: Base,
    name: str,
    held: Sequence[Mapping[str, Any]],
    questions: str | Path | None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Ask a module what it did not study, with modules off and on, and write that into its card; as a `TeachReport` has it."""
    found = evaluate(base, {"general": GENERAL}, name, tokens=TOKENS, **_asking(held, judge))
    record(base, found)
    asked = [] if found.answers is None else [found.answers.answers]
    if questions is not None:
        asked.append(on_questions(base, *opened_questions(questions), name, judge=judge))
        put(base.modules[name].card, list(asked[-1].on_card()))
    return _told(found, asked)


def _asking(held: Sequence[Mapping[str, Any]], judge: Judge | None) -> dict[str, Any]:
    return {"questions": (HELD, [asked_of(record) for record in held]), "judge": judge} if held else {}


def _told(found: Evaluation, asked: Sequence[OnQuestions]) -> dict[str, Any]:
    leaked, moved = None if found.answers is None else found.answers.leakage, found.texts[0].difference
    ways = {answers.on: (answers.ways["modules"], answers.ways["base"]) for answers in asked}
    return {
        "right": {on: now.right for on, (now, _) in ways.items() if now.right is not None},
        "before": {on: then.right for on, (_, then) in ways.items() if then.right is not None},
        "judged": {on: now.judged for on, (now, _) in ways.items() if now.judged is not None},
        "judged_before": {on: then.judged for on, (_, then) in ways.items() if then.judged is not None},
        "judges": {answers.on: str(answers.judged) for answers in asked if answers.judged is not None},
        "refused": {on: now.refused for on, (now, _) in ways.items() if now.refused is not None},
        "shown": tuple(one for answers in asked for one in _shown(answers)),
        "forgot": None if moved is None else Interval(moved.nats, moved.low, moved.high, moved.documents),
        "changed": None if leaked is None else leaked.first.changed,
        "after": None if leaked is None else leaked.after.changed,
        "leaked": None if leaked is None else leaked.words,
        "words": () if leaked is None else leaked.leaked,
    }


def _shown(found: OnQuestions) -> Iterator[tuple[str, str, str, str, bool]]:
    """Some questions that were answered rightly, and as many that were not."""
    for right in (True, False):
        places = [at for at in range(len(found.asked)) if found.right("modules", at) is right]
        for at in places[:SHOWN]:
            one = found.asked[at]
            wanted = one.accepted[0] if one.accepted else "(the documents do not say)"
            yield one.question, wanted, found.answers["base"][at], found.answers["modules"][at], right
