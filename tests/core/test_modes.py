"""What a caller has set stays outside of the block, but for whether gradients are recorded; and all is put back after."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

from addenda.core.modes import eagerly, own_modes

CALLERS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], bool]] = {
    "plain": (nullcontext, True),
    "no_grad": (torch.no_grad, False),
    "inference": (torch.inference_mode, False),
    "enabled again": (torch.enable_grad, True),
}


@pytest.mark.parametrize("name", CALLERS)
def test_whether_gradients_are_recorded_stays_the_callers(name: str) -> None:
    caller, recorded = CALLERS[name]
    with caller():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with own_modes():
            assert torch.is_grad_enabled() is recorded
            assert not torch.is_inference_mode_enabled()
            made = torch.ones(2, requires_grad=True) * 2
            assert made.requires_grad is recorded
            assert not made.is_inference()
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_default_dtype_is_float32_inside(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        with own_modes():
            assert torch.tensor(0.3).dtype is torch.float32
        assert torch.get_default_dtype() is dtype
        with pytest.raises(ZeroDivisionError), own_modes():
            raise ZeroDivisionError
        assert torch.get_default_dtype() is dtype
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_default_device_is_the_cpu_inside() -> None:
    with torch.device("meta"):
        with own_modes():
            assert torch.zeros(2).device.type == "cpu"
        with own_modes(device=False):
            assert torch.zeros(2).is_meta
        assert torch.zeros(2).is_meta
    torch.set_default_device("meta")
    try:
        with own_modes():
            assert torch.zeros(2).device.type == "cpu"
        assert torch.zeros(2).is_meta
    finally:
        torch.set_default_device(None)


def test_eager_blocks_of_threads_that_overlap_leave_models_compiled() -> None:
    """The mutant, each block putting back what it found, leaves torch eager for all."""

    def compiled() -> int:
        graphs: list[Any] = []

        def backend(graph: Any, _: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        torch._dynamo.reset()
        torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2))
        return len(graphs)

    first, second = eagerly(), eagerly()
    first.__enter__()
    second.__enter__()
    assert compiled() == 0
    first.__exit__(None, None, None)
    assert compiled() == 0
    second.__exit__(None, None, None)
    assert compiled() == 1
    one, two = (torch.compiler.set_stance for _ in range(2))
    before = one("force_eager")
    after = two("force_eager")
    before.__exit__(None, None, None)
    after.__exit__(None, None, None)
    leaked = compiled() == 0
    torch.compiler.set_stance("default")
    assert leaked
    assert compiled() == 1
