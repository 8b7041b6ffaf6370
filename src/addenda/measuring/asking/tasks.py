"""Tasks: question sets on disk as lm-evaluation-harness task files, with the shares that guessing and a constant answer get."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from addenda.core.errors import DataError
from addenda.core.files import replace_text
from addenda.text.files import json_lines

_CHOICE = {"output_type": "multiple_choice", "test_split": "test", "target_delimiter": " "}
_ACCURACY = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
_NORMED = [*_ACCURACY, {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}]


def _query(text: str) -> dict[str, Any]:
    return _CHOICE | {
        "doc_to_text": text,
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": _NORMED,
    }


# a query of PIQA ends its line already
_ASKED, _BEGUN = _query("{{query.rstrip()}}\nAnswer:"), _query("{{query}}")
# the sentence differs before the words that are scored: lm-eval asks so where the text is a number and the choices are contexts
_CONTEXTS = _CHOICE | {
    "doc_to_text": "gold", "doc_to_choice": "context_options", "doc_to_target": "continuation", "metric_list": _ACCURACY,
}  # fmt: skip
#: name: folder and file under the data folder, and how it is asked
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "piqa": ("multiple_choice/piqa.jsonl.gz", _ASKED),
    "arc_easy": ("multiple_choice/arc_easy.jsonl.gz", _ASKED),
    "arc_challenge": ("multiple_choice/arc_challenge.jsonl.gz", _ASKED),
    "boolq": ("multiple_choice/boolq.jsonl.gz", _ASKED | {"metric_list": _ACCURACY}),
    "openbook_qa": ("multiple_choice/openbook_qa.jsonl.gz", _BEGUN),
    "copa": ("multiple_choice/copa.jsonl.gz", _BEGUN | {"metric_list": _ACCURACY}),
    "winogrande": ("multiple_choice/winogrande.jsonl.gz", _CONTEXTS),
    "hellaswag_pairs": (
        "multiple_choice/hellaswag_pairs.jsonl.gz",
        _CHOICE | {"doc_to_text": "{{context}}", "doc_to_choice": "endings", "doc_to_target": "label", "metric_list": _NORMED},
    ),
    "lambada": (
        "multiple_choice/lambada_openai.jsonl.gz",
        {
            "output_type": "loglikelihood", "test_split": "test", "target_delimiter": " ", "doc_to_text": "{{context}}",
            "doc_to_target": "{{continuation}}", "metric_list": _ACCURACY,
        },
    ),
    "pubmedqa": (
        "pubmedqa/pqal_cv500.jsonl.gz",
        _CHOICE | {
            "doc_to_text": "Abstract: {{context|join('\n')}}\nQuestion: {{question}}\nAnswer:",
            "doc_to_choice": ["yes", "no", "maybe"], "doc_to_target": "answer", "metric_list": _ACCURACY,
        },
    ),
}  # fmt: skip
PREFIX = "addenda_"


@dataclass(frozen=True)
class Task:
    """A question set: `name` as lm-eval knows it, `chance` the share that guessing gets right, `config` for lm-eval.

    `answers` are the true ones, in the file's order: which of the choices, and its words.
    """

    name: str
    chance: float
    questions: int
    config: dict[str, Any]
    answers: tuple[tuple[int, str], ...] = field(default=(), repr=False)

    def constant(self, limit: int | None = None) -> float:
        """The share that the best constant answer gets right, of the first so many questions: always that place, or those words.

        Above `chance` where one answer is commoner than others: a base that says "yes" to everything knows nothing.
        """
        asked = self.answers[:limit]
        places, words = Counter(place for place, _ in asked), Counter(said for _, said in asked)
        if "doc_to_choice" not in self.config:
            places.clear()  # nothing to choose among
        return max([*places.values(), *words.values()], default=0) / max(1, len(asked))


def data_folder() -> Path:
    """`ADDENDA_DATA`, or `../shared/data`."""
    return Path(os.environ.get("ADDENDA_DATA", "../shared/data"))


def task_names(data: Path | None = None) -> list[str]:
    """The local tasks whose files are there: `mmlu_anatomy`, `piqa`, ..."""
    return list(local_tasks(str((data or data_folder()).absolute())))


@cache
def local_tasks(data: str) -> dict[str, Task]:
    """The local tasks by name, of a data folder.

    Raises:
        DataError: a file of it cannot be read; says where.
    """
    tasks: dict[str, Task] = {}
    for name, (file, asked) in FILES.items():
        path = Path(data) / file
        if path.exists():
            config = asked | {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(path)}}}
            answers, options = _questions(path, asked)
            chance = sum(1 / count for count in options) / len(options) if options else 0.0
            tasks[name] = Task(name, chance, len(answers), _named(name, config), answers)
    for path in sorted((Path(data) / "mmlu" / "test").glob("*_test.csv")):
        name = f"mmlu_{path.stem.removesuffix('_test')}"
        tasks[name] = Task(name, 0.25, len(answers := _letters(path)), _named(name, _mmlu(path)), answers)
    return tasks


def _questions(path: Path, asked: dict[str, Any]) -> tuple[tuple[tuple[int, str], ...], list[int]]:
    """The answers in a file of questions, and among how many choices each is; no numbers where words are to be written.

    Raises:
        DataError: it cannot be read, or a question is not of the task's form; says which.
    """
    choices = asked.get("doc_to_choice")
    answers: list[tuple[int, str]] = []
    options: list[int] = []
    try:
        for where, record in json_lines(path):
            try:
                answers.append(_answer(record, asked))
                if choices is not None:
                    options.append(len(choices if isinstance(choices, list) else record[choices]))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise DataError(f"{where}: not a question of this task ({error!r})") from None
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
    return tuple(answers), options


def _letters(path: Path) -> tuple[tuple[int, str], ...]:
    """The answers in a table of MMLU; each is one of four letters in the last column."""
    answers: list[tuple[int, str]] = []
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.reader(lines), 1):
                if len(row) != 6 or row[-1] not in ("A", "B", "C", "D"):
                    raise DataError(f"{path}, row {number}: not a question, four choices and a letter from A to D")
                answers.append(("ABCD".index(row[-1]), row[-1]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
    return tuple(answers)


def tasks_named(names: list[str], data: Path | None = None) -> list[Task]:
    """Tasks by name, each once; `mmlu` is all its subjects.

    Raises:
        DataError: there is none of that name, or the data folder is absent.
    """
    folder = data or data_folder()
    known = local_tasks(str(folder.absolute()))
    chosen: list[Task] = []
    for name in names:
        if name == "mmlu":
            chosen += [task for task in known.values() if task.name.startswith("mmlu_")]
        elif name in known:
            chosen.append(known[name])
        else:
            there = [key for key in known if not key.startswith("mmlu_")]
            there += ["mmlu", "each of its subjects"] if len(known) > len(there) else []
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise DataError(
                f"no task '{name}' under '{folder}'; there are: {', '.join(there) or 'none'}{hint}. ADDENDA_DATA names the data "
                "folder; docs/measuring.md says what lies in it, and how lm-eval's own tasks are asked without one"
            )
    if not chosen:
        raise DataError(f"no task was named, or '{folder}' holds none of its files")
    return list({task.name: task for task in chosen}.values())


def write_tasks(out: Path, data: Path | None = None) -> list[str]:
    """Write every local task as a YAML file for `lm_eval run --include_path`; returns their names there.

    Raises:
        FileError: the folder cannot be written.
        DataError: the data folder holds no task.
    """
    known = local_tasks(str((data or data_folder()).absolute()))
    if not known:
        raise DataError(f"'{data or data_folder()}' holds no question sets; ADDENDA_DATA names the folder of the data")
    out.mkdir(parents=True, exist_ok=True)
    for name, task in known.items():
        # JSON is YAML, but for nothing that stands here
        replace_text(out / f"{name}.yaml", json.dumps(task.config, indent=1, ensure_ascii=False) + "\n")
    return [task.config["task"] for task in known.values()]


def _named(name: str, config: dict[str, Any]) -> dict[str, Any]:
    # lm-eval has tasks of these names, on other data
    return {"task": PREFIX + name} | config | {"num_fewshot": 0, "metadata": {"version": 1.0}}


def _mmlu(path: Path) -> dict[str, Any]:
    names = ["question", "A", "B", "C", "D", "letter"]
    kwargs = {
        "data_files": {"test": str(path)},
        "header": None,
        "names": names,
        "keep_default_na": False,
    }
    return _CHOICE | {
        "dataset_path": "csv", "dataset_kwargs": kwargs, "doc_to_choice": ["A", "B", "C", "D"], "doc_to_target": "letter",
        "doc_to_text": "{{question.strip()}}\nA. {{A}}\nB. {{B}}\nC. {{C}}\nD. {{D}}\nAnswer:", "metric_list": _ACCURACY,
    }  # fmt: skip


def _answer(record: dict[str, Any], asked: dict[str, Any]) -> tuple[int, str]:
    """Which choice is true, and its words; of words that are to be written, those."""
    choices = asked.get("doc_to_choice")
    if choices is None:
        return 0, record["continuation"]
    options = choices if isinstance(choices, list) else record[choices]
    # where contexts are the choices, the text says which is true
    key = asked["doc_to_text"] if asked is _CONTEXTS else asked["doc_to_target"]
    target = record[key]
    place = options.index(target) if isinstance(target, str) else int(target)
    return place, options[place]
