"""The work of a study: a teacher tried and asked, exercises left out with the reason, answers scored, the set written."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from addenda.core.errors import AddendaError
from addenda.core.files import replace_text
from addenda.exercises.exercise import Generated, Made
from addenda.remote.answerer import answers
from addenda.remote.store import Store
from addenda.teaching.examined import conversation
from addenda.teaching.gain import PAIRS, Scorer, gains
from addenda.teaching.reading import QUESTIONS, Reading, reading
from addenda.teaching.repeats import HeldOut, Repeats, names_subject
from addenda.teaching.study_plan import StudyPlan, answer_of, tokens_said
from addenda.teaching.study_report import FILTERS, SAMPLES, StudyReport
from addenda.teaching.study_set import CHUNKS, PAST, REPORT, SET, WORK, chunk_record, record_of, write_lines
from addenda.telling.progress import Progress
from addenda.text.sentences import sentences

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: how a sentence ends
ENDS = tuple(".!?。！？\"'”’»)")
#: what exercises are called that a person added without a kind
OTHER = "other"
#: in `work/`: what teachers said, and what answers scored
SAID, SCORED = "teacher.jsonl", "scores.jsonl"


class StudyWork:
    """One study: what is asked, left out, scored and written."""

    def __init__(self, base: Base, plan: StudyPlan, place: Path, earlier: str | Path | None) -> None:
        self.base, self.plan, self.teacher, self.place = base, plan, plan.asked, place
        self.store = Store(place / WORK / SAID)
        if earlier is not None:
            self.store.take(Store(Path(earlier).expanduser() / WORK / SAID))
        self.dropped: dict[str, list[Made]] = {name: [] for name in FILTERS}
        self.remarks: list[str] = []
        self.asked = self.unusable = 0

    def run(self, began: float) -> StudyReport:
        """All of it."""
        plan = self.plan
        found = self._reading()
        made = [*plan.mined, *self._generated(found)]
        kept = self._left(made)
        each, margin, pairs = self._gains(kept)
        final = [
            (one, gain)
            for place, (one, gain) in enumerate(zip(kept, each, strict=True))
            if place < len(plan.own) or self._passes(one, gain, margin)
        ]
        records = [record_of(self.base.tokenizer, one, gain) for one, gain in final]
        if plan.update is not None:
            records, past = plan.update.joined(records)
            write_lines(self.place / PAST, past)
        if not records:
            told = ", ".join(f"{len(some):,} because {FILTERS[name]}" for name, some in self.dropped.items() if some)
            raise AddendaError(f"no exercise is left of {len(made):,}: {told or 'the teacher gave none of use'}")
        write_lines(self.place / CHUNKS, map(chunk_record, plan.chunks.values()))
        write_lines(self.place / SET, records)
        report = StudyReport(
            out=self.place, base=plan.base, documents=plan.documents, chunks=len(plan.chunks), made=len(made),
            kinds=dict(sorted(Counter(str(one.get("kind", OTHER)) for one in records).items())),
            dropped={name: len(some) for name, some in self.dropped.items()},
            samples=self._samples([one for one, _ in final]), margin=margin, pairs=pairs, teacher=plan.teacher,
            asked=self.asked, unusable=self.unusable, reading=None if found is None else found.as_dict(),
            tokens=sum(tokens_said(self.base, [conversation(one) for one in records])),
            seconds=time.perf_counter() - began, seed=plan.seed, remarks=tuple(self.remarks),
        )  # fmt: skip
        plain = {name: value for name, value in report.as_dict().items() if name not in ("out", "exercises")}
        replace_text(self.place / REPORT, json.dumps(plain, ensure_ascii=False, indent=1) + "\n")
        return report

    @contextmanager
    def _shown(self, task: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        with Progress(task, total, unit, show=self.plan.settings.log) as shown:
            yield lambda done: shown.update(done)

    # -- asking --------------------------------------------------------------------------------------------------

    def _reading(self) -> Reading | None:
        """Of how many mined questions the teacher gives the answer; None where nobody is asked anything."""
        plan = self.plan
        if self.teacher is None or not plan.asks:
            return None
        total = min(QUESTIONS, len(plan.mined))
        with self._shown(f"does {self.teacher.name} read well", total, "questions") as told:
            found = reading(self.teacher, plan.mined, plan.chunks, self.store, plan.seed, told)
        told_in_words = (
            f"{self.teacher.name} gave {found.right} of {found.asked} answers that stood in a text in front of it"
        )
        if found.asked and not found.at_all:
            told_in_words += ": it was not asked for exercises"
        elif not found.well:
            told_in_words += ": no answer was taken from it, questions only"
        self.remarks.append(told_in_words)
        if plan.settings.log:
            _say(told_in_words)
        return found

    def _generated(self, found: Reading | None) -> list[Made]:
        """What the teacher's answers hold; of one that reads badly its own answers are not taken."""
        if found is None or self.teacher is None or not (found.at_all or not found.asked):
            return []
        methods = self.plan.settings.methods()
        asks = [(methods[name], ask) for name, ask in self.plan.asks]
        wanted = [
            (method, ask)
            for method, ask in asks
            if isinstance(method, Generated) and (found.well or not method.takes_answers)
        ]
        with self._shown(f"asking {self.teacher.name}", len(wanted), "questions") as told:
            said = answers(self.teacher, [ask for _, ask in wanted], self.store, told)
        made: list[Made] = []
        for (method, ask), one in zip(wanted, said, strict=True):
            text = _finished(one.text) if one.cut else one.text
            fresh = list(method.made(ask, text)) if text else []
            self.unusable += not fresh
            made += fresh
        self.asked = len(wanted)
        return made

    # -- leaving out ---------------------------------------------------------------------------------------------

    def _left(self, made: Sequence[Made]) -> list[Made]:
        """A team's own exercises, and those that pass the filters which read words alone."""
        kept, repeats, held = list(self.plan.own), Repeats(), HeldOut(self.plan.held_out)
        for one in kept:
            repeats.see(one.messages)
        for one in made:
            if not names_subject(one, self.plan.chunks):
                self.dropped["subject"].append(one)
            elif held.has(one.messages):
                self.dropped["held out"].append(one)
            elif repeats.seen(one.messages):
                self.dropped["repeat"].append(one)
            else:
                repeats.see(one.messages)
                kept.append(one)
        return kept

    def _gains(self, kept: Sequence[Made]) -> tuple[list[float | None], float | None, int]:
        """The gain of each exercise (None: it is not measured), the margin, and the pairs behind it.

        Of questions that were mined in several wordings with one answer, the first is scored for all.
        """
        each: list[float | None] = [None] * len(kept)
        if not self.plan.settings.gain:
            return each, None, 0
        mined = {id(one) for one in self.plan.mined}
        alike: dict[object, list[int]] = {}
        for at, one in enumerate(kept):
            if one.answered and one.chunks:
                alike.setdefault(answer_of(one) if id(one) in mined else at, []).append(at)
        chosen = [kept[places[0]] for places in alike.values()]
        total = 2 * len(chosen) + min(PAIRS, len(chosen))
        with self._shown("scoring answers with their chunk and without", total, "answers") as told:
            scorer = Scorer(self.base, Store(self.place / WORK / SCORED))
            found = gains(scorer, chosen, self.plan.chunks, self.plan.seed, told)
        for places, gain in zip(alike.values(), found.each, strict=True):
            for at in places:
                each[at] = gain
        return each, found.margin, found.pairs

    def _passes(self, one: Made, gain: float | None, margin: float | None) -> bool:
        """Whether an exercise's gain is above the margin; a refusal has none, and is kept."""
        if margin is None or not one.answered or not one.chunks:
            return True
        if gain is None or gain <= margin:
            self.dropped["too long" if gain is None else "gain"].append(one)
            return False
        return True

    def _samples(self, final: Sequence[Made]) -> dict[str, list[tuple[str, str]]]:
        """Some exercises of each kind, and some that each filter left out: evenly over them all."""
        pools: dict[str, list[Made]] = {}
        for one in final:
            pools.setdefault(one.kind, []).append(one)
        pools |= {name: some for name, some in self.dropped.items() if some}
        step = {name: max(1, len(pool) // SAMPLES) for name, pool in pools.items()}
        return {name: [(m.question, m.answer) for m in pool[:: step[name]][:SAMPLES]] for name, pool in pools.items()}


def _finished(text: str) -> str:
    """What was said up to the last end of a sentence, of an answer that was cut off."""
    last = list(sentences(text))[-1:] or [""]
    return text if last[0].endswith(ENDS) else text[: text.rindex(last[0])].rstrip()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
