"""Wrappers of torch and accelerate change no identity; what PEFT rewrote, and what holds no numbers, is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch import nn

import addenda
from addenda.bases.wrappers import plain_name, unwrapped
from addenda.core.errors import AddendaError, UnsupportedError
from pico import pico, pico_tokenizer, random_ids

IDS = random_ids(2, 9)
TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way."


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process."""
    store = tmp_path_factory.mktemp("store") / "file"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def of_layers(model: Any) -> Any:
    for number, layer in enumerate(model.model.layers):
        model.model.layers[number] = torch.compile(layer, backend="eager")
    return model


def sharded(model: Any, inside: bool = False) -> Any:
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    policy = ModuleWrapPolicy({type(model.model.layers[0])}) if inside else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one process shards nothing
        return FSDP(model, auto_wrap_policy=policy, use_orig_params=True, device_id=torch.device("cpu"))


def checkpointed(model: Any) -> Any:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    kind = type(model.model.layers[0])
    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, kind))
    return model


def prepared(model: Any) -> Any:
    return accelerate.Accelerator(cpu=True).prepare_model(model, evaluation_mode=True)


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "compile": compiled,
    "layers compiled": of_layers,
    "DDP": lambda model: nn.parallel.DistributedDataParallel(model),
    "DataParallel": lambda model: nn.DataParallel(model),
    "compiled DDP": lambda model: compiled(nn.parallel.DistributedDataParallel(compiled(model))),
    "FSDP": sharded,
    "FSDP of layers": lambda model: sharded(model, inside=True),
    "checkpointed": checkpointed,
    "accelerate": prepared,
}


@pytest.mark.parametrize("which", WRAPPERS)
def test_a_wrapped_model_is_the_same_base(which: str, alone: None, tmp_path: Path) -> None:
    plain = addenda.attach(pico("llama"), pico_tokenizer())
    expected = plain.fingerprint
    module = plain.new("m", addenda.LoRA(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.2)
    module.save(tmp_path / "m")
    with plain.using("m"):
        ours = plain.model(IDS).logits
    wrapped = WRAPPERS[which](pico("llama"))
    assert addenda.fingerprint(wrapped) == expected
    base = addenda.attach(wrapped, pico_tokenizer())
    assert base.fingerprint == expected
    assert {site.key: site.path for site in base.anatomy.sites} == {s.key: s.path for s in plain.anatomy.sites}
    base.plug(tmp_path / "m")
    with torch.no_grad(), base.using("m"):
        assert (base.model(IDS).logits - ours).abs().max() <= 1e-5 * ours.abs().max()
    with torch.no_grad(), base.off():
        assert torch.equal(base.model(IDS).logits, pico("llama")(IDS).logits)
    assert addenda.attach(wrapped) is base
    base.detach()


@pytest.mark.parametrize("which", ["compile", "layers compiled", "DDP", "compiled DDP", "checkpointed", "accelerate"])
def test_a_wrapped_base_merges(which: str, alone: None, tmp_path: Path) -> None:
    base = addenda.attach(WRAPPERS[which](pico("llama")), pico_tokenizer())
    base.new("book", addenda.LocasGLU(8, scale=8.0), text=TEXT)
    base.new("lora", addenda.LoRA(2))
    report = addenda.merge(base, ["book", "lora"], out=tmp_path / "out", probe=[TEXT], dtype="bfloat16")
    assert report.proof is not None
    assert report.proof.holds
    merged = addenda.load_base(tmp_path / "out").model
    assert merged.config.architectures == ["LlamaForCausalLM"]
    assert set(merged.state_dict()) == set(pico("llama").state_dict())
    base.detach()


@pytest.mark.parametrize("which", ["FSDP", "FSDP of layers"])
def test_a_base_that_is_cut_is_not_folded_into(which: str, alone: None, tmp_path: Path) -> None:
    base = addenda.attach(WRAPPERS[which](pico("llama")), pico_tokenizer())
    base.new("lora", addenda.LoRA(2))
    with pytest.raises(UnsupportedError, match=r"is cut over processes \(FSDP\); load the base whole"):
        addenda.merge(base, "lora", out=tmp_path / "out", probe=[TEXT])
    assert not (tmp_path / "out").exists()
    base.detach()


def test_the_model_and_its_wrapper_are_one_base() -> None:
    model = pico("llama")
    base = addenda.attach(model)
    assert addenda.attach(compiled(model)) is base
    assert addenda.attach(nn.DataParallel(model)) is base


def test_what_a_name_is_without_wrappers() -> None:
    assert (
        plain_name("_orig_mod.model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.mlp")
        == "model.layers.0.mlp"
    )
    assert plain_name("model.layers.0.mlp") == "model.layers.0.mlp"
    model = pico("llama")
    assert unwrapped(nn.DataParallel(compiled(nn.DataParallel(model)))) is model
    assert unwrapped(model) is model
    with pytest.raises(AddendaError, match="needs a transformers causal language model"):
        addenda.attach(compiled(lambda ids: ids))  # type: ignore[arg-type]


# --- refused ---------------------------------------------------------------------------------------------------------


def lora(arch: str) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(pico(arch), LoraConfig(r=2, fan_in_fan_out=arch == "gpt2"))


def added(arch: str) -> Any:
    from peft import LoraConfig

    model: Any = pico(arch)
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    return model


def prompted(arch: str) -> Any:
    from peft import PromptTuningConfig, get_peft_model

    return get_peft_model(pico(arch), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: lora("llama"),
        lambda: lora("gpt2"),
        lambda: lora("llama").get_base_model(),
        lambda: lora("gpt2").get_base_model(),
        lambda: compiled(lora("llama")),
        lambda: added("llama"),
        lambda: prompted("llama"),
    ],
    ids=["llama", "gpt2", "llama inside", "gpt2 inside", "compiled", "added by transformers", "prompt tuning"],
)
def test_a_model_that_peft_has_rewritten_is_noticed(make: Callable[[], Any]) -> None:
    with pytest.raises(
        AddendaError, match=r"PEFT has rewritten this model \(\w+ at '.*'\): merge_and_unload\(\) first"
    ):
        addenda.attach(make())


@pytest.mark.parametrize("end", ["merge_and_unload", "unload"])
@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_after_that_it_is_a_model_as_any_other(arch: str, end: str) -> None:
    base = addenda.attach(getattr(lora(arch), end)())
    assert base.fingerprint == addenda.fingerprint(pico(arch))


def on_meta(which: str) -> Any:
    model: Any = pico(which)
    with torch.device("meta"):
        return type(model)(model.config)


def partly(model: Any) -> Any:
    model.model.layers[1].mlp.to("meta")
    return model


@pytest.mark.parametrize(
    ("make", "leaf"),
    [
        (lambda: on_meta("llama"), "model.embed_tokens.weight"),
        (lambda: on_meta("gpt2"), "transformer.wte.weight"),
        (lambda: partly(pico("qwen3")), "model.layers.1.mlp.gate_proj.weight"),
        (lambda: compiled(partly(pico("llama"))), "model.layers.1.mlp.gate_proj.weight"),
    ],
    ids=["llama", "gpt2", "one layer", "compiled"],
)
def test_a_model_without_numbers_is_refused(make: Callable[[], Any], leaf: str) -> None:
    with pytest.raises(AddendaError, match=rf"weights of this model are nowhere: '{leaf}' is on the meta device"):
        addenda.attach(make())


@pytest.mark.parametrize("whole", [True, False])
def test_an_offloaded_model_is_none_of_these(whole: bool, tmp_path: Path) -> None:
    model = pico("llama")
    if whole:
        accelerate.cpu_offload(model, torch.device("cpu"))
    else:
        accelerate.disk_offload(model, str(tmp_path), torch.device("cpu"))
    assert any(parameter.is_meta for parameter in model.parameters())
    assert addenda.attach(model).fingerprint == addenda.fingerprint(pico("llama"))
