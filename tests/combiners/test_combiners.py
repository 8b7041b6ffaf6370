"""The identities of each combiner: TIES' three steps, OTA's least of summed quadratics, grafting against magnitude."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addenda.combiners import combiner
from addenda.combiners.combiner import Part, threshold
from addenda.combiners.mean import Mean
from addenda.combiners.ota import OTA
from addenda.combiners.ties import TIES
from addenda.core.errors import AddendaError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one(
    method: combiner.Combiner, *vectors: Tensor, weights: list[float] | None = None, v: list[Tensor] | None = None
) -> Tensor:
    given = weights or [1.0] * len(vectors)
    parts = [
        Part(str(n), weight, {"w": vector}, {} if v is None else {"w": v[n]})
        for n, (vector, weight) in enumerate(zip(vectors, given, strict=True))
    ]
    ((_, made),) = method.combine(parts)
    return made


# -- thresholds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.01, 0.3, 0.77, 1.0])
def test_a_threshold_keeps_the_share_that_is_asked_for(density: float) -> None:
    tensors = [drawn(40, 10), drawn(100, seed=1), drawn(5, 5, 20, seed=2)]
    cut = threshold(tensors, density)
    kept = sum(int((tensor >= cut).sum()) for tensor in tensors)
    assert kept == round(density * 1000)


def test_a_threshold_over_many_numbers_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [drawn(1000, seed=n) for n in range(20)]
    whole = threshold(tensors, 0.3)
    monkeypatch.setattr(combiner, "SAMPLE", 3000)
    cut = threshold(iter(tensors), 0.3)
    assert cut != whole
    assert sum(int((tensor >= cut).sum()) for tensor in tensors) == pytest.approx(6000, rel=0.1)


# -- mean -----------------------------------------------------------------------------------------------------------


def test_a_mean_that_is_not_normalised_is_a_sum_or_a_difference() -> None:
    a, b = drawn(3, 4), drawn(3, 4, seed=1)
    torch.testing.assert_close(one(Mean(normalise=False), a, b, weights=[1.0, -0.5]), a - 0.5 * b)
    Mean(normalise=False).check_weights({"a": 1.0, "b": -0.5})
    with pytest.raises(AddendaError, match="positive weights; that of 'b' is -0.5"):
        Mean().check_weights({"a": 1.0, "b": -0.5})


# -- TIES -----------------------------------------------------------------------------------------------------------


def test_ties_trims_elects_and_averages_those_who_agree() -> None:
    a = torch.tensor([4.0, 3.0, -5.0, 0.1, 0.0])
    b = torch.tensor([2.0, -1.0, 3.0, 0.2, 6.0])
    # of either the three largest: 4, 3, -5 and 2, 3, 6
    assert one(TIES(density=0.6), a, b).tolist() == [3.0, 3.0, -5.0, 0.0, 6.0]


def test_ties_weighs_votes_and_means() -> None:
    a, b = torch.tensor([4.0, 3.0]), torch.tensor([1.0, -2.0])
    torch.testing.assert_close(one(TIES(density=1.0), a, b, weights=[1.0, 3.0]), torch.tensor([7.0 / 4, -2.0]))


def test_ties_of_disjoint_shards_is_their_sum() -> None:
    mask = drawn(20, 10) > 0
    a, b = torch.where(mask, drawn(20, 10, seed=1), 0.0), torch.where(mask, 0.0, drawn(20, 10, seed=2))
    assert torch.equal(one(TIES(density=1.0), a, b), a + b)


def test_ties_keeps_the_sign_of_those_who_agree() -> None:
    a, b = drawn(50, seed=1), drawn(50, seed=2)
    made, agree = one(TIES(density=1.0), a, b), a.sign() == b.sign()
    torch.testing.assert_close(made[agree], ((a + b) / 2)[agree])
    heavier = torch.where(a.abs() > b.abs(), a, b)
    assert torch.equal(made[~agree], heavier[~agree])  # whole, where a mean would be diluted


def test_ties_of_opposite_modules_is_nothing() -> None:
    a = drawn(30)
    assert not bool(one(TIES(density=1.0), a, -a).any())


# -- OTA ------------------------------------------------------------------------------------------------------------


def test_with_equal_moments_ota_is_the_mean() -> None:
    a, b, v = drawn(6, 5), drawn(6, 5, seed=1), drawn(6, 5, seed=2).square()
    torch.testing.assert_close(one(OTA(density=1.0), a, b, v=[v, v]), (a + b) / 2)


def test_of_one_module_at_density_one_ota_is_that_module() -> None:
    a = drawn(6, 5)
    torch.testing.assert_close(one(OTA(density=1.0), a, v=[drawn(6, 5, seed=2).square()]), a)
    torch.testing.assert_close(one(OTA(density=1.0), a, v=[torch.zeros(6, 5)]), a)  # eps alone


def test_with_curvature_as_moments_ota_is_the_least_of_summed_quadratics() -> None:
    vectors = [drawn(40, seed=n) for n in range(3)]
    curvatures = [drawn(40, seed=10 + n).exp() for n in range(3)]

    def loss(x: Tensor) -> Tensor:
        return sum((0.5 * (h * (x - d) ** 2).sum() for h, d in zip(curvatures, vectors, strict=True)), torch.zeros(()))

    made = one(OTA(density=1.0, power=1.0), *vectors, v=curvatures).requires_grad_()
    loss(made).backward()
    assert made.grad is not None
    assert float(made.grad.abs().max()) < 1e-5
    mean = one(Mean(), *vectors)
    assert float(loss(made.detach())) < float(loss(mean)) - 1.0


def test_grafting_raises_a_quadratic_loss_by_less_than_magnitude_at_equal_density() -> None:
    d, h = drawn(2000), (2 * drawn(2000, seed=1)).exp()  # log-normal curvature
    grafted = one(OTA(density=0.4), d, v=[h])
    magnitude = torch.where(d.abs() >= threshold([d.abs()], 0.4), d, 0.0)
    assert int((grafted != 0).sum()) == int((magnitude != 0).sum()) == 800
    rise = [float(0.5 * (h * (x - d) ** 2).sum()) for x in (grafted, magnitude)]
    assert rise[0] < 0.5 * rise[1]


def test_where_every_mask_is_shut_ota_leaves_the_base_alone() -> None:
    a, b = torch.tensor([3.0, 0.1, 2.0, 0.1]), torch.tensor([1.0, 0.1, 0.2, 0.1])
    made = one(OTA(density=0.5), a, b, v=[torch.ones(4)] * 2)
    torch.testing.assert_close(made, torch.tensor([2.0, 0.0, 1.1, 0.0]))


def test_tiny_moments_still_tell_modules_apart() -> None:
    a, b = torch.ones(2), -torch.ones(2)
    v = [torch.tensor([4e-20, 1e-20]), torch.tensor([1e-20, 1e-20])]
    torch.testing.assert_close(one(OTA(density=1.0), a, b, v=v), torch.tensor([1 / 3, 0.0]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: TIES(density=0.0), "ties: density is a share above 0 and at most 1; got 0.0"),
        (lambda: OTA(density=1.5), "ota: density is a share above 0 and at most 1; got 1.5"),
        (lambda: OTA(power=-1.0), "ota: power is at least 0"),
        (lambda: OTA(eps=0.0), "eps positive"),
    ],
)
def test_options_out_of_range_are_refused(make: object, told: str) -> None:
    with pytest.raises(AddendaError, match=told):
        make()  # type: ignore[operator]
