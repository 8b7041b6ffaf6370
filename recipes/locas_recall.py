"""Study: what is recalled of a conversation that was read once and is not in the window; Locas, quiet Locas, TempLoRA.

    python -m recipes.locas_recall            # every run that has no record yet, then the table
    python -m recipes.locas_recall --report   # the table of the records there are

Each of LoCoMo's conversations (from `ADDENDA_DATA`; non-commercial, nothing of it is shipped) is read once, then asked
about: the true answer against nine others, given to other questions about the same conversation, of the same kind as far
as there are nine, by likelihood (chance 10%), and the F1 of an answer written greedily. Settings are those of each method
that gained most in the sweep of `recipes.locas`. Questions that have no answer in the text (LoCoMo's category 5) are left
out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import addenda
from addenda.measuring.asking.options import all_likelihoods, f1, first_wins
from addenda.measuring.asking.written import written
from recipes.common import data_folder, load
from recipes.locas import memorized
from recipes.memory_plan import grids
from recipes.records import Records, name_of, read_records, recorded, stamp
from recipes.study import conduct, parser_of
from recipes.tables import joined, table

CATEGORIES = {1: "several sessions", 2: "time", 3: "open domain", 4: "one session"}
OPTIONS = 10
#: tokens of a written answer
ANSWER = 16
DRAWS = 2000
NOBODY = "no memory"


@dataclass(frozen=True)
class Run:
    """One conversation read by one method, and asked about."""

    method: str
    conversation: str
    kind: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    questions: int = 100
    seed: int = 0

    @property
    def id(self) -> str:
        """A short name that changes with every option."""
        return name_of(self, self.method.replace(" ", "-"), self.conversation, self.seed)


@dataclass(frozen=True)
class Question:
    """A question, its answer, and others to choose among; the order is that of the text."""

    text: str
    answer: str
    others: tuple[str, ...]
    category: int

    @property
    def prompt(self) -> str:
        """How it is asked."""
        return f"Question: {self.text}\nAnswer:"


def conversations() -> dict[str, dict[str, Any]]:
    """LoCoMo's conversations by name.

    Raises:
        AddendaError: they are not there.
    """
    path = data_folder() / "locomo" / "locomo7.json.gz"
    if not path.exists():
        raise addenda.AddendaError(f"no '{path}'; ADDENDA_DATA names the folder of the data")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {sample["sample_id"]: sample for sample in json.load(file)}


def text_of(sample: dict[str, Any]) -> str:
    """A conversation as running text: sessions with their dates, one line for each turn."""
    said, lines = sample["conversation"], []
    number = 1
    while f"session_{number}_date_time" in said:
        if turns := said.get(f"session_{number}"):
            lines.append(f"\n{said[f'session_{number}_date_time']}\n")
            lines += [f"{turn['speaker']}: {turn['text']}" for turn in turns]
        number += 1
    return "\n".join(lines).strip() + "\n"


def questions_of(sample: dict[str, Any], most: int) -> list[Question]:
    """At most so many questions, evenly over the conversation, each with nine other answers, of its category where it has them.

    Raises:
        AddendaError: the conversation has fewer than ten different answers.
    """
    asked = [item for item in sample["qa"] if item.get("category") in CATEGORIES and "answer" in item]
    by_category: dict[int, list[str]] = {}
    for item in asked:
        by_category.setdefault(item["category"], []).append(str(item["answer"]))
    every = sorted({str(item["answer"]) for item in asked})
    questions: list[Question] = []
    for item in asked:
        answer, draw = str(item["answer"]), random.Random(f"{sample['sample_id']} {item['question']}")
        alike = sorted({a for a in by_category[item["category"]] if a.lower() != answer.lower()})
        spare = [a for a in every if a.lower() != answer.lower() and a not in alike]
        others = draw.sample(alike, min(OPTIONS - 1, len(alike)))
        if len(others) + len(spare) < OPTIONS - 1:
            raise addenda.AddendaError(
                f"'{sample['sample_id']}' has fewer than {OPTIONS} different answers to choose among"
            )
        others += draw.sample(spare, OPTIONS - 1 - len(others))
        questions.append(Question(item["question"], answer, tuple(others), item["category"]))
    step = max(1.0, len(questions) / most)
    return [questions[int(n * step)] for n in range(min(most, len(questions)))]


def ask(base: addenda.Base, questions: Iterable[Question], selection: dict[str, float]) -> list[dict[str, Any]]:
    """For each question: whether the true answer was found likeliest, by nats and by nats per token, and the F1."""
    asked = list(questions)
    with base.using(selection):
        options = all_likelihoods(base, [(question.prompt, (question.answer, *question.others)) for question in asked])
        answers = written(base, [question.prompt for question in asked], tokens=ANSWER)
    return [
        {
            "category": question.category,
            "chosen": first_wins([option.nats for option in each]),
            "chosen_by_mean": first_wins([option.mean for option in each]),
            "f1": f1(answer, question.answer),
        }
        for question, each, answer in zip(asked, options, answers, strict=True)
    ]


def execute(run: Run, records: Path) -> str:
    """Read the conversation, ask, and write the record."""
    base, sample = load(), conversations()[run.conversation]
    facts: dict[str, Any] = {"parameters": 0}
    selection: dict[str, float] = {}
    if run.kind:
        report = memorized(base, text_of(sample), run, baseline=True)
        facts = {"parameters": report.parameters["m"], "gain": report.texts["m"].gain()}
        selection = {"m": 1.0}
    answers = ask(base, questions_of(sample, run.questions), selection)
    return recorded(run, records, stamp(run, base) | facts | {"answers": answers})


def plan(sweep: list[dict[str, Any]], names: Iterable[str], seeds: Iterable[int], questions: int) -> list[Run]:
    """Every method at the setting that gained most in the sweep, on every conversation."""
    runs = [Run(NOBODY, name, questions=questions) for name in names]
    for method in grids():
        mine = [record for record in sweep if record["run"]["part"] == "sweep" and record["run"]["method"] == method]
        if not mine:
            continue
        best = max(mine, key=lambda record: record["gain"])["run"]
        runs += [
            Run(method, name, best["kind"], best["options"], best["settings"], questions, seed)
            for seed in seeds
            for name in names
        ]
    return runs


def report(records: Records, folder: Path) -> str:
    """The table as Markdown: each measure, and its difference from no memory on the same questions, with 95% intervals."""
    bare = {_asked(record): record["answers"] for record in records if record["run"]["method"] == NOBODY}
    rows = []
    for method in (NOBODY, *grids()):
        mine = [r for r in records if r["run"]["method"] == method and _asked(r) in bare]
        cells: list[str] = []
        for key in ("chosen", "chosen_by_mean", "f1") if mine else ():
            values = [_column(r["answers"], key) for r in mine]
            deltas: dict[Any, list[np.ndarray]] = {}
            for value, r in zip(values, mine, strict=True):
                deltas.setdefault(_asked(r), []).append(value - _column(bare[_asked(r)], key))
            # seeds answer the same questions: they are one observation of a question, not several
            by_conversation = [np.mean(seeds, axis=0) for seeds in deltas.values()]
            cells += [f"{np.concatenate(values).mean():.1%}", _difference(by_conversation) if method != NOBODY else ""]
        if mine:
            rows.append((method, len(mine), sum(len(r["answers"]) for r in mine), *cells))
    heads = "method | runs | answers | chosen (chance 10%) | more than without | by nats per token | more | F1 | more"
    return joined([table(heads, rows)])


def _asked(record: dict[str, Any]) -> tuple[str, int]:
    """Which questions a record answers."""
    return record["run"]["conversation"], len(record["answers"])


def _column(answers: list[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([answer[key] for answer in answers], float)


def _difference(deltas: list[np.ndarray]) -> str:
    """Mean over questions, and a bootstrap over conversations and then over their questions."""
    draw = np.random.default_rng(0)
    means = []
    for _ in range(DRAWS):
        chosen = [deltas[n] for n in draw.integers(len(deltas), size=len(deltas))]
        means.append(np.concatenate([delta[draw.integers(len(delta), size=len(delta))] for delta in chosen]).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{np.concatenate(deltas).mean():+.1%} [{low:+.1%}, {high:+.1%}]"


def asked_for(given: argparse.Namespace, records: Records) -> list[Run]:
    """Every conversation by every method, at the settings of another study's sweep.

    Raises:
        AddendaError: that study has no records yet.
    """
    sweep = read_records(given.docs / "locas")
    if not sweep:
        raise addenda.AddendaError("the settings come from a sweep; run `python -m recipes.locas` before")
    return plan(sweep, list(conversations()), given.seeds, given.questions)


def main(words: Sequence[str] | None = None) -> None:
    """Run what is not done yet, then report."""
    parser = parser_of(__doc__, workers=2)
    parser.add_argument("--questions", type=int, default=100, help="asked of each conversation at most")
    conduct("locas_recall", parser.parse_args(words), [asked_for], execute, report)


if __name__ == "__main__":
    main()
