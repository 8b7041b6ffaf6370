"""Modules in PEFT's folder format, of kinds that know their form there: ours loaded by PEFT, PEFT's loaded by us."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from addenda.core.card import Card
from addenda.core.errors import AddendaError, FileError
from addenda.core.files import read_json, refuse, replace_folder, several, shown, write_text
from addenda.core.module import NAME, RESERVED, KnowledgeModule
from addenda.core.registry import kinds
from addenda.core.site import Anatomy, Seam, Site
from addenda.modulefile.building import build_module
from addenda.modulefile.storage import Place
from addenda.modulefile.tensorfile import finite, read_header, read_tensors, write_tensors

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
#: the one type of PEFT's adapters that is read
TYPE = "LORA"
_KEY = re.compile(r"base_model\.model\.(?P<path>.+)\.(?P<tensor>\w+)\.weight")

# What PEFT has and a LoRA module has not, with the reason.
_REFUSED = {
    "alora_invocation_tokens": "it is switched on by tokens of the text",
    "alpha_pattern": "a module has one scale for all its layers",
    "arrow_config": "it routes between several adapters",
    "kasa_config": "it changes the base's weights",
    "layer_replication": "it changes the base's depth",
    "lora_bias": "its products carry a bias",
    "megatron_config": "it adapts Megatron's parallel layers",
    "modules_to_save": "it replaces whole layers of the base",
    "monteclora_config": "it draws its weights at random",
    "rank_pattern": "a module has one rank for all its layers",
    "target_parameters": "it adapts bare parameters, not linear layers",
    "trainable_token_indices": "it changes the base's embeddings",
    "use_bdlora": "its matrices are block-diagonal",
    "use_dora": "DoRA rescales the base's own weights",
    "use_qalora": "it pools its inputs by groups",
    "velora_config": "its layers compute otherwise",
}
# What changes nothing about the product that is left once training has ended.
_HARMLESS = frozenset(
    """auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config exclude_modules fan_in_fan_out
    inference_mode layers_pattern layers_to_transform loftq_config lora_alpha lora_dropout lora_ga_config megatron_core
    peft_type peft_version qalora_group_size r revision runtime_config target_modules task_type use_rslora""".split()
)
# Ways to start that leave the base's weights as they are; others (PiSSA, OLoRA, CorDA, LoftQ) subtract from them.
_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


def is_peft_folder(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter rather than a module."""
    return (folder / CONFIG).is_file() and not (folder / "card.json").exists()


# --- writing ---------------------------------------------------------------------------------------------------------


def save_peft(module: KnowledgeModule, folder: str | Path, base: Place) -> Path:
    """Write a module of low-rank products as a folder that PEFT loads: `adapter_config.json` and `adapter_model.safetensors`.

    Replaces such a folder, accepts an empty one; whole or not at all. Weights keep their dtype.

    Raises:
        AddendaError: the module is of another kind.
        FileError: the folder holds something else, or cannot be written.
    """
    names = module.kind.peft_names
    if not names:
        raise AddendaError(f"PEFT's format holds LoRA modules; '{module.name}' is a {type(module.kind).__name__}")
    if module.gate is not None:
        raise AddendaError(f"PEFT's format holds no gate, and '{module.name}' stands behind one")
    by_key = {site.key: site for site in base.anatomy.sites}
    sites = [by_key[key] for key in module.sites()]
    submodules = base.submodules()
    own, tensors = module.tensors(), {}
    for site in sites:
        for name, theirs in names.items():
            tensors[f"base_model.model.{site.path}.{theirs}.weight"] = own[f"{site.key}.{name}"]
    broken = [name for name, tensor in tensors.items() if not finite(tensor)]
    if broken:
        raise FileError(f"module '{module.name}' is not written: NaN or infinite values in {several(broken)}")
    config = module.kind.to_peft() | {
        "base_model_name_or_path": module.card.base.name,
        "bias": "none",
        # GPT-2 keeps its weights as [in, out]; PEFT wants to be told
        "fan_in_fan_out": any(type(submodules[site.path]).__name__ == "Conv1D" for site in sites),
        "inference_mode": True,
        "lora_dropout": 0.0,
        "target_modules": _target_modules(sites, submodules),
        "task_type": "CAUSAL_LM",
    }

    def fill(new: Path) -> None:
        write_tensors(new / TENSORS, tensors, {"format": "pt"})
        write_text(new / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")

    size = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    replace_folder(Path(folder), (CONFIG, TENSORS, "README.md"), fill, size + (1 << 20))
    return Path(folder)


def _target_modules(sites: list[Site], submodules: Mapping[str, nn.Module]) -> list[str]:
    """Last names of the adapted layers; whole paths where a last name would catch other layers too."""
    paths = {site.path for site in sites}
    names = {_last(path) for path in paths}
    caught = {path for path in submodules if _last(path) in names}
    return sorted(names if caught == paths else paths)


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]


# --- reading ---------------------------------------------------------------------------------------------------------


def load_peft(folder: str | Path, base: Place, name: str | None = None) -> KnowledgeModule:
    """The LoRA module in a PEFT folder, built for `base`, on the CPU and in the dtype of the file.

    PEFT records no fingerprint: names and shapes are checked, the base's values cannot be.

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        base: the base it is to be plugged into.
        name: what it is called; default: the folder's name, as far as it can be one.

    Raises:
        FileError: lists everything wrong, and everything that PEFT can do and a LoRA module cannot.
    """
    folder = Path(folder)
    problems: list[str] = []
    config = read_json(folder, CONFIG, problems)
    if config is not None:
        _check_config(config, problems)
    if not (folder / TENSORS).exists() and (folder / "adapter_model.bin").exists():
        problems.append("adapter_model.bin is a pickle, which can run code, and is not read; save it as safetensors")
    header = read_header(folder, TENSORS, problems)
    stored = read_tensors(folder, TENSORS, header.specs, problems) if header is not None else {}
    kind = next(kind for kind in kinds().values() if kind.reads_peft == TYPE)
    names = {theirs: ours for ours, theirs in kind.peft_names.items()}
    tensors, sites = _by_site(stored, names, base.anatomy, problems)
    targets = _targets(sites, base.anatomy)
    if problems or config is None:
        refuse(f"cannot load '{folder}' as a PEFT adapter", problems)
    options = kind.from_peft(config) | {"targets": targets}
    called = name or _name_for(folder)
    card = Card(
        name=called, kind=kind.called(), config=options, base=base.record(), description="Read from a PEFT adapter."
    )
    return build_module(card, tensors, base.anatomy, called)


def _check_config(config: dict[str, Any], problems: list[str]) -> None:
    """Note what is not a LoRA, what a LoRA module cannot do, and what is not known."""
    if config.get("peft_type") != TYPE:
        problems.append(f"{CONFIG}: peft_type is {shown(config.get('peft_type'))}; only {TYPE} can be read")
        return
    for option, reason in _REFUSED.items():
        if config.get(option):
            problems.append(f"{CONFIG}: {option} is not supported: {reason}")
    if config.get("bias", "none") != "none":
        problems.append(f"{CONFIG}: bias={shown(config['bias'])} is not supported: it trains the base's own biases")
    start = config.get("init_lora_weights", True)
    if not any(start is known or start == known for known in _STARTS):
        problems.append(f"{CONFIG}: init_lora_weights={shown(start)} is not supported: it changes the base's weights")
    known = _REFUSED.keys() | _HARMLESS | {"bias", "init_lora_weights"}
    problems.extend(
        f"{CONFIG}: option {shown(option)} is not known; what it does cannot be said"
        for option, value in config.items()
        if option not in known and value not in (None, False, [], {})
    )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        problems.append(f"{CONFIG}: r is {shown(rank)}; it is a whole number from 1")
    if type(alpha) not in (int, float):
        problems.append(f"{CONFIG}: lora_alpha is {shown(alpha)}; it is a number")
    if type(config.get("use_rslora", False)) is not bool:
        problems.append(f"{CONFIG}: use_rslora is {shown(config['use_rslora'])}; it is true or false")


def _by_site(
    stored: dict[str, Tensor], names: Mapping[str, str], anatomy: Anatomy, problems: list[str]
) -> tuple[dict[str, Tensor], list[Site]]:
    """PEFT's tensors under the names that a module gives them, and the sites they stand at."""
    by_path = {site.path: site for site in anatomy.at(Seam.LINEAR)}
    tensors: dict[str, Tensor] = {}
    sites: dict[str, Site] = {}
    strange: list[str] = []
    for key, tensor in stored.items():
        match = _KEY.fullmatch(key)
        site = by_path.get(match["path"]) if match else None
        if match is None or site is None or match["tensor"] not in names:
            strange.append(key)
            continue
        sites[site.key] = site
        tensors[f"{site.key}.{names[match['tensor']]}"] = tensor
    if strange:
        problems.append(f"not the A or B of a linear layer that this base can host: {several(strange)}")
    if not stored and not problems:
        problems.append(f"{TENSORS} holds no tensor")
    return tensors, list(sites.values())


def _targets(sites: list[Site], anatomy: Anatomy) -> list[str] | None:
    """Names of the adapted layers; whole keys where not every layer of a name is adapted; None for all layers."""
    keys = {site.key for site in sites}
    every = {site.key for site in anatomy.at(Seam.LINEAR)}
    if keys == every:
        return None
    names = {_last(key) for key in keys}
    return sorted(names if keys == {key for key in every if _last(key) in names} else keys)


def _name_for(folder: Path) -> str:
    """A module's name from a folder's, or from the repository's where it is a snapshot in the hub's cache."""
    folder = folder.resolve()
    own = folder.parents[1].name.split("--")[-1] if folder.parent.name == "snapshots" else folder.name
    name = re.sub(r"[^a-z0-9._-]+", "-", own.lower()).lstrip("._-")[:64]
    return name if NAME.fullmatch(name) and name not in RESERVED else "peft"
