"""The judge: a chat model that is asked whether written answers are right, yes or no; what is neither is counted, not guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addenda.core.errors import AddendaError
from addenda.core.plain import Plain
from addenda.exercises.exercise import Ask
from addenda.measuring.asking.asked import Asked
from addenda.measuring.asking.options import normalised
from addenda.remote.answerer import Said, answers
from addenda.remote.endpoint import Endpoint
from addenda.remote.store import Store
from addenda.telling.interrupts import Stopped
from addenda.telling.intervals import SHARE, Interval, of_mean
from addenda.telling.progress import part, shown

#: all that a judge is told
PROMPT = """\
Is an answer right? Compare it with the true answer to the question.
It is right if it says what the true answer says, in whatever words. It is wrong if it leaves out or contradicts any of that, \
or says that it does not know. What else it says does not matter, nor that its end may be cut off.

Question: {question}

True answer: {true}

Answer: {answer}

Say one word, yes if the answer is right, no if it is wrong."""
#: tokens of a judge's answer at most: one word, and before it room for those who think aloud
TOKENS = 512
#: where verdicts are kept, if nothing else is said
VERDICTS = Path("runs/verdicts.jsonl")
#: what a judge is asked first, so that one who cannot be asked is told before anything is measured
FIRST = Asked(({"role": "user", "content": "How many days has a week?"},), ("Seven days.",)), "A week has 7 days."
#: what models say before their answer that think aloud; what stands around one word
_THOUGHT, _AROUND = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL), " \t\r\n.!\"'`*_"


@dataclass(frozen=True)
class Judged(Plain):
    """What a judge said of written answers, by way: one verdict for each question, None where it gave none or was not asked.

    `judge` is its model, `at` where it was asked. It was asked about `asked` answers, and said neither yes nor no to `neither`
    of them. Where it could not be asked to the end, `failed` says why, and there are no verdicts.
    """

    judge: str
    at: str
    asked: int
    neither: int
    verdicts: dict[str, tuple[bool | None, ...]]
    failed: str | None = None

    def share(self, way: str) -> Interval | None:
        """The share of a way's answers that are judged right, of those with a verdict; None where there is none."""
        given = [float(verdict) for verdict in self.verdicts.get(way, ()) if verdict is not None]
        return of_mean(given, within=SHARE) if given else None

    def __str__(self) -> str:
        if self.failed is not None:
            return f"not judged: {self.failed}"
        by = f"judged right by {self.judge} at {self.at}"
        return by + f"; it said neither yes nor no to {self.neither:,} of {self.asked:,}" * bool(self.neither)


class Judge:
    """A chat endpoint as OpenAI's, asked without chance for one word on each answer.

    Verdicts are kept by the judge's model and by what it was asked, whatever wrote the answer, and never asked for again. What is
    neither yes nor no is no verdict, and not kept. It is asked once at the beginning, so that an address where nobody judges is
    told before anything is measured.

    Args:
        address: of the endpoint: `http://localhost:8000/v1`; its key, if it wants one, stands in ADDENDA_JUDGE_KEY.
        model: that is asked; None: the first that it offers.
        file: where verdicts are kept, JSON lines.
        patience: seconds that a verdict may take, and about those that a failing ask is tried again.
        transport: of `httpx2`, in place of the network.

    Raises:
        EndpointError: the address is none, or the judge is away, refuses, or answers what is no answer.
        FileError: the file cannot be read or written.
    """

    def __init__(
        self,
        address: str,
        model: str | None = None,
        file: str | Path = VERDICTS,
        *,
        patience: float = 60.0,
        transport: Any = None,
    ) -> None:
        self.store = Store(Path(file).expanduser(), "the same call asks for the rest")
        self.endpoint = Endpoint(address, model, patience, transport, role="judge")
        self.endpoint.identity = {"model": self.endpoint.model}
        self.name = self.endpoint.name
        self._verdicts([ask_of(*FIRST)])

    def judged(self, asked: Sequence[Asked], said: Mapping[str, Sequence[str]]) -> Judged:
        """Verdicts on what was answered to questions, by way. A failure is told in what is found, and loses nothing else.

        Of an answer to what the documents do not say there is none: that it is a refusal is seen by its words. One without a word
        is wrong. Neither is sent.

        Raises:
            Stopped: after a signal; verdicts that came are kept.
        """
        places = [(way, at) for way, written in said.items() for at in sent(asked, written)]
        asks = [ask_of(asked[at], said[way][at]) for way, at in places]
        model, at_host = self.endpoint.model, self.name.removeprefix(f"{self.endpoint.model} at ")
        try:
            with part(f"asking {self.name}", len(asks), "answers"):
                found = dict(zip(places, self._verdicts(asks), strict=True))
        except Stopped:
            raise
        except AddendaError as error:
            came = sum(self.endpoint.key(ask) in self.store for ask in asks)
            kept = f"{error}; {came:,} of {len(asks):,} verdicts are kept, and the same again asks for the rest"
            return Judged(model, at_host, len(asks), 0, {}, kept)
        verdicts = {
            way: tuple(found.get((way, at), False if one.accepted else None) for at, one in enumerate(asked))
            for way in said
        }
        return Judged(model, at_host, len(asks), sum(one is None for one in found.values()), verdicts)

    def _verdicts(self, asks: Sequence[Ask]) -> list[bool | None]:
        """A verdict on each; None where there is none."""
        said = answers(self.endpoint, asks, self.store, _counted(), lambda one: verdict_of(one) is not None)
        return [verdict_of(one) for one in said]


def sent(asked: Sequence[Asked], said: Sequence[str]) -> list[int]:
    """The places of what a judge is asked about: answers with a word in them, to questions that the documents answer."""
    return [at for at, one in enumerate(asked) if one.accepted and normalised(said[at])]


def ask_of(one: Asked, said: str) -> Ask:
    """What a judge is asked about an answer."""
    question = one.question
    if len(one.messages) > 1:  # what is asked last may make no sense alone
        question = "\n".join(f"[{message['role']}] {message['content']}" for message in one.messages)
    told = {"question": question, "true": " / or: ".join(one.accepted), "answer": said}
    return Ask(({"role": "user", "content": PROMPT.format(**told)},), tokens=TOKENS)


def verdict_of(said: Said) -> bool | None:
    """Yes or no, and nothing else: in any case, with a full stop or quotes around it; None: no verdict."""
    word = _THOUGHT.sub("", said.text).strip(_AROUND).lower()
    return None if said.cut else {"yes": True, "no": False}.get(word)


def _counted() -> Callable[[int], None]:
    """Count verdicts as they come, for whoever watches."""
    watched, before = shown(), [0]

    def told(done: int) -> None:
        if watched is not None:
            watched.advance(done - before[0])
        before[0] = done

    return told
