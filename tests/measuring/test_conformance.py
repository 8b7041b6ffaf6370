"""What every measure keeps to, whatever it measures: asked for by its first option, told of, its numbers checked, silent else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
from typer.testing import CliRunner

import addenda
from addenda.cli.application import build as app
from addenda.core import registry
from addenda.core.errors import AddendaError
from addenda.measuring.conducting.measure import check_sizes
from pico import pico, pico_tokenizer

METHODS = list(registry.methods("measure"))
TEXTS = ["the river ran past the old mill. " * 3, "the dose was raised and the patients slept. " * 3]


def flags(name: str) -> dict[str, Any]:
    method: Any = registry.named("measure", name)
    return {one.name: one.metadata["flag"] for one in fields(method) if "flag" in one.metadata}


@cache
def help_of_evaluate() -> str:
    return re.sub(
        r"\x1b\[[0-9;]*m", "", CliRunner().invoke(app(), ["evaluate", "--help"], env={"COLUMNS": "200"}).stdout
    )


@cache
def unasked() -> Any:
    """A report in which two texts were scored and nothing else was asked for."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=2))
    with base.using("m"):
        return addenda.evaluate(base, {"plain": TEXTS})


@pytest.mark.parametrize("name", METHODS)
def test_it_is_made_of_its_defaults_and_its_first_option_asks_for_it(name: str) -> None:
    method: Any = registry.named("measure", name)
    first = fields(method)[0].name
    assert not method().asked
    assert first in flags(name), "its first option is given on the command line too"
    given = True if flags(name)[first].takes == "switch" else {"a": "b"} if flags(name)[first].takes == "named" else "a"
    assert method(**{first: given}).asked


@pytest.mark.parametrize("name", METHODS)
def test_the_command_line_tells_its_options(name: str) -> None:
    for option, flag in flags(name).items():
        called = flag.name or "--" + option.replace("_", "-")
        assert re.search(rf"{re.escape(called)}\b", help_of_evaluate()), called
        assert flag.help.split()[0] in help_of_evaluate()


@pytest.mark.parametrize("name", METHODS)
def test_numbers_that_are_too_small_are_refused(name: str) -> None:
    method: Any = registry.named("measure", name)
    numbers = {option: flag for option, flag in flags(name).items() if flag.takes in ("number", "tokens")}
    for option, flag in numbers.items():
        for wrong in (flag.least - 1, 1.5, True):
            with pytest.raises(AddendaError, match=f"{option} must be a whole number from {flag.least}"):
                check_sizes(method(**{option: wrong}))


@pytest.mark.parametrize("name", METHODS)
def test_it_says_nothing_where_it_was_not_asked_for(name: str) -> None:
    method: Any = registry.named("measure", name)
    nothing = method.nothing
    assert json.loads(json.dumps(nothing)) == (list(nothing) if isinstance(nothing, tuple) else nothing)
    told = unasked().as_dict()
    assert isinstance(told, Mapping)
    if "plain" not in str(told.get(name)):  # the one that scores texts was asked
        assert getattr(unasked(), name) == nothing
