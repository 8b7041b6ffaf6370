"""Table: MMLU by subject, for a base and some modules, as on the model card of the register modules; anatomy first.

    python -m recipes.mmlu_table --plug runs/mmlu/pubmed runs/mmlu/wikipedia runs/mmlu/law --limit 50

docs/results/mmlu.md has the commands that train these modules.

Their card leaves this table empty. The same command fills it for any base and modules: questions are paired, and intervals
are over the questions within each subject, the subjects being those that there are. A base as small as `tiny` guesses, and the
page says so, and what saying one letter throughout would get.

Source of the form: the card of "Modular LLMs: Learning with Registers" (Boissin, Hervier, Picard, Sprauel 2025).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from addenda.modulefile.modelcard import MMLU, anatomy_first
from addenda.telling.intervals import Interval, of_means
from recipes.common import load
from recipes.records import device, write_record
from recipes.tables import table as lines_of
from recipes.tables import write_tables

if TYPE_CHECKING:
    from addenda.measuring.asking.accuracy import OnTask

CHANCE = 0.25


def table(tasks: Sequence[OnTask], told: str) -> str:
    """The table as Markdown: accuracy of the base and of each module, by subject and over all, and what can be said of it."""
    names = list(tasks[0].on)
    subjects = sorted(tasks, key=lambda task: anatomy_first(task.task))
    rows: list[tuple[object, ...]] = [
        (
            _subject(task).replace("_", " "),
            task.questions,
            *(f"{of.value:.1%}" for of in (task.base, *(task.on[name] for name in names))),
        )
        for task in subjects
    ]
    over = {"base": of_means([task.base for task in tasks])}
    over |= {name: of_means([task.on[name] for task in tasks]) for name in names}
    changes = {name: of_means([task.difference[name] for task in tasks]) for name in names}
    mean = (f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]" for interval in over.values())
    rows.append((f"mean of {len(tasks)} subjects", sum(task.questions for task in tasks), *mean))
    lines = lines_of(["subject", "questions", "base", *names], rows)
    said = [f"Against the base, mean over subjects: {name} {_signed(changes[name])}." for name in names]
    constant = sum(task.constant for task in tasks) / len(tasks)
    said.append(f"The letter that is right most often in its subject gets {constant:.1%}.")
    guess = (
        "The base's interval holds 25%, what guessing gets." if over["base"].low <= CHANCE <= over["base"].high else ""
    )
    return "\n".join([*lines, "", *said, *([guess] if guess else []), told]) + "\n"


def _subject(task: OnTask) -> str:
    return task.task.removeprefix(MMLU)


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.1%} [{interval.low:+.1%}, {interval.high:+.1%}]"


def main() -> None:
    """Plug, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    parser.add_argument("--plug", nargs="+", required=True, help="folders of modules, a column each")
    parser.add_argument("--limit", type=int, help="questions of each subject, the first; default all")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"), help="the table and its record")
    given = parser.parse_args()
    from addenda.measuring.asking.accuracy import evaluate_tasks

    base = load(given.base)
    names = [base.plug(folder).name for folder in given.plug]
    tasks = evaluate_tasks(base, ["mmlu"], {name: name for name in names}, limit=given.limit)
    told = f"{base.name}, {base.anatomy.parameters:,} parameters; {device()}."
    text = table(tasks, told)
    given.docs.mkdir(parents=True, exist_ok=True)
    write_record(given.docs / "mmlu.json", {"tasks": [task.as_dict() for task in tasks], "told": told})
    write_tables(given.docs / "mmlu.md", text)
    print(text)


if __name__ == "__main__":
    main()
