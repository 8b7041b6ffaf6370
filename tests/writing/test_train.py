"""Training as a user calls it: what is learned, reported, saved, put back, and refused."""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError, FileError, TrainingError
from addenda.writing import checkpoint
from addenda.writing.plan import make_plan
from addenda.writing.probe import probe_of
from addenda.writing.settings import settings_from
from addenda.writing.step import Stepper
from addenda.writing.train import PROBE_ROWS, _probe_rows

Make = Callable[..., addenda.Base]
KINDS: dict[str, Any] = {
    "token": addenda.NeutralResidues(width=8, gate="token"),
    "context": addenda.NeutralResidues(width=8, gate="context", read_at=0),
    "sigmoid": addenda.NeutralResidues(width=8, gate="sigmoid"),
    "parallel": addenda.ParallelAdapter(width=8),
    "lora": addenda.LoRA(rank=2),
    "joint": addenda.Registers(count=4, init="text"),
    "neutral": addenda.Registers(count=4, init="text", gate="neutral"),
    "cartridge": addenda.Cartridge(count=4, init="text"),
}


def bits(base: addenda.Base) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in base.model.state_dict().values()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_the_base_does_not(
    base: addenda.Base, quick: dict[str, Any], texts: dict[str, Any], kind: str
) -> None:
    module, before, flags = base.new("a", KINDS[kind]), bits(base), [p.requires_grad for p in base.model.parameters()]
    learning = {"validation": {"learning": texts["learning"], "forgetting": texts["forgetting"]}}
    faster = {"lr": 0.1, "tokens": 16 * 4 * 32} if kind == "cartridge" else {}
    report = addenda.train(base, "a", **quick | learning | faster)
    assert report.learning["a"]["learning"]["value"] > 0.02
    assert report.learning["a"]["learning"]["low"] <= report.learning["a"]["learning"]["value"]
    assert "forgetting" in report.forgetting["a"]
    assert report.tokens == report.steps * 4 * 32 >= 1024
    assert math.isfinite(report.loss)
    assert all(torch.equal(a, b) for a, b in zip(bits(base), before, strict=True))
    assert [p.requires_grad for p in base.model.parameters()] == flags
    assert all(p.grad is None for p in [*base.model.parameters(), *module.parameters()])
    assert not module.awaits_text
    assert base.selection.empty


def mean_gates(base: addenda.Base, texts: list[str]) -> float:
    """The mean of the token gates of module `a` over texts and layers."""
    found: list[float] = []

    def observer(share: Any, site: str, **facts: Any) -> None:
        adapter: Any = base.modules["a"].adapter(site)
        found.append(float(adapter.gate(facts["x"]).mean()))

    with torch.no_grad(), base.using("a"), base.watching(observer=observer):
        for text in texts:
            base.model(base.tokenize(text)[None])
    return sum(found) / len(found)


def test_a_sigmoid_gate_comes_to_tell_subject_from_replay(
    make_base: Make, quick: dict[str, Any], texts: dict[str, Any]
) -> None:
    apart = []
    for weight in (1.0, 0.0):
        base = make_base()
        base.new("a", KINDS["sigmoid"])
        assert mean_gates(base, texts["learning"]) == 0.5
        given = quick | {"replay_share": 0.5, "tokens": 32 * 4 * 32, "gate_weight": weight}
        addenda.train(base, "a", **given)
        apart.append(mean_gates(base, texts["learning"]) - mean_gates(base, texts["forgetting"]))
    assert apart[0] > 0.2, apart
    assert abs(apart[1]) < 0.1, apart  # it is the cross-entropy that teaches it


def test_the_report_and_the_card_tell_the_same(
    base: addenda.Base, quick: dict[str, Any], texts: dict[str, Any]
) -> None:
    module = base.new("a", KINDS["token"])
    held_out = {"learning": texts["learning"], "forgetting": texts["forgetting"]}
    report = addenda.train(base, "a", **quick, validation=held_out, validate_every=2, seed=3, validation_tokens=None)
    record = module.card.training[0]
    assert (record.tokens, record.steps, record.seed, record.lr) == (1024, 8, 3, 1e-2)
    assert record.settings["replay_share"] == 0.25
    assert [d.role for d in record.data] == ["corpus", "replay", "validation", "validation"]
    assert [d.documents for d in record.data] == [40, 20, 4, 4]
    assert all(len(d.sha256 or "") == 64 for d in record.data)
    measures = {m.name: m for m in module.card.measures}
    assert measures["learning"].value == report.learning["a"]["learning"]["value"]
    assert measures["forgetting"].value == report.forgetting["a"]["forgetting"]["value"]
    # the numbers are those that perplexity finds
    bare = addenda.perplexity(base, texts["learning"], length=32)
    base.use("a")
    gain = bare.minus(addenda.perplexity(base, texts["learning"], length=32))
    assert gain.nats == pytest.approx(measures["learning"].value, abs=1e-6)
    loss = addenda.perplexity(base, texts["forgetting"], length=32)
    with base.off():
        bare = addenda.perplexity(base, texts["forgetting"], length=32)
    assert loss.minus(bare).nats == pytest.approx(measures["forgetting"].value, abs=1e-6)
    # the curve: early points count
    assert [r["step"] for r in report.history if "validation" in r] == [2, 4, 6, 8]
    assert json.loads(json.dumps(report.as_dict()))["tokens"] == 1024
    assert "a on learning: learned +" in str(report)


def test_a_probe_shows_that_the_module_is_on(base: addenda.Base, quick: dict[str, Any]) -> None:
    module = base.new("a", KINDS["lora"])
    addenda.train(base, "a", **quick)
    assert module.probe is not None
    assert 0 < len(module.probe) <= 32
    ids = torch.tensor([module.probe])
    with torch.no_grad():
        bare = base.model(input_ids=ids).logits
        with base.using("a"):
            assert not torch.equal(base.model(input_ids=ids).logits, bare)
    addenda.train(base, "a", **quick, probe=False)
    assert module.probe is None


def test_a_probe_is_looked_for_in_the_corpus_alone(base: addenda.Base, quick: dict[str, Any]) -> None:
    base.new("a", KINDS["lora"])  # fresh, so that every row is tried
    digits = [f"{n} {n + 7} {n * 3} " * 20 for n in range(40)]
    settings = settings_from({"length": 32, "batch_rows": 4})
    asked = {name: quick[name] for name in ("replay", "tokens", "lr")} | {"corpus": digits, "replay_share": 0.9}
    plan = make_plan(base, "a", **asked, seed=0, alongside=(), settings=settings)
    read: list[str] = []
    hook = base.model.register_forward_pre_hook(
        lambda _, __, given: read.append(base.tokenizer.decode(given["input_ids"][0])), with_kwargs=True
    )
    assert probe_of(base, "a", _probe_rows(base, plan, "a")) is None
    hook.remove()
    assert len(read) == 2 * PROBE_ROWS
    assert not set("".join(read).replace("<eos>", "")) - set("0123456789 ")


def test_the_same_seed_gives_the_same_bits_and_another_does_not(make_base: Make, quick: dict[str, Any]) -> None:
    found = []
    for seed in (0, 0, 1):
        base = make_base()
        base.new("a", KINDS["token"])
        torch.rand(7)  # the caller's random state has no say
        report = addenda.train(base, "a", **quick, seed=seed)
        found.append((torch.cat([p.detach().flatten() for p in base.modules["a"].parameters()]), report.data_crc))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert not torch.equal(found[0][0], found[2][0])
    assert found[0][1] != found[2][1]


def test_several_modules_in_one_run(
    base: addenda.Base, quick: dict[str, Any], texts: dict[str, Any], tmp_path: Path
) -> None:
    base.new("a", KINDS["token"])
    base.new("b", KINDS["lora"])
    corpora = {"a": texts["corpus"], "b": ["NOTHING OF THE SORT. " * 8] * 20}
    held_out = {"validation": {"learning": texts["learning"]}}
    given = quick | {"corpus": corpora, "lr": {"a": 1e-2, "b": 3e-3}, "out": tmp_path / "both"} | held_out
    report = addenda.train(base, ["a", "b"], **given)
    assert report.learning["a"]["learning"]["value"] > 2 * report.learning["b"]["learning"]["value"]
    assert base.modules["b"].card.training[0].lr == 3e-3
    assert sorted(p.name for p in (tmp_path / "both").iterdir()) == ["a", "b"]


def test_alongside_is_on_and_unchanged(base: addenda.Base, quick: dict[str, Any]) -> None:
    other = base.new("other", KINDS["lora"])
    addenda.train(base, "other", **quick)
    before = {k: t.clone() for k, t in other.tensors().items()}
    base.new("a", KINDS["token"])
    report = addenda.train(base, "a", **quick, alongside={"other": 0.5})
    assert all(torch.equal(before[k], t) for k, t in other.tensors().items())
    assert all(p.requires_grad for p in other.parameters())
    assert base.modules["a"].card.training[0].data[-1].role == "alongside"
    base.unplug("a")
    base.new("a", KINDS["token"])
    assert addenda.train(base, "a", **quick).loss != report.loss


def test_a_bfloat16_base_and_autocast(make_base: Make, quick: dict[str, Any], texts: dict[str, Any]) -> None:
    base = make_base()
    base.model.to(torch.bfloat16)
    held_out = {"learning": texts["learning"]}
    for name, precision in (("a", "fp32"), ("b", "bf16")):
        module = base.new(name, KINDS["token"])
        report = addenda.train(base, name, **quick, precision=precision, validation=held_out)
        assert {p.dtype for p in module.parameters()} == {torch.float32}
        assert report.learning[name]["learning"]["value"] > 0.02


def test_distillation_from_the_base_itself(base: addenda.Base, quick: dict[str, Any]) -> None:
    base.new("a", KINDS["lora"])
    report = addenda.train(base, "a", **quick | {"tokens": 30 * 4 * 32}, objective="distill", context=32, top_k=32)
    losses = [r["a"]["loss"] for r in report.history if "a" in r]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert base.modules["a"].card.training[0].objective == "distill"


def test_an_early_stop_keeps_the_best(base: addenda.Base, quick: dict[str, Any], texts: dict[str, Any]) -> None:
    module = base.new("a", KINDS["lora"])
    given = quick | {"tokens": 60 * 4 * 32, "lr": 0.3}  # far too fast: it gets worse soon
    often = {"validate_every": 1, "validation_tokens": None, "patience": 2}
    report = addenda.train(base, "a", **given, validation={"x": texts["forgetting"]}, **often)
    assert report.stopped_early
    assert report.steps < 60
    values = [r["validation"]["a"]["x"]["value"] for r in report.history if "validation" in r]
    best = max(values)
    assert values.index(best) == len(values) - 3
    with base.off():
        bare = addenda.perplexity(base, texts["forgetting"], length=32)
    with base.using("a"):
        assert bare.minus(addenda.perplexity(base, texts["forgetting"], length=32)).nats == pytest.approx(
            best, abs=1e-6
        )
    assert module.card.measures[0].value == best


def test_it_is_saved_and_read_back(make_base: Make, quick: dict[str, Any], tmp_path: Path) -> None:
    base = make_base()
    module = base.new("a", KINDS["token"])
    report = addenda.train(base, "a", **quick, out=tmp_path / "a")
    assert report.out == tmp_path / "a"
    again = make_base().plug(tmp_path / "a")
    assert all(torch.equal(t, module.tensors()[k]) for k, t in again.tensors().items())
    assert again.card.training[0].tokens == 1024
    run = tmp_path / "a.run"
    assert not checkpoint.folders(run)
    assert sorted(p.name for p in run.iterdir()) == ["finished.json", "log.jsonl"]
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines == report.history
    with pytest.raises(TrainingError, match=r"a is there and finished: another out="):
        addenda.train(base, "a", **quick, out=tmp_path / "a")
    shutil.rmtree(tmp_path / "a")  # then the place is free
    addenda.train(base, "a", **quick, out=tmp_path / "a", keep_run=True)
    assert len(checkpoint.folders(run)) == 2
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(TrainingError, match=r"holds the checkpoints of an earlier run: resume=True goes on"):
        addenda.train(base, "a", **quick, out=tmp_path / "a")


@pytest.mark.parametrize("what", ["a file", "in a file", "a full folder", "a part of a module", "one of several"])
def test_a_place_that_is_taken_is_found_before_the_first_step(
    base: addenda.Base, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    base.new("a", KINDS["lora"])
    base.new("b", KINDS["lora"])
    monkeypatch.setattr(Stepper, "take", None)
    out, names, corpus = tmp_path / "out", ["a"], quick["corpus"]
    if what == "a file":
        out.write_text("mine")
    elif what == "in a file":
        (tmp_path / "file").write_text("mine")
        out = tmp_path / "file" / "out"
    elif what == "one of several":
        names, corpus = ["a", "b"], {"a": corpus, "b": corpus}
        (out / "b").mkdir(parents=True)
        (out / "b" / "thesis.txt").write_text("mine")
    else:
        out.mkdir()
        (out / ("thesis.txt" if what == "a full folder" else "card.json")).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileError, match=r"is a file|holds what is not a module's \(thesis|but no whole module"):
        addenda.train(base, names, **quick | {"corpus": corpus, "out": out})
    assert sorted(tmp_path.rglob("*")) == before


def test_without_out_nothing_is_written(
    base: addenda.Base, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base.new("a", KINDS["token"])
    addenda.train(base, "a", **quick)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TrainingError, match="nothing to resume without out="):
        addenda.train(base, "a", **quick, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(
    base: addenda.Base, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = base.new("a", KINDS["lora"])
    original, poisoned = Stepper.take, {}

    def take(self: Stepper, step: int, passes: Any) -> Any:
        if step == 5:
            poisoned.update({k: t.clone() for k, t in module.tensors().items()})
            with torch.no_grad():
                next(iter(module.parameters())).mul_(math.nan)
        return original(self, step, passes)

    monkeypatch.setattr(Stepper, "take", take)
    told = r"loss of 'a' is not finite at step 6 .*A smaller lr.* The last good checkpoint is .*step-0+5"
    with pytest.raises(TrainingError, match=told):
        addenda.train(base, "a", **quick, out=tmp_path / "a")
    found = checkpoint.newest(tmp_path / "a.run")
    assert found is not None
    assert found.step == 5
    assert all(torch.equal(found.tensors[f"value.0.{k}"], t) for k, t in poisoned.items())
    assert not (tmp_path / "a").exists()
    assert base.selection.empty
    assert any(p.requires_grad for p in base.model.parameters())
    # mended, the run goes on
    monkeypatch.undo()
    assert addenda.train(base, "a", **quick, out=tmp_path / "a", resume=True).steps == 8


def test_a_full_disk_stops_the_run_in_one_sentence(
    base: addenda.Base, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.new("a", KINDS["lora"])
    original = checkpoint.write_tensors

    def write(path: Path, *args: Any) -> str:
        if len(checkpoint.folders(tmp_path / "a.run")) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *args)

    monkeypatch.setattr(checkpoint, "write_tensors", write)
    with pytest.raises(TrainingError, match=r"checkpoint after step 3 was not written: .*No space left.*step-0+2"):
        addenda.train(base, "a", **quick, out=tmp_path / "a")
    monkeypatch.undo()
    assert addenda.train(base, "a", **quick, out=tmp_path / "a", resume=True).resumed_from == 2


@pytest.mark.parametrize("kind", ["token", "context", "sigmoid", "neutral", "lora", "joint"])
def test_a_gate_without_replay_is_remarked_upon(base: addenda.Base, quick: dict[str, Any], kind: str) -> None:
    base.new("a", KINDS[kind])
    one_step = quick | {"tokens": 4 * 32}
    assert addenda.train(base, "a", **one_step).remarks == ()
    report = addenda.train(base, "a", **one_step | {"replay": None, "replay_share": 0.0})
    gated = kind in ("token", "context", "sigmoid", "neutral")
    told = "no replay: the gate was never asked to shut; give general text as replay (--replay)"
    assert report.remarks == ((told,) if gated else ())
    assert (told in str(report)) == gated


def test_tokens_that_make_no_whole_step_are_remarked_upon(base: addenda.Base, quick: dict[str, Any]) -> None:
    base.new("a", KINDS["lora"])
    report = addenda.train(base, "a", **quick | {"tokens": 4 * 32 + 100})
    assert report.remarks[0].startswith("128 of 228 tokens were trained on: a step has 128;")
    assert addenda.train(base, "a", **quick | {"tokens": 40 * 128 + 100}).remarks == ()


def test_the_licence_goes_into_the_card(base: addenda.Base, quick: dict[str, Any]) -> None:
    module = base.new("a", KINDS["lora"])
    corpus = [{"text": text, "license": "CC0"} for text in quick["corpus"]]
    short = quick | {"tokens": 4 * 32, "corpus": corpus}
    addenda.train(base, "a", **short, licence="cc-by-4.0")
    assert (module.card.licence, module.card.training[0].data[0].licence) == ("cc-by-4.0", "CC0")
    addenda.train(base, "a", **short)
    assert module.card.licence == "cc-by-4.0"  # who says nothing takes nothing back


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"out": 5}, TrainingError, "out is the path of the module's folder, or None to write nothing; got 5"),
        ({"corpus": []}, DataError, "'texts' is empty"),
        ({"corpus": ["too short"]}, DataError, "'texts' is shorter than one sequence: it has 8 tokens, a row takes 32"),
        ({"corpus": [{"title": "no text"}]}, DataError, "text 1: no field 'text'"),
        ({"warm": 1}, AddendaError, "train has no setting 'warm'"),
    ],
)
def test_errors_leave_the_base_as_it_was(
    base: addenda.Base, quick: dict[str, Any], changed: dict[str, Any], error: type[Exception], told: str
) -> None:
    base.new("a", KINDS["lora"])
    base.use("a")
    with pytest.raises(error, match=told):
        addenda.train(base, "a", **quick | changed)
    assert base.selection.everyone == {"a": 1.0}
    assert all(p.requires_grad for p in base.model.parameters())


def test_a_tokenizer_of_another_base(make_base: Make, quick: dict[str, Any]) -> None:
    base = make_base(vocab_size=64)
    base.new("a", KINDS["lora"])
    with pytest.raises(DataError, match="the tokenizer does not match the base"):
        addenda.train(base, "a", **quick)


def test_losses_are_of_tokens_of_the_corpus(base: addenda.Base, texts: dict[str, Any]) -> None:
    """A step without a row of the corpus has no loss, and above all not zero."""
    asked: dict[str, Any] = {
        "corpus": texts["corpus"], "replay": texts["replay"], "replay_share": 0.5, "length": 32, "batch_rows": 1, "log": False
    }  # fmt: skip
    for steps, name in ((2, "a"), (6, "b")):
        base.new(name, addenda.ParallelAdapter(width=4))
        report = addenda.train(base, name, tokens=32 * steps, **asked)
        losses = [record[name]["loss"] for record in report.history]
        assert losses[1::2] == [None] * (steps // 2)
        assert min(losses[0::2]) > 2
        assert report.losses == {name: losses[-2]}
        assert report.loss == losses[-2]
        assert any(f"{steps // 2} of {steps} rows are of the corpus" in remark for remark in report.remarks)
        json.dumps(report.as_dict(), allow_nan=False)
    base.new("c", addenda.ParallelAdapter(width=4))
    report = addenda.train(base, "c", tokens=512, **(asked | {"replay_share": 0.999}))
    assert report.losses["c"] == report.history[0]["c"]["loss"]
    assert any("1 of 16 rows are of the corpus" in remark for remark in report.remarks)


@pytest.mark.parametrize("tokens", [0, -1, -4096])
def test_no_tokens_are_no_step(base: addenda.Base, quick: dict[str, Any], tokens: int) -> None:
    base.new("a", addenda.LoRA(rank=2))
    with pytest.raises(TrainingError, match=f"^tokens must make at least one step; got {tokens}$"):
        addenda.train(base, "a", **(quick | {"tokens": tokens}))


@pytest.mark.parametrize("source", [[], [""], [3], "no/such/file.txt"])
def test_a_validation_that_cannot_be_read_is_named_before_the_first_step(
    base: addenda.Base, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch, source: Any
) -> None:
    base.new("a", addenda.LoRA(rank=2))
    monkeypatch.setattr(Stepper, "take", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(DataError, match="^validation 'here': "):
        addenda.train(base, "a", **quick, validation={"there": ["fine"], "here": source})


def test_an_out_that_leads_nowhere_is_refused_before_the_first_step(
    base: addenda.Base, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.new("a", addenda.LoRA(rank=2))
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setattr(Stepper, "take", lambda *_: pytest.fail("it has begun"))
    for out in (tmp_path / "loop", tmp_path / "loop" / "a"):
        with pytest.raises(FileError, match="is a link that leads back to itself"):
            addenda.train(base, "a", out=out, **quick)
    assert not (tmp_path / "loop.run").exists()
