"""Odd inputs that went wrong once, by kind: text that is no text, tables with gaps, numbers that no logits come of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import addenda
from addenda.cli.answers import console, harmless
from addenda.core.errors import AddendaError, DataError
from addenda.showing.generating import Sampling
from addenda.text.chat_spans import Chat
from addenda.text.texts import texts
from addenda.writing.run_log import LOG, RunLog
from pico import pico, pico_tokenizer, random_ids


def calls(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    tool = {
        "type": "function",
        "function": {"name": name, "parameters": {"properties": {next(iter(arguments)): {"type": "string"}}}},
    }
    return {"messages": messages, "tools": [tool]}


@pytest.mark.parametrize("how", ["parquet", "datasets"])
def test_a_tables_gaps_are_no_arguments_of_a_call(how: str, tmp_path: Path) -> None:
    import datasets

    records = [calls("f", {"city": "Rome"}), calls("g", {"n": 3})]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    read = list(texts(tmp_path / "a.parquet" if how == "parquet" else datasets.Dataset.from_list(records)))
    told = [record["messages"][1]["tool_calls"][0]["function"] for record in read]
    assert told == [{"name": "f", "arguments": {"city": "Rome"}}, {"name": "g", "arguments": {"n": 3}}]


def test_records_of_all_forms_stand_in_one_table(tmp_path: Path) -> None:
    records = [
        {"text": "a river"},
        {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]},
        {"prompt": "one", "completion": "two"},
    ]
    rows = [{key: record.get(key) for key in ("text", "messages", "prompt", "completion")} for record in records]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert list(texts(tmp_path / "a.parquet")) == list(texts(rows)) == list(texts(records))


def test_a_parquet_file_that_is_not_utf_8(tmp_path: Path) -> None:
    column = pa.array([b"caf\xe9"], type=pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: broken parquet"):
        list(texts(tmp_path / "a.parquet"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(DataError, match="is no regular file"):
        list(texts(tmp_path / "a.txt"))


@pytest.mark.parametrize("text", ["\udcff caf", "caf\ud800", 3, None, b"x"])
def test_what_is_no_text_is_no_prompt(text: Any) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    asks: list[Any] = [base.tokenize, lambda text: base.prompts([text])]
    if text is not None:  # which is no text at all
        asks.append(lambda text: base.new("m", addenda.Cartridge(2), text=text))
    for ask in asks:
        with pytest.raises(AddendaError, match="a prompt|half a surrogate|text"):
            ask(text)


def test_a_role_with_half_a_surrogate_is_told() -> None:
    with pytest.raises(DataError, match="half a surrogate pair"):
        list(texts([{"messages": [{"role": "us\udcff", "content": "hello"}]}]))


@pytest.mark.parametrize("temperature", [1e-40, 1e-300, float("inf"), float("nan"), -1.0])
def test_a_temperature_that_cannot_be_divided_by(temperature: float) -> None:
    with pytest.raises(AddendaError, match="temperature"):
        Sampling(temperature=temperature)


def test_marks_in_a_templates_comment_are_no_marks() -> None:
    tokenizer = pico_tokenizer()
    plain = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}|{% endfor %}"
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}]
    spans = []
    for template in (plain, "{# {% generation %} of old #}" + plain):
        tokenizer.chat_template = template
        spans.append(Chat(tokenizer, messages).spans())
    assert spans[0] == spans[1]
    assert spans[0]


def test_a_torn_log_is_taken_up_to_where_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(b'{"step": 1}\n{"step": 2, "los\xff')
    with RunLog(tmp_path, 4, show=False, tracker=None, name="m", config={}) as log:
        log.resume(4)
        assert log.history == [{"step": 1}]


def test_control_characters_of_a_card_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert harmless("a\x1b[2Jb\nc\té") == "a\\x1b[2Jb\nc\té"
    console().print("base \x1b[31mred", markup=False)
    assert capsys.readouterr().out.rstrip() == "base \\x1b[31mred"


@pytest.mark.parametrize("how", ["load_state_dict", "in place"])
def test_weights_that_were_written_to_are_another_base(how: str) -> None:
    base, other = (addenda.attach(pico("llama", seed=seed), pico_tokenizer()) for seed in (0, 7))
    for each in (base, other):
        each.new("r", addenda.Registers(count=2))
    other.modules["r"].load_tensors(base.modules["r"].tensors())
    ids, before = random_ids(1, 8), base.fingerprint
    with base.using("r"), other.using("r"), torch.no_grad():
        base.model(ids)
        if how == "in place":
            for mine, theirs in zip(base.model.parameters(), other.model.parameters(), strict=True):
                mine.copy_(theirs)
        else:
            base.model.load_state_dict(other.model.state_dict())
        assert torch.equal(base.model(ids).logits, other.model(ids).logits)
    assert before != base.fingerprint == other.fingerprint
    assert base.new("after", addenda.LoRA(rank=2)).card.base.fingerprint == other.fingerprint
