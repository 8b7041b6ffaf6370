"""A run is gone on with as it began, its modules' gates included; and what is no number is not kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import TrainingError
from addenda.core.registry import build
from addenda.writing import checkpoint

Make = Callable[..., addenda.Base]


def document(read_at: int) -> Any:
    return build("gate", "document", {"read_at": read_at})


CHANGES: dict[str, tuple[Any, Any]] = {
    "none to document": (None, "document"),
    "document to none": ("document", None),
    "document to context": ("document", "context"),
    "read elsewhere": (document(0), document(1)),
}


def trained(base: addenda.Base, gate: Any, quick: dict[str, Any], out: Path, **more: Any) -> addenda.TrainReport:
    base.new("a", addenda.LoRA(rank=2), gate=gate)
    return addenda.train(base, "a", out=out, **(quick | {"tokens": 256} | more))


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
@pytest.mark.parametrize("case", CHANGES)
def test_a_run_is_not_resumed_under_another_gate(
    make_base: Make, quick: dict[str, Any], tmp_path: Path, case: str, finished: bool
) -> None:
    then, now = CHANGES[case]
    trained(make_base(num_hidden_layers=3), then, quick, tmp_path / "a", keep_run=not finished)
    base = make_base(num_hidden_layers=3)
    with pytest.raises(TrainingError, match="cannot be resumed with other settings.*: gate: .* then, .* now"):
        trained(base, now, quick, tmp_path / "a", resume=True)
    again = trained(make_base(num_hidden_layers=3), then, quick, tmp_path / "a", resume=True)
    assert again.resumed_from == again.steps


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
def test_a_memory_is_not_resumed_under_another_gate(
    make_base: Make, texts: dict[str, Any], tmp_path: Path, finished: bool
) -> None:
    asked: dict[str, Any] = {
        "text": texts["corpus"][:2],
        "out": tmp_path / "m",
        "window": 64,
        "chunk": 32,
        "log": False,
    }
    for gate, more in ((None, {"keep_run": not finished}), (document(0), {"resume": True})):
        base = make_base()
        base.new("m", addenda.LocasGLU(rank=4), gate=gate)
        if more.get("resume"):
            with pytest.raises(TrainingError, match="cannot be resumed with other settings.*: gate: None then, "):
                addenda.memorize(base, "m", **asked, **more)
        else:
            addenda.memorize(base, "m", **asked, **more)


def test_a_finished_run_whose_module_was_replaced_is_told(
    make_base: Make, quick: dict[str, Any], tmp_path: Path
) -> None:
    trained(make_base(), None, quick, tmp_path / "a")
    other = make_base()
    other.new("a", addenda.ParallelAdapter(width=4)).save(tmp_path / "a")
    with pytest.raises(TrainingError, match="is another by now .ParallelAdapter. than the run made of 'a'"):
        trained(make_base(), None, quick, tmp_path / "a", resume=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_no_numbers_after_the_last_step_are_not_kept(
    make_base: Make, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    step = torch.optim.AdamW.step

    def last(optimizer: torch.optim.AdamW, *args: Any, **more: Any) -> Any:
        out = step(optimizer, *args, **more)
        if any(int(state["step"]) == 2 for state in optimizer.state.values()):
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].view(-1)[3] = value
        return out

    monkeypatch.setattr(torch.optim.AdamW, "step", last)
    asked: dict[str, Any] = {**quick, "tokens": 256}
    for out in (None, tmp_path / "a"):
        base = make_base()
        base.new("a", addenda.LoRA(rank=2))
        with pytest.raises(TrainingError, match="the parameters of 'a' are not finite after step 2 of 2 .*smaller lr"):
            addenda.train(base, "a", out=out, **asked)
    assert not (tmp_path / "a" / "card.json").exists()
    assert [folder.name for folder in checkpoint.folders(tmp_path / "a.run")] == ["step-00000001"]
