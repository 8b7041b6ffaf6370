"""The teacher: says what the bare base says after reading, once, kept under a key of its own, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda.core.errors import DataError
from addenda.core.registry import asked_for
from addenda.objectives.head import Head
from addenda.objectives.objective import Objective
from addenda.text.encoding import Encoder
from addenda.text.teaching import Teaching
from addenda.text.texts import texts
from addenda.writing import teacher as teacher_file
from addenda.writing.shards import Shards, unpacked
from addenda.writing.teacher import Teacher
from pico import ARCHS, pico, pico_tokenizer

from .studied import make, records


def taught(base: addenda.Base, folder: Path, corpus: Any = None, objective: str = "distill(top_k=9)") -> Teacher:
    head = Head(base.model)
    return Teacher(base, head, asked_for(Objective, objective), texts(corpus or records()), folder)


def whole(teacher: Teacher) -> np.ndarray:
    shards = teacher.make()
    return shards.rows(np.arange(sum(shards.sizes)))


#: position, windows, and a head of their own
QUICK = ("llama", "gemma3", "gpt2", "opt")


@pytest.mark.parametrize("arch", [pytest.param(a, marks=[] if a in QUICK else [pytest.mark.slow]) for a in ARCHS])
def test_it_says_what_the_base_says_of_each_record_alone(arch: str, tmp_path: Path) -> None:
    """Records with one text are read together, from a cache of what they share: that must change nothing."""
    model = pico(arch, num_hidden_layers=2) if arch in ("llama", "opt", "qwen2") else pico(arch)
    base = addenda.attach(model, pico_tokenizer())
    corpus = [record | {"reads": record["reads"][:60]} for record in records(8)]
    teacher = taught(base, tmp_path, corpus)
    logs, ids = unpacked(whole(teacher))
    teaching, at = Teaching(Encoder(base.tokenizer, base.vocabulary, close=True)), 0
    for record in texts(corpus):
        lesson = teaching.lesson(record)
        with torch.no_grad():
            logits = base.model(input_ids=torch.from_numpy(lesson.ids).long()[None], use_cache=False).logits[0].float()
        wanted = logits.log_softmax(-1)[torch.from_numpy(lesson.places) - 1]
        mine = slice(at, at + len(wanted))
        torch.testing.assert_close(logs[mine, :-1], wanted.topk(9).values, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(wanted.gather(-1, ids[mine]), logs[mine, :-1], rtol=2e-3, atol=2e-3)
        rest = 1 - logs[mine, :-1].exp().sum(-1)
        torch.testing.assert_close(logs[mine, -1].exp(), rest, rtol=0.02, atol=2e-3)
        at += len(wanted)
    assert at == len(logs)


def test_modules_are_off_while_it_reads(tmp_path: Path) -> None:
    base = make()
    before = whole(taught(base, tmp_path / "before"))
    with torch.no_grad():
        for parameter in base.modules["a"].parameters():
            parameter.add_(0.3)
    with base.using("a"):
        assert np.array_equal(whole(taught(base, tmp_path / "after")), before)


def test_the_size_told_before_is_within_a_twentieth_of_that_on_disk(tmp_path: Path) -> None:
    teacher = taught(make(), tmp_path, records(120), "distill(top_k=64)")
    told = teacher.shards.bytes
    assert not list(tmp_path.iterdir())
    teacher.make()
    on_disk = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert told == pytest.approx(on_disk, rel=0.05)


def test_what_was_said_once_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make()
    first = taught(base, tmp_path)
    first.make()

    def never(*args: Any) -> Any:
        raise AssertionError("it read again")

    monkeypatch.setattr(Teacher, "said", never)
    again = taught(base, tmp_path, objective="reverse_kl(top_k=9)")
    assert again.make().folder == first.shards.folder
    file = tmp_path / "records.jsonl"
    file.write_text("".join(f"{addenda_json(record)}\n" for record in records()))
    assert taught(base, tmp_path, str(file)).shards.folder == first.shards.folder  # the same records, from a file
    others = [
        taught(base, tmp_path, objective="distill(top_k=8)"),
        taught(base, tmp_path, records(10)),
        taught(base, tmp_path, [record | {"reads": "Another text."} for record in records()]),
        taught(make(initializer_range=0.5, hidden_size=32, num_attention_heads=2), tmp_path),
    ]
    folders = {first.shards.folder, *(other.shards.folder for other in others)}
    assert len(folders) == 5


def addenda_json(record: dict[str, Any]) -> str:
    import json

    return json.dumps(record)


class Enough(Exception):
    """Stops it at once."""


def test_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_file, "READ", 900)
    base = make()
    wanted, count = whole(taught(base, tmp_path / "straight")), len(taught(base, tmp_path / "straight").survey.sizes)
    assert count > 3
    original, done = Shards.write, list[int]()

    def write(self: Shards, number: int, rows: np.ndarray) -> None:
        if len(done) == 2:
            raise Enough
        done.append(number)
        original(self, number, rows)

    monkeypatch.setattr(Shards, "write", write)
    with pytest.raises(Enough):
        taught(base, tmp_path / "cut").make()
    monkeypatch.setattr(Shards, "write", original)
    read: list[int] = []
    said = Teacher.said
    monkeypatch.setattr(Teacher, "said", lambda self, group: (read.append(len(group)), said(self, group))[1])
    again = taught(base, tmp_path / "cut")
    assert len(again.shards.missing()) == count - 2
    assert np.array_equal(whole(again), wanted)
    assert len(read) == count - 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda record: {"messages": record["messages"]},
            "text 3: the record has no 'reads'.* where it is to read nothing",
        ),
        (
            lambda record: record | {"reads": "long. " * 300},
            r"text 3: the teacher would read .* context is 512; make 'reads'",
        ),
        (lambda record: record | {"reads": 3}, "text 3: 'reads' is the text that a teacher reads first; got int"),
        (
            lambda record: {"messages": record["messages"][:1], "reads": "a"},
            "text 3: .* no message of the role 'assistant'",
        ),
    ],
)
def test_a_record_that_is_wrong_is_told_by_its_place(tmp_path: Path, change: Any, message: str) -> None:
    corpus = records(6)
    corpus[2] = change(corpus[2])
    with pytest.raises(DataError, match=message):
        taught(make(), tmp_path, corpus).make()
    assert not list(tmp_path.iterdir())


def test_a_stream_without_an_end_is_refused(tmp_path: Path) -> None:
    class Endless:
        def __iter__(self) -> Any:
            while True:
                yield from records(2)

    with pytest.raises(DataError, match="has no known end"):
        taught(make(), tmp_path, Endless()).make()
