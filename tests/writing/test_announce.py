"""What a run will do and take is told before its first step, without changing it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.writing import pace
from addenda.writing.step import Stepper

Make = Callable[..., addenda.Base]


def test_the_plan_is_told_before_the_first_step(
    base: addenda.Base, quick: dict[str, Any], texts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    base.new("a", addenda.NeutralResidues(width=8))
    held_out = {"learning": texts["learning"], "forgetting": texts["forgetting"]}
    told: list[str] = []
    take = Stepper.take

    def first(self: Stepper, step: int, passes: Any) -> Any:
        if step == 0:
            told.extend(capsys.readouterr().err.splitlines())
        return take(self, step, passes)

    monkeypatch.setattr(Stepper, "take", first)
    given = quick | {"log": True, "out": tmp_path / "a", "validation": held_out}
    addenda.train(base, "a", **given)
    assert told[0] == "training a: 0/8 steps, 0:00 gone"
    lines = "\n".join(told)
    assert re.search(r"a: NeutralResidues, [\d,]+ parameters; 1,024 tokens in 8 steps of 4 rows x 32 tokens", lines)
    assert re.search(r"corpus: texts, read in part \(\d+ documents\); 25% of the rows are replay of texts", lines)
    assert re.search(r"gate: fitted first, on up to 16,384 tokens, about|a few", lines)
    assert re.search(r"validation: once 2 texts of 700 tokens, about \d+ of \d+ seconds", lines)
    assert re.search(r"time: .*, at [\d,]+ tokens/s as timed on this machine just now", lines)
    assert re.search(r"memory: base [\d.]+ MB, modules with their optimizer [\d.]+ MB", lines)
    assert re.search(r"disk: checkpoints up to [\d.]+ MB in .*a\.run, removed when the run is finished", lines)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"corpus": ["a small book of words. " * 20]}, r"corpus: texts, \d+ tokens, read \d\.\d times"),
        (
            {"corpus": ["a small book of words. " * 20]},
            r"remark: texts has \d+ tokens: to answer .* LoRA and Cartridge",
        ),
        (
            {"tokens": 20 * 128, "batch_rows": 16},
            r"remark: 5 steps only, of 16 rows x 32 tokens: try 2 rows \(--batch-rows\)",
        ),
        ({"replay": None, "replay_share": 0.0}, r"remark: no replay: the gate was never asked to shut"),
        ({"accumulate": 2}, r"4 steps of 4 rows x 32 tokens x 2 passes"),
    ],
)
def test_what_does_not_fit_is_remarked_upon(
    base: addenda.Base, quick: dict[str, Any], capsys: pytest.CaptureFixture[str], changed: dict[str, Any], told: str
) -> None:
    base.new("a", addenda.NeutralResidues(width=8))
    addenda.train(base, "a", **quick | changed | {"log": True})
    assert re.search(told, capsys.readouterr().err)


@pytest.mark.parametrize("kind", [addenda.NeutralResidues(width=8), addenda.Registers(count=4, init="text")])
def test_to_tell_it_changes_nothing(make_base: Make, quick: dict[str, Any], kind: Any) -> None:
    found = []
    for log in (True, False):
        base = make_base()
        base.new("a", kind)
        report = addenda.train(base, "a", **quick | {"log": log})
        found.append((base.modules["a"].tensors(), report.data_crc, report.losses))
    assert all(torch.equal(tensor, found[1][0][name]) for name, tensor in found[0][0].items())
    assert found[0][1:] == found[1][1:]


def test_silent_where_that_is_asked(
    base: addenda.Base, quick: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_seconds", None)  # and nothing is timed
    base.new("a", addenda.LoRA(rank=2))
    addenda.train(base, "a", **quick)
    addenda.memorize(
        base, "b", text="some words to read " * 20, kind=addenda.LoRA(rank=2), log=False, window=48, chunk=16
    )
    assert capsys.readouterr() == ("", "")


def test_memorize_tells_what_it_will_read(
    base: addenda.Base, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = "some words to read. " * 20
    kind = addenda.LoRA(rank=2)
    report = addenda.memorize(base, "b", text=text, kind=kind, window=48, chunk=16, passes=3, out=tmp_path / "b")
    told = capsys.readouterr().err
    plan = (
        rf"b: LoRA, [\d,]+ parameters; texts, {report.tokens:,} tokens, read 3 times in chunks of 16 in a window of 48"
    )
    assert re.search(plan, told)
    assert re.search(r"time: .* at [\d,]+ tokens/s", told)
    chunks = 3 * -(-report.tokens // 16)
    assert f"memorizing b: {chunks}/{chunks} chunks (100%)" in told
    assert re.search(r"pass 3 of 3, loss \d\.\d{3} before it was written", told)
    assert f"{3 * report.tokens:,} tokens read and written ({report.tokens:,} in 3 passes)" in str(report)


@pytest.mark.parametrize(("tokens", "sizes"), [(3_000, (2, 64)), (30_000, (4, 128)), (60_000, (4, 256))])
def test_rows_and_length_are_chosen_for_the_run(
    base: addenda.Base, texts: dict[str, Any], tokens: int, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []

    def take(self: Stepper, step: int, passes: Any) -> Any:
        taken.append((len(passes[0]), len(passes[0][0].row)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Stepper, "take", take)
    base.new("a", addenda.LoRA(rank=2))
    with pytest.raises(KeyboardInterrupt):
        addenda.train(base, "a", corpus=texts["corpus"], tokens=tokens, log=False)
    assert taken == [sizes]
