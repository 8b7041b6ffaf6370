"""The start of a context gate: least squares on the bare base's activations, found in one go."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

import addenda
from addenda.core.gate import starts_of
from addenda.core.site import Seam, Site
from addenda.gates.context import PRIOR, ContextGate
from addenda.writing.gate_fit import TURN, Part, _Reader, fit_from_plan, turns_of
from addenda.writing.isolation import way_of
from addenda.writing.plan import make_plan
from addenda.writing.settings import settings_from
from pico import ARCHS, pico, pico_tokenizer

MEDICAL = [
    f"the heart and lung of patient {n} were treated with insulin and the outcome was measured " * 4 for n in range(30)
]
GENERAL = [
    f"the river {n} ran past the old mill and the children sang as they walked home along the lane " * 4
    for n in range(30)
]


def fitted(arch: str = "llama", kind: Any = None, **settings: Any) -> tuple[addenda.Base, Any]:
    base = addenda.attach(pico(arch), pico_tokenizer())
    base.new("a", kind or addenda.NeutralResidues(width=8, gate="context", read_at=1))
    plan = make_plan(
        base, "a", corpus=MEDICAL, replay=GENERAL, replay_share=0.2, tokens=4096, lr=1e-3, seed=0, alongside=(),
        settings=settings_from({"length": 64, **settings}),
    )  # fmt: skip
    fit_from_plan(base, plan, "a")
    return base, base.modules["a"].gate


def test_terms_are_what_the_score_is_linear_in() -> None:
    gate = ContextGate(Site("layers.0.ffn", Seam.FFN, 0, "", "", 6, 6))
    torch.nn.init.normal_(gate.weight)
    gate.prior.fill_(3.0)
    x, documents = torch.randn(2, 9, 6), torch.tensor([[1] * 4 + [2] * 5, [1] * 9])
    terms, offset = gate.terms(x, starts_of(documents))
    average, _ = gate(x, starts=starts_of(documents))
    torch.testing.assert_close(terms @ torch.cat([gate.weight, gate.bias[None]]) + offset, average)


@pytest.mark.parametrize("kind", ["residues", "registers"])
@pytest.mark.parametrize("arch", [a for a in ARCHS if a != "qwen3_moe"])
def test_a_fitted_gate_tells_the_two_apart(arch: str, kind: str) -> None:
    made = addenda.Registers(count=4, gate="context") if kind == "registers" else None
    base, gate = fitted(arch, made)
    found: dict[str, list[float]] = {"medical": [], "general": []}

    def observer(share: Any, site: str, **facts: Any) -> None:
        if "gate" in facts and site == gate.site:
            found[where].append(float(facts["gate"][0, -1, 0]))

    for sort, texts in (("medical", MEDICAL), ("general", GENERAL)):
        where = sort
        for text in texts[:8]:
            with torch.no_grad(), base.using("a"), base.watching(observer=observer):
                base.model(input_ids=base.tokenize(text)[None, :100], use_cache=False)
    assert min(found["medical"]) > max(found["general"])
    assert sum(value == 0 for value in found["general"]) >= 6


def test_the_fit_is_the_same_each_time_and_leaves_the_base_alone() -> None:
    (base, one), (_, two) = fitted(), fitted()
    assert torch.equal(one.weight, two.weight)
    assert not any(module._forward_pre_hooks for module in base.model.modules())


@pytest.mark.slow
def test_a_compiled_base_is_read_too(make_base: Callable[..., addenda.Base]) -> None:
    base = make_base()
    base.model.model.compile(backend="eager")
    given: dict[str, Any] = {
        "corpus": MEDICAL,
        "replay": GENERAL,
        "tokens": 1024,
        "length": 32,
        "log": False,
        "lr": 1e-9,
    }
    found = []
    for name in ("a", "b"):
        gate: Any = base.new(name, addenda.NeutralResidues(width=8, gate="context", read_at=1)).gate
        addenda.train(base, name, **given)
        found.append(gate.weight.detach().clone())
        base.model.model._compiled_call_impl = None  # the second time as it came
    torch.testing.assert_close(*found)
    assert float(found[0].norm()) > 0.01


def test_training_fits_a_fresh_gate_and_no_other(make_base: Callable[..., addenda.Base]) -> None:
    base = make_base()
    gate: Any = base.new("a", addenda.NeutralResidues(width=8, gate="context", read_at=1)).gate
    given: dict[str, Any] = {"corpus": MEDICAL, "replay": GENERAL, "tokens": 1024, "length": 32, "log": False}
    addenda.train(base, "a", lr=1e-9, **given)
    first = gate.weight.detach().clone()
    assert float(gate.prior) == PRIOR
    assert float(first.norm()) > 0.01
    addenda.train(base, "a", lr=1e-9, **{**given, "corpus": GENERAL[:15], "replay": MEDICAL})
    torch.testing.assert_close(gate.weight.detach(), first, atol=1e-5, rtol=0)
    unfitted: Any = base.new("c", addenda.NeutralResidues(width=8, gate="context", read_at=1)).gate
    addenda.train(base, "c", lr=1e-9, gate_fit=False, **given)
    assert (unfitted.prior.item(), unfitted.bias.item()) == (PRIOR, pytest.approx(1.0))
    other: Any = base.new("b", addenda.NeutralResidues(width=8, gate="context", read_at=1)).gate
    addenda.train(base, "b", lr=1e-9, **{**given, "replay": None})
    assert (other.prior.item(), other.bias.item()) == (0.0, pytest.approx(1.0))


def test_turns_have_every_token_of_both_sides_once_and_last_as_long_as_they_may() -> None:
    turn = turns_of(torch.Size((40, 512)), torch.Generator().manual_seed(0))
    assert turn.shape == (40, 512)
    assert set(turn[:, 0].tolist()) == {True, False}
    lengths: list[int] = []
    for row in turn:
        ends = row.int().diff().nonzero().flatten().tolist()
        lengths += [b - a for a, b in itertools.pairwise([-1, *ends])]
    assert min(lengths) >= TURN[0]
    assert max(lengths) < TURN[1]
    assert sum(length < 32 for length in lengths) > len(lengths) / 5


@pytest.mark.parametrize("size", [1, 3, 8])
def test_every_other_row_goes_by_turns_however_many_are_read_at_once(size: int) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    ids = {side: torch.arange(8 * 64).view(8, 64) % 50 + 60 * side for side in (True, False)}
    documents = torch.ones(8, 64, dtype=torch.long)
    reader = _Reader(base, base.host.site("layers.1.ffn"), "fp32", torch.Generator().manual_seed(0))
    read: list[torch.Tensor] = []

    def inputs(ids: torch.Tensor, _: torch.Tensor | None = None) -> torch.Tensor:
        read.append(ids)
        return ids[..., None].float()

    reader.inputs = inputs  # type: ignore[method-assign]
    reader.opener = None
    parts = (
        [Part(ids[side][at : at + size], documents[at : at + size]) for at in range(0, 8, size)]
        for side in (True, False)
    )
    batches = list(reader.rows(*map(iter, parts), turns=True))
    mixed = [row for batch in read for row in batch if bool((row >= 60).any()) and bool((row < 60).any())]
    assert len(mixed) == 8  # four of each side
    for side in (True, False):
        mine = [batch for batch in batches if batch.subject == side]
        told = torch.cat([batch.x.flatten() for batch in mine]).sort().values
        assert torch.equal(told, ids[side].flatten().float().sort().values)  # every token once, on its own side
        turned = [batch for batch in mine if int(batch.starts.sum()) > len(batch.starts)]
        assert sum(len(batch.starts) for batch in turned) == 4


@pytest.mark.parametrize("arch", ["llama", "gemma2", "opt"])
def test_documents_that_are_isolated_are_read_as_if_alone(arch: str) -> None:
    base = addenda.attach(pico(arch), pico_tokenizer())
    site = base.host.site("layers.1.attention")
    reader = _Reader(base, site, "fp32", torch.Generator().manual_seed(0), way_of(base))
    ids = torch.arange(5, 35).view(2, 15)
    documents = torch.tensor([[0] * 6 + [1] * 9, [2] * 11 + [3] * 4])
    (rows,) = reader.rows(iter([Part(ids, documents)]), iter([]), turns=False)
    for row in range(2):
        for number in documents[row].unique():
            mine = documents[row] == number
            alone = base.reader.entries([site], ids[row, mine][None])[site.key][0]
            torch.testing.assert_close(rows.x[row, mine], alone, atol=1e-4, rtol=1e-4)


def test_a_run_whose_documents_are_isolated_fits_its_gate_to_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(_Reader, "by_turns", lambda *_: asked.append("turns") or iter(()))
    kind = addenda.NeutralResidues(width=8, gate="document", read_at=1)
    _, gate = fitted(kind=kind, isolate=True)
    assert not asked
    assert not gate.fresh
    fitted(kind=kind)
    assert asked
