"""Locas-GLU: tau, the start, the clipping, and what a fold promises, each against the paper's own formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import addenda
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.kinds.locas_glu import SlotAdapter
from pico import pico, pico_tokenizer

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way."


def attached(arch: str = "llama") -> addenda.Base:
    return addenda.attach(pico(arch), pico_tokenizer())


def slots(base: addenda.Base, kind: addenda.LocasGLU, **more: object) -> list[SlotAdapter]:
    module = base.new("m", kind, **more)  # type: ignore[arg-type]
    found = [module.adapter(key) for key in module.sites()]
    assert all(isinstance(one, SlotAdapter) for one in found)
    return found  # type: ignore[return-value]


def weights(base: addenda.Base, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gate [F, D], up [F, D] and down [D, F] of a layer, read from the model itself."""
    mlp = base.model.model.layers[layer].mlp
    if hasattr(mlp, "gate_up_proj"):
        gate, up = mlp.gate_up_proj.weight.chunk(2)
        return gate, up, mlp.down_proj.weight
    return mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight


@pytest.mark.parametrize("arch", ["llama", "phi3", "gemma2"])
def test_tau_is_the_mean_length_of_the_values_over_the_rank(arch: str) -> None:
    base = attached(arch)
    for layer, adapter in enumerate(slots(base, addenda.LocasGLU(8, scale=3.0), text=TEXT)):
        down = weights(base, layer)[2]
        assert float(adapter.tau) == pytest.approx(3.0 / 8 * float(down.detach().norm(dim=0).mean()), rel=1e-5)


@pytest.mark.parametrize("init", ["top", "bottom"])
@pytest.mark.parametrize("arch", ["llama", "phi3"])
def test_the_most_and_least_active_rows_of_the_base_are_cloned(arch: str, init: str) -> None:
    base = attached(arch)
    adapters = slots(base, addenda.LocasGLU(8, init=init), text=TEXT)  # type: ignore[arg-type]
    entered: list[torch.Tensor] = []
    handles = [
        layer.mlp.register_forward_pre_hook(lambda _, args: entered.append(args[0][0]))
        for layer in base.model.model.layers
    ]
    with base.off(), torch.no_grad():
        base.model(base.tokenize(TEXT)[None])
    for handle in handles:
        handle.remove()
    for layer, (adapter, x) in enumerate(zip(adapters, entered, strict=True)):
        gate, up, _ = weights(base, layer)
        activity = (F.silu(x @ gate.T) * (x @ up.T)).abs().mean(0)
        chosen = activity.argsort(descending=init == "top")[:8]
        rows = torch.cat([gate[chosen], up[chosen]])
        torch.testing.assert_close(adapter.up, rows / rows.norm(dim=-1, keepdim=True))


def test_random_rows_are_rows_of_the_base_and_need_no_text() -> None:
    base = attached()
    module = base.new("m", addenda.LocasGLU(4, init="random"), seed=5)
    assert not module.awaits_text
    for layer, key in enumerate(module.sites()):
        gate, key_rows = module.adapter(key).up.chunk(2)
        own = F.normalize(weights(base, layer)[0], dim=-1)
        nearest = (gate @ own.T).max(-1)
        torch.testing.assert_close(nearest.values, torch.ones(4))
        assert len(set(nearest.indices.tolist())) == 4
        torch.testing.assert_close(key_rows, F.normalize(weights(base, layer)[1], dim=-1)[nearest.indices])


def test_the_seed_decides_which_rows_are_drawn() -> None:
    torch.manual_seed(1)
    one = slots(attached(), addenda.LocasGLU(4, init="random"), seed=5)[0].up.clone()
    torch.manual_seed(2)
    two = slots(attached(), addenda.LocasGLU(4, init="random"), seed=5)[0].up.clone()
    other = slots(attached(), addenda.LocasGLU(4, init="random"), seed=6)[0].up
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_activations_of_the_text_become_keys_and_gates() -> None:
    base = attached()
    adapter = slots(base, addenda.LocasGLU(4, init="activation"), text=TEXT)[0]
    gate, key = adapter.up.chunk(2)
    assert torch.equal(gate, key)
    x = base.reader.inputs(["layers.0.ffn"], base.tokenize(TEXT))["layers.0.ffn"]
    torch.testing.assert_close((gate @ F.normalize(x, dim=-1).T).max(-1).values, torch.ones(4))


def test_a_long_text_is_read_in_rows_that_fit_the_base() -> None:
    base = attached()
    assert len(base.tokenize(TEXT * 20)) > 256  # the pico's context
    slots(base, addenda.LocasGLU(8), text=TEXT * 20)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_no_row_is_longer_than_one_after_any_step_of_any_optimizer(optimizer: type[torch.optim.Optimizer]) -> None:
    base = attached()
    module = base.new("m", addenda.LocasGLU(8, scale=8.0), text=TEXT)
    ids = base.tokenize(TEXT)[None]
    steps = optimizer(module.parameters(), lr=3.0)  # type: ignore[call-arg]
    for _ in range(3):
        with base.using("m"):
            base.model(ids, labels=ids).loss.backward()
        steps.step()
        steps.zero_grad()
        longest = [rows.norm(dim=-1).max().item() for rows in module.parameters()]
        assert max(longest) <= 1 + 1e-6
        assert max(longest) > 0.99  # it was really clipped


def test_short_rows_are_left_bit_for_bit() -> None:
    adapter = slots(attached(), addenda.LocasGLU(8), text=TEXT)[0]
    with torch.no_grad():
        adapter.up.mul_(0.5)
        adapter.values.normal_(std=0.01)
    before = adapter.up.clone(), adapter.values.clone()
    adapter.constrain()
    assert torch.equal(adapter.up, before[0])
    assert torch.equal(adapter.values, before[1])


@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_folded_units_add_what_the_adapter_adds(arch: str) -> None:
    base = attached(arch)
    adapter = slots(base, addenda.LocasGLU(8, scale=2.0), text=TEXT)[1]
    with torch.no_grad():
        adapter.values.normal_()
    units = adapter.fold()
    x = torch.randn(5, 64)
    assert units.gate is not None
    by_hand = (adapter.phi(x @ units.gate.T) * (x @ units.up.T)) @ units.values
    torch.testing.assert_close(by_hand, adapter.delta(x).detach())


def test_only_the_chosen_layers_have_a_memory() -> None:
    module = attached().new("m", addenda.LocasGLU(4, layers=(2, 0)), text=TEXT)
    assert list(module.sites()) == ["layers.0.ffn", "layers.2.ffn"]


@pytest.mark.parametrize(
    ("arch", "reason"),
    [("gpt2", "are plain"), ("opt", "are plain"), ("gpt_neox", "are plain"), ("qwen3_moe", "experts")],
)
def test_ffns_that_are_not_gated_are_refused_with_the_reason(arch: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        attached(arch).new("m", addenda.LocasGLU(4))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, "rank must be positive"),
        ({"rank": 97}, "more than the FFN's 96 units"),
        ({"scale": -1.0}, "scale must be positive"),
        ({"init": "best"}, "init is one of"),
        ({"layers": (3,)}, "layers are numbers from 0 to 2"),
        ({"layers": ()}, "layers is a list"),
    ],
)
def test_options_that_make_no_memory_are_refused(options: dict[str, object], said: str) -> None:
    base = attached()
    with pytest.raises(AddendaError, match=said):
        base.new("m", addenda.LocasGLU(**options))  # type: ignore[arg-type]
    assert not base.modules


def test_a_start_from_activations_wants_enough_text() -> None:
    with pytest.raises(AddendaError, match="at least 64 tokens"):
        attached().new("m", addenda.LocasGLU(64, init="activation"), text="too short")


def test_the_start_is_in_the_file(tmp_path: object) -> None:
    base = attached()
    module = base.new("m", addenda.LocasGLU(4), text=TEXT)
    module.save(f"{tmp_path}/m")
    again = base.plug(f"{tmp_path}/m", name="again")
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in module.tensors().items())
    assert float(again.adapter("layers.0.ffn").tau) != 1.0
