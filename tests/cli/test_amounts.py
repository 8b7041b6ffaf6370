"""Numbers of tokens as people write them, wherever one is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from typer.main import get_command

import addenda
from addenda.cli import app
from addenda.cli.amounts import amount
from addenda.cli.application import verbs
from addenda.cli.written import split


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("20000", 20_000), ("20k", 20_000), ("20K", 20_000), ("2M", 2_000_000), ("1.5M", 1_500_000), ("0.5k", 500),
        ("20_000", 20_000), ("1_000_000", 1_000_000), ("20,000", 20_000), ("1e5", 100_000), ("2.5e3", 2_500),
        ("2 M", 2_000_000), (" 7 ", 7), (300, 300), ("0", 0), ("4.0", 4),
    ],
)  # fmt: skip
def test_what_people_write(written: str | int, number: int) -> None:
    assert amount(written) == number


@pytest.mark.parametrize(
    "written",
    ["", "k", "many", "1.5", "0.0001k", "-5", "20kk", "20_00k_", "1e400", "nan", "inf", "20g", "0x10", "9e20"],
)
def test_what_is_no_number_of_tokens(written: str) -> None:
    with pytest.raises(ValueError, match="token"):
        amount(written)


def test_every_option_that_counts_tokens_takes_them() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    counting = {
        (verb, option.opts[0]): option
        for verb in verbs()
        for option in commands[verb].params
        if "tokens" in option.name or option.name in ("length", "window", "chunk")
    }
    assert {
        ("train", "--tokens"),
        ("compare", "--held-tokens"),
        ("generate", "--max-tokens"),
        ("demo", "--tokens"),
    } <= set(counting)
    for where, option in counting.items():
        context = commands[where[0]].make_context(where[0], [where[1], "1.5k"], resilient_parsing=True)
        assert context.params[option.name] == 1500, where


def test_settings_that_count_tokens_take_them_too() -> None:
    _, settings = split(addenda.LoRA, ["replay_tokens=16k", "clip=0.5"], "memorize", ["replay_tokens", "clip"], [])
    assert settings == {"replay_tokens": 16_000, "clip": 0.5}


def test_a_run_with_thousands(call: Any, place: Any, tmp_path: Any) -> None:
    words = f"train m --base {place.base} --corpus {place.corpus} --replay {place.replay} --tokens 1.024k --length 32"
    said = call(*words.split(), "--batch-rows", "4", "--set", "width=8", "--out", tmp_path / "m", "--json")
    assert said.code == 0, said.err
    assert said.json["tokens"] == 1024
