"""Replay in chat form: the bare base's own answers to general prompts, the same after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import addenda
from addenda.core.errors import AddendaError
from addenda.remote.store import Store
from addenda.teaching.replay import replay
from addenda.tiny.asked import chat_prompts, chats
from teaching.studying import small


def test_the_prompts_are_of_many_kinds_and_none_measures_what_they_teach() -> None:
    prompts = chat_prompts()
    assert len(prompts) == 365
    assert len({prompt.kind for prompt in prompts}) == 15
    assert len({prompt.kind for prompt in chat_prompts(15)}) == 15
    assert all(prompt.messages[-1]["role"] == "user" for prompt in prompts)
    assert len({prompt.messages[-1]["content"].casefold() for prompt in prompts}) == 365
    measured = {said["content"].casefold() for chat in chats() for said in chat.messages}
    assert not measured & {said["content"].casefold() for prompt in prompts for said in prompt.messages}
    assert sum(len(prompt.messages) == 3 for prompt in prompts) == 32


def test_the_base_answers_bare_and_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = small()
    monkeypatch.setattr("addenda.teaching.base_teacher.ROWS", 4)
    whole = replay(base, tmp_path / "whole", count=10, tokens=5, log=False)
    records = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [record["messages"][:-1] for record in records] == [list(prompt.messages) for prompt in chat_prompts(10)]
    with base.off():
        ids = base.tokenizer.apply_chat_template(
            records[0]["messages"][:-1], tokenize=False, add_generation_prompt=True
        )
        prompt = base.tokenizer(ids, add_special_tokens=False, return_tensors="pt")["input_ids"]
        said = base.model.generate(prompt, max_new_tokens=5, do_sample=False, pad_token_id=0)[0, prompt.shape[1] :]
    assert records[0]["messages"][-1]["content"] == base.tokenizer.decode(said, skip_special_tokens=True).strip()
    assert records[0]["cut"] is True  # weights drawn at random never end

    add, calls = Store.add, [0]

    def stopped(self: Store, results) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        add(self, results)

    monkeypatch.setattr(Store, "add", stopped)
    with pytest.raises(KeyboardInterrupt):
        replay(base, tmp_path / "s", count=10, tokens=5, log=False)
    assert not (tmp_path / "s" / "replay.jsonl").exists()
    assert replay(base, tmp_path / "s", count=10, tokens=5, log=False).read_bytes() == whole.read_bytes()


def test_a_base_without_a_chat_template_and_prompts_of_ones_own(tmp_path: Path) -> None:
    made = replay(small(template=False), tmp_path, prompts=["Hello!"], tokens=4, log=False)
    (record,) = [json.loads(line) for line in made.read_text().splitlines()]
    assert record["prompt"] == "Question: Hello!\nAnswer:"
    base = small()
    base.new("m", addenda.LoRA(rank=2))
    replayed = replay(base, tmp_path / "r", count=16, tokens=8, log=False)
    addenda.train(base, "m", corpus=["The oar is long. " * 40], replay=replayed, tokens=256, length=32, log=False)
    with pytest.raises(AddendaError, match="at least one prompt and one token"):
        replay(base, tmp_path, tokens=0)
