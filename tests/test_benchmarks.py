"""The benchmark's own machinery: pairs and intervals, live shares set as stated, equal sizes, one whole small run."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import addenda

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    monkeypatch.syspath_prepend(str(ROOT))
    yield lambda name: importlib.import_module(f"benchmarks.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] in ("benchmarks", "recipes")]:
        del sys.modules[name]


def test_pairs_are_interleaved_and_their_order_alternates(bench: Any) -> None:
    timing, order = bench("timing"), []
    now = [0.0]

    def takes(name: str, seconds: float) -> Any:
        def run(_: Any) -> None:
            order.append(name)
            now[0] += seconds

        return timing.whole(run, units=2)

    timing.CLOCKS["fake"] = lambda: now[0]
    ratio = timing.compare(takes("a", 2.0), takes("b", 3.0), 4, "fake")
    assert order == ["a", "b", *"ab", *"ba", *"ab", *"ba"]
    assert (ratio.median, ratio.low, ratio.high, ratio.pairs) == (1.5, 1.5, 1.5, 4)
    assert (ratio.seconds_a, ratio.seconds_b) == (1.0, 1.5)


def test_slices_of_a_pair_take_turns(bench: Any) -> None:
    timing, order = bench("timing"), []

    def takes(name: str, count: int) -> Any:
        def slices(_: Any, clock: Any) -> Any:
            for number in range(count):
                order.append(f"{name}{number}")
                yield 1.0

        return timing.Step(slices)

    ratio = timing.compare(takes("a", 2), takes("b", 3), 1)
    assert order[5:] == ["a0", "b0", "a1", "b1", "b2"]
    assert ratio.median == 1.5


def test_interval_holds_the_median_of_the_source_about_as_often_as_it_says(bench: Any) -> None:
    interval, draws = bench("timing").interval, np.random.default_rng(0)
    inside = sum(low <= 1.0 <= high for low, high in (interval(draws.normal(1, 0.1, 15).tolist()) for _ in range(200)))
    assert 0.88 * 200 <= inside <= 200


def test_verdicts(bench: Any) -> None:
    verdict, Ratio = bench("bench").verdict, bench("timing").Ratio
    ratio = lambda low, high: Ratio((low + high) / 2, low, high, 9, 1.0, 1.0)  # noqa: E731
    assert verdict("use", ratio(1.1, 1.2), None, None) is None
    assert verdict("use", ratio(1.1, 1.2), None, 1.3) == "held"
    assert verdict("use", ratio(1.1, 1.2), None, 1.3, 0.05) == "held"
    assert verdict("use", ratio(1.1, 1.2), None, 1.3, 0.5) == "disturbed"  # by other processes
    assert verdict("use", ratio(1.1, 1.4), None, 1.3) == "open"
    assert verdict("use", ratio(1.4, 1.5), None, 1.3) == "missed"
    # off: the upper bound may lie two per cent over the noise's own
    assert verdict("off", ratio(0.99, 1.03), ratio(0.98, 1.02), 1.02) == "held"
    assert verdict("off", ratio(0.99, 1.05), ratio(0.98, 1.02), 1.02) == "open"
    assert verdict("off", ratio(1.03, 1.05), ratio(0.98, 1.02), 1.02) == "missed"


def test_shares_follow_relative_height(bench: Any) -> None:
    shares = bench("live").Shares([0.0, 1.0], [0.25], "made up")
    assert shares.at("on", 3) == [0.0, 0.5, 1.0]
    assert shares.at("off", 3) == [0.25] * 3
    assert shares.at("on", 1) == [0.0]


@pytest.fixture
def pico_base(bench: Any) -> addenda.Base:
    return addenda.attach(bench("models").bare("pico", torch.float32))


@pytest.mark.parametrize("kind", ["neutral", "neutral-context", "registers-neutral", "registers-context"])
def test_live_shares_are_what_was_set(bench: Any, pico_base: addenda.Base, kind: str) -> None:
    live, models = bench("live"), bench("models")
    ids = torch.randint(0, 8192, (2, 40), generator=torch.Generator().manual_seed(1))
    module = models.plugged(pico_base, "m", models.kinds(pico_base)[kind])
    live.randomised(module)
    assert live.kind_of(module) == kind
    for asked in ([0.25, 0.75], [0.0, 0.0], [1.0, 1.0]):
        live.set_live(pico_base, "m", asked, ids, 8)
        found = live.measure(pico_base, "m", ids, 8)
        # a context gate opens all layers at once
        expected = [asked[0]] * len(found) if "context" in kind else asked
        assert found == pytest.approx(expected, abs=1 / 64 + 1e-6)


def test_twins_share_weights_and_nothing_else(bench: Any) -> None:
    models = bench("models")
    one = models.bare("pico", torch.float32)
    two = models.twin(one)
    assert all(a is b for a, b in zip(one.parameters(), two.parameters(), strict=True))
    base = addenda.attach(two)
    models.plugged(base, "m", addenda.NeutralResidues(width=8))
    ids = torch.arange(12)[None]
    with torch.no_grad(), base.using("m"):
        assert not torch.equal(one(input_ids=ids).logits, two(input_ids=ids).logits)


def test_sizes_are_equal_where_they_should_be(bench: Any) -> None:
    models = bench("models")
    model = models.bare("tiny", torch.float32)
    base = addenda.attach(models.twin(model))
    budget = models.EXTRA * base.anatomy.parameters
    sizes = {n: base.new(n, k).size() for n, k in models.kinds(base).items() if n in ("neutral", "parallel", "lora")}
    peft = models.peft_lora(model, round(budget))
    sizes["peft-lora"] = sum(p.numel() for name, p in peft.named_parameters() if "lora_" in name)
    for size in sizes.values():
        assert size == pytest.approx(budget, rel=0.02)


def test_one_small_run_gives_json_and_tables(
    bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    speed, sections = bench("speed"), bench("sections")
    monkeypatch.setattr(sections, "PROMPT", 4)
    monkeypatch.setattr(sections, "STEPS", 2)
    asked = ["--models", "pico", "--pairs", "1", "--length", "128", "--kinds", "neutral"]
    out = tmp_path / "out.json"
    assert (
        speed.main([*asked, "--sections", "off", "use", "plugged", "mixed", "--out", str(out), "--docs", str(tmp_path)])
        == 0
    )
    assert "mixed" in capsys.readouterr().out
    report = json.loads(out.read_text(encoding="utf-8"))
    found = {(r["section"], r["step"]) for r in report["records"]}
    assert {("noise", "decode"), ("off", "prefill"), ("use", "decode"), ("plugged", "prefill")} <= found
    assert ("mixed", "decode, 8 rows") in found
    gated = [r for r in report["records"] if "live" in r]
    assert gated
    assert all(len(r["live"]) == 2 for r in gated)
    assert all(r["target"] is None for r in report["records"])  # targets are the 150M model's
    assert report["machine"]["threads"] >= 1
    assert report["live"]["neutral"]
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    shown = [r for r in report["records"] if r["section"] not in ("noise", "memory")]
    assert page.count("\n| pico | ") == len(shown)
    assert all(f"{r['median']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" in page for r in shown)
    before = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    page_of, shares = bench("speed_page"), bench("live").read_shares(None)
    assert all(one["date"] == report["machine"]["date"] for one in report["records"])
    assert f"- {report['machine']['date']}: `python -m benchmarks" in page
    assert {r["live_source"] is not None for r in report["records"] if r["section"] in ("off", "noise")} == {False}
    assert {r["live_source"] for r in report["records"] if r["section"] == "use"} == {
        f"neutral: {shares['neutral'].source}"
    }
    page_of.publish(report | {"records": report["records"][:1]}, shares, tmp_path)  # what was not run again stays
    after = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert [r for r in after["records"] if r["section"] != "noise"] == [
        r for r in before["records"] if r["section"] != "noise"
    ]
    assert speed.main([*asked, "--sections", "off", "--steps", "prefill", "--out", str(out)]) == 0
    assert {r["step"] for r in json.loads(out.read_text(encoding="utf-8"))["records"]} == {
        "prefill",
        "prefill, 128 tokens",
    }
    moved = shares | {"neutral": bench("live").Shares([0.5], [0.5], "measured anew")}
    page_of.publish(report | {"records": report["records"][:1]}, moved, tmp_path)  # but what rests on old live shares
    after = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert {r["section"] for r in after["records"]} == {"noise", "off"}
    other = report | {"machine": report["machine"] | {"cpu": "another"}, "records": report["records"][:1]}
    page_of.publish(other, shares, tmp_path)  # on another machine nothing does
    assert json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))["records"] == report["records"][:1]


def test_what_folds_is_timed_plain_and_fused(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed, sections = bench("speed"), bench("sections")
    monkeypatch.setattr(sections, "PROMPT", 4)
    monkeypatch.setattr(sections, "STEPS", 2)
    asked = ["--models", "pico", "--pairs", "1", "--length", "128", "--steps", "decode"]
    assert speed.main([*asked, "--sections", "fused", "--docs", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))["records"]
    assert [r["b"] for r in found if r["section"] == "fused"] == ["lora", "lora, fused", "locas", "locas, fused"]


def test_targets_belong_to_the_large_model_in_float32(bench: Any) -> None:
    sections = bench("sections")
    for model, dtype, held in (
        ("150m", torch.float32, 1.02),
        ("tiny", torch.float32, None),
        ("150m", torch.bfloat16, None),
    ):
        bodies = SimpleNamespace(bench=SimpleNamespace(model=model, dtype=dtype))
        assert sections.Bodies.target(bodies, 1.02) == held


@pytest.mark.parametrize("kind", ["neutral", "neutral-context"])
def test_a_timed_training_step_has_the_penalties_of_a_real_one(
    bench: Any, pico_base: addenda.Base, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, steps = bench("models"), bench("steps")
    ids = torch.randint(0, 8192, (4, 16), generator=torch.Generator().manual_seed(1))
    module = models.plugged(pico_base, "m", models.kinds(pico_base)[kind])
    bench("live").randomised(module)
    watched, watching = [], pico_base.watching
    monkeypatch.setattr(
        pico_base, "watching", lambda **given: watched.append(given["collector"]) or watching(**given), raising=False
    )
    for replay in (0, 1):
        steps.train_module(pico_base, "m", ids, replay).seconds()
    assert watched[0] is None
    assert float(watched[1].token_weight.sum()) == 16
    assert bool(watched[1].gates if module.gate is not None else watched[1].deltas)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts resident memory, others do not")
def test_memory_is_measured_in_a_process_of_its_own(bench: Any) -> None:
    found = bench("memory").child("pico", "neutral", "prefill", "float32", 64)
    assert 50 < found["before"] <= found["peak"] < 4000


@pytest.mark.slow
@pytest.mark.parametrize(("gate", "name", "sites"), [("token", "neutral", 6), ("context", "neutral-context", 4)])
def test_shares_of_a_trained_module_are_measured_and_read_again(
    bench: Any, tmp_path: Path, gate: Any, name: str, sites: int
) -> None:
    live = bench("live")
    base = addenda.load_base("tiny", dtype=torch.float32)
    base.new("pubmed", addenda.NeutralResidues(width=8, gate=gate)).save(tmp_path / "pubmed")
    assert live.main([str(tmp_path / "pubmed"), "--rows", "1", "--out", str(tmp_path / "live.json")]) == 0
    shares = live.read_shares(tmp_path / "live.json")[name]
    assert len(shares.on) == sites
    assert all(0 <= share <= 1 for share in shares.on + shares.off)
    assert shares.source.startswith("measured on tiny")


@pytest.mark.slow
def test_memorizing_is_timed_for_every_memory_and_shown(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = bench("memorize")
    monkeypatch.setattr(module, "WINDOWS", (320,))
    monkeypatch.setattr(
        module,
        "memories",
        lambda: {"locas r16": (addenda.LocasGLU(16), True), "templora r16": (addenda.LoRA(2), False)},
    )
    times = module.times(3)
    assert [one["memory"] for one in times] == ["noise", "locas r16", "templora r16"]
    assert times[1]["median"] > 1.05
    peaks = [{"tokens": 100, "peak": 200.0}, {"tokens": 1600, "peak": 210.0}]
    shown = module.table({"times": times, "peaks": peaks, "device": "a CPU"})
    assert "| 1,600 | 210 | 1.050 |" in shown
    assert shown.count("| 320 |") == 3


def test_joint_registers_in_small(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways are really taken, and each is recorded with its interval at every context."""
    joint = bench("joint_registers")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    attention = importlib.import_module("addenda.bases.attention")
    taken: list[str] = []
    for name in ("join", "_widened"):
        original = getattr(attention, name)
        monkeypatch.setattr(
            attention, name, lambda *a, original=original, name=name: taken.append(name) or original(*a)
        )
    out = tmp_path / "joint.json"
    joint.main(["--model", "pico", "--contexts", "8", "16", "--registers", "4", "--pairs", "2", "--out", str(out)])
    records = json.loads(out.read_text())["records"]
    assert [(r["context"], r["way"]) for r in records] == [
        (8, "joined"),
        (8, "concatenated"),
        (16, "joined"),
        (16, "concatenated"),
    ]
    assert all(0 < r["low"] <= r["median"] <= r["high"] for r in records)
    each = 3 * joint.TOKENS * 2  # a round and two pairs, in two layers
    assert taken == 2 * (["join"] * each + ["_widened"] * each)
