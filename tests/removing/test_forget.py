"""Forgetting a text: what the report says is so, what stays is as it was, and an interrupted run goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.card import TrainingRecord
from addenda.core.errors import AddendaError, DataError, FileError, TrainingError
from addenda.removing import run as forgetting
from addenda.removing.run import ForgetRun
from addenda.writing.signals import TrainingStopped
from knowing import FORGET, RETAIN, fresh, known

RUN: dict[str, Any] = {"forget": FORGET, "retain": RETAIN, "length": 32, "batch_rows": 2, "lr": 5e-3, "log": False}
#: ten steps
WHOLE: dict[str, Any] = RUN | {"tokens": 10 * 4 * 2 * 32}
#: and a short look
SHORT = WHOLE | {"measured": 64}


def tensors(base: addenda.Base) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in base.modules["m"].tensors().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_the_losses_are_those_that_perplexity_gives() -> None:
    base = known()
    with base.off():
        bare = addenda.perplexity(base, FORGET, length=32)
    with base.using("m"):
        before = addenda.perplexity(base, FORGET, length=32)
    report = addenda.forget(base, "m", **WHOLE)
    with base.using("m"):
        after, kept = (addenda.perplexity(base, text, length=32) for text in (FORGET, RETAIN))
    told = report.forget.loss
    for found, score in ((told.bare, bare), (told.before, before), (told.after, after)):
        assert (found.value, found.low, found.high) == pytest.approx((score.nats, score.low, score.high), abs=1e-5)
    assert report.forget.change.value == pytest.approx(after.minus(before).nats, abs=1e-5)
    assert report.retain.loss.after.value == pytest.approx(kept.nats, abs=1e-5)
    assert (report.forget.tokens, report.forget.documents) == (before.tokens, before.documents)


def test_recall_and_kl_are_what_the_logits_say() -> None:
    base = known()
    start = tensors(base)
    report = addenda.forget(base, "m", **WHOLE | {"length": 64})
    end, right, kl, count = tensors(base), [0, 0], 0.0, 0
    for text in RETAIN:
        ids = torch.tensor([[base.tokenizer.bos_token_id, *base.tokenize(text).tolist()]])
        scores = []
        for at, state in enumerate((start, end)):
            base.modules["m"].load_tensors(state)
            with torch.no_grad(), base.using("m"):
                scores.append(base.model(input_ids=ids[:, :-1]).logits[0].log_softmax(-1))
            right[at] += int((scores[at].argmax(-1) == ids[0, 1:]).sum())
        kl += float((scores[0].exp() * (scores[0] - scores[1])).sum())
        count += ids.shape[1] - 1
    assert report.retain.tokens == count
    assert report.retain.recall.before.value == pytest.approx(right[0] / count)
    assert report.retain.recall.after.value == pytest.approx(right[1] / count)
    assert report.retain.kl.value == pytest.approx(kl / count, rel=1e-3)


def test_extraction_counts_the_tokens_that_are_written_right() -> None:
    base = known()
    report = addenda.forget(base, "m", **WHOLE)
    assert report.forget.extraction is not None
    shares: list[float] = []
    size = min(64, max(1 + len(base.tokenize(text)) for text in FORGET))
    for text in FORGET:
        ids = torch.tensor([base.tokenizer.bos_token_id, *base.tokenize(text).tolist()])
        if len(ids) < size:
            continue
        with base.using("m"):
            out = base.model.generate(
                ids[None, : size // 2], max_new_tokens=size - size // 2, min_new_tokens=1, do_sample=False,
                attention_mask=torch.ones(1, size // 2, dtype=torch.long),
            )[0]  # fmt: skip
        written = out[size // 2 :].tolist()
        stop = written.index(2) if 2 in written else len(written)
        truth = ids[size // 2 : size].tolist()
        shares.append(sum(a == b for a, b in zip(written[:stop], truth, strict=False)) / len(truth))
    assert report.forget.extraction.after.value == pytest.approx(sum(shares) / len(shares))


def test_what_was_done_is_on_the_card_and_nothing_of_the_old_one_is_left(tmp_path: Path) -> None:
    base = known()
    module = base.modules["m"]
    before = base.tokenize(FORGET[0]).tolist()[:16]
    module.probe = before
    module.keep_beside("keys", {"centre": torch.ones(3)})
    module.keep_beside("moments", {"a": torch.ones(3)})
    report = addenda.forget(base, "m", out=tmp_path / "m", **SHORT)
    assert "tensors beside the module (keys, moments) were of the module as it was, and are gone" in str(report)
    assert module.side == {}
    assert module.probe
    assert module.probe != before
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert [run["objective"] for run in card["training"]] == ["lm", "forget: gu"]
    assert [data["role"] for data in card["training"][1]["data"]] == ["forget", "retain"]
    assert card["training"][1]["settings"]["method"]["name"] == "gu"
    measured = {measure["name"]: measure for measure in card["measures"]}
    assert measured["forgotten, loss added"]["value"] == pytest.approx(report.forget.change.value)
    loss = report.forget.loss  # "the base alone" of a loss that is added: what it would be without the module
    assert measured["forgotten, loss added"]["reference"] == pytest.approx(loss.bare.value - loss.before.value)
    assert measured["forgotten, extraction"]["unit"] == "share"
    assert {"forgotten, recall", "retained, loss added", "retained, KL"} <= measured.keys()
    back = known()
    back.unplug("m")
    back.plug(tmp_path / "m")
    assert equal(tensors(back), tensors(base))
    assert sorted(p.name for p in (tmp_path / "m.run").iterdir()) == ["finished.json", "log.jsonl"]
    assert report.freed > 0
    json.dumps(report.as_dict(), allow_nan=False)


def test_without_out_nothing_is_written_and_selection_and_random_state_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = known()
    base.use(m=0.5)
    state = torch.get_rng_state()
    flags = [p.requires_grad for p in base.modules["m"].parameters()]
    report = addenda.forget(base, "m", **SHORT)
    assert (report.out, report.run) == (None, None)
    assert not list(tmp_path.iterdir())
    assert torch.equal(state, torch.get_rng_state())
    assert base.selection.everyone == {"m": 0.5}
    assert flags == [p.requires_grad for p in base.modules["m"].parameters()]
    assert all(p.grad is None for p in base.modules["m"].parameters())


def interrupted(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = ForgetRun._move

    def move(self: ForgetRun, *sides: Any) -> None:
        original(self, *sides)
        if self.step + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ForgetRun, "_move", move)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gu", "gs_lora"])
def test_a_run_that_is_resumed_gives_the_same_bits(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = SHORT | {"method": method}
    straight, whole = known(), tmp_path / "whole"
    report = addenda.forget(straight, "m", out=whole, **given)
    base, out = known(), tmp_path / "m"
    start, card = tensors(base), base.modules["m"].card.model_dump()
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        with pytest.raises(TrainingStopped, match=r"after step 3 of \d+; the same call with resume=True goes on"):
            addenda.forget(base, "m", out=out, **given)
    assert "SIGINT: stopping after step 3 of" in capsys.readouterr().err
    assert equal(tensors(base), start)  # as it was, so that it can be resumed, or left
    assert base.modules["m"].card.model_dump() == card
    assert not (out / "card.json").exists()
    with pytest.raises(TrainingError, match="holds the checkpoints of an earlier run: resume=True"):
        addenda.forget(base, "m", out=out, **given)
    with pytest.raises(TrainingError, match="other settings than it began with: lr: 0.005 then, 0.001 now"):
        addenda.forget(base, "m", out=out, resume=True, **given | {"lr": 0.001})
    again = addenda.forget(base, "m", out=out, resume=True, **given)
    assert again.resumed_from == 3
    assert (out / "module.safetensors").read_bytes() == (whole / "module.safetensors").read_bytes()
    assert again.forget == report.forget
    assert again.groups == report.groups
    # one that is finished is told as it was, without a step
    monkeypatch.setattr(ForgetRun, "_one", None)
    other = known()
    told = addenda.forget(other, "m", out=out, resume=True, **given)
    assert (told.forget, told.retain, told.steps) == (report.forget, report.retain, report.steps)
    assert equal(tensors(other), tensors(straight))


def test_a_run_is_resumed_with_the_module_that_it_began_with_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = known()
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        with pytest.raises(TrainingStopped):
            addenda.forget(base, "m", out=tmp_path / "m", **SHORT)
    with pytest.raises(TrainingError, match="the module's tensors at the start"):
        addenda.forget(fresh(), "m", out=tmp_path / "m", resume=True, **SHORT)


def test_a_run_that_was_interrupted_is_finished_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = known()
    with monkeypatch.context() as patch:
        interrupted(patch, 4)
        with pytest.raises(TrainingStopped):
            addenda.forget(base, "m", out=tmp_path / "m", **SHORT)
    monkeypatch.setattr(ForgetRun, "_one", None)
    report = addenda.forget(base, "m", out=tmp_path / "m", finish=True, **SHORT)
    assert report.steps == 4
    assert "finished early, at step 4 of 10" in str(report)
    assert report.forget.change.value > 0


def test_an_interrupt_while_it_is_measured_loses_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = known()
    original = forgetting.look

    def look(*given: Any, **more: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "look", look)
        with pytest.raises(TrainingStopped, match="after step 10 of 10"):
            addenda.forget(base, "m", out=tmp_path / "m", **SHORT)
    assert addenda.forget(base, "m", out=tmp_path / "m", resume=True, **SHORT).steps == 10


def test_a_loss_that_is_not_finite_leaves_the_module_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    base = known()
    start, original = tensors(base), ForgetRun.graded

    def graded(self: ForgetRun, *given: Any) -> Any:
        gradients, loss = original(self, *given)
        return gradients, loss if self.step < 2 else float("nan")

    monkeypatch.setattr(ForgetRun, "graded", graded)
    with pytest.raises(TrainingError, match="not finite at step 3; a smaller lr"):
        addenda.forget(base, "m", **SHORT)
    assert equal(tensors(base), start)


@pytest.mark.parametrize(
    "kind",
    [
        addenda.NeutralResidues(width=8),
        addenda.NeutralResidues(width=8, gate="token"),
        addenda.ParallelAdapter(width=8),
        addenda.Registers(count=4),
        addenda.Cartridge(count=4),
    ],
    ids=["document gate", "token gate", "parallel", "registers", "cartridge"],
)
def test_it_is_for_every_kind_and_a_modules_gate_stays(kind: Any) -> None:
    base = fresh(kind)
    module = base.modules["m"]
    with torch.no_grad():
        for p in module.adapters.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    gate = {} if module.gate is None else {k: t.clone() for k, t in module.gate.state_dict().items()}
    addenda.forget(base, "m", **SHORT | {"tokens": 2 * 4 * 2 * 32, "method": "gu(bound=9.0)"})
    assert equal(gate, {} if module.gate is None else dict(module.gate.state_dict()))


def test_what_will_be_done_is_said_before(capsys: pytest.CaptureFixture[str]) -> None:
    addenda.forget(known(), "m", **SHORT | {"log": True, "tokens": 2 * 4 * 2 * 32})
    told = capsys.readouterr().err
    assert "m: LoRA, 11,136 parameters; gu, 2 steps of 4 batches of 2 rows x 32 tokens" in told
    assert told.index("to go: texts") < told.index("to stay: texts") < told.index("time: ")
    assert "memory: " in told
    assert "2/2 steps (100%)" in told


def test_without_a_number_of_tokens_the_text_is_read_eight_times() -> None:
    report = addenda.forget(known(), "m", **{k: v for k, v in RUN.items() if k != "lr"} | {"measured": 64})
    size = sum(1 + len(known().tokenize(text)) for text in FORGET)
    assert report.tokens == pytest.approx(8 * 4 * size, rel=0.1)
    assert report.settings["lr"] == pytest.approx(0.3 * addenda.LoRA.default_lr)


def test_a_module_that_knew_nothing_of_it_is_told() -> None:
    base = fresh()
    report = addenda.forget(base, "m", **SHORT | {"tokens": 2 * 4 * 2 * 32})
    assert "knew what is to go no better than the bare base: there was nothing to forget in it" in str(report)


WRONG: dict[str, tuple[dict[str, Any], type[AddendaError], str]] = {
    "no retain": ({"retain": None}, AddendaError, "takes both texts, .* retain is missing"),
    "no forget": ({"forget": None}, AddendaError, "takes both texts, .* forget is missing"),
    "empty": ({"forget": ["", " "]}, DataError, "is empty: it holds no text"),
    "empty retain": ({"retain": [""]}, DataError, "is empty: it holds no text"),
    "the same": ({"retain": list(FORGET)}, DataError, "forget and retain are the same text .*: retain is what"),
    "no method": ({"method": "guu"}, AddendaError, "no forgetter is called 'guu'; there are .*did you mean 'gu'"),
    "an option of another": ({"method": "gu(alpha=1)"}, AddendaError, "gu has no option 'alpha'"),
    "few tokens": ({"tokens": 100}, TrainingError, "100 tokens do not make one step of 256"),
    "no number": ({"tokens": 1.5}, TrainingError, "tokens is a whole number"),
    "a rate": ({"lr": -1.0}, TrainingError, "lr is a positive number; got -1"),
    "a seed": ({"seed": -1}, TrainingError, "seed is a whole number from 0"),
    "a setting": ({"lenght": 3}, AddendaError, "forget has no setting 'lenght'; .*did you mean 'length'"),
    "a range": ({"warmup": 2.0}, AddendaError, "'warmup' must be a share from 0 to 1"),
    "long rows": ({"length": 300}, AddendaError, "rows of 300 tokens do not fit the base's context of 256"),
    "a folder": ({"folder": "x"}, AddendaError, "folder= is for a module that is forgotten whole"),
    "nothing to resume": ({"resume": True}, TrainingError, "nothing to resume without out="),
    "no texts": ({"forget": 3}, DataError, "texts come from a path"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_told_in_one_sentence(case: str) -> None:
    more, error, says = WRONG[case]
    base = known()
    start = tensors(base)
    with pytest.raises(error, match=says):
        addenda.forget(base, "m", **SHORT | more)  # type: ignore[call-overload]
    assert equal(tensors(base), start)


def test_modules_that_cannot_forget_so_are_told_what_to_do(tmp_path: Path) -> None:
    base = known()
    with pytest.raises(AddendaError, match="no module 'n' is plugged; plugged are m"):
        addenda.forget(base, "n", **SHORT)
    base.modules["m"].requires_grad_(False)
    with pytest.raises(TrainingError, match="'m' is frozen.*thaws it"):
        addenda.forget(base, "m", **SHORT)
    base.modules["m"].requires_grad_(True)
    base.modules["m"].card.training = [TrainingRecord(objective="memorize")]
    with pytest.raises(
        AddendaError, match="'m' was written by memorize.*write it anew from the text without what is to go"
    ):
        addenda.forget(base, "m", **SHORT)
    awaiting = fresh(addenda.Registers(count=4, init="text"))
    with pytest.raises(AddendaError, match="'m' still awaits its first text"):
        addenda.forget(awaiting, "m", **SHORT)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("x")
    with pytest.raises(FileError, match=r"thesis.txt"):
        addenda.forget(known(), "m", out=tmp_path / "m", **SHORT)
