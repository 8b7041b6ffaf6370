"""Group-sparse forgetting: groups end at exactly zero, fewer with more lasso, and with all gone the base is alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import addenda
from addenda.core.errors import AddendaError
from addenda.core.registry import build
from addenda.forgetters.group_sparse import GroupSparse
from knowing import FORGET, RETAIN, fresh, known
from pico import random_ids


def forgotten(alpha: float, **more: Any) -> tuple[addenda.Base, addenda.ForgetReport]:
    base = known()
    method = GroupSparse(alpha=alpha, **more)
    return base, addenda.forget(
        base, "m", forget=FORGET, retain=RETAIN, method=method, tokens=1536, lr=1e-2, length=32, batch_rows=4, log=False
    )


def test_with_more_lasso_fewer_groups_are_left_and_with_much_the_base_is_alone() -> None:
    left: list[int] = []
    for alpha in (0.0, 1.0, 100.0):
        base, report = forgotten(alpha)
        assert set(report.groups) == {"layers.0", "layers.1", "layers.2"}
        left.append(sum(norm > 0 for norm in report.groups.values()))
        if alpha == 100.0:
            ids = random_ids(2, 12)
            with base.off():
                bare = base.model(input_ids=ids).logits
            with base.using("m"):
                assert torch.equal(base.model(input_ids=ids).logits, bare)
            assert not any(bool(p.any()) for p in base.modules["m"].parameters())
            assert "3 of 3 groups are removed" in str(report)
    assert left[0] == 3
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0


def stepping(alpha: float, group: str = "layer") -> tuple[dict[str, nn.Parameter], Any]:
    torch.manual_seed(0)
    sizes = {"layers.0.q.a": 1.0, "layers.0.q.b": 1.0, "layers.0.v.a": 0.01, "layers.1.q.a": 0.01}
    parameters = {name: nn.Parameter(torch.randn(4, 4) * size) for name, size in sizes.items()}
    return parameters, GroupSparse(alpha=alpha, group=group).over(None, parameters, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("group", "gone"), [("layer", {"layers.1.q.a"}), ("site", {"layers.0.v.a", "layers.1.q.a"})])
def test_the_proximal_step_is_exact_and_zero_stays_zero(group: str, gone: set[str]) -> None:
    parameters, rule = stepping(1.0, group)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    none = {name: torch.zeros_like(p) for name, p in parameters.items()}
    rule.step(none, [none])
    assert {name for name, p in parameters.items() if not bool(p.any())} == gone
    own = [n for n in parameters if n.startswith("layers.0." if group == "layer" else "layers.0.q.")]
    norm = sum(float(before[n].double().square().sum()) for n in own) ** 0.5
    share = 1 - 0.1 * (16 * len(own)) ** 0.5 / norm
    torch.testing.assert_close(parameters["layers.0.q.b"].detach(), before["layers.0.q.b"] * share)
    some = {name: torch.ones_like(p) for name, p in parameters.items()}
    rule.step(none, [some])
    assert {name for name, p in parameters.items() if not bool(p.any())} == gone


def test_the_hinge_has_no_gradient_beyond_the_bound() -> None:
    losses = torch.tensor([1.0, 2.999, 3.0, 5.0], requires_grad=True)
    for method, bare in ((GroupSparse(bound=3.0), torch.zeros(4)), (GroupSparse(), torch.full((4,), 3.0))):
        (slope,) = torch.autograd.grad(method.cost(losses, bare).sum(), losses)
        assert slope.tolist() == [-1.0, -1.0, 0.0, 0.0]


def test_what_a_fresh_module_suppresses_comes_back_without_it() -> None:
    base = fresh()
    with base.off():
        bare = float(addenda.perplexity(base, FORGET))
    report = addenda.forget(
        base, "m", forget=FORGET, retain=RETAIN, method=f"gs_lora(alpha=0.001, bound={bare + 2})", tokens=4096,
        lr=2e-2, length=32, batch_rows=4, log=False,
    )  # fmt: skip
    assert report.forget.loss.after.value > bare + 0.5
    assert "That is suppression: with the module off the base still knows" in str(report)
    with base.off():
        assert float(addenda.perplexity(base, FORGET)) == bare


def test_a_kind_that_still_acts_at_zero_has_no_groups() -> None:
    base = fresh(addenda.Registers(count=4))
    with pytest.raises(AddendaError, match="Registers has none: .* choose method='gu', or forget 'm' whole"):
        addenda.forget(base, "m", forget=FORGET, retain=RETAIN, method="gs_lora", log=False)


def test_wrong_options_are_told() -> None:
    with pytest.raises(AddendaError, match="alpha and forget are not negative"):
        GroupSparse(alpha=-1.0)
    with pytest.raises(AddendaError, match="group"):
        build("forgetter", "gs_lora", {"group": "head"})
