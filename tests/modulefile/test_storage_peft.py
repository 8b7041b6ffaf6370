"""LoRA in PEFT's format: ours loaded by PEFT and PEFT's by us give the same logits; what we have not is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import addenda
from addenda.core.errors import AddendaError, FileError
from addenda.modulefile.peft_format import CONFIG, TENSORS, is_peft_folder, load_peft, save_peft
from addenda.modulefile.storage import load_folder
from pico import pico, random_ids

IDS = random_ids(2, 12)
# PEFT and the models it wraps warn of what they themselves deprecate
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def peft() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("peft")


def draw(module: torch.nn.Module) -> None:
    """Weights that show in the logits, A and B alike."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad or "lora_" in name:
                parameter.normal_(0.0, 0.15)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


OURS = [
    ("llama", {"rank": 4}),
    ("llama", {"rank": 4, "alpha": 3.5, "rslora": True, "targets": ("q_proj", "down_proj")}),
    ("gpt2", {"rank": 4}),
    ("gpt2", {"rank": 3, "targets": ("c_proj",)}),
    ("gpt2", {"rank": 3, "targets": ("c_attn",), "rslora": True}),
    ("phi3", {"rank": 2}),
    ("opt", {"rank": 2}),
    ("gpt_neox", {"rank": 2}),
]


@pytest.mark.parametrize(("arch", "options"), OURS, ids=str)
def test_ours_loaded_by_peft(arch: str, options: dict[str, Any], peft: Any, tmp_path: Path) -> None:
    base = addenda.attach(pico(arch))
    module = base.new("note", addenda.LoRA(**options))
    draw(module)
    with base.using("note"):
        want = logits(base.model)
    bare = logits(base.model)
    assert apart(want, bare) > 0.1
    assert save_peft(module, tmp_path / "peft", base) == tmp_path / "peft"
    assert sorted(file.name for file in (tmp_path / "peft").iterdir()) == [CONFIG, TENSORS]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        theirs = peft.PeftModel.from_pretrained(pico(arch), tmp_path / "peft")
    assert not [w for w in told if "fan_in_fan_out" in str(w.message) or "missing" in str(w.message).lower()]
    assert apart(logits(theirs), want) < 1e-5
    merged = theirs.merge_and_unload()
    assert apart(logits(merged), want) < 1e-4


THEIRS = [
    ("llama", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    ("llama", {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "use_rslora": True, "lora_dropout": 0.1}),
    ("llama", {"r": 2, "target_modules": r".*\.mlp\.(up|down)_proj", "init_lora_weights": "gaussian"}),
    ("gpt2", {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn"], "fan_in_fan_out": True}),
    ("gpt2", {"r": 4, "lora_alpha": 8, "target_modules": ["c_proj", "c_fc"], "fan_in_fan_out": True}),
]


@pytest.mark.parametrize(("arch", "options"), THEIRS, ids=str)
def test_peft_s_loaded_by_us(arch: str, options: dict[str, Any], peft: Any, tmp_path: Path) -> None:
    theirs = peft.get_peft_model(pico(arch), peft.LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    draw(theirs)
    want = logits(theirs)
    theirs.save_pretrained(tmp_path / "My Adapter")
    assert is_peft_folder(tmp_path / "My Adapter")
    base = addenda.attach(pico(arch))
    module = base.plug(tmp_path / "My Adapter")
    assert module.name == "my-adapter"
    assert module.card.base.fingerprint == base.fingerprint
    with base.using("my-adapter"):
        assert apart(logits(base.model), want) < 1e-5
    assert apart(logits(base.model), want) > 0.1
    # and on, in our own format
    module.save(tmp_path / "ours")
    assert not is_peft_folder(tmp_path / "ours")
    base.unplug("my-adapter")
    base.plug(tmp_path / "ours", name="again")
    with base.using("again"):
        assert apart(logits(base.model), want) < 1e-5
    assert load_folder(tmp_path / "ours").card.config["rank"] == options["r"]


def test_the_dtype_of_the_file_is_kept_both_ways(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"))
    module = base.new("note", addenda.LoRA(rank=2)).to(torch.bfloat16)
    draw(module)
    save_peft(module, tmp_path / "peft", base)
    back = load_peft(tmp_path / "peft", base, name="back")
    assert all(torch.equal(t, back.tensors()[name]) for name, t in module.tensors().items())
    assert {t.dtype for t in back.tensors().values()} == {torch.bfloat16}
    assert back.kind == module.kind


def test_writing_again_replaces_and_anything_else_is_refused(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"))
    module = base.new("note", addenda.LoRA(rank=2))
    save_peft(module, tmp_path / "peft", base)
    first = (tmp_path / "peft" / TENSORS).read_bytes()
    save_peft(module, tmp_path / "peft", base)
    assert (tmp_path / "peft" / TENSORS).read_bytes() == first
    module.save(tmp_path / "ours")
    with pytest.raises(FileError, match=r"holds what is not a module's \(card.json, module.safetensors\)"):
        save_peft(module, tmp_path / "ours", base)
    with pytest.raises(FileError, match="holds what is not a module's"):
        module.save(tmp_path / "peft")
    draw(module)
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(FileError, match="NaN or infinite values in 1 tensor"):
        save_peft(module, tmp_path / "new", base)
    other = base.new("other", addenda.ParallelAdapter(width=8))
    with pytest.raises(AddendaError, match="PEFT's format holds LoRA modules; 'other' is a ParallelAdapter"):
        save_peft(other, tmp_path / "new", base)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    base = addenda.attach(pico("llama"))
    return save_peft(base.new("note", addenda.LoRA(rank=2)), tmp_path / "peft", base)


def edit(folder: Path, **options: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | options))


REFUSED = {
    "peft_type": ("PREFIX_TUNING", "peft_type is 'PREFIX_TUNING'; only LORA can be read"),
    "use_dora": (True, "use_dora is not supported: DoRA rescales the base's own weights"),
    "bias": ("all", "bias='all' is not supported: it trains the base's own biases"),
    "lora_bias": (True, "lora_bias is not supported: its products carry a bias"),
    "modules_to_save": (["lm_head"], "modules_to_save is not supported: it replaces whole layers"),
    "rank_pattern": ({"q_proj": 4}, "rank_pattern is not supported: a module has one rank"),
    "alpha_pattern": ({"q_proj": 4}, "alpha_pattern is not supported: a module has one scale"),
    "trainable_token_indices": ([1], "trainable_token_indices is not supported: it changes the base's embeddings"),
    "layer_replication": ([[0, 1]], "layer_replication is not supported: it changes the base's depth"),
    "target_parameters": (["x"], "target_parameters is not supported"),
    "use_qalora": (True, "use_qalora is not supported"),
    "init_lora_weights": ("pissa_niter_4", "init_lora_weights='pissa_niter_4' is not supported: it changes the base's"),
    "use_tomorrow": (3, "option 'use_tomorrow' is not known; what it does cannot be said"),
    "r": ("4", "r is '4'; it is a whole number"),
    "lora_alpha": (None, "lora_alpha is None; it is a number"),
    "use_rslora": ("yes", "use_rslora is 'yes'; it is true or false"),
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_a_lora_module_has_not_is_refused_with_the_reason(option: str, adapter: Path) -> None:
    value, said = REFUSED[option]
    edit(adapter, **{option: value})
    with pytest.raises(FileError, match="(?s)as a PEFT adapter.*" + said):
        addenda.attach(pico("llama")).plug(adapter)


def test_every_option_that_this_peft_writes_is_known(peft: Any) -> None:
    """An option that a new PEFT brings is refused where it is used, until someone has looked at it."""
    from addenda.modulefile import peft_format

    known = peft_format._REFUSED.keys() | peft_format._HARMLESS | {"bias", "init_lora_weights"}
    assert set(peft.LoraConfig().to_dict()) - known == set()


def test_one_error_lists_everything(adapter: Path) -> None:
    edit(adapter, use_dora=True, rank_pattern={"q_proj": 3})
    tensors = load_file(adapter / TENSORS)
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    tensors["base_model.model.lm_head.lora_A.weight"] = tensors.pop(first)
    tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector"] = torch.ones(3)
    save_file(tensors, adapter / TENSORS)
    with pytest.raises(FileError) as caught:
        load_peft(adapter, addenda.attach(pico("llama")))
    for said in (
        "use_dora",
        "rank_pattern",
        "2 tensors: base_model.model.lm_head.lora_A.weight",
        "lora_magnitude_vector",
    ):
        assert said in str(caught.value)


def test_shapes_and_halves_must_fit(adapter: Path) -> None:
    tensors = load_file(adapter / TENSORS)
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    tensors[first] = torch.ones(2, 5)
    del tensors[first.replace("_A", "_B")]
    save_file(tensors, adapter / TENSORS)
    with pytest.raises(
        FileError, match=r"(?s)missing 1 tensor: layers.0.self_attn.q_proj.b.*a is \[2, 5\] and should be"
    ):
        load_peft(adapter, addenda.attach(pico("llama")))
    tensors[first] = torch.full((2, 64), float("nan"))
    save_file(tensors, adapter / TENSORS)
    with pytest.raises(FileError, match="NaN or infinite values in 1 tensor"):
        load_peft(adapter, addenda.attach(pico("llama")))


def test_a_base_of_another_architecture_or_size_is_refused(adapter: Path) -> None:
    with pytest.raises(FileError, match="not the A or B of a linear layer that this base can host: 42 tensors"):
        addenda.attach(pico("gpt2")).plug(adapter)
    with pytest.raises(FileError, match="wrong shape of"):
        addenda.attach(pico("llama", intermediate_size=100)).plug(adapter)


_LINEARS = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)


def test_adapters_on_some_layers_only_are_read_as_such(adapter: Path) -> None:
    tensors = {name: tensor for name, tensor in load_file(adapter / TENSORS).items() if "layers.1" in name}
    save_file(tensors, adapter / TENSORS)
    module = load_peft(adapter, addenda.attach(pico("llama")))
    assert set(module.sites()) == {f"layers.1.{name}" for name in _LINEARS}


def test_a_pickle_is_not_read(adapter: Path) -> None:
    (adapter / TENSORS).rename(adapter / "adapter_model.bin")
    with pytest.raises(FileError, match=r"adapter_model\.bin is a pickle, which can run code, and is not read"):
        addenda.attach(pico("llama")).plug(adapter)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("My Adapter", "my-adapter"),
        ("models--me--law.v2/snapshots/0123456789", "law.v2"),
        ("___", "peft"),
        ("base", "peft"),
        ("x" * 90, "x" * 64),
    ],
)
def test_a_folder_gives_its_name(folder: str, name: str, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
    adapter.rename(tmp_path / folder)
    assert load_peft(tmp_path / folder, addenda.attach(pico("llama"))).name == name
