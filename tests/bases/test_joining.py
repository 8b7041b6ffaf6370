"""Two parts of one softmax, read apart and joined, are the softmax over both; no decoded token copies the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import StaticCache

from addenda.bases import attention, joining
from addenda.bases.joining import Read, computed, flash_on_cpu, join, kernel_for, read_slots, read_tokens
from conformance.kinds import CASES
from conformance.world import Subject, assert_alive, batch, close, generate, logits, subject_of, throwaway
from pico import random_ids

KERNELS = {"flash": flash_on_cpu, "computed": computed}
JOINT = [case for case in CASES if CASES[case].joint]
ATTENTION = torch.nn.Module()  # in evaluation, as a base is
ATTENTION.eval()


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def tensors(heads: int, steps: int, length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query [3, 4, T, 8], key and value [3, heads, Tk, 8], slots' keys and values [heads, 5, 8]."""
    shapes = [(3, 4, steps, 8), (3, heads, length, 8), (3, heads, length, 8), (heads, 5, 8), (heads, 5, 8)]
    return [drawn(*shape, seed=number, dtype=dtype) for number, shape in enumerate(shapes)]


def written_out(parts: list[Tensor], mask: Tensor, bias: Tensor | None, cap: float | None = None) -> Tensor:
    """One softmax over slots and tokens, in float64; `mask` is added to the tokens' scores, `bias` [3, 1, 1, 5] to the slots'."""
    query, key, value, keys, values = (part.double() for part in parts)
    both = [
        torch.cat([slots.expand(3, -1, -1, -1), tokens], 2).repeat_interleave(4 // slots.shape[0], 1)
        for slots, tokens in ((keys, key), (values, value))
    ]
    scores = query @ both[0].mT * 0.3
    scores = scores if cap is None else torch.tanh(scores / cap) * cap
    scores[..., :5] += 0.0 if bias is None else bias.double()
    scores[..., 5:] += mask
    return scores.softmax(-1) @ both[1]


def joined(kernel: Any, parts: list[Tensor], mask: Tensor | None, slots: Any = ((5, None),)) -> Tensor:
    options = {"scaling": 0.3}
    tokens = read_tokens(kernel, ATTENTION, parts[:3], mask, options)
    return join(tokens, read_slots(kernel, parts[0], parts[3], parts[4], slots, options))[0]


def boolean(steps: int, length: int) -> Tensor:
    """Which tokens [3, 1, T, Tk] queries see: causal, the first keys of a row pads; its pads see nothing."""
    seen = torch.ones(steps, length).tril(length - steps).bool().expand(3, 1, -1, -1).clone()
    seen[1, ..., :3] = False
    return seen


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("heads", [4, 2, 1])
@pytest.mark.parametrize(("steps", "length"), [(1, 9), (6, 6), (4, 9)])
@pytest.mark.parametrize("weighed", [False, True])
def test_joined_is_one_softmax_over_both(kernel: str, heads: int, steps: int, length: int, weighed: bool) -> None:
    parts = tensors(heads, steps, length)
    # two modules: the first at one weight for all, the second at a weight for each row
    weights = torch.tensor([1.0, 0.2, 3.0]).log().view(3, 1, 1, 1)
    slots = ((1, None), (1, None), (3, weights)) if weighed else ((5, None),)
    bias = torch.cat([torch.zeros(3, 1, 1, 2), weights.expand(3, 1, 1, 3)], -1) if weighed else None
    seen = boolean(steps, length)
    expected = written_out(parts, torch.where(seen, 0.0, torch.finfo(torch.float32).min), bias)
    rough = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(joined(KERNELS[kernel], parts, seen, slots), expected.float(), **rough)
    for hidden in (-torch.inf, torch.finfo(torch.float32).min):  # as people write masks
        mask = torch.zeros(seen.shape).masked_fill(~seen, hidden)
        torch.testing.assert_close(joined(KERNELS[kernel], parts, mask, slots), expected.float(), **rough)
    every = torch.zeros(steps, length)
    if steps > 1:  # without a mask they are causal, aligned to the first key
        every = every.masked_fill(torch.ones(steps, length).triu(1).bool(), -torch.inf)
    found = joined(KERNELS[kernel], parts, None, slots)
    torch.testing.assert_close(found, written_out(parts, every, bias).float(), **rough)


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_may_differ_from_token_to_token(kernel: str) -> None:
    parts, weights = tensors(2, 6, 6), drawn(3, 1, 6, 1, seed=9)
    seen = boolean(6, 6)
    mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
    bias = torch.cat([weights.expand(3, 1, 6, 2), torch.zeros(3, 1, 6, 3)], -1)
    found = joined(KERNELS[kernel], parts, seen, ((2, weights), (3, None)))
    torch.testing.assert_close(found, written_out(parts, mask, bias).float(), rtol=1e-5, atol=1e-6)


def test_slots_are_read_once_for_all_rows() -> None:
    parts, asked = tensors(2, 1, 9), list[tuple[int, ...]]()

    def kernel(query: Tensor, key: Tensor, *rest: Any) -> Read:
        asked.append(tuple(key.shape))
        return computed(query, key, *rest)

    read_slots(kernel, parts[0], parts[3], parts[4], ((2, None), (3, None)), {})
    assert asked == [(1, 2, 5, 8)], "not a copy for each row, nor a call for each module of one weight"


def test_a_query_that_sees_no_token_reads_the_slots_alone() -> None:
    parts = tensors(2, 6, 6)
    alone = read_slots(computed, parts[0], parts[3], parts[4], ((5, None),), {"scaling": 0.3}).out
    for kernel in KERNELS.values():
        found = joined(kernel, parts, boolean(6, 6))
        torch.testing.assert_close(found[1, :, :3], alone[1, :, :3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_good_as_one_softmax_in_it(dtype: torch.dtype) -> None:
    parts, seen = tensors(2, 6, 6, dtype), boolean(6, 6)
    exact = written_out(parts, torch.where(seen, 0.0, torch.finfo(torch.float32).min), None)
    found = joined(flash_on_cpu, parts, seen)
    assert found.dtype == dtype
    assert float((found - exact).abs().max()) <= 4 * torch.finfo(dtype).eps * float(exact.abs().max())


def test_a_soft_cap_is_on_slots_and_tokens() -> None:
    parts = tensors(2, 1, 9)
    options: dict[str, Any] = {"scaling": 0.3, "softcap": 0.5}
    kernel = kernel_for(ATTENTION, "eager", tuple(parts), options)
    assert kernel is not None
    found = joined(kernel, parts, None)
    torch.testing.assert_close(found, written_out(parts, torch.zeros(1, 9), None, 0.5).float(), rtol=1e-5, atol=1e-6)
    assert kernel_for(ATTENTION, "sdpa", tuple(parts), options) is None


def test_weights_are_the_tokens_part_of_the_softmax() -> None:
    parts = tensors(2, 1, 9)
    tokens = read_tokens(computed, ATTENTION, parts[:3], None, {})
    slots = read_slots(computed, parts[0], parts[3], parts[4], ((5, None),), {})
    weights = join(tokens, slots)[1]
    assert weights is not None
    scores = torch.cat([slots.lse.exp(), tokens.lse.exp()]).view(2, 3, 4, 1)
    torch.testing.assert_close(weights.sum(-1), scores[1] / scores.sum(0))


# -- when ---------------------------------------------------------------------------------------------------------


def test_where_no_log_sum_exp_is_to_be_had_there_is_no_kernel() -> None:
    parts = tensors(2, 1, 9)

    def of(implementation: str = "sdpa", given: list[Tensor] = parts, **options: Any) -> Any:
        return kernel_for(ATTENTION, implementation, tuple(given), options)

    assert of() is flash_on_cpu
    for other in ("flash_attention_2", "flex_attention", "paged|sdpa"):
        assert of(other) is None
    for option in ({"dropout": 0.1}, {"position_bias": parts[0]}, {"s_aux": parts[0]}):
        assert of(**option) is None
        assert of("eager", **option) is None
    assert of(given=[parts[0], *(part[..., :4] for part in parts[1:])]) is None  # MLA: other widths
    assert of(given=[parts[0].half(), *parts[1:]]) is None
    assert of(given=[part.to("meta") for part in parts]) is None
    wanted = [*parts[:4], parts[4].clone().requires_grad_()]
    assert of(given=wanted) is None
    with torch.no_grad():
        assert of(given=wanted) is flash_on_cpu
    with torch.autocast("cpu", torch.bfloat16):
        assert of() is None
    training = torch.nn.Module()
    assert kernel_for(training, "sdpa", tuple(parts), {}) is None


class Kernels:
    """Counts which way attention with slots went."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.joined = self.concatenated = 0
        together, apart = attention._Mixed._concatenated, attention.join

        def concatenated(*args: Any) -> Any:
            self.concatenated += 1
            return together(*args)

        def joined(*args: Any) -> Any:
            self.joined += 1
            return apart(*args)

        patch.setattr(attention._Mixed, "_concatenated", concatenated)
        patch.setattr(attention, "join", joined)


@pytest.mark.parametrize("case", ["registers", "cartridge"])
def test_training_concatenates_and_reading_joins(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, kernels = throwaway("llama", case), Kernels(monkeypatch)
    base, (ids, mask) = subject.base, batch()
    with base.trainable("m") as trainable:
        trainable(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert (kernels.joined, kernels.concatenated) == (0, 3)
    with base.using("m"):
        logits(base.model, ids, mask)
    assert (kernels.joined, kernels.concatenated) == (3, 3)


SELECTIONS: dict[str, Callable[[Any], Any]] = {
    "one": lambda base: base.using("m"),
    "two": lambda base: base.using(m=0.5, n=2.0),
    "rows": lambda base: base.rows([{"m": 1.0}, {}, {"m": 1.0}, {"n": 0.5, "m": 1.0}]),
    "all rows": lambda base: base.rows([{"m": 1.0}] * 4),
    "index": lambda base: base.rows(torch.tensor([0, 1, 2, 1]), table=[{}, {"m": 0.5}, {"n": 1.0, "m": 1.0}]),
}


@pytest.mark.parametrize(
    ("arch", "case"),
    [
        *[("llama", case) for case in JOINT],
        *[
            (arch, case)
            for arch in ("mistral", "gemma2", "gemma3", "gpt2", "opt")
            for case in ("registers", "cartridge")
        ],
    ],
)
def test_joined_is_concatenated(arch: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefill, decoding and static caches, padded and not, under sliding windows and soft caps."""
    with subject_of(arch, case) as subject:
        subject.plug("m")
        subject.plug("n", seed=1)
        assert_alive(subject)

        def run() -> list[Tensor]:
            found = []
            for chosen in SELECTIONS.values():
                with chosen(subject.base):
                    for padded in (False, True):
                        ids, mask = batch(padded)
                        found.append(logits(subject.model, ids, mask)[mask.bool()])
                        found += generate(subject.model, ids, mask, max_new_tokens=2).logits
            static = StaticCache(config=subject.model.config, max_cache_len=20)
            with subject.base.using("m"), torch.no_grad():
                for part in (batch()[0], random_ids(4, 1, seed=3), random_ids(4, 3, seed=4)):
                    found.append(subject.model(part, past_key_values=static).logits)
            return [part.float() for part in found]

        kernels = Kernels(monkeypatch)
        apart = run()
        assert kernels.joined > 0
        assert kernels.concatenated == 0
        monkeypatch.setattr(attention, "kernel_for", lambda *_: None)
        for one, other in zip(apart, run(), strict=True):
            close(one, other)


# -- cost ---------------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The most elements that any operation wrote to memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run it, and see what it gives."""
        out = func(*args, **(kwargs or {}))
        given = {part.untyped_storage()._cdata for part in args if isinstance(part, Tensor)}
        for part in out if isinstance(out, tuple | list) else [out]:
            if isinstance(part, Tensor) and part.untyped_storage()._cdata not in given:
                self.elements = max(self.elements, part.numel())
        return out


def largest_of_a_decoded_token(subject: Subject, context: int, selection: Any) -> int:
    """With a static cache, in which the base itself writes in place."""
    cache = StaticCache(config=subject.model.config, max_cache_len=context + 1)
    with selection, torch.no_grad():
        subject.model(random_ids(4, context), past_key_values=cache)
        with Largest() as seen:
            subject.model(random_ids(4, 1), past_key_values=cache)
    return seen.elements


@pytest.mark.parametrize("which", ["one", "two", "rows"])
def test_a_decoded_token_copies_no_cache(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, context = throwaway("llama", "registers", num_key_value_heads=4), 200
    subject.plug("n", seed=1)
    base = subject.base
    with base.using("m", "n"):  # slots are materialised
        logits(subject.model, *batch())
    cache = 4 * (context + 1) * 4 * 16
    bare = largest_of_a_decoded_token(subject, context, base.off())
    assert largest_of_a_decoded_token(subject, context, SELECTIONS[which](base)) == bare < cache / 4
    monkeypatch.setattr(attention, "kernel_for", lambda *_: None)  # what the test would see
    assert largest_of_a_decoded_token(subject, context, SELECTIONS[which](base)) >= cache / 2


def test_the_tokens_kernel_is_the_bases_own() -> None:
    """The same bits as `scaled_dot_product_attention`, so that only the join adds to the base's rounding."""
    parts = tensors(2, 6, 6)
    query, key, value = parts[:3]
    plain = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.3, enable_gqa=True
    )
    found: Read = read_tokens(flash_on_cpu, ATTENTION, parts[:3], None, {"scaling": 0.3})
    assert torch.equal(found.out, plain)
    assert math.isclose(float(found.lse[0, 0, 0]), 0.3 * float(query[0, 0, 0] @ key[0, 0, 0]), rel_tol=1e-5)
    assert joining.kernel_for(ATTENTION, "sdpa", tuple(parts), {"scaling": 0.3}) is flash_on_cpu
