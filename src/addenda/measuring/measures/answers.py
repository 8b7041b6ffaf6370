"""Questions about documents: right answers written and chosen, refusals, and what leaks into general chats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from addenda.core import card
from addenda.core.errors import AddendaError
from addenda.core.plain import Plain
from addenda.measuring.asking.answers import TOKENS, OnQuestions, Way, on_questions
from addenda.measuring.asking.asked import OPTIONS, opened_questions
from addenda.measuring.asking.chats import GENERAL
from addenda.measuring.asking.chats import TOKENS as CHAT_TOKENS
from addenda.measuring.asking.chats import asked_of as chats_of
from addenda.measuring.asking.judge import VERDICTS, Judge
from addenda.measuring.asking.leakage import Leakage, leakage
from addenda.measuring.conducting.foretold import CHARACTERS, COMPARED
from addenda.measuring.conducting.lines import on_card, share, times
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, limit, option
from addenda.text.texts import texts

#: tokens of a turn in a chat template; answers that are shown
TURN, SHOWN = 20, 6


@dataclass(frozen=True)
class AnswersAndLeakage(Plain):
    """Answers to a file of questions, and with modules what of them leaks into general chats."""

    answers: OnQuestions
    leakage: Leakage | None


@dataclass(frozen=True)
class Answers(Measure):
    """Answers to questions about documents: right ones, written in chat and chosen, refusals, and leakage into general chats.

    With `documents`, also how the base answers with these in its window, whole and as passages found by BM25. With `judge`, also
    which answers a chat model calls right.
    """

    name: ClassVar[str] = "answers"
    place: ClassVar[int] = 25
    in_words: ClassVar[bool] = True

    questions: Any = option(
        "A file of questions about documents, with answers: right, refused, leaked into general chats.", "file"
    )
    documents: Any = option("What the questions are about: compared with these in the window.", "texts")
    judge: Any = option(
        "URL of a chat endpoint as OpenAI's that is asked whether the written answers are right; its key, if need be, in "
        "ADDENDA_JUDGE_KEY."
    )
    judge_model: str | None = option("The judge's model; default: the first that it offers.")
    verdicts: Any = option(
        f"Where the judge's verdicts are kept, never to be asked for again; default: {VERDICTS}.", "file"
    )
    limit: int | None = limit()

    def open(self, acting: Acting) -> Opened:
        if self.questions is True:
            raise AddendaError(
                "questions= is a file of questions; the zero-shot questions that come along are zero_shot=True"
            )
        name, asked = opened_questions(self.questions)
        given = (self.documents,) if isinstance(self.documents, str | Path) else tuple(self.documents or ())
        if given and find_spec("bm25s") is None:
            raise AddendaError("passages of the documents are found with bm25s: pip install bm25s")
        read = [record["text"] for source in given for record in texts(source) if "text" in record]
        judge = self.judge
        if judge is not None and not isinstance(judge, Judge):
            judge = Judge(judge, self.judge_model, self.verdicts or VERDICTS)
        return Opened((name, asked[: self.limit], read, judge))

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        name, asked, read, judge = opened.inputs
        said = sum(len(one.question) for one in asked) // CHARACTERS + (TURN + TOKENS) * len(asked)
        chosen = sum(
            OPTIONS * (len(one.question) + len(one.accepted[0])) // CHARACTERS for one in asked if one.accepted
        )
        yield Reading(name, times(acting.weights) * (said + chosen), COMPARED)
        if read:
            whole = min(acting.base.context or 2**62, sum(map(len, read)) // CHARACTERS)
            yield Reading("the same with documents in the window", (1 + OPTIONS) * whole * len(asked))
        if judge is not None:
            ways = times(acting.weights) + (1 + times(acting.weights)) * bool(read)
            most = ways * sum(bool(one.accepted) for one in asked)
            yield Reading(f"{judge.name} asked about up to {most:,} answers", 0)
        if acting.weights:
            chats = chats_of(GENERAL, self.limit)[1]
            yield Reading("leakage into general chats", 4 * (CHAT_TOKENS + 3 * TURN) * len(chats), COMPARED)

    def run(self, acting: Acting, opened: Opened) -> AnswersAndLeakage:
        name, asked, read, judge = opened.inputs
        answers = on_questions(acting.base, name, asked, acting.weights, documents=read, judge=judge)
        leaked = leakage(acting.base, asked, acting.weights, limit=self.limit) if acting.weights else None
        return AnswersAndLeakage(answers, leaked)

    def record(self, found: AnswersAndLeakage, sources: Mapping[str, str]) -> Iterator[card.Measure]:
        answers, leaked = found.answers, found.leakage
        yield from answers.on_card()
        if leaked is not None:
            yield from on_card("general answers changed", leaked.first.changed, leaked.first.on)
            yield from on_card("general answers changed, second turn", leaked.after.changed, leaked.first.on)
            yield from on_card("general answers that speak the documents' words", leaked.words, leaked.first.on)

    def rows(self, found: AnswersAndLeakage, base: str, label: str) -> Iterator[Table]:
        answers, called = (
            found.answers,
            {"base": base, "modules": label, "modules and passages": f"{label} and passages"},
        )
        choice = "chosen" if answers.chance is None else f"chosen (chance {answers.chance:.0%})"
        judged = answers.judged is not None
        columns = [
            "",
            "right",
            *(["judged right"] if judged else []),
            "word for word",
            "F1",
            choice,
            "not told: refused",
            "told: refused",
            "prompt tokens",
            "prefill",
        ]
        rows = [[called.get(way, way), *_cells(one, judged)] for way, one in answers.ways.items()]
        told = sum(bool(one.accepted) for one in answers.asked)
        title = f"{told:,} questions about documents, and {len(answers.asked) - told:,} that they do not answer"
        told_of = ["right: the written answer says one that counts", *([str(answers.judged)] if judged else [])]
        yield Table(f"{title} [95% interval]", columns, rows, "\n".join(told_of))
        last = "modules" if "modules" in answers.ways else "base"
        shown = [
            (one.question, "".join(one.accepted[:1]) or "(not told)", answers.answers[last][at], *_verdicts(answers, last, at))
            for at, one in enumerate(answers.asked[:SHOWN])
        ]  # fmt: skip
        heads = ["asked", "counts", called[last], "right", *(["judged"] if judged else [])]
        yield Table("Some of them", heads, shown, prose=True)
        if found.leakage is not None:
            leaked = found.leakage
            spoken = "speak the documents' words" + (f" ({', '.join(leaked.leaked[:5])})" if leaked.leaked else "")
            yield Table(
                f"Leakage into {len(leaked.first.answers)} {leaked.first.on} [95% interval over chats]",
                ["answers that", "asked first", "asked after a question about the documents"],
                [
                    ("are not the bare base's", share(leaked.first.changed), share(leaked.after.changed)),
                    (spoken, share(leaked.words), share(leaked.words_after)),
                ],
            )


def _verdicts(found: OnQuestions, way: str, at: int) -> list[str]:
    """Whether an answer is right by its words, and as a judge says, where one was asked."""
    said: list[bool | None] = [found.right(way, at)]
    if found.judged is not None:
        said += found.judged.verdicts.get(way, (None,) * len(found.asked))[at : at + 1]
    return ["-" if one is None else "yes" if one else "no" for one in said]


def _cells(way: Way, judged: bool) -> list[str]:
    f1 = "-" if way.f1 is None else f"{way.f1.value:.2f}"
    first = [way.right, *([way.judged] if judged else []), way.same]
    shares = [[share(one) for one in part] for part in (first, (way.chosen, way.refused, way.shy))]
    return [*shares[0], f1, *shares[1], f"{way.prompt:,.0f}", f"{1000 * way.prefill:,.0f} ms"]
