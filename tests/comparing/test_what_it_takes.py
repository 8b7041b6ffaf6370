"""What a method takes: time without validations, memory over what was there, requests with retrieval, and their intervals."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda.cli import compare as command
from addenda.comparing import making, page
from addenda.comparing import peak as memory
from addenda.comparing.comparison import Comparison
from addenda.comparing.cost import of_median, ratios
from addenda.comparing.methods import METHODS
from addenda.comparing.peak import Peak
from addenda.comparing.rows import Failed, row_of
from addenda.comparing.window import Retrieved
from addenda.core.errors import AddendaError
from addenda.telling.intervals import Interval
from addenda.writing.plain import PlainTraining
from pico import pico, pico_tokenizer

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_training_is_timed_without_validations(ways: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of modules, of every weight and of PEFT's LoRA alike; and the bare base is scored once on each text."""
    from addenda.writing import validation

    bare: list[str] = []
    slept = {"plain": 0.0, "module": 0.0}

    def slow(real: Any, where: str) -> Any:
        def score(base: addenda.Base, source: Any, **more: Any) -> Any:
            if where == "module" or more["tokens"] == 75:  # a validation's
                time.sleep(0.2)
                slept[where] += 0.2
            return real(base, source, **more)

        return score

    monkeypatch.setattr(making, "score", slow(making.score, "plain"))
    monkeypatch.setattr(validation, "score", slow(validation.score, "module"))
    real = making.Scores.of

    def of(self: Any, trained: Any, source: Any, *, few: bool = False) -> Any:
        if trained.on == self.base.off and trained.ahead is None:
            bare.append(f"{source.name} {few}")
        return real(self, trained, source, few=few)

    monkeypatch.setattr(making.Scores, "of", of)
    found = ways.compare(tmp_path, methods=("lora", "full", "peft"), seeds=(0,), rates=1)
    assert slept["plain"] > 4
    assert slept["module"] > 2
    for row in found.rows[1:]:
        assert row.seconds is not None
        assert 0 < row.seconds < 2, row.method
        assert len(row.curve) == 8, row.method
    validations = [one for one in bare if one.endswith("True")]
    assert len(validations) == len(set(validations)) == 2


def test_a_plain_run_counts_no_time_of_what_comes_after_a_step(tmp_path: Path) -> None:
    text = ["the river ran past the old mill and the children sang"] * 50
    training = PlainTraining(pico("llama"), pico_tokenizer(), text, None, lr=1e-3, seed=0, rows=2, length=16)
    training.run(2 * 16 * 4, lambda step, steps: time.sleep(0.5))
    assert 0 < training.seconds < 1


def test_narrow_weights_learn_through_float32_copies() -> None:
    """Also in steps far below what bfloat16 can add to a weight, and a resumed run goes on from the copies."""
    text = ["the river ran past the old mill and the children sang"] * 50

    def trained(dtype: torch.dtype, work: Path | None = None, tokens: int = 512) -> PlainTraining:
        model = pico("llama").to(dtype)
        made = PlainTraining(model, pico_tokenizer(), text, None, lr=1e-5, seed=0, rows=2, length=16, work=work)
        made.run(tokens)
        return made

    narrow, wide = trained(torch.bfloat16), trained(torch.float32)
    assert all(parameter.dtype == torch.bfloat16 for parameter in narrow.names)
    moved = 0
    for (parameter, master), other in zip(narrow.masters.items(), wide.names, strict=True):
        assert master.dtype == torch.float32
        assert torch.equal(parameter, master.bfloat16())
        moved += int((master != parameter).sum())
        assert torch.allclose(master, other, atol=0.02)
    assert moved > 0


def test_a_resumed_run_keeps_its_copies(tmp_path: Path) -> None:
    text = ["the river ran past the old mill and the children sang"] * 50

    class StoppedError(Exception):
        pass

    def training() -> PlainTraining:
        model = pico("llama").to(torch.bfloat16)
        options: dict[str, Any] = {"lr": 1e-5, "seed": 0, "rows": 2, "length": 16}
        return PlainTraining(model, pico_tokenizer(), text, None, **options, work=tmp_path / "run")

    def stop(step: int, steps: int) -> None:
        if step == 6:
            raise StoppedError

    with pytest.raises(StoppedError):
        training().run(512, stop)
    resumed, steps = training(), list[int]()
    resumed.run(512, lambda step, _: steps.append(step))
    assert steps == list(range(6, 17))
    shutil.rmtree(tmp_path / "run")
    whole = training()
    whole.run(512)
    for a, b in zip(resumed.masters.values(), whole.masters.values(), strict=True):
        assert torch.equal(a, b)


def test_a_peak_is_what_came_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind = np.ones(50_000_000, np.uint8)
    model = torch.nn.Linear(1000, 1000)
    most = Peak(model, CPU)
    if most.before is None:
        pytest.skip("this system does not let a peak begin anew")
    taken = np.ones(100_000_000, np.uint8)
    assert len(left_behind) + len(taken) == 150_000_000
    del taken
    found = most.megabytes()
    assert found is not None
    assert 100 < found < 140  # 4 MB of weights, and what came; not what had been there
    monkeypatch.setattr(memory, "RESET", Path("/nowhere"))
    assert Peak(model, CPU).megabytes() is None


def test_a_peak_that_cannot_begin_anew_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, reset = tmp_path / "status", tmp_path / "reset"
    status.write_text("VmHWM:\t  900000 kB\nVmRSS:\t  500000 kB\n")
    reset.write_text("")
    monkeypatch.setattr(memory, "STATUS", status)
    monkeypatch.setattr(memory, "RESET", reset)
    assert Peak(torch.nn.Linear(2, 2), CPU).megabytes() is None


def test_a_request_waits_for_what_is_found(ways: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bm25s")
    base = addenda.load_base(ways.folder)
    found = Retrieved(base, ways.text(ways.words, 0, 50), 1)
    assert found.size() > sum(map(len, found.index.passages))
    ids = base.tokenize(ways.text(ways.words, 1, 2)[0])
    assert len(found(ids.numpy())) > 0

    def late(before: np.ndarray) -> np.ndarray:
        time.sleep(0.3)
        return found(before)

    prefill, decode = ratios(base, base.off, base.off, ids, late, 2)
    assert len(prefill) == len(decode) == 2
    assert min(prefill) > 5
    assert max(decode) < 5
    middle = of_median([1.0, 2.0, 9.0, 2.5, 1.5])
    assert (middle.value, middle.n) == (2.0, 5)
    assert 0.0 <= middle.low < 1.0 < 2.0 < 9.0 < middle.high  # further apart than the repeats: five are few
    assert of_median([2.0]) == Interval(2.0, 2.0, 2.0, 1)


def scored(*sums: float) -> dict[str, Any]:
    return {"nats": sum(sums) / (10 * len(sums)), "sums": list(sums), "counts": [10] * len(sums)}


BARE = {on: scored(30.0, 40.0, 50.0) for on in ("learning", "forgetting", "unrelated")}
RUN = {"learning": scored(20.0, 30.0, 45.0), "forgetting": scored(31.0, 41.0, 50.0), "parameters": 5, "bytes": 20,
       "seconds": 3.0, "peak_megabytes": 7.0, "extra_tokens": 0, "curve": []}  # fmt: skip


def test_rows_have_intervals_and_read_records_of_earlier_versions() -> None:
    share = Interval(0.5, 0.4, 0.6, 3).as_dict()
    more = {"times": {"prefill": [1.0, 1.2], "decode": [1.1, 1.3]}}
    now = RUN | more | {"unrelated": scored(32.0, 40.0, 51.0) | {"kl": share, "untouched": share}}
    row = row_of(METHODS["lora"], 1e-3, [now, now], BARE)
    assert row.moved.value == pytest.approx(0.1)
    assert row.moved.low < 0.1 < row.moved.high
    assert row.kl == row.untouched == Interval(0.5, 0.4, 0.6, 3)
    assert (row.seconds, row.peak_megabytes) == (3.0, 7.0)
    assert row.prefill.low < row.prefill.value < row.prefill.high
    assert (row.changed, row.tasks) == (None, None)
    asked = [
        now | {"changed": [True, False], "right": [1.0, 1.0, 0.0]},
        now | {"changed": [True, True], "right": [1.0, 0.0, 0.0]},
    ]
    told = row_of(METHODS["lora"], 1e-3, asked, BARE | {"right": [0.0, 0.0, 1.0]})
    assert (told.changed.value, told.changed.n) == (0.75, 2)  # type: ignore[union-attr]
    assert told.tasks.value == pytest.approx((1.0 + 0.5 - 1.0) / 3)  # type: ignore[union-attr]
    assert page.row_cells(told, apart=True)[7][0] == "75%"
    assert page.row_cells(told, apart=True)[8][0] == "+16.7%"
    cells = page.row_cells(row, apart=True)
    assert cells[6] == ("50%", "40% to 60%")
    assert cells[5] == ("0.500", "0.400 to 0.600")
    assert page.row_cells(row, apart=False) == [*cells[:4], *cells[5:]]
    before = {"nats": 0.1, "low": 0.05, "high": 0.2, "untouched": 0.5, "kl": 0.02}
    old = row_of(METHODS["lora"], 1e-3, [RUN | {"unrelated": before, "cost": [1.1, 1.2]}], BARE)
    assert (old.moved.low, old.moved.high) == (0.05, 0.2)
    assert (old.seconds, old.peak_megabytes) == (None, None)
    assert page.row_cells(old, apart=True)[6] == ("50%", "")
    assert page.row_cells(old, apart=True)[-1] == ("1.10, 1.20", "")
    mixed = row_of(METHODS["lora"], 1e-3, [now, RUN | {"unrelated": before, "cost": [1.1, 1.2]}], BARE)
    assert mixed.moved.value == pytest.approx(0.1)
    assert mixed.seconds is None


def test_paths_end_at_their_own_last_validation() -> None:
    times, some = Interval(1.0, 0.9, 1.1, 5), Interval(0.5, 0.4, 0.6, 9)
    row = row_of(
        METHODS["lora"],
        1e-3,
        [RUN | {"times": {"prefill": [1.0], "decode": [1.0]}, "unrelated": scored(1, 2, 3)}],
        BARE,
    )
    curve = ({"tokens": 1, "forgetting": 0.01, "learning": 0.1}, {"tokens": 2, "forgetting": 0.02, "learning": 0.2})
    row = replace(row, learned=some, forgotten=some, prefill=times, decode=times, curve=curve)
    figure = page._frontier([row, replace(row, method="rag", curve=())], page.WIDE)
    lines = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    assert [[0, 0], [0.01, 0.1], [0.02, 0.2]] in lines
    assert [[0.5, 0.5]] in lines
    assert not any([0.5, 0.5] in line and [0.0, 0.0] in line for line in lines)


def test_what_is_forgotten_is_not_told_twice() -> None:
    failed = Failed("full", 1e-3, 0, "why")
    given: dict[str, Any] = {key: {} for key in ("sweeps", "facts", "settings")} | {"composed": (), "out": Path()}
    apart = Comparison(base="b", rows=(), failed=(failed,), **given)
    assert "unrelated text" in page.head_of(apart)
    assert "unrelated text" not in page.head_of(replace(apart, apart=False))
    for found in (apart, replace(apart, apart=False)):
        (cells,) = page.cells_of(found)
        assert len(cells) == len(page.head_of(found))


def test_a_device_that_is_not_there_is_told(ways: Any, tmp_path: Path) -> None:
    with pytest.raises(AddendaError, match="device 'cuda:93' cannot be used"):
        ways.compare(tmp_path, device="cuda:93")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_run_in_the_precision_of_the_base(ways: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    real = making.Scores.of

    def of(self: Any, trained: Any, source: Any, *, few: bool = False) -> Any:
        seen.append(trained.base.model.get_input_embeddings().weight.dtype)
        return real(self, trained, source, few=few)

    monkeypatch.setattr(making.Scores, "of", of)
    given: dict[str, Any] = {"methods": ("lora", "full", "peft"), "seeds": (0,), "rates": 1, "tokens": 4096}
    found = ways.compare(tmp_path, **given, dtype=torch.bfloat16)
    assert set(seen) == {torch.bfloat16}
    assert all(row.learned.value > 0.05 for row in found.rows[1:]), [row.learned for row in found.rows]
    # in another precision they are other runs
    said: list[str] = []
    ways.compare(tmp_path, **given | {"methods": ("lora",)}, tell=said.append)
    assert "its page is replaced" in said[0]
    assert [line.split(",")[0] for line in said[1:]] == ["base", "lora"]


def test_quick_leaves_alone_what_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from addenda.cli import app
    from addenda.comparing import compare as comparing

    asked: list[dict[str, Any]] = []

    def run(base: str, **more: Any) -> Any:
        asked.append(more)
        raise AddendaError("enough")

    monkeypatch.setattr(comparing, "compare", run)
    words = ["compare", "--corpus", "a", "--learning", "b", "--forgetting", "c"]
    for flags in ([], ["--quick"], ["--quick", "--tokens", "200000", "--seeds", "2"]):
        CliRunner().invoke(app, [*words, *flags])
    assert [(one["tokens"], one["held_tokens"], one["seeds"]) for one in asked] == [
        (200_000, 20_000, (0, 1, 2)),
        (command.QUICK["tokens"], command.QUICK["held_tokens"], (0,)),
        (200_000, 10_000, (0, 1)),
    ]
