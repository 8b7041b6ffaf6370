"""Penalties at work in a run: asked for by words, their gradients by stream, several together, kept and told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.penalties.penalty import Penalty, asked_penalties, standing_in

Make = Callable[..., addenda.Base]


@dataclass(frozen=True)
class Apart(Penalty):
    """A-GEM: a step of the corpus gives up what of it would raise the loss on replay."""

    name: ClassVar[str] = "apart"
    streams: ClassVar[bool] = True
    only: str = ""

    def before_step(self, module: Any, state: Any, gradients: Mapping[str, Mapping[str, Tensor]]) -> None:
        seen.append({stream: {k: t.clone() for k, t in parts.items()} for stream, parts in gradients.items()})
        for name, gradient in gradients["corpus"].items():
            if self.only == "corpus":
                gradients["replay"][name].zero_()
            elif self.only == "agem":
                other = gradients["replay"][name]
                along = (gradient * other).sum()
                if along < 0:
                    gradient.sub_(other * (along / other.square().sum()))


seen: list[dict[str, dict[str, Tensor]]] = []


@pytest.fixture
def caught() -> list[dict[str, dict[str, Tensor]]]:
    seen.clear()
    return seen


def run(make_base: Make, quick: dict[str, Any], **settings: Any) -> dict[str, Tensor]:
    base = make_base()
    base.new("a", addenda.LoRA(rank=2))
    addenda.train(base, "a", **{**quick, "local": 0.0, "clip": None, **settings})
    return base.modules["a"].tensors()


def test_penalties_are_asked_for_by_words_in_a_list_or_joined() -> None:
    one = asked_penalties("osft(keep=0.3)")
    assert asked_penalties(None) == ()
    assert asked_penalties(one[0]) == one
    assert asked_penalties(["osft(keep=0.3)", "ewc"]) == asked_penalties("osft(keep=0.3) + ewc")
    assert asked_penalties("ewc(weight=1e+2)+osft")[0] == asked_penalties("ewc(weight=100.0)")[0]
    with pytest.raises(AddendaError, match="penalty 'osft' is asked for twice"):
        asked_penalties("osft+osft(keep=0.1)")
    with pytest.raises(AddendaError, match=r"no penalty is called 'ecw'; there are .*did you mean 'ewc'"):
        asked_penalties("ecw")
    with pytest.raises(AddendaError, match="rank"):
        asked_penalties("osft(rank=3)")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_by_stream_sum_to_the_gradient(
    make_base: Make, quick: dict[str, Any], caught: list[Any], accumulate: int
) -> None:
    """A hook that changes nothing leaves the run as it is, up to rounding; each stream's own gradient is the other's absence."""
    shape = {"batch_rows": 4 // accumulate, "accumulate": accumulate}
    plain = run(make_base, quick, **shape)
    apart = run(make_base, quick, penalty=Apart(), **shape)
    assert len(caught) == 8
    assert all(
        bool(tensor.any())
        for stream in ("corpus", "replay")
        for tensor in [caught[3][stream]["layers.0.mlp.up_proj.b"]]
    )
    for name, tensor in plain.items():
        torch.testing.assert_close(apart[name], tensor, rtol=1e-3, atol=1e-4)
    other = run(make_base, quick, penalty=Apart(only="corpus"), **shape)
    assert max(float((other[name] - tensor).abs().max()) for name, tensor in plain.items()) > 1e-2
    run(make_base, quick, penalty=Apart(only="agem"), **shape)


def test_several_penalties_act_in_the_order_that_they_need(make_base: Make, quick: dict[str, Any]) -> None:
    """The slow copy is of what the projection leaves, in whichever order they are named."""
    found = []
    for words in ("osft+ilora(weight=0, decay=0.9)", ["ilora(weight=0, decay=0.9)", "osft"]):
        base = make_base()
        module = base.new("a", addenda.ParallelAdapter(width=6))
        addenda.train(base, "a", **quick)
        start = {name: p.detach().clone() for name, p in module.learning().items()}
        addenda.train(base, "a", **{**quick, "penalty": words})
        assert [each["name"] for each in module.card.training[-1].settings["penalty"]] == [
            penalty.called() for penalty in asked_penalties(words)
        ]
        for name, parameter in module.learning().items():
            left = torch.linalg.svd(start[name], full_matrices=False)[0][:, : min(start[name].shape) // 2]
            assert float((left.T @ (parameter.detach() - start[name])).abs().max()) < 1e-5
        found.append({name: p.detach().clone() for name, p in module.learning().items()})
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_a_penalty_sees_the_same_states_with_gradient_checkpointing(make_base: Make, quick: dict[str, Any]) -> None:
    found = []
    for recomputed in (False, True):
        base = make_base()
        base.new("a", addenda.LoRA(rank=2))
        addenda.train(base, "a", **quick)
        settings = {**quick, "penalty": "ilora(weight=50, decay=0.9)", "gradient_checkpointing": recomputed}
        addenda.train(base, "a", **settings)
        found.append({name: tensor.clone() for name, tensor in base.modules["a"].tensors().items()})
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-4, atol=1e-5)


def test_what_stands_in_is_put_back_and_autograd_is_none_the_wiser(base: addenda.Base) -> None:
    module = base.new("a", addenda.LoRA(rank=2))
    p = next(iter(module.learning().values()))
    name = next(iter(module.learning()))
    before = p.detach().clone()
    loss = (p * p).sum()
    with standing_in(module, {name: torch.ones_like(p)}):
        assert bool((p == 1).all())
    loss.backward()
    assert torch.equal(p.detach(), before)
    torch.testing.assert_close(p.grad, 2 * before)


def test_the_run_says_what_it_pays_and_keeps(
    base: addenda.Base, quick: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = base.new("a", addenda.LoRA(rank=2))
    settings = {**quick, "log": True, "corpus": quick["corpus"][:3]}
    addenda.train(base, "a", **settings)
    capsys.readouterr()
    settings |= {"penalty": "ewc(weight=5, rows=2)", "earlier": quick["replay"][:2], "out": tmp_path / "a"}
    report = addenda.train(base, "a", **settings)
    told = capsys.readouterr().err
    assert "penalty: ewc, fitted on texts" in told
    assert "a: ewc: trainings 1, shares [" in told
    assert sum(record["a"].get("penalty", 0.0) for record in report.history) > 0
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    kept = card["training"][-1]["settings"]["kept"]["ewc"]
    assert (kept["trainings"], kept["of"]) == (2, "texts")
    assert "earlier" in [source["role"] for source in card["training"][-1]["data"]]
    again = addenda.train(base, "a", **settings, resume=True)  # of a finished run: told again, side tensors and all
    assert again.losses == report.losses
    assert set(module.side_of("ewc")) >= {"0.curvature", "1.curvature"}


def test_a_resumption_with_another_penalty_or_earlier_text_is_refused(
    base: addenda.Base, quick: dict[str, Any], tmp_path: Path
) -> None:
    base.new("a", addenda.LoRA(rank=2))
    settings = {**quick, "penalty": "ewc(weight=5, rows=2)", "earlier": quick["replay"][:2], "out": tmp_path / "a"}
    addenda.train(base, "a", **settings, keep_run=True)
    with pytest.raises(AddendaError, match="penalty: .* then, .* now"):
        addenda.train(base, "a", **{**settings, "penalty": "ewc(weight=6, rows=2)"}, resume=True)
    with pytest.raises(AddendaError, match="earlier: .* then, .* now"):
        addenda.train(base, "a", **{**settings, "earlier": quick["replay"][2:4]}, resume=True)


def test_several_modules_take_earlier_text_each(base: addenda.Base, quick: dict[str, Any]) -> None:
    for name in ("a", "b"):
        base.new(name, addenda.LoRA(rank=2))
    corpora = {"a": quick["corpus"][:3], "b": quick["corpus"][3:6]}
    settings = {**quick, "corpus": corpora, "penalty": "ewc(rows=2)"}
    with pytest.raises(DataError, match="several modules take one earlier each"):
        addenda.train(base, ["a", "b"], **settings, earlier=quick["replay"][:2])
    addenda.train(base, ["a", "b"], **settings, earlier={"a": quick["replay"][:2], "b": quick["replay"][2:4]})
    kept = [base.modules[name].side_of("ewc")["0.curvature"] for name in ("a", "b")]
    assert not torch.equal(*kept)
