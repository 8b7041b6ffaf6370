"""Geometric disentanglement: what holds is of the parameter step, whatever Adam makes of the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from addenda.core.errors import AddendaError
from addenda.core.registry import build
from addenda.forgetters.geometric import BETA2, EPS, GeometricUnlearning, projected
from addenda.removing.plan import ForgetSettings, make_plan
from addenda.removing.run import ForgetRun
from addenda.writing.prepare import prepared
from addenda.writing.run_log import RunLog
from knowing import FORGET, RETAIN, known


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def held(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    return {"a": nn.Parameter(drawn(1, 5, 7).to(dtype)), "b": nn.Parameter(drawn(2, 9).to(dtype))}


def gradients(seed: int, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: drawn(seed + n, *p.shape).to(p.dtype) for n, (name, p) in enumerate(parameters.items())}


def rule(parameters: dict[str, nn.Parameter], **options: Any) -> Any:
    return GeometricUnlearning(**options).over(None, parameters, 1e-2)  # type: ignore[arg-type]


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_adams_own_step_is_orthogonal_to_every_retain_gradient(beta1: float) -> None:
    parameters = held()
    stepping = rule(parameters, repair=0.0, beta1=beta1)
    for seed in range(10, 60, 10):  # the moments differ from step to step
        before = {name: p.detach().clone() for name, p in parameters.items()}
        retain = [gradients(seed + n, parameters) for n in (1, 3, 5)]
        stepping.step(gradients(seed, parameters), retain)
        for name, p in parameters.items():
            step = p.detach() - before[name]
            assert step.norm() > 1e-3  # it moves
            for each in retain:
                assert abs(float((each[name] * step).sum())) < 1e-14 * float(each[name].norm() * step.norm()) * 1e2


def test_a_projected_gradient_is_undone_by_adam() -> None:
    parameters = held()
    forget, retain = gradients(10, parameters), gradients(11, parameters)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    adam = torch.optim.AdamW(parameters.values(), lr=1e-2, betas=(0.0, BETA2), eps=EPS, weight_decay=0.0)
    for name, p in parameters.items():
        r, f = retain[name], forget[name]
        p.grad = f - r * (r * f).sum() / (r * r).sum()
        assert abs(float((r * p.grad).sum())) < 1e-12
    adam.step()
    euclidean = sum(float((retain[name] * (p.detach() - before[name])).sum()) for name, p in parameters.items())
    assert abs(euclidean) > 1e-2


def test_with_beta1_of_zero_it_is_the_papers_whitened_projection() -> None:
    parameters = held()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    forget, retain = gradients(10, parameters), gradients(20, parameters)
    rule(parameters, repair=0.0, batches=1).step(forget, [retain])
    for name, p in parameters.items():
        h = forget[name].abs() + EPS  # after one step v, without its bias, is the gradient squared
        f, r = forget[name] / h.sqrt(), retain[name] / h.sqrt()
        normal = f - r * (r * f).sum() / (r * r).sum()
        torch.testing.assert_close(p.detach() - before[name], -1e-2 * normal / h.sqrt())


def test_of_all_orthogonal_steps_it_is_the_nearest_in_the_metric() -> None:
    step, span, metric = drawn(1, 30), [drawn(2, 30), drawn(3, 30)], drawn(4, 30).abs() + 0.1
    best = projected(step, span, metric)

    def far(other: Tensor) -> float:
        return float((metric * (step - other) ** 2).sum())

    for seed in range(5, 15):
        other = projected(best + 0.1 * drawn(seed, 30), span, torch.ones(30))
        assert all(abs(float((g * other).sum())) < 1e-10 for g in span)
        assert far(other) > far(best)


def test_the_projection_keeps_what_is_orthogonal_and_gives_nothing_of_the_span() -> None:
    step, metric = drawn(1, 4, 5), drawn(2, 4, 5).abs() + 0.1
    once = projected(step, [drawn(3, 4, 5)], metric)
    torch.testing.assert_close(projected(once, [drawn(3, 4, 5)], metric), once)
    # a gradient's own step under Adam is g / H
    spanned = (2 * drawn(3, 4, 5) - drawn(4, 4, 5)) / metric
    assert projected(spanned, [drawn(3, 4, 5), drawn(4, 4, 5)], metric).norm() < 1e-12
    assert torch.equal(projected(step, [], metric), projected(step, [torch.zeros(4, 5)], metric))


def test_a_gradient_that_brings_little_new_is_left_out() -> None:
    step, metric, g = drawn(1, 20), torch.ones(20), drawn(2, 20)
    near = g + 1e-6 * drawn(3, 20)
    torch.testing.assert_close(projected(step, [g, near], metric, 1e-3), projected(step, [g], metric), atol=0, rtol=0)
    assert not torch.equal(projected(step, [g, near], metric, 1e-9), projected(step, [g], metric))


def test_the_retain_loss_changes_in_second_order_only() -> None:
    weight = drawn(9, 16, 16)

    def retained(p: Tensor) -> Tensor:
        return torch.tanh(weight @ p).square().sum()

    def change(t: float, project: bool) -> float:
        p = nn.Parameter(drawn(1, 16))
        before = retained(p)
        (g,) = torch.autograd.grad(before, p)
        d = drawn(5, 16)
        d = projected(d, [g], torch.ones(16)) if project else d
        return abs(float(retained(p.detach() + t * d) - before.detach()))

    assert change(1e-3, True) / change(1e-4, True) == pytest.approx(100, rel=0.1)
    assert change(1e-3, False) / change(1e-4, False) == pytest.approx(10, rel=0.1)


def test_the_forget_loss_still_moves() -> None:
    parameters = held()
    forget = gradients(10, parameters)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    rule(parameters).step(forget, [gradients(n, parameters) for n in (20, 30, 40)])
    for name, p in parameters.items():
        step = p.detach() - before[name]
        assert float((step * -forget[name]).sum()) > 0


def test_with_nothing_to_forget_it_stands_still() -> None:
    parameters = held()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    stepping = rule(parameters, repair=0.0)
    nothing = {name: torch.zeros_like(p) for name, p in parameters.items()}
    stepping.step(nothing, [gradients(20, parameters)])
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batches": 0}, "batches is at least 1"),
        ({"repair": -1.0}, "repair is not negative"),
        ({"beta1": 1.0}, "beta1 is from 0 up to 1"),
        ({"tolerance": 0.0}, "tolerance is a share"),
        ({"alpha": 1.0}, "gu has no option 'alpha'"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], says: str) -> None:
    with pytest.raises(AddendaError, match=says):
        build("forgetter", "gu", options)


def test_a_step_on_a_real_module_leaves_the_retain_batches_alone() -> None:
    """The whole way: gradients of a base with its module, one step of the rule, first order of each batch's loss."""
    base = known()
    plan = make_plan(
        base, "m", forget=FORGET, retain=RETAIN, method=GeometricUnlearning(repair=0.0), tokens=2048, lr=None, seed=0,
        settings=ForgetSettings(length=16, batch_rows=2),
    )  # fmt: skip
    with prepared(base, ["m"], seed=0, gradient_checkpointing=False):
        run = ForgetRun(base, plan, RunLog(None), None, base.modules["m"].tensors())
        forget, _ = run.graded(run._take("forget"), plan.method.cost)
        retain = [run.graded(run._take("retain"))[0] for _ in range(3)]
        before = {name: p.detach().clone() for name, p in run.parameters.items()}
        run.rule.step(forget, retain)
        steps = {name: p.detach() - before[name] for name, p in run.parameters.items()}
        assert any(bool(step.any()) for step in steps.values())
        for each in retain:
            first = sum(float((each[name].double() * step.double()).sum()) for name, step in steps.items())
            size = sum(float(each[name].double().norm() * step.double().norm()) for name, step in steps.items())
            assert abs(first) < 1e-4 * size
