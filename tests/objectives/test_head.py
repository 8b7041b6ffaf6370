"""The chunked head: the model's own logits and gradients, without ever holding all logits."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.core.registry import build
from addenda.objectives.distill import Distill
from addenda.objectives.head import Head
from addenda.objectives.lm import LanguageModelling
from pico import ARCHS, VOCAB, pico, random_ids


@pytest.mark.parametrize("arch", ARCHS)
def test_logits_are_the_models_own(arch: str) -> None:
    model = pico(arch, num_hidden_layers=2) if arch not in ("smollm3", "gemma2", "gemma3") else pico(arch)
    ids = random_ids(2, 12)
    with torch.no_grad():
        head, theirs = Head(model), model(input_ids=ids).logits
        ours = head.logits(head.hidden(ids).flatten(0, 1)).view(theirs.shape)
    assert not head.whole
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_model_with_other_logits_is_believed_itself() -> None:
    """The mutant of the check: a head that is not what the config says must not be used."""
    model = pico("gemma2")
    model.config.final_logit_softcapping = 3.0
    assert not Head(model).whole
    original = model.forward

    def warmer(*args: Any, **kwargs: Any) -> Any:
        out = original(*args, **kwargs)
        out.logits = out.logits * 1.1
        return out

    model.forward = warmer
    head, ids = Head(model), random_ids(1, 8)
    assert head.whole
    with torch.no_grad():
        assert torch.equal(head.logits(head.hidden(ids)), model(input_ids=ids).logits)


class Spy(LanguageModelling):
    """Language modelling that remembers how many logits it was shown at a time."""

    seen: ClassVar[list[int]] = []

    def graded(self, logits: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        self.seen.append(logits.shape[0])
        return super().graded(logits, *rest)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_costs_and_gradients_equal_the_plain_ones(chunk: int) -> None:
    model = pico("gemma2").requires_grad_(False)
    ids, head = random_ids(2, 13), Head(model, chunk)
    weights = torch.rand(24).where(torch.arange(24) % 3 > 0, 0.0)
    states = head.hidden(ids[:, :-1]).flatten(0, 1).requires_grad_()
    targets = ids[:, 1:].flatten()
    Spy.seen.clear()
    total, costs = head.costs(Spy(), states, targets, weights)
    (3 * total).backward()
    plain = states.detach().requires_grad_()
    each = F.cross_entropy(head.logits(plain), targets, reduction="none")
    (3 * (each * weights).sum()).backward()
    assert states.grad is not None
    assert plain.grad is not None
    assert states.grad.abs().max() > 0
    torch.testing.assert_close(states.grad, plain.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(costs, each.detach() * (weights > 0))
    assert max(Spy.seen) <= chunk
    assert sum(Spy.seen) == 16  # tokens of weight zero are not computed
    assert not costs.requires_grad


def test_without_a_gradient_nothing_is_kept() -> None:
    model = pico("llama")
    head, ids = Head(model), random_ids(1, 9)
    with torch.no_grad():
        total, _ = head.costs(LanguageModelling(), head.hidden(ids[:, :-1]).flatten(0, 1), ids[0, 1:], torch.ones(8))
    assert not total.requires_grad


def test_no_row_counts_at_all() -> None:
    head, ids = Head(pico("llama")), random_ids(1, 9)
    states = torch.randn(8, 64, requires_grad=True)
    total, costs = head.costs(LanguageModelling(), states, ids[0, 1:], torch.zeros(8))
    total.backward()
    assert total == 0
    assert (costs == 0).all()
    assert states.grad is not None
    assert (states.grad == 0).all()


def test_a_chunk_fits_its_budget() -> None:
    assert Head(pico("llama")).chunk * VOCAB == 2**22


def test_objectives_by_name() -> None:
    assert build("objective", "lm", {}) == LanguageModelling()
    assert build("objective", "distill", {"top_k": 3, "reads": 5}) == Distill(top_k=3, reads=5)
    with pytest.raises(
        ValueError,
        match="no objective is called 'distil'; there are distill, lm, on_policy, reverse_kl; did you mean 'distill'",
    ):
        build("objective", "distil", {})


@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_of_a_plain_model_has_the_gradient_of_the_models_own_loss(tied: bool) -> None:
    """The output embedding too: a model that is trained whole learns it."""
    model = pico("llama", num_hidden_layers=1, tie_word_embeddings=tied)
    ids = random_ids(2, 12)
    model(input_ids=ids, labels=ids).loss.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    head = Head(model, chunk=5)
    hidden, targets = head.hidden(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    loss, _ = head.costs(LanguageModelling(), hidden, targets, torch.full((len(targets),), 1 / len(targets)))
    loss.backward()
    assert model.get_output_embeddings().weight.grad.abs().sum(1).count_nonzero() == VOCAB
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


def test_scoring_takes_no_gradient_of_a_model_that_could_learn() -> None:
    model = pico("llama", num_hidden_layers=1)
    ids, head = random_ids(2, 12), Head(model)
    with torch.no_grad():
        hidden = head.hidden(ids).flatten(0, 1)
        objective = LanguageModelling()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LanguageModelling, "graded", lambda *_: pytest.fail("a gradient was taken"))
            total, _ = head.costs(objective, hidden, ids.flatten(), torch.ones(ids.numel()))
    assert not total.requires_grad
