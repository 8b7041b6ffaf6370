"""The share of tokens left bit-equal, and thresholds calibrated for a stated share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.looking import pieces
from conformance.world import perturbed
from pico import BOS, pico, pico_tokenizer

KINDS: dict[str, Any] = {
    "token": addenda.NeutralResidues(width=8, gate="token"),
    "context": addenda.NeutralResidues(width=8, gate="context", read_at=1),
    "neutral": addenda.Registers(count=4, init="text", gate="neutral"),
    "registers": addenda.Registers(count=4, init="text", gate="context"),
}


def words(count: int, seed: int) -> list[str]:
    """Texts without any repetition, of 40 to 100 tokens."""
    random = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz     ")
    return ["".join(random.choice(letters, random.integers(45, 130))) for _ in range(count)]


GENERAL, HELD_OUT = words(30, 0), words(30, 1)
LENGTHS = (12, 24, 40)


def made(kind: str, arch: str = "llama") -> addenda.Base:
    """A base whose module has a live gate on about half of what it reads."""
    base = addenda.attach(pico(arch), pico_tokenizer())
    config = KINDS[kind]
    module = base.new("a", config, text="the heart of it all ") if config.starts_from_text else base.new("a", config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.add_(torch.randn_like(p) * (0.02 if "gate" in name or "router" in name else 0.3))
        gates = [module.gate] if module.gate is not None else [module.adapter(key) for key in module.sites()]
        for gate in gates:
            for name, p in gate.named_parameters():
                if name in ("bias", "gate_bias"):
                    p.zero_()
    return base


def by_hand(base: addenda.Base, source: list[str], lengths: tuple[int, ...]) -> dict[int, float]:
    """Share of bit-equal logits, one document at a time."""
    found: dict[int, float] = {}
    for length in lengths:
        equal = total = 0
        for text in source:
            ids = [BOS, *base.tokenizer(text)["input_ids"]]
            for at in range(0, len(ids) - length + 1, length):
                row = torch.tensor([ids[at : at + length]])
                with torch.no_grad(), base.off():
                    bare = base.model(input_ids=row).logits
                with torch.no_grad(), base.using("a"):
                    on = base.model(input_ids=row).logits
                equal += int((bare == on).all(-1).sum())
                total += length
        found[length] = equal / total
    return found


@pytest.mark.parametrize("kind", ["token", "context"])
def test_the_share_is_that_found_by_hand(kind: str) -> None:
    base = made(kind)
    found = addenda.neutral_share(base, "a", GENERAL[:8], lengths=LENGTHS)
    hand = by_hand(base, GENERAL[:8], LENGTHS)
    assert found.by_length == pytest.approx(hand, abs=0.01)
    assert 0 < found.share < 1
    assert float(found) == found.share == pytest.approx(np.mean(list(hand.values())), abs=0.01)
    assert 0 < min(found.live.values()) < 1
    assert base.selection.empty


def test_a_fresh_module_leaves_everything_alone_and_a_plain_one_nothing() -> None:
    base = made("token")
    base.new("fresh", addenda.LoRA(rank=2))
    assert addenda.neutral_share(base, "fresh", GENERAL, lengths=LENGTHS).share == 1.0
    loud = base.new("loud", addenda.LoRA(rank=2))
    with torch.no_grad():
        for p in loud.parameters():
            p.add_(torch.randn_like(p))
    found = addenda.neutral_share(base, "loud", GENERAL, lengths=LENGTHS)
    assert found.share < 0.01
    assert set(found.live.values()) == {1.0}


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize(
    ("kind", "per"),
    [("token", "layer"), ("token", "module"), ("neutral", "layer"), ("context", "layer"), ("registers", "layer")],
)
def test_calibration_leaves_the_stated_share_alone(kind: str, per: Any, share: float) -> None:
    base = made(kind)
    before = addenda.neutral_share(base, "a", GENERAL, lengths=LENGTHS).share
    found = addenda.calibrate(base, "a", GENERAL, share, per=per, lengths=LENGTHS)
    assert before < 0.5
    assert share <= found.measured.share + 1e-9
    # and hardly more: what a gate barely open does to later tokens can be lost in rounding
    assert found.measured.share < min(1.0, share + 0.1)
    if kind == "token":  # short documents are left alone more often than long ones
        assert found.measured.by_length[12] >= found.measured.by_length[40]
    # on text that it was not calibrated on it is near
    other = addenda.neutral_share(base, "a", HELD_OUT, lengths=LENGTHS)
    assert other.share == pytest.approx(share, abs=0.15)
    # thresholds are buffers: they are saved and loaded with the module
    assert sorted(k for k in base.modules["a"].tensors() if "threshold" in k)
    assert all(value >= 0 for value in found.thresholds.values())


@pytest.mark.parametrize("arch", ["opt", "gemma2", "gpt_neox"])
def test_other_architectures(arch: str) -> None:
    base = made("token", arch)
    found = addenda.calibrate(base, "a", GENERAL, 0.8, lengths=LENGTHS)
    assert 0.8 <= found.measured.share + 1e-9 < 0.95


def test_a_second_calibration_starts_from_the_trained_gate() -> None:
    base = made("context")
    strict = addenda.calibrate(base, "a", GENERAL, 0.95, lengths=LENGTHS)
    loose = addenda.calibrate(base, "a", GENERAL, 0.5, lengths=LENGTHS)
    assert loose.thresholds["gate"] < strict.thresholds["gate"]
    assert 0.5 <= loose.measured.share < 0.65


def test_a_gate_is_never_opened_further() -> None:
    base = made("context")
    module = base.modules["a"]
    assert module.gate is not None
    with torch.no_grad():
        module.gate.bias.fill_(-9.0)  # shut everywhere as it is
    found = addenda.calibrate(base, "a", GENERAL, 0.5, lengths=LENGTHS)
    assert found.thresholds == {"gate": 0.0}
    assert found.measured.share == 1.0


def test_a_document_gate_is_opened_no_further_than_it_was_fitted(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = perturbed(base, "a", "neutral-document")
    assert module.gate is not None
    fitted = float(module.gate.threshold) * 0.9
    module.gate.get_buffer("fitted").fill_(fitted)
    again = base.modules["a"].save(tmp_path / "a")
    base.unplug("a")
    base.plug(again, name="a")
    assert addenda.calibrate(base, "a", GENERAL, 0.0, lengths=LENGTHS).thresholds == {"gate": pytest.approx(fitted)}
    assert addenda.calibrate(base, "a", GENERAL, 0.99, lengths=LENGTHS).thresholds["gate"] >= fitted


def test_the_card_says_so() -> None:
    base = made("context")
    base.modules["a"].card.training = [{"tokens": 1}]  # type: ignore[list-item]
    for share in (0.9, 0.5):
        found = addenda.calibrate(base, "a", GENERAL, share, lengths=LENGTHS)
    (measure,) = base.modules["a"].card.measures
    assert measure.name == "left alone on the calibration text"  # not to be read as one on held-out text
    assert (measure.unit, measure.value) == ("share of tokens", found.measured.share)
    assert [d.role for d in base.modules["a"].card.training[-1].data] == ["calibration"]


def test_what_cannot_be_calibrated() -> None:
    base = made("token")
    base.new("b", addenda.LoRA(rank=2))
    base.new("sigmoid", addenda.NeutralResidues(width=8, gate="sigmoid"))
    for name, more, told in (
        ("sigmoid", {}, "'sigmoid' has a gate that is never quite shut: there is no threshold to calibrate"),
        ("b", {}, "'b' is of the kind LoRA, which has no gate to calibrate"),
        ("c", {}, "no module 'c' is plugged; plugged are a, b, sigmoid"),
        ("a", {"share": 1.0}, "share is a share of tokens"),
        ("a", {"per": "head"}, "per is 'layer' or 'module'"),
    ):
        with pytest.raises(AddendaError, match=told):
            addenda.calibrate(base, name, GENERAL, **more)
    with pytest.raises(DataError, match="no text of 'texts' has 64 tokens"):
        addenda.calibrate(base, "a", ["short"])


def test_a_calibration_that_fails_leaves_thresholds_as_they_were() -> None:
    base = made("token")
    before = [adapter.threshold.fill_(3.0) for adapter in base.modules["a"].adapters.values()]
    with pytest.raises(DataError, match="shortest document length"):
        addenda.calibrate(base, "a", ["ab"], lengths=(64,))
    assert [float(threshold) for threshold in before] == [3.0] * len(before)


def test_pieces_come_from_all_documents_and_all_over_them() -> None:
    documents = [[np.array([d, piece]) for piece in range(count)] for d, count in enumerate((1, 10, 100))]
    chosen = [(int(d), int(piece)) for _, (d, piece) in pieces.evenly(documents, 9)]
    assert chosen == [(0, 0), (1, 0), (1, 2), (1, 5), (1, 7), (2, 0), (2, 25), (2, 50), (2, 75)]
    assert len(pieces.evenly(documents, 1000)) == 111


@pytest.mark.parametrize("kind", ["token", "registers"])
def test_no_graph_is_kept_while_it_is_measured(kind: str) -> None:
    """A module of many slots would hold them anew for each row: a whole machine's memory."""
    base, seen = made(kind), set[bool]()
    base.model.model.layers[0].register_forward_pre_hook(lambda *_: seen.add(torch.is_grad_enabled()))
    addenda.neutral_share(base, "a", GENERAL, lengths=(12,))
    addenda.calibrate(base, "a", GENERAL, share=0.5, lengths=(12,))
    assert seen == {False}
