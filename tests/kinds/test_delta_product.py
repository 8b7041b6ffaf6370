"""DeltaProduct: the identities of its memory, its scan against the plain loop, and what it can learn that others cannot."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import addenda
from addenda.core.errors import AddendaError
from addenda.kinds.delta_product import CHUNK, DeltaMemory, DeltaProduct, delta_scan
from pico import pico, pico_tokenizer


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loop(q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor, h: Tensor, starts: Tensor | None = None) -> Tensor:
    """The definition, one sub-step after the other, for one head: T of [T, K]."""
    read = []
    for t in range(len(q)):
        if starts is not None and starts[t]:
            h = torch.zeros_like(h)
        h = g[t] * h
        h = h - b[t] * torch.outer(k[t], k[t] @ h) + b[t] * torch.outer(k[t], v[t])
        read.append(h.T @ q[t])
    return torch.stack([*read, h[0]])


@pytest.mark.parametrize("tokens", [1, 7, CHUNK, CHUNK + 1, 3 * CHUNK - 5])
@pytest.mark.parametrize("packed", [False, True])
def test_the_scan_is_the_loop(tokens: int, packed: bool) -> None:
    q, k, v = (drawn(tokens, 6, seed=seed).double() for seed in range(3))
    k = F.normalize(k, dim=-1)
    b, g = (drawn(tokens, seed=seed).double().sigmoid() for seed in (3, 4))
    h = drawn(6, 6, seed=5).double()
    starts = torch.arange(tokens) % 29 == 11 if packed else None
    read, last = delta_scan(q, k, v, 2 * b, g, h, starts)
    expected = loop(q, k, v, 2 * b, g, h, starts)
    torch.testing.assert_close(torch.cat([read, last[:1]]), expected, rtol=1e-9, atol=1e-9)


def test_a_memory_carried_over_is_one_text_read_at_once() -> None:
    q, k, v = (drawn(100, 4, seed=seed).double() for seed in range(3))
    k = F.normalize(k, dim=-1)
    b, g, h = torch.full((100,), 1.3).double(), torch.full((100,), 0.97).double(), torch.zeros(4, 4).double()
    whole, last = delta_scan(q, k, v, b, g, h)
    pieces = []
    for part in (slice(0, 31), slice(31, 32), slice(32, 100)):
        read, h = delta_scan(q[part], k[part], v[part], b[part], g[part], h)
        pieces.append(read)
    torch.testing.assert_close(torch.cat(pieces), whole)
    torch.testing.assert_close(h, last)


def test_orthonormal_keys_of_strength_one_are_recalled_exactly() -> None:
    keys, values = torch.linalg.qr(drawn(8, 8).double())[0], drawn(8, 5, seed=1).double()
    one = torch.ones(8).double()
    _, h = delta_scan(keys, keys, values, one, one, torch.zeros(8, 5).double())
    torch.testing.assert_close(keys @ h, values)


def test_a_transition_never_grows_and_two_reflections_turn() -> None:
    """Householders of strength up to 2 have norm 1 at most; two of strength 2 have determinant +1."""
    for seed in range(5):
        k = F.normalize(drawn(2, 4, seed=seed).double(), dim=-1)
        nothing, one = torch.zeros(2, 4).double(), torch.ones(2).double()
        for strength in (0.0, 0.7, 2.0):
            _, turned = delta_scan(k, k, nothing, strength * one, one, torch.eye(4).double())
            assert torch.linalg.matrix_norm(turned, 2) <= 1 + 1e-9
        torch.testing.assert_close(torch.linalg.det(turned), torch.tensor(1.0).double())


def test_one_step_is_the_delta_rule() -> None:
    """n_h = 1 without a gate equals DeltaNet: h + b k (v - h^T k)^T."""
    q, k, v = (drawn(9, 4, seed=seed).double() for seed in range(3))
    k, b = F.normalize(k, dim=-1), drawn(9, seed=3).double().sigmoid()
    h, read = torch.zeros(4, 4).double(), []
    for t in range(9):
        h = h + b[t] * torch.outer(k[t], v[t] - h.T @ k[t])
        read.append(h.T @ q[t])
    found, last = delta_scan(q, k, v, b, torch.ones(9).double(), torch.zeros(4, 4).double())
    torch.testing.assert_close(found, torch.stack(read))
    torch.testing.assert_close(last, h)


def disturbed(steps: int = 2) -> DeltaMemory:
    torch.manual_seed(0)
    made = DeltaMemory(16, heads=2, size=4, steps=steps)
    for seed, parameter in enumerate(made.parameters()):
        parameter.data.add_(0.3 * drawn(*parameter.shape, seed=seed))
    return made


def test_pads_leave_the_memory_as_it_was() -> None:
    memory, x, y = disturbed(), drawn(2, 9, 16), drawn(2, 9, 16, seed=1)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, :4] = mask[1, 8] = False
    out, state = memory(x, y, mask=mask)
    alone, kept = memory(x[1:, 4:8], y[1:, 4:8])
    torch.testing.assert_close(out[1:, 4:8], alone)
    torch.testing.assert_close(state[1:], kept)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_document_of_a_packed_row_is_itself_alone(steps: int) -> None:
    memory, x, y = disturbed(steps), drawn(1, 90, 16), drawn(1, 90, 16, seed=1)
    starts = torch.zeros(1, 90, dtype=torch.bool)
    starts[0, [0, 37, 80]] = True
    out, state = memory(x, y, starts=starts, state=drawn(1, 2, 4, 4))
    for part in (slice(0, 37), slice(37, 80), slice(80, 90)):
        alone, last = memory(x[:, part], y[:, part])
        torch.testing.assert_close(out[:, part], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


def parity(memory: DeltaMemory, tokens: int, steps: int, most: float) -> float:
    """Share of right answers when a memory learns the parity of the ones so far, its strengths being at most `most`."""
    torch.manual_seed(0)
    embed, head = torch.nn.Embedding(2, 16), torch.nn.Linear(16, 2)
    parts = [*memory.parameters(), *embed.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parts, lr=1e-2)
    share = 0.0
    with pytest.MonkeyPatch.context() as patch:
        whole = torch.sigmoid
        patch.setattr(torch, "sigmoid", lambda x: whole(x) * (most / 2 if x.dim() == 4 else 1.0))
        for _ in range(steps):
            bits = torch.randint(2, (64, tokens))
            x = embed(bits)
            logits = head(memory(x, torch.zeros_like(x))[0])
            target = bits.cumsum(1) % 2
            loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            share = float((logits.argmax(-1) == target)[:, tokens // 2 :].float().mean())
    return share


@pytest.mark.slow
def test_parity_is_learned_with_strengths_to_two_alone() -> None:
    torch.manual_seed(1)
    assert parity(DeltaMemory(16, heads=2, size=4, steps=1), 24, 400, most=2.0) > 0.95
    torch.manual_seed(1)
    assert parity(DeltaMemory(16, heads=2, size=4, steps=1), 24, 400, most=1.0) < 0.8


def test_its_size_is_the_share_asked_for() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", DeltaProduct(extra=0.5))
    assert abs(module.size() / base.anatomy.parameters - 0.5) < 0.2
    assert module.stateful


@pytest.mark.parametrize("options", [{"heads": 0}, {"steps": 0}, {"width": 0}, {"width": 8, "extra": 0.1}])
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(AddendaError, match="DeltaProduct"):
        DeltaProduct(**options)  # type: ignore[arg-type]
