"""MLP Memory: its mixture, its loss in the model and in chunks, and what it learns of a text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import addenda
from addenda.core.errors import AddendaError
from addenda.core.logits import Finish
from addenda.kinds.mlp_memory import MLPMemory
from addenda.objectives.head import Head
from addenda.objectives.lm import LanguageModelling
from pico import pico, pico_tokenizer, random_ids

IDS = random_ids(2, 9, seed=1)


def made(arch: str = "llama", **options: float) -> addenda.Base:
    base = addenda.attach(pico(arch), pico_tokenizer())
    module = base.new("m", MLPMemory(width=8, **options))  # type: ignore[arg-type]
    for seed, parameter in enumerate(module.parameters()):
        parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)), alpha=0.2)
    return base


@pytest.mark.parametrize("arch", ["llama", "gemma2", "opt", "gpt2"])
@torch.no_grad()
def test_logits_are_the_log_of_the_mixture(arch: str) -> None:
    """p = (1 - s) p_base + s p_own, under a soft cap too, where nothing is more than a cap below the best."""
    base = made(arch, share=0.4)
    module, model = base.modules["m"], base.model
    seen: list[torch.Tensor] = []
    entry = base.host.submodule(base.host.site(module.adapter("head").reads).entry)  # type: ignore[arg-type]
    handle = entry.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().view(2, 9, -1)))
    off = model(IDS).logits.float()
    handle.remove()
    last, head = model.base_model(IDS).last_hidden_state, Head(model)
    own = head.logits(last + module.adapter("head").told(seen[0]))  # type: ignore[operator]
    with base.using("m"):
        mixed = model(IDS).logits.float().softmax(-1)
    expected = 0.6 * off.softmax(-1) + 0.4 * own.softmax(-1)
    assert float((mixed - expected).abs().max()) < 1e-6
    assert float((mixed.sum(-1) - 1).abs().max()) < 1e-6


class Largest(TorchDispatchMode):
    """The most numbers of any tensor that is made for each token of a batch."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.most = max(
            [self.most, *(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor) and x.dim() > 2)]
        )
        return out


@torch.no_grad()
def test_more_memories_hold_no_more_distributions_at_once() -> None:
    base = made()
    for name in ("n", "o"):
        base.new(name, MLPMemory(width=8), seed=ord(name))
    model = base.model
    states = model.base_model(IDS).last_hidden_state
    whole = IDS.numel() * base.vocabulary
    with base.using("m", "n", "o"):
        noted = model.base_model(IDS).last_hidden_state
        assert noted.shape[-1] == states.shape[-1] + 3 * (states.shape[-1] + 1)
        with Largest() as largest:
            model.get_output_embeddings()(noted)
    assert largest.most == whole


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
def test_the_outer_loss_is_that_of_the_mixture_and_of_the_chunks(arch: str) -> None:
    base = made(arch)
    with base.using("m"):
        out = base.model(IDS, labels=IDS)
        logits = out.logits.float()
        expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
        torch.testing.assert_close(out.loss, expected)
        head = Head(base.model, chunk=3)
        assert not head.whole
        hidden = head.hidden(IDS[:, :-1]).flatten(0, 1)
        weights = torch.ones(16)
        weights[::5] = 0.0
        total, costs = head.costs(LanguageModelling(), hidden, IDS[:, 1:].flatten(), weights)
    alone = F.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), reduction="none") * weights
    torch.testing.assert_close(costs, alone.detach(), rtol=1e-4, atol=1e-5)
    total.backward()
    assert all(p.grad is not None and p.grad.any() for p in base.modules["m"].parameters())


def test_last_logits_alone_and_tokens_left_to_the_base() -> None:
    base = made()
    with torch.no_grad(), base.rows([{"m": 1.0}, {}]):
        whole = base.model(IDS).logits
        torch.testing.assert_close(base.model(IDS, logits_to_keep=2).logits, whole[:, -2:])
    assert torch.equal(whole[1], base.model(IDS).logits[1])
    assert not torch.equal(whole[0], base.model(IDS).logits[0])


def test_it_learns_a_text_by_heart_while_the_body_stays() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", MLPMemory(width=32, share=0.7))
    text = ["the heart pumps the blood and the lungs take in the air " * 6]
    before = float(addenda.perplexity(base, text))
    states = base.model.base_model(IDS).last_hidden_state
    addenda.train(base, "m", corpus=text, tokens=4_000, lr=3e-2, length=32, batch_rows=4, log=False)
    with base.using("m"):
        assert float(addenda.perplexity(base, text)) < before - 0.5
        width = base.anatomy.width
        assert torch.equal(base.model.base_model(IDS).last_hidden_state[..., :width], states)
    assert float(addenda.perplexity(base, text)) == before


@pytest.mark.parametrize("finish", [Finish(), Finish(factor=0.25), Finish(cap=30.0), Finish(factor=3.0, cap=20.0)])
def test_what_is_done_to_logits_is_undone(finish: Finish) -> None:
    log_p = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).mul(2).log_softmax(-1)
    torch.testing.assert_close(finish(finish.back(log_p)).log_softmax(-1), log_p, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 1.1}, {"blocks": 0}, {"depth": 2.0}, {"width": -1}])
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(AddendaError, match="MLPMemory"):
        MLPMemory(**options)  # type: ignore[arg-type]
