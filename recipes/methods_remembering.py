"""Text memories: what a real base knows of a long text that does not fit the window, by what stands in the window.

    python -m recipes.methods_remembering              # makes the record of docs/results/methods/remembering
    python -m recipes.methods_remembering --report     # the table of the records there are

On `smollm2`: short biographies, told one after the other, then questions about them. At an equal number of tokens: nothing, the
last tokens of the text, HEMA's summary and end without passages, HEMA. The cost of each right answer in nats per token, and how
often every token of it is the likeliest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda.measuring.asking.facts import biographies, evenly
from recipes.common import load
from recipes.records import Named, Records, recorded, stamp
from recipes.study import conduct, parser_of


@dataclass(frozen=True)
class Cell(Named):
    """How much is told, how much fits, how much is asked."""

    FRONT = ("hema", "people", "window")
    people: int = 60
    window: int = 256
    questions: int = 32
    seed: int = 0
    where: str = "smollm2"


@torch.no_grad()
def answered(base: addenda.Base, prompt: str, answer: str) -> tuple[float, bool]:
    """Nats per token of an answer after a prompt, and whether each token of it is the likeliest."""
    ids, whole = base.tokenize(prompt), base.tokenize(prompt + answer)
    logits = base.model(whole[None]).logits[0, len(ids) - 1 : -1].float()
    targets = whole[len(ids) :]
    loss = torch.nn.functional.cross_entropy(logits, targets)
    return float(loss), bool((logits.argmax(-1) == targets).all())


def ways(base: addenda.Base, cell: Cell, texts: Sequence[str]) -> dict[str, Callable[[str], str]]:
    """Prompts by what stands before a question."""
    tokenizer = base.tokenizer
    last = tokenizer("\n".join(texts), add_special_tokens=False)["input_ids"]

    def end(question: str) -> str:
        room = cell.window - len(tokenizer(question, add_special_tokens=False)["input_ids"])
        return tokenizer.decode(last[-room:]) + "\n\n" + question

    def remembered(name: str, found: int) -> Callable[[str], str]:
        base.new(name, addenda.HEMA(window=cell.window, found=found))
        base.remember(name, *texts)

        def prompt(question: str) -> str:
            with base.using(name):
                return base.with_recalled(question)

        return prompt

    return {
        "nothing": lambda question: question,
        "the last tokens": end,
        "HEMA(found=0)": remembered("summary", 0),
        "HEMA": remembered("hema", addenda.HEMA().found),
    }


def make(cell: Cell, folder: Path) -> str:
    """Tell, ask, write the record."""
    base, facts = load(cell.where), biographies(cell.people, phrasings=1, seed=cell.seed)
    asked = evenly(facts.told, cell.questions)
    record: dict[str, Any] = stamp(cell) | {"ways": {}, "tokens": len(base.tokenize("\n".join(facts.documents)))}
    for way, prompt in ways(base, cell, facts.documents).items():
        found = [answered(base, prompt(fact.prompt), fact.answer) for fact in asked]
        losses = torch.tensor([loss for loss, _ in found])
        record["ways"][way] = {
            "nats": float(losses.mean()),
            "error": float(losses.std() / len(losses) ** 0.5),
            "right": sum(right for _, right in found),
            "asked": len(found),
        }
    return recorded(cell, folder, record)


def report(records: Records, folder: Path) -> str:
    """One row a way."""
    lines = [f"{'in the window':20}{'nats per token of the answer':>32}{'right':>12}"]
    for record in records:
        lines += [f"{record['tokens']:,} tokens told, a window of {record['run']['window']}"]
        for way, one in record["ways"].items():
            nats = f"{one['nats']:.3f} +- {1.96 * one['error']:.3f}"
            lines.append(f"{way:20}{nats:>32}{one['right']:>6} of {one['asked']}")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Make the record, then tell the table."""
    parser = parser_of(__doc__, seeds=(0,))
    parser.add_argument("--base", default="smollm2")

    def cells(given: Any, records: Records) -> list[Cell]:
        return [Cell(seed=seed, where=given.base) for seed in given.seeds]

    conduct("methods/remembering", parser.parse_args(words), [cells], make, report, paged=False)


if __name__ == "__main__":
    main()
