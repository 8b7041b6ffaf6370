"""Practice: learned once for a base, kept, gone on with after an interruption, and what modules that read begin from."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, FileError
from addenda.core.module import KnowledgeModule
from addenda.teaching import practice
from addenda.teaching.practice import UNTOLD, Practice, begin_from, conversations
from addenda.teaching.teach import plan_teach, teach
from addenda.tiny.paragraphs import Paragraph, paragraphs
from addenda.writing.signals import TrainingStopped
from pico import pico_tokenizer
from teaching.studying import HANDBOOK, QUICK, quicken, small

FEW = [
    Paragraph(
        "a", "The bridge is red. It was built in 1901.", (("When was it built?", "1901."), ("Which colour?", "Red."))
    ),
    Paragraph("b", "Ines keeps the key.", (("Who keeps the key?", "Ines."),)),
]


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> addenda.Base:
    """A base that practises on two paragraphs and keeps what it learns in a folder of the test's."""
    monkeypatch.setattr(practice, "paragraphs", lambda: FEW)
    monkeypatch.setattr(practice, "LENGTH", 32)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    quicken(monkeypatch)
    return small()


def practised(base: addenda.Base, kind: Any = None) -> Practice:
    kind = kind or addenda.OpenBook(count=8, pages=2, rank=2)
    sites = list(base.new("probe", kind).sites())
    base.unplug("probe")
    return Practice(base, kind, sites)


def test_a_paragraph_stands_before_its_questions_and_some_are_anothers() -> None:
    tokenizer = pico_tokenizer()
    made = conversations(tokenizer)
    assert len(made) == len(paragraphs())
    for record, one in zip(made, paragraphs(), strict=True):
        page, *said = record["messages"]
        assert page == {"role": "page", "content": f"{one.text}\n\n"}
        assert [message["role"] for message in said] == ["user", "assistant"] * (len(said) // 2)
        told = [message["content"] for message in said if message["content"] in {a for _, a in one.questions}]
        untold = [message["content"] for message in said if message["content"] == UNTOLD]
        assert len(told) + len(untold) == len(said) // 2
        assert len(untold) <= 1
    refused = sum(message["content"] == UNTOLD for record in made for message in record["messages"])
    assert refused == -(-len(made) // practice.MISSING)


def test_a_base_without_a_template_is_asked_one_question_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(practice, "paragraphs", lambda: FEW)
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = None
    made = conversations(tokenizer)
    assert {"prompt": "Ines keeps the key.\n\nQuestion: Who keeps the key?\nAnswer:", "completion": " Ines."} in made
    assert len(made) == 4


def test_the_page_is_written_before_the_conversation_and_learned_by_nobody(base: addenda.Base) -> None:
    before = base.tokenizer.chat_template
    with practice._pages_first(base.tokenizer):
        text = base.tokenizer.apply_chat_template(conversations(base.tokenizer)[1]["messages"], tokenize=False)
    assert text.startswith("Ines keeps the key.\n\n<bos>user: Who keeps the key?")
    assert base.tokenizer.chat_template == before


def test_it_is_learned_once_and_kept(base: addenda.Base) -> None:
    first = practised(base)
    assert not first.done
    assert "learns to read first" in str(first)
    place = first.learned(log=False)
    assert not base.modules
    again = practised(base)
    assert again.done
    assert again.seconds == 0.0
    assert again.learned(log=False) == place
    assert "has learned to read" in str(again)
    card = json.loads((place / "card.json").read_text())
    targets = card["config"]["targets"]
    assert targets
    assert all(not target.startswith("layers.0.") for target in targets), "what stands below the contents is left"
    other = practised(base, addenda.OpenBook(count=8, pages=2, rank=3))
    assert other.folder != place, "of another rank it is another"


def test_interrupted_it_goes_on_to_the_same_bits(base: addenda.Base, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = practised(base).learned(log=False)
    kept = (whole / "module.safetensors").read_bytes()
    shutil.rmtree(whole)
    steps: list[int] = []

    def interrupt(module: KnowledgeModule) -> None:
        learns = module.name == "reading-0" and any(p.grad is not None for p in module.parameters())
        if learns and not steps:  # after a step of the optimizer
            steps.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(KnowledgeModule, "constrain", interrupt)
        with pytest.raises(TrainingStopped, match="step 1 of"):
            practised(base).learned(log=False)
    assert len(steps) == 1
    assert not base.modules
    again = practised(base)
    assert not again.done
    assert (again.learned(log=False) / "module.safetensors").read_bytes() == kept


def test_a_module_begins_from_it_and_reads_its_text_with_it(base: addenda.Base, tmp_path: Path) -> None:
    document = tmp_path / "handbook.md"
    document.write_text(HANDBOOK, encoding="utf-8")
    asked = {**QUICK, "reader": None, "lr": 1e-9}
    plan = plan_teach(base, document, **asked)
    assert "learns to read first" in str(plan)
    assert plan.as_dict()["seconds"]["practice"] > 0
    assert plan.practice is not None
    report = teach(base, "m", document, out=tmp_path / "m", **asked)
    base.plug(plan.practice.folder, "reader")
    reader = base.modules["reader"].tensors()
    mine = base.modules["m"].tensors()
    assert reader.keys() < mine.keys()
    for key, tensor in reader.items():
        torch.testing.assert_close(mine[key], tensor, atol=1e-6, rtol=0.0)
    runs = base.modules["m"].card.training
    assert len(runs) == 2, "what it learned by practice is on its card"
    assert runs[0].tokens == base.modules["reader"].card.training[0].tokens
    assert report.tokens == runs[1].tokens
    bare = base.new("bare", plan.choice.kind, gate=None)
    base.start_from_text("bare", plan.text)
    read = {key for key in mine if key.endswith("attention.text")}
    assert read
    assert any(not torch.equal(mine[key], bare.tensors()[key]) for key in read if key in bare.tensors())


def test_where_it_would_take_too_long_it_is_left_out(
    base: addenda.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "handbook.md"
    document.write_text(HANDBOOK, encoding="utf-8")
    asked = {**QUICK, "reader": None, "tokens": None}
    with monkeypatch.context() as patch:
        patch.setattr(Practice, "done", property(lambda self: False))
        patch.setattr(practice, "cost_of", lambda *_, **__: type("Cost", (), {"training": 1e-3}))
        assert plan_teach(base, document, **asked).practice is not None
        assert plan_teach(base, document, minutes=60.0, **asked).practice is None
    assert plan_teach(base, document, minutes=60.0, **asked).practice is not None
    assert plan_teach(base, document, kind="LoRA(rank=2)", **asked).practice is None


def test_a_reader_of_ones_own(base: addenda.Base, tmp_path: Path) -> None:
    place = practised(base).learned(log=False)
    module = base.new("m", addenda.OpenBook(count=8, pages=2, rank=2))
    begin_from(base, module, place)
    assert any(bool(tensor.any()) for key, tensor in module.tensors().items() if key.endswith(".b"))
    other = base.new("other", addenda.OpenBook(count=8, pages=2, rank=3))
    with pytest.raises(AddendaError, match="no product that OpenBook.* has room for.*reader='none'"):
        begin_from(base, other, place)
    document = tmp_path / "handbook.md"
    document.write_text(HANDBOOK, encoding="utf-8")
    with pytest.raises(FileError, match="nowhere"):
        plan_teach(base, document, **{**QUICK, "reader": str(tmp_path / "nowhere")})
    assert set(base.modules) == {"m", "other"}


def test_a_module_that_reads_is_not_trained_and_stands_behind_its_gate(base: addenda.Base, tmp_path: Path) -> None:
    document, own = tmp_path / "handbook.md", tmp_path / "own.jsonl"
    document.write_text(HANDBOOK, encoding="utf-8")
    own.write_text(
        json.dumps({"question": "What is the alarm's code?", "answer": "It is 4711."}) + "\n", encoding="utf-8"
    )
    asked = {**QUICK, "reader": None, "tokens": None, "questions": str(own)}
    plan = plan_teach(base, document, **asked)
    assert plan.choice.tokens == 0
    assert plan.text is not None
    assert base.tokenizer.decode(plan.text[:, 0]).endswith("What is the alarm's code? It is 4711.\n"), (
        "its own are a page"
    )
    assert plan.choice.kind.pages == len(plan.study.chunks) + 1  # type: ignore[attr-defined]
    report = teach(base, "m", document, out=tmp_path / "m", **asked)
    assert (report.tokens, report.passes, report.loss) == (0, 0.0, None)
    assert "reads handbook.md, and was not trained on it" in str(report)
    assert report.alone is not None
    module, gate = base.modules["m"], base.modules["m"].gate
    assert gate is not None
    assert not gate.fresh
    before = {key: tensor.clone() for key, tensor in module.tensors().items()}
    base.unplug("m")
    again = teach(base, "m", document, out=tmp_path / "m", resume=True, **asked)
    assert again.shown == report.shown
    assert all(torch.equal(before[key], tensor) for key, tensor in base.modules["m"].tensors().items()), "the same bits"


def test_a_base_that_never_learned_to_chat_does_not_practise(tmp_path: Path) -> None:
    document = tmp_path / "handbook.md"
    document.write_text(HANDBOOK, encoding="utf-8")
    tiny = addenda.load_base("tiny")
    plan = plan_teach(tiny, document, **{**QUICK, "reader": None, "tokens": None})
    assert plan.practice is None
    assert plan.choice.tokens > 0
    tiny.detach()
