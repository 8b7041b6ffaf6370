"""Compress: what the card tells, where the result stands, what stays, and what is refused with nothing made."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda.compressing.compress import size_of
from addenda.compressing.texts import Inputs
from addenda.core.errors import AddendaError, DataError, UnsupportedError
from addenda.core.units import Units
from pico import pico, pico_tokenizer

TEXTS = [f"the patients of ward {n} were given insulin and the dose was raised twice. " * 3 for n in range(8)]


def made(kind: Any = None, gate: str | None = None) -> addenda.Base:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", kind or addenda.LoRA(rank=6), gate=gate)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.05)
    return base


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The sites whose inputs were read, group by group."""
    groups: list[list[str]] = []
    plain = Inputs._inputs

    def noted(self: Inputs, sites: Any) -> Any:
        groups.append(list(sites))
        return plain(self, sites)

    monkeypatch.setattr(Inputs, "_inputs", noted)
    return groups


@pytest.mark.parametrize("method", ["svd(rank=2)", "svd(energy=0.6)", "ternary(steps=4)"])
def test_inputs_are_held_for_few_sites_at_once_and_that_changes_nothing(
    method: str, read: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = addenda.ParallelAdapter(width=32) if method.startswith("ternary") else None
    base = made(kind)
    sites = list(base.modules["m"].sites())
    one = addenda.compress(base, "m", method, text=TEXTS, name="one")
    assert read == [sites]
    monkeypatch.setattr("addenda.compressing.texts.ROOM", 1)
    two = addenda.compress(base, "m", method, text=TEXTS, name="two")
    assert read[1:] in ([[site] for site in sites], [[site] for site in sites] * 2)  # twice: strengths, then factors
    assert all(torch.equal(tensor, two.tensors()[key]) for key, tensor in one.tensors().items())


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (addenda.Registers(4), "svd"), (addenda.Registers(4), "ternary"), (addenda.LoRA(2), "ternary"),
        (addenda.NeutralResidues(width=8, gate="sigmoid"), "ternary"), (addenda.MLPMemory(width=8), "svd"),
        (addenda.NeutralResidues(width=8, gate="sigmoid"), "svd"), (addenda.FFALoRA(2), "nl_svd"),
    ],
)  # fmt: skip
def test_what_cannot_be_compressed_is_refused_before_a_text_is_read(
    kind: Any, method: str, read: list[list[str]]
) -> None:
    with pytest.raises(UnsupportedError, match=f"'m' cannot be compressed by {method}: "):
        addenda.compress(made(kind), "m", method, text=TEXTS)
    assert not read


def measures(module: addenda.KnowledgeModule) -> dict[str, Any]:
    return {measure.name: measure for measure in module.card.measures}


def test_the_card_tells_losses_with_intervals_and_sizes() -> None:
    base = made()
    small = addenda.compress(base, "m", "svd(rank=2, by='weights')", text=TEXTS)
    told = measures(small)
    with base.using("m"):
        before = addenda.perplexity(base, TEXTS)
    with base.using("m-svd"):
        after = addenda.perplexity(base, TEXTS)
    with base.off():
        bare = addenda.perplexity(base, TEXTS)
    cost = after.minus(before)
    assert told["loss"].value == pytest.approx(after.nats, abs=1e-6)
    assert told["loss"].reference == pytest.approx(bare.nats, abs=1e-6)
    assert told["loss before compression"].value == pytest.approx(before.nats, abs=1e-6)
    found = told["cost of compression"]
    assert (found.value, found.low, found.high) == pytest.approx((cost.nats, cost.low, cost.high), abs=1e-6)
    assert (found.n, found.on) == (8, "texts")
    assert told["size before compression"].value == size_of(base.modules["m"]) == 3 * told["size"].value
    assert small.card.compressed == [{"name": "svd", "rank": 2, "energy": None, "by": "weights"}]
    again = addenda.compress(base, "m-svd", "svd(rank=1)", text=TEXTS)
    assert [one["rank"] for one in again.card.compressed or ()] == [2, 1]
    assert again.name == "m-svd-svd"


def test_documents_that_are_fitted_to_are_not_measured_on() -> None:
    base = made()
    assert measures(addenda.compress(base, "m", "svd(rank=2)", text=TEXTS))["loss"].n == 4
    told = measures(addenda.compress(base, "m", "svd(rank=2)", name="a", text=TEXTS, calibration=["a text of its own"]))
    assert told["loss"].n == 8
    lone = measures(addenda.compress(base, "m", "svd(rank=2)", name="b", text=["one long document. " * 30]))
    assert (lone["loss"].n, lone["loss"].low) == (1, None)


def test_in_its_own_place_it_stays_selected() -> None:
    base = made()
    old = base.modules["m"]
    base.use(m=0.5)
    small = addenda.compress(base, "m", "svd(rank=2)", text=TEXTS, name="m")
    assert base.modules["m"] is small is not old
    assert small.card.name == "m"
    ids = base.tokenize("the dose")[None]
    with torch.no_grad():
        found = base.model(ids).logits
        with base.using(m=0.5):
            assert torch.equal(base.model(ids).logits, found)
        with base.off():
            assert not torch.equal(base.model(ids).logits, found)


@pytest.mark.parametrize("name", [None, "m"])
def test_more_loss_than_is_allowed_makes_nothing(name: str | None) -> None:
    base = made()
    # so that the module is worth something, and what it loses costs
    addenda.train(base, "m", corpus=TEXTS, tokens=1024, length=32, log=False, lr=1e-2)
    old = base.modules["m"]
    costs = r"nothing was made: svd\(rank=1, by='weights'\) costs \d\.\d+ nats per token on 'texts' \(95%: .*\)"
    said = costs + ", more than at_most=1e-06"
    with pytest.raises(AddendaError, match=said):
        addenda.compress(base, "m", "svd(rank=1, by='weights')", text=TEXTS, at_most=1e-6, name=name)
    assert dict(base.modules) == {"m": old}
    assert addenda.compress(base, "m", "svd(rank=1)", text=TEXTS, at_most=9.0).name == "m-svd"


def test_what_is_beside_the_tensors_stays_and_what_is_of_them_goes() -> None:
    base = made(gate="document")
    module = base.modules["m"]
    module.probe = [5, 6, 7]
    module.keep_beside("nearest", {"keys": torch.ones(2, 3)})
    module.keep_beside("fisher", {next(iter(module.tensors())): torch.ones(2)})
    first = next(iter(module.tensors()))
    module.keep_beside("moments", {f"{first}.rows": torch.ones(2), f"{first}.columns": torch.ones(2)})
    module.keep_beside("ewc", {"0.curvature": torch.ones(()), f"0.mu.{first}": torch.ones(2)})
    small = addenda.compress(base, "m", "svd(rank=2)", text=TEXTS)
    assert small.probe == [5, 6, 7]
    assert list(small.side) == ["nearest.keys"]
    assert small.card.gate == {"name": "document", "read_at": "early", "hold": False, "by_turn": False}
    assert small.gate is not module.gate
    old, new = module.gate, small.gate
    assert old is not None
    assert new is not None
    assert all(torch.equal(tensor, new.state_dict()[key]) for key, tensor in old.state_dict().items())


def test_a_gate_that_the_kinds_options_told_is_told_by_the_card() -> None:
    base = made(addenda.NeutralResidues(width=24, gate="document", read_at=1))
    small = addenda.compress(base, "m", "ternary(steps=2)", text=TEXTS)
    assert small.card.gate == {"name": "document", "read_at": 1, "hold": False, "by_turn": False}
    assert list(small.sites()) == ["layers.1.ffn", "layers.2.ffn"]
    assert small.kind == addenda.TernaryUnits(width=24)


def test_a_half_precision_module_stays_one() -> None:
    base = made()
    base.modules["m"].to(torch.bfloat16)
    small = addenda.compress(base, "m", "svd(rank=2)", text=TEXTS)
    assert {tensor.dtype for tensor in small.tensors().values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"module": "x"}, "no module 'x' is plugged; plugged are"),
        ({"method": "zip"}, "no compressor is called 'zip'"),
        ({"method": "svd(steps=3)"}, "svd has no option 'steps'"),
        ({"method": "svd(rank=6)"}, r"nothing was made: svd\(rank=6\) gives [\d,]+ bytes, and 'm' has"),
        ({"at_most": -1.0}, "at_most is nats per token, 0 or more"),
        ({"at_most": float("nan")}, "at_most is nats per token, 0 or more"),
        ({"tokens": 0}, "tokens is how many to measure on"),
        ({"name": "Not A Name"}, "a module's name is"),
        ({"name": "taken"}, "a module 'taken' is plugged already"),
        ({"text": []}, "holds no token to measure on"),
        ({"text": ["a"]}, "too short to fit to"),
    ],
)
def test_mistakes_change_nothing(call: dict[str, Any], said: str) -> None:
    base = made()
    base.new("taken", addenda.LoRA(rank=1))
    given: dict[str, Any] = {"module": "m", "method": "svd(rank=2)", "text": TEXTS, **call}
    with pytest.raises((AddendaError, DataError), match=said):
        addenda.compress(base, given.pop("module"), given.pop("method"), **given)
    assert set(base.modules) == {"m", "taken"}


def test_a_module_in_training_is_left_alone() -> None:
    base = made()
    with base.trainable("m"), pytest.raises(AddendaError, match="'m' is being trained"):
        addenda.compress(base, "m", "svd(rank=2)", text=TEXTS)


def test_a_memory_that_awaits_its_text_is_refused() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", addenda.LocasGLU(rank=8))
    with pytest.raises(AddendaError, match="has not been started from its text"):
        addenda.compress(base, "m", "ternary", text=TEXTS)


def test_padding_adds_nothing() -> None:
    units = Units(torch.randn(3, 8), torch.randn(3, 8), torch.randn(3, 8))
    x = torch.randn(5, 8)
    longer = units.padded(7)
    assert len(longer.up) == 7
    torch.testing.assert_close(longer.output(x, torch.relu), units.output(x, torch.relu))
