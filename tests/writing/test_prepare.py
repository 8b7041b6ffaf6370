"""What training changes about a base is put back, also after an error."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda.writing.prepare import prepared


def state(base: addenda.Base) -> Any:
    models = [base.model, *base.modules.values()]
    return (
        [p.requires_grad for model in models for p in model.parameters()],
        [module.training for model in models for module in model.modules()],
        [sorted(module.__dict__) for module in base.model.modules()],
        [getattr(layer, "dropout", None) for layer in base.host.layers],
        random.getstate(),
        [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("arch", ["llama", "opt", "gpt2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_everything_is_put_back(make_base: Any, arch: str, checkpointing: bool) -> None:
    base = make_base(arch, dropout=0.3) if arch == "opt" else make_base(arch)
    base.new("a", addenda.NeutralResidues(width=8))
    base.new("b", addenda.LoRA(rank=2))
    next(base.model.parameters()).requires_grad_(False)
    next(base.modules["b"].parameters()).requires_grad_(False)
    base.model.train()
    before = state(base)
    with (  # noqa: PT012 - what holds inside the block is what is tested
        pytest.raises(RuntimeError, match="inside"),
        prepared(base, ["a"], seed=3, gradient_checkpointing=checkpointing),
    ):
        assert not any(p.requires_grad for p in base.model.parameters())
        assert not any(p.requires_grad for p in base.modules["b"].parameters())
        assert all(p.requires_grad for p in base.modules["a"].parameters())
        assert not any(m.training for m in base.model.modules() if isinstance(m, torch.nn.Dropout))
        assert [layer.training for layer in base.host.layers] == [checkpointing] * 2
        torch.rand(3), random.random(), np.random.rand()
        raise RuntimeError("inside")
    assert state(base) == before


def test_a_half_precision_module_learns_in_float32(base: addenda.Base) -> None:
    module = base.new("a", addenda.NeutralResidues(width=8)).to(torch.bfloat16)
    with prepared(base, ["a"], seed=0, gradient_checkpointing=False):
        assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_gradients_are_wanted_even_where_the_caller_wants_none(base: addenda.Base) -> None:
    base.new("a", addenda.NeutralResidues(width=8))
    with torch.no_grad():
        with prepared(base, ["a"], seed=0, gradient_checkpointing=False):
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()
