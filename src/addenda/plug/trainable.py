"""A module seen as a model to train: for transformers' Trainer, TRL, accelerate, DDP and plain loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from addenda.core.module import KnowledgeModule
from addenda.plug.freeze import Freeze
from addenda.plug.frozen import Frozen

_ABSENT = object()
#: what trainers set on submodules, and on configurations
_SWITCHES = (
    *("training", "gradient_checkpointing", "_gradient_checkpointing_func"),
    *("_require_grads_hook", "_require_grads_hooks"),
)
_SETTINGS = ("use_cache", "pad_token_id", "bos_token_id", "eos_token_id")


class _Switches:
    """Modes, gradient checkpointing, what a configuration says of caches and special tokens, hooks on the embeddings.

    Noted when this is made; `put_back` undoes what trainers have changed since.
    """

    def __init__(self, model: Any) -> None:
        self._hooks = [(part, set(part._forward_hooks)) for part in model.modules()]
        self._noted: list[tuple[Any, dict[str, Any]]] = []
        self._known = set[int]()
        for part in model.modules():
            self.note(part)
        for settings in (model.config, getattr(model, "generation_config", None)):
            if settings is not None:
                self._noted.append((settings, {name: getattr(settings, name, _ABSENT) for name in _SETTINGS}))

    def note(self, part: nn.Module) -> None:
        """Note one more submodule, or an adapter."""
        if id(part) not in self._known:
            self._known.add(id(part))
            self._noted.append((part, {name: part.__dict__.get(name, _ABSENT) for name in _SWITCHES}))

    def put_back(self) -> None:
        """Undo what was changed."""
        for owner, values in self._noted:
            for name, value in values.items():
                if value is _ABSENT:
                    owner.__dict__.pop(name, None)
                elif getattr(owner, name, _ABSENT) is not value:
                    setattr(owner, name, value)
        for part, known in self._hooks:  # not through the model, which forgets all hooks but the last it made
            for key in [key for key in part._forward_hooks if key not in known]:
                if getattr(part._forward_hooks[key], "__name__", "") == "make_inputs_require_grads":
                    del part._forward_hooks[key]


class OpenTrainables:
    """The trainables of a base that are open: what each changes is put back when none needs it any more."""

    def __init__(self, base: Frozen) -> None:
        self._base = base
        self._open: list[Trainable] = []
        self._switches: _Switches | None = None
        self._frozen: dict[str, Freeze] = {}

    def begin(self, trainable: Trainable) -> None:
        """Note modes and settings before the first, and freeze the modules that are only alongside."""
        if self._switches is None:
            self._switches = _Switches(self._base.model)
        for part in trainable.module.modules():
            self._switches.note(part)
        self._open.append(trainable)
        self._freeze()

    def end(self, trainable: Trainable) -> None:
        """Let one go, once; the last puts modes and settings back."""
        if trainable not in self._open:
            return
        self._open.remove(trainable)
        self._freeze()
        if not self._open and self._switches is not None:
            self._switches.put_back()
            self._switches = None

    def naming(self, name: str) -> list[Trainable]:
        """Those in which a module is on."""
        return [trainable for trainable in self._open if name in trainable.weights]

    def _freeze(self) -> None:
        """Let the modules that are on and that nobody trains want no gradient, and all others what they wanted."""
        trained = {trainable.module.name for trainable in self._open}
        alongside = {name for trainable in self._open for name in trainable.weights} - trained
        for name in self._frozen.keys() - alongside:
            self._frozen.pop(name).__exit__()
        for name in alongside - self._frozen.keys():
            self._frozen[name] = Freeze(self._base.modules[name])
            self._frozen[name].__enter__()


class Trainable(nn.Module):
    """The base's forward with one module on, whose parameters and `state_dict` are the module's alone.

    While this lives the base is frozen, and so are modules alongside. `close`, `base.unplug`, `base.detach`, or leaving
    it as a context manager puts back what trainers change: flags, modes, gradient checkpointing, `config.use_cache` and
    the ids of special tokens, hooks on the embeddings. Moved to a device, it takes the base along. Attributes that it does
    not have itself are the model's (`config`, `generate`, `device` ...).
    """

    def __init__(self, base: Frozen, name: str, alongside: Mapping[str, float], others: OpenTrainables) -> None:
        super().__init__()
        # hidden from nn.Module: of what is trained and saved, names are the module's own, and the base is no part
        object.__setattr__(self, "module", base.modules[name])
        object.__setattr__(self, "base", base)
        for part, child in self.module.named_children():
            self.add_module(part, child)
        object.__setattr__(self, "weights", {name: 1.0, **alongside})
        self._opened = ExitStack()
        self._opened.enter_context(base.frozen())
        others.begin(self)
        self._opened.callback(others.end, self)

    base: Frozen
    module: KnowledgeModule
    weights: dict[str, float]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The model's forward, with the module and those alongside on.

        The arguments are named because trainers read this signature: which columns to keep, what is a label.
        """
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "inputs_embeds": inputs_embeds,
            "labels": labels,
        }
        with self.base.using(self.weights):
            return self.base.model(**{name: value for name, value in given.items() if value is not None}, **kwargs)

    def train(self, mode: bool = True) -> Trainable:
        """Set training mode here and in the base (gradient checkpointing needs it there)."""
        super().train(mode)
        self.module.train(mode)
        self.base.model.train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Trainable:
        """Take the base along to a new device (`to`, `cuda` ..., also of a wrapper); dtypes are the module's alone.

        Where accelerate says which layer runs where, the base stays, and the module with its sites.
        """
        base = self.base.model
        if any(hasattr(part, "_hf_hook") for part in base.modules()):
            super()._apply(fn, recurse)
            self.base._machinery.place(self.module)
            return self
        there = fn(torch.empty(0, dtype=torch.uint8, device=base.device)).device
        if there != base.device:
            base.to(there)
        super()._apply(fn, recurse)
        return self

    def children(self) -> Iterator[nn.Module]:
        """The module's adapters and its gate."""
        return (child for child in self._modules.values() if child is not None)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """The children, of which those that also hold vectors show their matrices alone.

        Trainers walk these to find what decays, by name: they would let gates and scales decay, which ours do not. (By
        names they leave out biases and norms of base models alone.)
        """
        for name, child in super().named_children():
            yield name, _matrices_of(child)

    def generate(self, *args: Any, **kwargs: Any) -> Tensor:
        """The model's generate, with the module and those alongside on."""
        with self.base.using(self.weights):
            return self.base.model.generate(*args, **kwargs)  # type: ignore[no-any-return]

    def save_pretrained(self, folder: Any, **_: Any) -> None:
        """Write the module's folder."""
        self.module.save(folder)

    def close(self) -> None:
        """Put flags, modes and settings back; the module stays plugged."""
        self._opened.close()

    def __enter__(self) -> Trainable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("base", "module", "weights", *_OF_THE_BASE) or name.startswith("__"):
                raise
            value = getattr(self.base.model, name)
            inner = (self.base.host.inner, self.base.model.base_model)
            return _Selecting(self, value) if any(value is module for module in inner) else value


# that the base is quantised keeps nobody from training a module beside it, and Trainer asks
_OF_THE_BASE = ("is_quantized", "hf_quantizer", "quantization_method")


def _matrices_of(part: nn.Module) -> nn.Module:
    """The part itself, or a view of it without the parameters that have fewer than two dimensions."""
    if all(parameter.dim() >= 2 for parameter in part.parameters()):
        return part
    view = nn.Module()
    for name, parameter in part.named_parameters(recurse=False):
        if parameter.dim() >= 2:
            view._parameters[name] = parameter
    for name, child in part.named_children():
        view._modules[name] = _matrices_of(child)
    return view


class _Selecting:
    """The decoder as a trainable gives it away: called, it too has the module on (TRL computes its own loss so)."""

    def __init__(self, trainable: Trainable, decoder: nn.Module) -> None:
        self._trainable, self._decoder = trainable, decoder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._trainable.base.using(self._trainable.weights):
            return self._decoder(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)
