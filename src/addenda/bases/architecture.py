"""One short table per architecture: where its layers, attention, FFN and input norm stand."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field

from addenda.bases import architectures as tables
from addenda.core.errors import UnsupportedError, known
from addenda.core.site import Seam


@dataclass(frozen=True)
class FFNPaths:
    """The linear layers that hold an FFN's hidden units, by path inside the layer, and where the config speaks of them.

    `gate`, activated, multiplies `up`; it is None in a plain MLP, and the path of `up` itself where one product gives
    both, gate first. `down` has a column for each unit. `activation` and `size` are fields of the config.
    """

    up: str = "mlp.up_proj"
    gate: str | None = "mlp.gate_proj"
    down: str = "mlp.down_proj"
    activation: str = "hidden_act"
    size: str = "intermediate_size"


@dataclass(frozen=True)
class Architecture:
    """Paths inside a causal language model; those of a layer's parts are relative to the layer.

    `ffn` is the submodule that is the FFN, or a pair (entry, exit) where the layer has no module of its own for it.
    `units` are the linear layers inside the FFN, None where it is no single block of units.
    `input_norm` is the norm before attention, None where attention reads the residual stream itself.
    `ffn_norm` is the norm before the FFN, None where the FFN reads the residual stream itself; `ffn_post` the one after it.
    `inner` is the decoder that every forward passes through, None for transformers' `base_model`.
    `rotary` is True where positions enter by rotation alone, so that text can be read at negative positions.
    `refuses` gives a reason for each seam that cannot be hosted.
    """

    layers: str = "model.layers"
    attention: str = "self_attn"
    input_norm: str | None = "input_layernorm"
    ffn: str | tuple[str, str] = "mlp"
    units: FFNPaths | None = FFNPaths()
    ffn_norm: str | None = "post_attention_layernorm"
    ffn_post: str | None = None
    inner: str | None = None
    rotary: bool = True
    refuses: dict[Seam, str] = field(default_factory=dict)


def architecture_of(model_type: str) -> Architecture:
    """The table for transformers' `model_type`, from the file of that name in `architectures/`.

    Raises:
        UnsupportedError: there is no such file; the message lists the architectures there are.
    """
    name = model_type.replace("-", "_")
    if name in architectures():
        return importlib.import_module(f"{tables.__name__}.{name}").TABLE
    raise UnsupportedError(
        f"architecture '{model_type}' has no table yet; supported are {known(name, architectures())}. "
        "A table is one short file: see CONTRIBUTING, 'Add an architecture'"
    )


def architectures() -> tuple[str, ...]:
    """The model types with a table: the files of `architectures/`."""
    return tuple(info.name for info in pkgutil.iter_modules(tables.__path__))
