"""OSFT: the step of any optimizer leaves the kept directions where they were; a projected gradient would not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import addenda
from addenda.core.contracts import AddingAdapter, Kind
from addenda.core.errors import AddendaError
from addenda.core.site import Seam
from addenda.penalties.osft import OSFT

from .subjects import RUN, SECOND, make_base, trained


class Shift(AddingAdapter):
    """A kind without matrices."""

    seam = Seam.FFN

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))

    def delta(self, x: Tensor) -> Tensor:
        return self.shift.expand(x.shape)


@dataclass(frozen=True)
class Shifts(Kind):
    """A vector at each FFN."""

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 1e-2

    def adapters(self, anatomy: Any) -> Any:
        return {site.key: Shift(site.d_out) for site in anatomy.at(Seam.FFN)}


def matrices(base: addenda.Base) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in base.modules["m"].learning().items() if p.dim() >= 2}


def moved(penalty: Any, **settings: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Matrices of a trained module before and after it learns a second subject."""
    base = trained(addenda.ParallelAdapter(width=6))
    before = matrices(base)
    settings = {**RUN, "lr": 3e-2, "weight_decay": 0.5, **settings}
    addenda.train(base, "m", corpus=SECOND, penalty=penalty, **settings)
    return before, matrices(base)


def top(matrix: Tensor, keep: float) -> tuple[Tensor, Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    count = round(keep * len(values))
    return left[:, :count], values[:count], right[:count].T


@pytest.mark.parametrize("optimizer", ["adamw", "galore(rank=2, every=3, scale=1.0)"])
def test_the_step_is_orthogonal_to_what_is_kept_under_any_optimizer(optimizer: str) -> None:
    before, after = moved(OSFT(keep=0.5), optimizer=optimizer)
    for name, start in before.items():
        left, values, right = top(start, 0.5)
        step = after[name] - start
        assert float(step.norm()) > 0.02 * float(start.norm())
        assert float((left.T @ step).abs().max()) < 1e-5, name
        assert float((step @ right).abs().max()) < 1e-5, name
        torch.testing.assert_close(left.T @ after[name] @ right, torch.diag(values), rtol=1e-4, atol=1e-5)
        # what goes in along a kept direction comes out as it did
        torch.testing.assert_close(after[name] @ right, start @ right, rtol=1e-4, atol=1e-5)


def test_the_block_form_keeps_the_block_alone() -> None:
    """The dense form of the paper's text takes out U U^T D V V^T only: U^T D is not 0, diag(S) still stands."""
    before, after = moved(OSFT(keep=0.5, form="block"))
    loose = 0.0
    for name, start in before.items():
        left, values, right = top(start, 0.5)
        loose = max(loose, float((left.T @ (after[name] - start)).abs().max()))
        torch.testing.assert_close(left.T @ after[name] @ right, torch.diag(values), rtol=1e-4, atol=1e-5)
    assert loose > 1e-2


def test_a_projected_gradient_would_leak_through_adam_and_decay() -> None:
    """Why the step is projected: the same directions taken out of the gradient come back."""
    torch.manual_seed(0)
    start = torch.randn(12, 8)
    left, _, right = top(start, 0.5)
    for after_the_step in (False, True):
        weight = nn.Parameter(start.clone())
        optimizer = torch.optim.AdamW([weight], lr=0.05, weight_decay=0.1)
        for seed in range(5):
            gradient = torch.randn(12, 8, generator=torch.Generator().manual_seed(seed))
            weight.grad = gradient if after_the_step else OSFT().free(gradient, left, right)
            optimizer.step()
            if after_the_step:
                with torch.no_grad():
                    weight.copy_(start + OSFT().free(weight - start, left, right))
        leak = float((left.T @ (weight.detach() - start)).abs().max())
        assert leak < 1e-6 if after_the_step else leak > 0.05


def test_keep_0_is_plain_training_and_keep_1_moves_no_matrix() -> None:
    _, plain = moved(None)
    _, free = moved("osft(keep=0)")
    assert all(torch.equal(matrix, plain[name]) for name, matrix in free.items())
    before, frozen = moved("osft(keep=1)")
    for name, matrix in frozen.items():
        torch.testing.assert_close(matrix, before[name], rtol=0, atol=1e-6)
        assert not torch.allclose(matrix, plain[name], atol=1e-3)


def test_batches_of_matrices_and_low_rank_are_kept_as_far_as_they_go() -> None:
    base = make_base()
    module = base.new("m", addenda.Cartridge(count=4))
    state = OSFT(keep=0.5).fit(module, None)
    start = next(key for key in state if key.startswith("start."))
    assert state[start].dim() == 3
    state = OSFT(keep=1.0).fit(trained(addenda.LoRA(rank=4), tokens=128).modules["m"], None)
    name = next(key.removeprefix("left.") for key in state if key.startswith("left.") and key.endswith(".b"))
    rank = int(torch.linalg.matrix_rank(state[f"start.{name}"]))
    assert state[f"left.{name}"].shape[-1] == rank


def test_what_cannot_be_kept_is_refused() -> None:
    base = make_base()
    base.new("m", Shifts())
    with pytest.raises(AddendaError, match=r"osft keeps directions of matrices, and module 'm' \(Shifts\) has none"):
        addenda.train(base, "m", corpus=SECOND, penalty="osft", **RUN)
    base.new("n", addenda.LoRA(rank=2))
    with pytest.raises(AddendaError, match="module 'n' has learned nothing yet: train it first without this penalty"):
        addenda.train(base, "n", corpus=SECOND, penalty="osft", **RUN)
    with pytest.raises(AddendaError, match="osft: keep is a share from 0 to 1; got 2"):
        OSFT(keep=2)
