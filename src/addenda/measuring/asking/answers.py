"""Answers about documents: written and chosen, with modules off and on, and with documents or passages in the window."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from addenda.core import card
from addenda.core.errors import AddendaError
from addenda.core.modes import evaluating
from addenda.core.plain import Plain
from addenda.measuring.asking.asked import Asked, options_of
from addenda.measuring.asking.chats import Messages, prompt_of
from addenda.measuring.asking.judge import Judge, Judged
from addenda.measuring.asking.options import all_likelihoods, f1, first_wins, normalised
from addenda.measuring.asking.retrieval import Passages, unspaced
from addenda.measuring.conducting.lines import on_card
from addenda.plug.continuing import continued
from addenda.plug.selection import Names, weights_of
from addenda.telling.intervals import CHANGE, SHARE, Interval, of_mean
from addenda.text.prompting import after_text

if TYPE_CHECKING:
    from torch import Tensor

    from addenda.plug.base import Base

#: tokens of a written answer; prompts whose reading is timed; passages in the window
TOKENS, TIMED, PASSAGES = 48, 5, 2
#: lines of a card, by what they tell
LINES = {
    "right": "questions answered rightly", "chosen": "right answer the likeliest", "refused": "refused, not told",
    "shy": "refused, told",
}  # fmt: skip
#: what a card says of what a judge called right, before the judge's model
JUDGED = "questions answered rightly, as judged by"
#: tokens that may be more where a text and a question are joined; what the way with whole documents is called
JOINT, WHOLE = 8, "documents in the window"
#: what a model says that does not know, in English
_REFUSAL = re.compile(
    r"\b(do(es)? not|don't|doesn't|did not|didn't|cannot|can't|could not|couldn't|nothing|never)\b[^.,;]{0,30}?"
    r"\b(say|says|state|mention|specify|tell|cover|contain|provide|know|find|answer|give|describe|address)\b"
    r"|\b(do not|don't) have (any|enough|the|that)\b"
    r"|\bnot (stated|mentioned|specified|said|covered|provided|given|described|known|clear|available|addressed|found)\b"
    r"|\b(says?|said|states?|tells?) nothing\b|^that is not in the \w+\W*$"
    r"|\bno (information|mention|answer|details?|record)\b|\b(unable|not able) to\b|\bi('m| am) not (sure|aware|certain)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Way(Plain):
    """One way of answering: `right` is the share whose answer says one that counts, `same` of those that are one word for word.

    `f1` is SQuAD's overlap of words; `chosen` the share whose right answer is the likeliest of ten, by likelihood per token.
    `refused` is of the questions that the documents do not answer, `shy` of those that they do; None where there is none of the
    sort. `prompt` is the mean length of a question in tokens, `prefill` seconds to read one (median of five).
    `added` is what `right` is above the bare base's, paired. `judged` is the share that a judge says is right, where one was
    asked, of the answers on which it gave a verdict.
    """

    right: Interval | None
    same: Interval | None
    f1: Interval | None
    chosen: Interval | None
    refused: Interval | None
    shy: Interval | None
    prompt: float
    prefill: float
    added: Interval | None = None
    judged: Interval | None = None


@dataclass(frozen=True)
class OnQuestions(Plain):
    """Answers to the questions of one file, by way: `base`, `modules`, and where there are documents, with these in the window.

    `answers` has what each way wrote to each question, in order; `judged` what a judge said of it, where one was asked.
    """

    on: str
    asked: tuple[Asked, ...]
    chance: float | None
    ways: dict[str, Way]
    answers: dict[str, tuple[str, ...]]
    judged: Judged | None = None

    def right(self, way: str, at: int) -> bool:
        """Whether a way's answer to a question is right; a refusal is, where the documents do not say."""
        return is_right(self.asked[at], self.answers[way][at])

    def on_card(self) -> Iterator[card.Measure]:
        """Lines of the module's card, with the bare base's value beside each; none of the base alone."""
        if "modules" in self.ways:
            on, off = self.ways["modules"], self.ways["base"]
            for metric, name in LINES.items():
                yield from on_card(name, getattr(on, metric), self.on, getattr(off, metric))
            if self.judged is not None:  # another judge's is another measure
                yield from on_card(f"{JUDGED} {self.judged.judge}", on.judged, self.on, off.judged)


def on_questions(
    base: Base,
    name: str,
    asked: Sequence[Asked],
    modules: Names = (),
    *,
    documents: Sequence[str] = (),
    passages: int = PASSAGES,
    tokens: int = TOKENS,
    judge: Judge | None = None,
) -> OnQuestions:
    """Let a base answer questions in chat, greedily: bare, with modules, and with documents or passages of them in the window.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer; its own selection is put back after.
        name: what the questions are called.
        asked: the questions.
        modules: what acts: names, or a mapping of weights; nothing asks the base alone.
        documents: texts to answer from: whole in the window as far as they fit, and as passages found by BM25, these also with
            the modules on.
        passages: how many are found for each question.
        tokens: written at most in each answer.
        judge: is asked which answers are right, after all are written; where it fails then, that is told in what is found.

    Raises:
        AddendaError: bm25s is not installed, or the base's chat template refuses a question.
        DataError: the documents hold no words.
    """
    weights = weights_of(modules)
    plain = [list(one.messages) for one in asked]
    ways: dict[str, tuple[bool, list[Messages]]] = {"base": (False, plain)}
    if weights:
        ways["modules"] = (True, plain)
    if documents:
        found = with_passages(base, asked, documents, passages)
        ways[WHOLE] = (False, with_documents(base, asked, documents, tokens))
        ways["passages"] = (False, found)
        if weights:
            ways["modules and passages"] = (True, found)
    options, results, answers = options_of(asked), dict[str, _Found](), dict[str, tuple[str, ...]]()
    for way, (on, chats) in ways.items():
        with base.using(weights) if on else base.off():
            results[way] = _answered(base, asked, chats, options, tokens)
        answers[way] = results[way].said
    judged = None if judge is None else judge.judged(asked, answers)
    sizes = [len(given) for given in options.values()]
    return OnQuestions(
        on=name,
        asked=tuple(asked),
        chance=sum(1 / size for size in sizes) / len(sizes) if sizes else None,
        ways={
            way: _way(asked, found, None if way == "base" else results["base"], judged and judged.share(way))
            for way, found in results.items()
        },
        answers=answers,
        judged=judged,
    )


@dataclass(frozen=True)
class _Found:
    said: tuple[str, ...]
    chosen: tuple[float, ...]
    prompt: float
    prefill: float


def _answered(
    base: Base,
    asked: Sequence[Asked],
    chats: Sequence[Messages],
    options: Mapping[int, tuple[str, ...]],
    tokens: int,
) -> _Found:
    prompts = [prompt_of(base, chat) for chat in chats]
    said = answers_to(base, chats, tokens)
    likely = all_likelihoods(base, [(prompts[at], given) for at, given in options.items()]) if options else []
    chosen = tuple(first_wins([option.mean for option in each]) for each in likely)
    return _Found(said, chosen, float(np.mean([len(prompt) for prompt in prompts])), _prefill(base, prompts))


@torch.no_grad()
def _prefill(base: Base, prompts: Sequence[Tensor]) -> float:
    """Seconds to read a prompt alone, the median of a few."""
    seconds: list[float] = []
    with evaluating(base.model):
        for prompt in [prompts[0], *prompts[:TIMED]]:  # the first warms up
            began = time.perf_counter()
            logits = base.model(input_ids=prompt[None].to(base.device), use_cache=True, logits_to_keep=1).logits
            float(logits.flatten()[0])  # waits for a GPU
            seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:]))


def _way(asked: Sequence[Asked], found: _Found, bare: _Found | None, judged: Interval | None) -> Way:
    told = [at for at, one in enumerate(asked) if one.accepted]
    others = [at for at, one in enumerate(asked) if not one.accepted]

    def best(at: int, of: _Found, alike: object) -> float:
        return max(float(alike(of.said[at], answer)) for answer in asked[at].accepted)  # type: ignore[operator]

    def mean(values: Sequence[float], within: tuple[float, float] = SHARE) -> Interval | None:
        return of_mean(values, within=within) if values else None

    return Way(
        right=mean([float(is_right(asked[at], found.said[at])) for at in told]),
        same=mean([best(at, found, lambda said, wanted: normalised(said) == normalised(wanted)) for at in told]),
        f1=mean([best(at, found, f1) for at in told]),
        chosen=mean(found.chosen),
        refused=mean([float(refuses(found.said[at])) for at in others]),
        shy=mean([float(refuses(found.said[at])) for at in told]),
        prompt=found.prompt,
        prefill=found.prefill,
        added=None if bare is None else mean(_gained(asked, found.said, bare.said), CHANGE),
        judged=judged,
    )


def _gained(asked: Sequence[Asked], now: Sequence[str], before: Sequence[str]) -> list[float]:
    """1 where a question that documents answer is answered rightly now and was not, -1 where it was and is not."""
    pairs = zip(asked, now, before, strict=True)
    return [float(is_right(one, a)) - float(is_right(one, b)) for one, a, b in pairs if one.accepted]


def with_documents(
    base: Base, asked: Sequence[Asked], documents: Sequence[str], tokens: int = TOKENS
) -> list[Messages]:
    """The questions with the documents in the window, as much of these as there is room for, `tokens` for an answer left over.

    Raises:
        AddendaError: a question alone fills the base's context.
    """
    whole, chats = "\n\n".join(documents), list[Messages]()
    ids = base.after(whole)
    for one in asked:
        chat = list(one.messages)
        room = None if base.context is None else base.context - tokens - len(prompt_of(base, chat)) - JOINT
        if room is not None and room < 1:
            raise AddendaError("a question alone fills the base's context; ask shorter ones")
        fits = room is None or len(ids) <= room
        chats.append(after_text(chat, whole if fits else base.tokenizer.decode(ids[:room])))
    return chats


def with_passages(
    base: Base, asked: Sequence[Asked], documents: Sequence[str], count: int = PASSAGES
) -> list[Messages]:
    """The questions, each with passages of the documents that BM25 finds for it in the window.

    Raises:
        AddendaError: bm25s is not installed.
        DataError: the documents hold no words.
    """
    index = Passages(base, list(documents))
    return [after_text(list(one.messages), "\n\n".join(index.search(one.question, count))) for one in asked]


def answers_to(base: Base, chats: Sequence[Messages], tokens: int = TOKENS) -> tuple[str, ...]:
    """What the base, as selected, answers to each chat, greedily."""
    written = continued(base, [prompt_of(base, chat) for chat in chats], tokens=tokens, padded=True)
    return tuple(base.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written)


def is_right(one: Asked, said: str) -> bool:
    """Whether an answer is right; a refusal is, where the documents do not say."""
    if not one.accepted:
        return refuses(said)
    groups = one.needed or (one.accepted,)
    return all(any(says(said, form) for form in group) for group in groups)


def says(text: str, answer: str) -> bool:
    """Whether a text has an answer in it, word after word, whatever the case, articles and punctuation.

    In scripts without spaces between words it is letter after letter.
    """
    words, wanted = normalised(text), normalised(answer)
    if not wanted:
        return False
    if any(map(unspaced, answer)):
        return "".join(wanted) in "".join(words)
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))


def refuses(text: str) -> bool:
    """Whether an answer is that one does not know, or that the documents do not say, in English."""
    return bool(_REFUSAL.search(text))
