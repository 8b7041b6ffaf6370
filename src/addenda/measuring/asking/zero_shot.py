"""Zero-shot questions: answered by likelihood with modules off and on, paired question by question, set by set and pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from addenda.core.errors import AddendaError, DataError
from addenda.core.plain import Plain
from addenda.measuring.asking.options import BATCH_TOKENS, all_likelihoods, first_wins
from addenda.plug.selection import Names, weights_of
from addenda.telling.intervals import CHANGE, SHARE, Interval, of_mean
from addenda.tiny.asked import SETS, Question, questions

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: by likelihood alone, and by likelihood for each character
ACC, ACC_NORM = "acc", "acc_norm"
#: what all sets together are called
POOLED = "all sets"


@dataclass(frozen=True)
class OnSet:
    """One set: the shares that guessing, the bare base and the modules get right, and the paired change.

    Intervals are over questions. `metric` is `acc`, the share of questions whose right choice is the likeliest, or `acc_norm`,
    the same of log-likelihoods divided by the choices' characters; of all sets together each set's `usual` one. `on` and
    `change` are None without modules.
    """

    name: str
    metric: str
    usual: bool
    questions: int
    chance: float
    off: Interval
    on: Interval | None = None
    change: Interval | None = None


@dataclass(frozen=True)
class ZeroShot(Plain):
    """Questions by set and metric, and `pooled`: all of them by their sets' usual metric."""

    pooled: OnSet
    sets: tuple[OnSet, ...]


def zero_shot(
    base: Base, modules: Names = (), asked: Sequence[Question] | None = None, *, each: int | None = None
) -> ZeroShot:
    """Ask zero-shot questions with modules off and on.

    A question's choices are scored as lm-evaluation-harness does: by their log-likelihood after the prompt, a space between.

    Args:
        base: with the modules plugged; its own selection is put back after.
        modules: what acts; nothing asks the base alone.
        asked: questions; default: `fitting` ones, of PIQA, ARC-Easy, BoolQ and HellaSwag with two endings.
        each: of these so many of each set; default: all, a hundred.

    Raises:
        AddendaError: the base has no tokenizer, its logits are not finite, or `each` is not positive.
        DataError: there is no question, or one's choice fills the base's context.
    """
    if each is not None and each < 1:
        raise AddendaError(f"there must be at least one question of each set; got {each}")
    asked = fitting(base, each) if asked is None else asked
    if not asked:
        raise DataError(f"there is no question that fits the base's context of {base.context} tokens")
    weights = weights_of(modules)
    with base.off():
        off = right(base, asked)
    if not weights:
        return paired(asked, off)
    with base.using(weights):
        return paired(asked, off, right(base, asked))


def fitting(base: Base, each: int | None = None) -> list[Question]:
    """Of the questions that come with the package those that the base's context holds whole: of each set the first so many.

    Raises:
        AddendaError: the base has no tokenizer.
    """
    room, by_set = base.context, dict[str, list[Question]]()
    for question in questions():
        mine = by_set.setdefault(question.set, [])
        if each is not None and len(mine) >= each:
            continue
        if (
            room is None
            or max(len(base.tokenize(f"{question.prompt} {choice}")) for choice in question.choices) <= room
        ):
            mine.append(question)
    return [question for mine in by_set.values() for question in mine]


def right(base: Base, asked: Sequence[Question], *, batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
    """Whether the base, as selected, answers each question rightly, by `acc` and by `acc_norm`: [questions, 2], a draw in shares.

    Raises:
        AddendaError: the base has no tokenizer, or its logits are not finite.
        DataError: a choice fills the base's context.
    """
    likelihoods = all_likelihoods(
        base, [(question.prompt, question.choices) for question in asked], batch_tokens=batch_tokens
    )
    rows = []
    for question, options in zip(asked, likelihoods, strict=True):
        gold_first = sorted(options, key=lambda option, gold=options[question.gold]: option is not gold)
        nats = [option.nats for option in gold_first]
        rows.append(
            (first_wins(nats), first_wins([n / len(option.text) for n, option in zip(nats, gold_first, strict=True)]))
        )
    return np.array(rows)


def usual(asked: Sequence[Question], scores: np.ndarray) -> np.ndarray:
    """Of scores by both metrics [questions, 2] those by each set's usual one [questions]."""
    return np.where([question.normed for question in asked], scores[:, 1], scores[:, 0])


def paired(asked: Sequence[Question], off: np.ndarray, on: np.ndarray | None = None) -> ZeroShot:
    """What was found of the bare base and of modules, both [questions, 2], question by question."""
    chance = np.array([1 / len(question.choices) for question in asked])
    sets = np.array([question.set for question in asked])
    normed = {question.set: question.normed for question in asked}

    def row(name: str, metric: str, is_usual: bool, at: np.ndarray, less: np.ndarray, more: np.ndarray | None) -> OnSet:
        both = None if more is None else (of_mean(more[at], within=SHARE), of_mean((more - less)[at], within=CHANGE))
        return OnSet(name, metric, is_usual, int(at.sum()), float(chance[at].mean()), of_mean(less[at], within=SHARE),
                     *(both or ()))  # fmt: skip

    rows = [
        row(name, metric, normed[name] == bool(column), sets == name, off[:, column], None if on is None else on[:, column])
        for name in dict.fromkeys([*(known for known in SETS if known in normed), *normed])
        for column, metric in enumerate((ACC, ACC_NORM))
        if column == 0 or normed[name]
    ]  # fmt: skip
    every = np.ones(len(asked), bool)
    pooled = row(POOLED, "usual", True, every, usual(asked, off), None if on is None else usual(asked, on))
    return ZeroShot(pooled, tuple(rows))
