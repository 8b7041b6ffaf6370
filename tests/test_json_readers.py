"""Every reader of JSON refuses what is no JSON, or no good JSON, in one way: one error with the file and the line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from addenda import AddendaError
from addenda.core.errors import DataError, FileError
from addenda.core.files import kept_json, read_json
from addenda.measuring.asking.edits import load_edits
from addenda.measuring.asking.facts import load_facts
from addenda.measuring.asking.tasks import FILES, local_tasks
from addenda.text.files import json_lines
from addenda.text.texts import texts

GOOD = json.dumps({"text": "a fine line"}).encode()
#: what stands in the field `n` of a line that is otherwise fine, and what is told of it
BROKEN: dict[str, tuple[bytes, str]] = {
    "5,001 digits": (b"1" + b"0" * 5000, "a whole number of 5,001 digits"),
    "minus 5,001 digits": (b"-1" + b"0" * 5000, "a whole number of 5,002 digits"),
    "nested without end": (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 32 levels"),
    "objects without end": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested deeper than 32 levels"),
    "nested forty deep": (b"[" * 40 + b"]" * 40, "nested deeper than 32 levels"),
    "half a pair": (rb'"\ud800"', "half a surrogate pair"),
    "the other half in a key": (rb'{"x\uDFFF": 1}', "half a surrogate pair"),
    "NaN": (b"NaN", "NaN is no JSON number"),
    "minus infinity": (b"-Infinity", "-Infinity is no JSON number"),
    "an exponent without end": (b"1e999999999", "too large for a float"),
    "a key twice": (b'{"a": 1, "a": 2}', "duplicate key"),
    "not UTF-8": (b'"\xff"', "not UTF-8 at byte"),
    "cut off": (b'"never closed', "line 2: not JSON"),
}


def task_file(folder: Path) -> Path:
    return folder / FILES["piqa"][0]


#: a reader of JSON lines, and where in a folder its file lies
READERS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Path]]] = {
    "corpus": (lambda folder: list(texts(folder / "a.jsonl")), lambda folder: folder / "a.jsonl"),
    "gzipped corpus": (lambda folder: list(texts(folder / "a.jsonl.gz")), lambda folder: folder / "a.jsonl.gz"),
    "facts": (lambda folder: load_facts(folder / "a.jsonl"), lambda folder: folder / "a.jsonl"),
    "edits": (lambda folder: load_edits(folder / "a.jsonl"), lambda folder: folder / "a.jsonl"),
    "tasks": (lambda folder: local_tasks(str(folder)), task_file),
}
#: a good line of each reader's own form
FIRST = {
    "edits": json.dumps({"subject": "s", "prompt": "s is", "target_true": "a", "target_new": "b"}).encode(),
    "tasks": json.dumps({"choices": ["a", "b"], "gold": 0}).encode(),
}


def write(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_is_told_with_its_place(reader: str, broken: str, tmp_path: Path) -> None:
    read, place = READERS[reader]
    value, told = BROKEN[broken]
    write(place(tmp_path), FIRST.get(reader, GOOD) + b"\n" + b'{"text": "t", "n": ' + value + b"}\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert "line 2: not JSON (" in str(caught.value)
    assert told in str(caught.value)
    assert place(tmp_path).name in str(caught.value)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_card_is_told(broken: str, tmp_path: Path) -> None:
    value, _ = BROKEN[broken]
    (tmp_path / "card.json").write_bytes(b'{"n": ' + value + b"}")
    problems: list[str] = []
    assert read_json(tmp_path, "card.json", problems) is None
    assert len(problems) == 1
    assert "card.json is malformed" in problems[0]
    with pytest.raises(FileError, match=r"card\.json cannot be read .*remove it"):
        kept_json(tmp_path / "card.json")


def test_what_is_fine_is_read(tmp_path: Path) -> None:
    fine = b'\xef\xbb\xbf{"text": "a", "n": 123456789012345678901234567890, "pair": "\\ud83d\\ude00", "x": 1e-400}\n'
    write(tmp_path / "a.jsonl", fine + b"\n" + fine)
    values = [value for _, value in json_lines(tmp_path / "a.jsonl")]
    assert values == [{"text": "a", "n": 123456789012345678901234567890, "pair": "\U0001f600", "x": 0.0}] * 2


@pytest.mark.parametrize("cut", [-1, -9, 12])
def test_a_gzip_that_ends_early_is_told(cut: int, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((GOOD + b"\n") * 5)[:cut])
    for read in (lambda: list(texts(tmp_path / "a.jsonl.gz")), lambda: load_facts(tmp_path / "a.jsonl.gz")):
        with pytest.raises(AddendaError, match=r"a\.jsonl\.gz, after line \d+: broken gzip"):
            read()


@pytest.mark.parametrize(
    ("reader", "line", "told"),
    [
        (
            "facts",
            {"fact": {"subject": 1, "relation": "r", "prompt": "p", "answer": "a", "others": []}},
            "line 2: not a text",
        ),
        ("facts", {"text": 7}, "line 2: not a text"),
        (
            "edits",
            {"subject": "s", "prompt": 3, "target_true": "a", "target_new": "b"},
            "line 2: 'prompt' is not a text",
        ),
        ("edits", {"subject": "s"}, "line 2: 'prompt' is not a text"),
        ("tasks", {"nothing": 1}, "line 2: not a question"),
    ],
)
def test_a_line_of_another_form_is_told_with_its_place(reader: str, line: Any, told: str, tmp_path: Path) -> None:
    read, place = READERS[reader]
    write(place(tmp_path), FIRST.get(reader, GOOD) + b"\n" + json.dumps(line).encode() + b"\n")
    with pytest.raises(DataError, match=told):
        read(tmp_path)
