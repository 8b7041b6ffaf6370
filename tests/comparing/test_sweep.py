"""Sweeps: which rates are tried and how they are halved, rates at the edge, rates that diverge, packages that are missing."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from addenda.cli.compare import show
from addenda.comparing import compare as comparing
from addenda.comparing import page
from addenda.comparing.methods import METHODS, Method
from addenda.comparing.settings import CompareSettings
from addenda.comparing.sweep import Sweep, planned, rungs, swept
from addenda.core.errors import AddendaError, UnsupportedError

DIVERGES = 1e20


class Fake:
    """Whose loss is the distance from 2, and which fails at rates above 20."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    def record(self, method: Method, lr: float, tokens: int, seed: int, *, final: bool) -> dict[str, Any]:
        assert not final
        self.asked.append((lr, tokens))
        return {"choosing": math.inf, "failed": f"too much at {lr}"} if lr > 20 else {"choosing": abs(lr - 2.0)}


METHOD = Method("x", "module", "x", (2.0, 6.0, 18.0))


def test_rates_lie_around_the_tested_one() -> None:
    assert METHOD.sweep(1) == (6.0,)
    assert METHOD.sweep(2) == (6.0, 2.0)
    assert METHOD.sweep(3) == (6.0, 2.0, 18.0)
    assert METHOD.sweep(4) == pytest.approx((6.0, 2.0, 18.0, 2 / 3))
    assert METHOD.sweep(6) == pytest.approx((6.0, 2.0, 18.0, 2 / 3, 54.0, 2 / 9))
    assert METHODS["rag"].sweep(4) == ()
    for method in METHODS.values():  # records of sweeps of three are known by these very numbers
        assert sorted(method.sweep(3)) == list(method.rates)


def test_rates_are_halved_by_what_they_learn() -> None:
    work: Any = Fake()
    settings = CompareSettings(tokens=8192, rates=6, rung=0.25)
    found = swept(work, METHOD, settings)
    assert found.rate == 2.0
    assert [tokens for _, tokens in work.asked] == [2048] * 6 + [4096] * 3
    assert {rate for rate, _ in work.asked[6:]} == {2.0, METHOD.sweep(4)[3], METHOD.sweep(6)[5]}
    assert set(found.tried) == set(METHOD.sweep(6))
    assert found.tried[54.0] == math.inf
    assert found.edge is None
    assert swept(work, METHOD, CompareSettings(rates=1)) == Sweep(6.0, {})
    assert [list(rungs(settings, count)) for count in (1, 3, 4)] == [[], [(2048, 3)], [(2048, 4), (4096, 2)]]
    assert planned([METHOD], settings) > planned([METHOD], CompareSettings(tokens=8192, rates=3, rung=0.25))


def test_what_fails_is_left_out_and_said_where_all_fails() -> None:
    work: Any = Fake()
    high = Method("x", "module", "x", (18.0, 54.0, 162.0))
    assert swept(work, high, CompareSettings()) == Sweep(18.0, {54.0: math.inf, 18.0: 16.0, 162.0: math.inf})
    assert len(work.asked) == 3
    found = swept(work, Method("x", "module", "x", (54.0, 162.0, 486.0)), CompareSettings())
    assert found.rate is None
    assert found.failed == "at every rate that was tried; at 162: too much at 162.0"


def test_a_rate_chosen_at_the_edge_of_its_sweep_is_said() -> None:
    tried = {0.003: 5.0, 0.001: 5.1, 0.01: math.inf}
    assert [Sweep(rate, tried).edge for rate in (0.001, 0.003, 0.01)] == ["lowest", None, "highest"]
    assert Sweep(0.01, {0.01: 5.0}).edge is None
    shown = {f"{rate:g}": loss for rate, loss in tried.items()}
    assert page.tried_of(shown, None) == "0.003: 5.0000, 0.001: 5.1000, 0.01: failed"
    assert page.tried_of(shown, "lowest").endswith("; the chosen rate is the lowest tried, one beyond it may do better")


@pytest.mark.slow
def test_a_rate_that_diverges_ends_neither_the_sweep_nor_the_comparison(
    ways: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through real training: of a module, of a memory, and of every weight."""
    for name in ("lora", "locas"):
        monkeypatch.setitem(METHODS, name, replace(METHODS[name], rates=(1e-3, DIVERGES, 3 * DIVERGES)))
    for name in ("full", "adapter"):
        monkeypatch.setitem(METHODS, name, replace(METHODS[name], rates=(DIVERGES, 3 * DIVERGES, 9 * DIVERGES)))
    said: list[str] = []
    far: list[tuple[int, int]] = []
    given = {"methods": ("lora", "locas", "full", "adapter"), "seeds": (0,), "rates": 3}
    found = ways.compare(tmp_path, **given, tell=said.append, advance=lambda *at: far.append(at))
    assert [row.method for row in found.rows] == ["base", "lora", "locas"]
    assert [row.rate for row in found.rows] == [None, 1e-3, 1e-3]
    assert found.sweeps["lora"]["1e+20"] == found.sweeps["lora"]["3e+20"] == math.inf
    assert found.edges == {"lora": "lowest", "locas": "lowest"}
    assert [one.method for one in found.failed] == ["full", "adapter"]
    assert all("not finite" in one.reason and "checkpoint" not in one.reason for one in found.failed)
    assert far[-1][0] == far[-1][1]
    kept = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert kept["sweeps"]["lora"]["1e+20"] is None
    assert kept["edges"]["lora"] == "lowest"
    assert kept["failed"][0]["method"] == "full"
    for record in (tmp_path / "records").glob("*.json"):
        json.loads(record.read_text(), parse_constant=pytest.fail)
    html = found.page.read_text()
    console = Console(width=160, record=True)
    show(console, found)
    terminal = " ".join(console.export_text().split())
    for told in (html, terminal):
        assert "full failed: at every rate that was tried; at 3e+20: " in told
        assert "the chosen rate is the lowest tried, one beyond it may do better" in told
    again: list[str] = []
    assert ways.compare(tmp_path, **given, tell=again.append) == found
    assert not again
    # one rate is not swept: the final run itself fails
    alone = ways.compare(tmp_path, methods=("full", "adapter", "registers"), seeds=(0,), rates=1)
    assert [row.method for row in alone.rows] == ["base", "registers"]
    assert [(one.method, one.rate, one.seed) for one in alone.failed] == [
        ("full", 3 * DIVERGES, 0),
        ("adapter", 3 * DIVERGES, 0),
    ]


@pytest.mark.slow
def test_what_may_be_mended_is_told_and_tried_again(ways: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that the base cannot host is no reason to lose the others; and no record keeps it from another try."""

    def refused(base: Any, size: Any) -> Any:
        raise UnsupportedError("this base has no place for it")

    given: dict[str, Any] = {"methods": ("adapter", "lora"), "seeds": (0,), "rates": 1}
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "adapter", replace(METHODS["adapter"], kind=refused))
        found = ways.compare(tmp_path, **given)
    assert [row.method for row in found.rows] == ["base", "lora"]
    assert str(found.failed[0]) == "adapter failed at rate 0.001, seed 0: this base has no place for it"
    assert [row.method for row in ways.compare(tmp_path, **given).rows] == ["base", "adapter", "lora"]


def test_a_missing_package_is_told_before_anything_is_loaded(
    ways: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any) -> Any:
        raise AssertionError("the base was loaded")

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in ("bm25s", "peft") else real(name, *more)
    )
    monkeypatch.setattr(comparing, "_loaded", loaded)
    with pytest.raises(AddendaError) as error:
        ways.compare(tmp_path, methods=("lora", "rag", "peft"))
    assert str(error.value) == (
        "rag needs bm25s, peft needs peft, which is not installed: "
        "pip install bm25s peft, or compare without: --methods base,lora"
    )
    assert not list(tmp_path.iterdir())
    with pytest.raises(AssertionError, match="was loaded"):
        ways.compare(tmp_path, methods=("lora",))
