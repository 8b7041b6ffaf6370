"""What a base cannot host is refused by name before anything is hooked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import UnsupportedError
from pico import pico, random_ids


@pytest.mark.parametrize("kind", [addenda.Registers(2), addenda.Cartridge(2)], ids=["registers", "cartridge"])
def test_eager_attention_that_passes_by_the_attention_function(kind: Any) -> None:
    base = addenda.attach(pico("gpt2", reorder_and_upcast_attn=True, attn_implementation="eager"))
    with pytest.raises(UnsupportedError, match=r"reorder_and_upcast_attn=True eager attention passes by.*'sdpa'"):
        base.new("m", kind)
    base.new("other", addenda.LoRA(2))


@pytest.mark.parametrize(
    "options",
    [
        {"reorder_and_upcast_attn": True, "attn_implementation": "sdpa"},
        {"scale_attn_by_inverse_layer_idx": True, "attn_implementation": "eager"},
        {"scale_attn_weights": False, "attn_implementation": "eager"},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaling_inside_the_attention_function_is_the_bases_own(options: dict[str, Any], dtype: torch.dtype) -> None:
    model, ids = pico("gpt2", dtype=dtype, **options), random_ids(2, 12)
    with torch.no_grad():
        bare = model(ids).logits
        base = addenda.attach(model)
        base.new("m", addenda.Registers(2))
        assert torch.equal(model(ids).logits, bare)
        with base.using("m"):
            assert not torch.equal(model(ids).logits, bare)
