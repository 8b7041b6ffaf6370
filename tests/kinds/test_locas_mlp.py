"""Locas-MLP: the write rule against theory, NL-SVD as published and corrected, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import addenda
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.kinds.locas_mlp import PlainSlotAdapter
from addenda.writes.closed import closed_form
from pico import pico, pico_tokenizer

ARCHS = ("gpt2", "opt", "gpt_neox")
IDS = torch.randint(4, 128, (1, 24), generator=torch.Generator().manual_seed(3))


def made(arch: str, **options: object) -> tuple[addenda.Base, list[PlainSlotAdapter]]:
    base = addenda.attach(pico(arch), pico_tokenizer())
    module = base.new("m", addenda.LocasMLP(init="gaussian", **options))  # type: ignore[arg-type]
    found = [module.adapter(key) for key in module.sites()]
    assert all(isinstance(one, PlainSlotAdapter) for one in found)
    return base, found  # type: ignore[return-value]


def log_probability(base: addenda.Base, at: int) -> torch.Tensor:
    """Of token `at` of the text, given those before it."""
    with base.using("m"):
        logits = base.model(IDS[:, :at]).logits[0, -1]
    return logits.log_softmax(-1)[IDS[0, at]]


def activations_and_gradients(
    base: addenda.Base, adapters: list[PlainSlotAdapter], at: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What enters each FFN at the position that predicts token `at`, and the gradient of its log-probability there."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        tapped = [stack.enter_context(one.tapped()) for one in adapters]
        log_probability(base, at).backward()
    return [(x[0, -1:], tap.grad[0, -1:]) for ((x, tap),) in tapped]


@pytest.mark.parametrize("arch", ARCHS)
def test_one_write_raises_the_written_token_as_theory_says(arch: str) -> None:
    """d log p / d eps at 0 is the sum over layers of tau phi(|a|) <g, g/|g|>."""
    base, adapters = made(arch, rank=4, scale=4.0, eps=1e-3)
    at = 17
    before = float(log_probability(base, at).detach())
    pairs = activations_and_gradients(base, adapters, at)
    norm = float(torch.stack([g.square().sum() for _, g in pairs]).sum().sqrt())
    slope = sum(
        float(one.tau * one.phi(x.norm())) * float(g.square().sum()) / norm
        for one, (x, g) in zip(adapters, pairs, strict=True)
    )
    assert slope > 0
    kind = base.modules["m"].kind
    assert isinstance(kind, addenda.LocasMLP)
    closed_form(adapters, pairs)
    gained = float(log_probability(base, at).detach()) - before
    assert gained > 0
    assert gained == pytest.approx(kind.eps * slope, rel=0.05)


def test_the_slot_is_the_normalised_activation_and_gradient() -> None:
    base, adapters = made("gpt2", rank=4, eps=0.5)
    pairs = activations_and_gradients(base, adapters, 9)
    kind = base.modules["m"].kind
    assert isinstance(kind, addenda.LocasMLP)
    closed_form(adapters, pairs)
    lengths = 0.0
    for adapter, (x, g) in zip(adapters, pairs, strict=True):
        torch.testing.assert_close(adapter.keys[0], x[0] / x[0].norm())
        assert float(F.cosine_similarity(adapter.values.detach()[0], g[0], dim=0)) > 0.9999
        assert int((adapter.values.norm(dim=-1) > 0).sum()) == 1
        lengths += float(adapter.values[0].detach().square().sum())
    assert lengths**0.5 == pytest.approx(0.5, rel=1e-4)


def test_full_slots_are_compressed_to_half_and_the_rest_is_free_again() -> None:
    _, (adapter, *_) = made("opt", rank=8)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        keys = F.normalize(torch.randn(3, 64, generator=generator), dim=-1)
        adapter.write(keys, torch.randn(3, 64, generator=generator) * 0.1)
    used = int((adapter.values.norm(dim=-1) > 0).sum())
    assert used == 7  # 8 full, to 4, and 3 more; then full again, to 4, and so on
    assert float(adapter.keys.detach().norm(dim=-1).max()) <= 1 + 1e-6
    torch.testing.assert_close(adapter.keys[used - 1].detach(), keys[-1])


def test_memorize_writes_in_closed_form_by_default_and_by_gradient_on_request() -> None:
    text = "the heart and the liver of patient 3 is treated with drug 5. " * 12
    gains = {}
    for write in ("closed", "gradient"):
        base = addenda.attach(pico("gpt2"), pico_tokenizer())
        report = addenda.memorize(
            base,
            "m",
            text=text,
            kind=addenda.LocasMLP(32, scale=32.0),
            window=64,
            chunk=16,
            log=False,
            write=write,
            lr=1e-2,
        )
        gains[write] = report.texts["m"].gain()
        longest = max(float(p.detach().norm(dim=-1).max()) for p in base.modules["m"].parameters())
        assert longest <= 1 + 1e-6
    assert gains["closed"] > 0.02
    assert gains["gradient"] > 0.02
    base = addenda.attach(pico("opt"), pico_tokenizer())
    addenda.memorize(base, "m", text=text, window=64, chunk=32, log=False)
    assert isinstance(base.modules["m"].kind, addenda.LocasMLP)


def test_closed_form_is_for_its_kind_alone() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    with pytest.raises(AddendaError, match="write='closed' is for .* slots .LocasMLP.; LocasGLU takes gradient"):
        addenda.memorize(base, "m", text="some text to read", write="closed", window=64, chunk=16, log=False)
    assert not base.modules


@pytest.mark.parametrize(("arch", "reason"), [("llama", "LocasGLU fits them"), ("qwen3_moe", "experts")])
def test_ffns_that_are_not_plain_are_refused_with_the_reason(arch: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        addenda.attach(pico(arch)).new("m", addenda.LocasMLP(4))


def test_another_activation_than_the_bases_cannot_be_merged(tmp_path: object) -> None:
    base, _ = made("gpt2", rank=4, activation="relu")
    with pytest.raises(UnsupportedError, match="activated by 'relu'"):
        addenda.merge(base, "m", out=f"{tmp_path}/out")
    base, _ = made("opt", rank=4, activation="relu")  # whose own it is
    with torch.no_grad():
        base.modules["m"].adapter("layers.0.ffn").values.normal_(std=0.1)  # type: ignore[operator, union-attr]
    assert addenda.merge(base, "m", out=f"{tmp_path}/out").proof.holds


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eps": 0.0}, "eps is a length"),
        ({"compress": "best"}, "compress is one of"),
        ({"activation": "tanh"}, "'relu'"),
    ],
)
def test_options_that_make_no_memory_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(AddendaError, match=said):
        addenda.LocasMLP(**options)  # type: ignore[arg-type]
