"""A host: a loaded model with its sites found, its anatomy known and its forwards replaceable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from addenda.bases.architecture import Architecture, architecture_of
from addenda.bases.wrappers import plain_name, unwrapped
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.site import Anatomy, FFNShape, Seam, Site
from addenda.core.units import Units


class Host:
    """The model, seen through its architecture's table. Finds sites; changes nothing.

    Raises:
        AddendaError: what was given is not a causal language model of transformers.
        UnsupportedError: its architecture has no table.
    """

    def __init__(self, model: nn.Module) -> None:
        model = unwrapped(model)
        config: Any = getattr(model, "config", None)
        if config is None or not hasattr(model, "base_model"):
            raise AddendaError(
                "attach needs a transformers causal language model (AutoModelForCausalLM.from_pretrained); "
                f"got {type(model).__name__}"
            )
        #: the model itself, whatever it is wrapped in
        self.model = model
        self.config = config
        self.table: Architecture = architecture_of(config.model_type)
        try:
            self.layers = [unwrapped(layer) for layer in model.get_submodule(self.table.layers).children()]
        except AttributeError:
            raise UnsupportedError(
                f"{type(model).__name__} has no '{self.table.layers}'; "
                "attach takes the causal language model as transformers loads it"
            ) from None
        #: the decoder without its head: every forward, whoever calls, passes through it
        inner = self.table.inner
        self.inner: nn.Module = model.base_model if inner is None else model.get_submodule(inner)  # type: ignore[assignment]
        self.anatomy = self._anatomy()
        self._rows = self.vocabulary()
        self._site_by_key = {site.key: site for site in self.anatomy.sites}

    def resized(self) -> bool:
        """Whether the embeddings were resized since this was asked last; the anatomy's number of parameters follows."""
        weight = self._embedding()
        if weight.dim() != 2 or len(weight) == self._rows:  # flattened: FSDP is at work on it
            return False
        self._rows = len(weight)
        self.anatomy = replace(self.anatomy, parameters=self._parameters())
        return True

    def version(self) -> int:
        """A number that changes whenever the base's weights are written to, in place or by `load_state_dict`."""
        return sum(p._version for p in self.model.parameters() if not p.is_inference())

    def _parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def site(self, key: str) -> Site:
        """The site with this key."""
        return self._site_by_key[key]

    def submodule(self, path: str) -> nn.Module:
        """The submodule at a dotted path."""
        return unwrapped(self.model.get_submodule(path))

    def attention_of(self, layer: int) -> nn.Module:
        """The attention module of a layer."""
        return unwrapped(self.layers[layer].get_submodule(self.table.attention))

    def units(self, layer: int) -> Units:
        """The hidden units of a layer's FFN, as they are in the base: views of its weights where that is possible."""
        named, block = self.table.units, self.layers[layer]
        assert named is not None
        down = _weight(block.get_submodule(named.down)).T
        if named.gate == named.up:
            gate, up = _weight(block.get_submodule(named.up)).chunk(2)
        else:
            up = _weight(block.get_submodule(named.up))
            gate = None if named.gate is None else _weight(block.get_submodule(named.gate))
        return Units(up, down, gate)

    def input_norm(self, layer: int) -> nn.Module | None:
        """The norm before a layer's attention; None where there is none."""
        path = self.table.input_norm
        return None if path is None else self.layers[layer].get_submodule(path)

    def ffn_norm(self, layer: int) -> nn.Module | None:
        """The norm before a layer's FFN, whose input is the residual stream; None where that enters the FFN itself."""
        path = self.table.ffn_norm
        if not getattr(self.config, "do_layer_norm_before", True):  # small OPTs have it behind the FFN
            path = None
        return None if path is None else self.layers[layer].get_submodule(path)

    def ffn_post(self, layer: int) -> nn.Module | None:
        """The norm of what a layer's FFN adds; None where there is none."""
        path = self.table.ffn_post
        return None if path is None else self.layers[layer].get_submodule(path)

    def refusal(self, seam: Seam) -> str | None:
        """Why this base cannot host a seam, or None."""
        if seam in self.table.refuses:
            return self.table.refuses[seam]
        if seam is Seam.HEAD and not self.anatomy.at(seam):
            return "it has no output embedding that logits come from"
        if seam is not Seam.ATTENTION:
            return None
        implementation = self.config._attn_implementation
        if implementation not in ("sdpa", "eager"):
            return (
                f"attention implementation '{implementation}' cannot take extra keys and values; load the model with "
                "attn_implementation='sdpa' or 'eager'"
            )
        if implementation == "eager" and getattr(self.config, "reorder_and_upcast_attn", False):
            return (
                "with reorder_and_upcast_attn=True eager attention passes by the attention function, where extra keys and "
                "values enter; load the model with attn_implementation='sdpa', or with reorder_and_upcast_attn=False"
            )
        return None

    def device_at(self, path: str) -> torch.device:
        """Where a submodule computes: the device that accelerate moves its inputs to, else that of its weights."""
        module = self.submodule(path)
        hook = getattr(module, "_hf_hook", None)
        device = getattr(hook, "execution_device", None)
        if device is not None:
            return torch.device(device if not isinstance(device, int) else f"cuda:{device}")
        tensor = next(module.parameters(), None)
        return torch.device("cpu") if tensor is None or tensor.device.type == "meta" else tensor.device

    def dtype(self) -> torch.dtype:
        """The dtype of the residual stream."""
        return self._embedding().dtype

    def device(self) -> torch.device:
        """Where token ids go in."""
        return self._embedding().device

    def vocabulary(self) -> int:
        """How many token ids the model has embeddings for."""
        return self._embedding().shape[0]

    def _embedding(self) -> Tensor:
        return self.model.get_input_embeddings().weight  # type: ignore[operator, union-attr, return-value]

    def _anatomy(self) -> Anatomy:
        config = self.config
        width = config.hidden_size
        heads = config.num_attention_heads
        return Anatomy(
            model_type=config.model_type,
            layers=len(self.layers),
            width=width,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or width // heads,
            parameters=self._parameters(),
            sites=tuple(self._sites(width)),
            ffn=self._ffn(),
        )

    def _ffn(self) -> FFNShape | None:
        named = self.table.units
        if named is None:
            return None
        sizes = _linear_sizes(self.layers[0].get_submodule(named.down))
        return (
            None
            if sizes is None
            else FFNShape(sizes[0], named.gate is not None, getattr(self.config, named.activation))
        )

    def _sites(self, width: int) -> list[Site]:
        sites: list[Site] = []
        entry, out = self.table.ffn if isinstance(self.table.ffn, tuple) else (self.table.ffn, self.table.ffn)
        for number, layer in enumerate(self.layers):
            here, key = f"{self.table.layers}.{number}", f"layers.{number}"
            path = f"{here}.{self.table.attention}"
            sites.append(Site(f"{key}.attention", Seam.ATTENTION, number, path, path, width, width))
            if Seam.FFN not in self.table.refuses:
                sites.append(Site(f"{key}.ffn", Seam.FFN, number, f"{here}.{out}", f"{here}.{entry}", width, width))
            for name, linear in layer.named_modules():
                sizes = _linear_sizes(linear)
                if sizes is not None:
                    name = plain_name(name)
                    path = f"{here}.{name}"
                    sites.append(Site(f"{key}.{name}", Seam.LINEAR, number, path, path, *sizes))
        if (head := self._head()) is not None:
            sites.append(Site("head", Seam.HEAD, len(self.layers), head, head, width, width))
        return sites

    def _head(self) -> str | None:
        """The path of the output embedding."""
        output: Any = self.model.get_output_embeddings()  # type: ignore[operator]
        return next((plain_name(name) for name, module in self.model.named_modules() if module is output), None)


def check_its_own(model: nn.Module) -> None:
    """Refuse a model whose layers PEFT has rewritten, or whose weights are nowhere.

    Raises:
        AddendaError: says which, and what to do.
    """
    for name, module in model.named_modules():
        if type(module).__module__.partition(".")[0] == "peft":
            raise AddendaError(
                f"PEFT has rewritten this model ({type(module).__name__} at '{name or 'the top'}'): merge_and_unload() first "
                "(or unload() to go without its adapter), and attach what that returns; base.plug also reads PEFT's "
                "LoRA folders"
            )
        hook = getattr(module, "_hf_hook", None)
        kept = [
            inner for inner in (hook, *getattr(hook, "hooks", ())) if getattr(inner, "weights_map", None) is not None
        ]
        nowhere = next((leaf for leaf, p in module.named_parameters(recurse=False) if p.is_meta), None)
        if nowhere is not None and not kept:
            raise AddendaError(
                f"the weights of this model are nowhere: '{f'{name}.{nowhere}'.lstrip('.')}' is on the meta device, which "
                "holds shapes and no numbers; load it with from_pretrained, or with a device_map that offloads"
            )


def _linear_sizes(module: nn.Module) -> tuple[int, int] | None:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):  # GPT-2 keeps its weights as [in, out]
        return module.weight.shape[0], module.weight.shape[1]
    return None


def _weight(module: nn.Module) -> Tensor:
    """The weight [D_out, D_in] of a linear layer, whole, where its inputs are computed."""
    with align_module_device(module), torch.no_grad():
        weight: Any = module.weight
        if type(weight.data) is not Tensor:  # torchao's weights are of classes of their own
            weight = weight.dequantize()
        if not weight.is_floating_point():
            raise UnsupportedError(
                f"the weights of its FFN are quantised to {weight.dtype} and cannot be read as numbers"
            )
        weight = weight.detach()
        return weight.T if isinstance(module, Conv1D) else weight
