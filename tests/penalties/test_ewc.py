"""Rank-1 EWC: its multiple is the best one, what lies at right angles is free, trainings add up and are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core.errors import AddendaError
from addenda.penalties.ewc import EWC
from addenda.penalties.penalty import Pass

from .subjects import FIRST, RUN, SECOND, make_base, trained

ONCE = Pass(share=1.0, replay=0.0, states=list)


class Drawn:
    """Rows with gradients near one direction, or far from any."""

    name = "drawn"

    def __init__(self, module: Any, rows: int, spread: float) -> None:
        self.module, self.count, self.spread = module, rows, spread

    def gradients(self, rows: int) -> Iterator[dict[str, Tensor]]:
        common, each = (torch.Generator().manual_seed(seed) for seed in (0, 1))
        shared = {n: torch.randn(p.shape, generator=common) for n, p in self.module.learning().items()}
        for _ in range(min(rows, self.count)):
            yield {name: part + self.spread * torch.randn(part.shape, generator=each) for name, part in shared.items()}


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return trained(tokens=256)


def flat(parts: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in parts.values()])


def mu_of(state: dict[str, Tensor], number: int = 0) -> dict[str, Tensor]:
    front = f"{number}.mu."
    return {key.removeprefix(front): tensor for key, tensor in state.items() if key.startswith(front)}


def test_c_is_the_multiple_of_mu_mu_that_is_nearest_to_the_fisher(base: addenda.Base) -> None:
    module = base.modules["m"]
    drawn = Drawn(module, 12, 1.0)
    state = EWC().fit(module, drawn)
    rows = torch.stack([flat(row) for row in drawn.gradients(99)]).double()
    mu = flat(mu_of(state)).double()
    torch.testing.assert_close(mu, rows.mean(0), rtol=1e-4, atol=1e-5)

    def far(c: float) -> float:  # |F - c mu mu^T|^2 without the Fisher itself, whose size is the parameters' squared
        return float(
            ((rows @ rows.T / len(rows)) ** 2).sum() - 2 * c * ((rows @ mu) ** 2).mean() + c * c * (mu @ mu) ** 2
        )

    c = float(state["0.curvature"])
    assert far(c) < min(far(c * 0.98), far(c * 1.02))


@pytest.mark.parametrize(("spread", "least", "most"), [(0.1, 0.95, 1.0), (10.0, 0.0, 0.3)])
def test_the_share_says_how_alike_gradients_are(base: addenda.Base, spread: float, least: float, most: float) -> None:
    module = base.modules["m"]
    state = EWC().fit(module, Drawn(module, 24, spread))
    told = EWC().told(state)
    assert told["trainings"] == 1
    assert least <= told["shares"][0] <= most


def test_with_collinear_gradients_it_is_the_fisher_itself_where_a_diagonal_is_far_off() -> None:
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(40, generator=random)[:, None] * 0.1 + 1.0
    rows = rows * torch.randn(30, generator=random) + 0.02 * torch.randn(40, 30, generator=random)
    fisher, mu = rows.T @ rows / len(rows), rows.mean(0)
    c = ((rows @ mu) ** 2).mean() / (mu @ mu) ** 2
    assert float((fisher - c * torch.outer(mu, mu)).norm() / fisher.norm()) < 0.05
    assert float((fisher - torch.diag(fisher.diag())).norm() / fisher.norm()) > 0.8


def test_a_move_along_mu_costs_and_one_at_right_angles_is_free(base: addenda.Base) -> None:
    module, penalty = base.modules["m"], EWC(weight=3.0)
    state = penalty.fit(module, Drawn(module, 6, 0.5))
    before = {name: p.detach().clone() for name, p in module.learning().items()}
    mu = mu_of(state)
    size = float(flat(mu).norm())
    try:
        for along, wanted in ((0.0, 0.0), (0.01, 3.0 / 2 * float(state["0.curvature"]) * (0.01 * size**2) ** 2)):
            other = {
                name: torch.randn(p.shape, generator=torch.Generator().manual_seed(5)) for name, p in before.items()
            }
            inside = float(flat(other) @ flat(mu)) / size**2
            with torch.no_grad():
                for name, p in module.learning().items():
                    p.copy_(before[name] + along * mu[name] + 0.01 * (other[name] - inside * mu[name]))
            loss = penalty.loss(module, state, ONCE)
            assert loss is not None
            assert loss.item() == pytest.approx(wanted, rel=1e-2, abs=1e-5 * size**4 * float(state["0.curvature"]))
    finally:
        module.load_tensors(module.tensors() | before)


def test_at_the_earlier_parameters_it_is_nothing_and_its_gradient_too(base: addenda.Base) -> None:
    module = base.modules["m"]
    state = EWC().fit(module, Drawn(module, 4, 0.5))
    loss = EWC().loss(module, state, ONCE)
    assert loss is not None
    assert loss.item() == 0.0
    loss.backward()
    assert not any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


def test_every_run_under_it_keeps_its_own_and_it_goes_with_the_file(tmp_path: Path) -> None:
    base = trained(penalty="ewc(weight=0, rows=3)", tokens=512)
    module = base.modules["m"]
    kept = module.side_of("ewc")
    assert {key.split(".")[1] for key in kept} == {"mu", "at", "curvature", "share"}
    assert module.card.training[-1].settings["kept"]["ewc"]["of"] == "texts"
    again = make_base()
    module = again.plug(module.save(tmp_path / "m"), name="m")
    addenda.train(again, "m", corpus=SECOND, penalty="ewc(weight=2, rows=3)", **RUN)
    two = module.side_of("ewc")
    assert all(torch.equal(tensor, two[key]) for key, tensor in kept.items())
    told = module.card.training[-1].settings["kept"]["ewc"]
    assert told["trainings"] == 2
    assert {key.split(".")[0] for key in two} == {"0", "1"}
    assert not torch.equal(two["0.at"], two["1.at"])


def test_the_pull_holds_the_earlier_direction() -> None:
    """Under a strong pull mu . theta stays nearer to where it was."""
    off = []
    for weight in (0.0, 1e6):
        base = trained(tokens=512)
        settings = {"penalty": f"ewc(weight={weight}, rows=6)", "earlier": FIRST[:3], **RUN, "tokens": 16 * 128}
        addenda.train(base, "m", corpus=SECOND, **settings)
        module, state = base.modules["m"], base.modules["m"].side_of("ewc")
        now = sum((part * module.tensors()[name]).sum() for name, part in mu_of(state).items())
        off.append(abs(float(now - state["0.at"])))
    assert off[1] < off[0] / 4


def test_the_pull_is_paid_once_a_step_however_the_rows_are_gone_through() -> None:
    found = []
    for shape in ({"batch_rows": 4}, {"batch_rows": 2, "accumulate": 2}):
        base = trained(tokens=256)
        settings = {
            **RUN,
            **shape,
            "penalty": "ewc(weight=100, rows=3)",
            "earlier": FIRST[:2],
            "clip": None,
            "tokens": 512,
        }
        addenda.train(base, "m", corpus=SECOND[:4], **settings)
        found.append(flat(base.modules["m"].tensors()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_what_is_not_there_is_said() -> None:
    base = make_base()
    module = base.new("m", addenda.LoRA(rank=2))
    with pytest.raises(AddendaError, match=r"module 'm' has none: train it first under the penalty ewc\(weight=0\)"):
        addenda.train(base, "m", corpus=SECOND, penalty="ewc", **RUN)
    addenda.train(base, "m", corpus=SECOND, **{**RUN, "tokens": 128})
    with pytest.raises(
        AddendaError, match="those of module 'm' kept no Fisher .*give earlier=, the text of that training"
    ):
        addenda.train(base, "m", corpus=SECOND, penalty="ewc", **RUN)
    with pytest.raises(
        AddendaError, match="earlier= is for a penalty that is fitted on earlier text, and none is asked"
    ):
        addenda.train(base, "m", corpus=SECOND, earlier=FIRST, **RUN)
    module.keep_beside("ewc", {"0.curvature": torch.ones(()), "0.mu.layers.0.x": torch.ones(2)})
    with pytest.raises(AddendaError, match=r"side tensors of 'ewc' beside module 'm' are not whole.*0\.at"):
        addenda.train(base, "m", corpus=SECOND, penalty="ewc", **RUN)
    module.keep_beside("ewc", {})

    class Still:
        name = "still"

        def gradients(self, rows: int) -> Any:
            return iter([{key: torch.zeros_like(p) for key, p in module.learning().items()}])

    with pytest.raises(AddendaError, match="on 'still' module 'm' has no gradient"):
        EWC().fit(module, Still())
    for wrong, told in (({"weight": -1.0}, "weight is not negative"), ({"rows": 0}, "rows is at least 1")):
        with pytest.raises(AddendaError, match=told):
            EWC(**wrong)  # type: ignore[arg-type]
