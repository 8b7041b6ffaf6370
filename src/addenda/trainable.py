"""A module seen as a model to train: for transformers' Trainer, TRL, accelerate, DDP and plain loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from addenda.plugging import Base


class Freeze:
    """Freezes a model's parameters, counted: flags are noted at the first, put back at the last, whichever ends first."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._count = 0
        self._flags: dict[str, bool] = {}

    def __enter__(self) -> None:
        if not self._count:
            self._flags = {name: parameter.requires_grad for name, parameter in self._model.named_parameters()}
        self._count += 1
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            for name, parameter in self._model.named_parameters():  # by name: a move may have made new parameters
                parameter.requires_grad_(self._flags.get(name, parameter.requires_grad))


class OpenTrainables:
    """The trainables of a base that are open: what each changes is put back when none needs it any more."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._open: list[Trainable] = []
        self._modes: dict[nn.Module, bool] = {}
        self._frozen: dict[str, Freeze] = {}

    def begin(self, trainable: Trainable) -> None:
        """Note the modes before the first, and freeze the modules that are only alongside."""
        for module in (*self._base.model.modules(), *trainable.module.modules()):
            self._modes.setdefault(module, module.training)
        self._open.append(trainable)
        self._freeze()

    def end(self, trainable: Trainable) -> None:
        """Let one go, once; the last puts the modes back."""
        if trainable not in self._open:
            return
        self._open.remove(trainable)
        self._freeze()
        if not self._open:
            for module, mode in self._modes.items():
                module.training = mode
            self._modes.clear()

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

    While this lives the base is frozen, and so are modules alongside; `close`, `base.unplug`, `base.detach`, or leaving
    it as a context manager puts flags and modes back. Moved to a device, it takes the base along. Attributes that it
    does not have itself are the model's (`config`, `generate`, `device` ...).
    """

    def __init__(self, base: Base, name: str, alongside: Mapping[str, float]) -> None:
        super().__init__()
        self.module = base.modules[name]
        # hidden from nn.Module: the base is no part of what is trained and saved
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "weights", {name: 1.0, **alongside})
        self._opened = ExitStack()
        self._opened.enter_context(base.frozen())
        base._trainables.begin(self)
        self._opened.callback(base._trainables.end, self)

    base: Base
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

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The module's tensors alone."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load the module's tensors."""
        return self.module.load_state_dict(state_dict, *args, **kwargs)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The module's parameters, named as in its `state_dict`."""
        return self.module.named_parameters(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Tensor:
        """The model's generate, with the module and those alongside on."""
        with self.base.using(self.weights):
            return self.base.model.generate(*args, **kwargs)  # type: ignore[no-any-return]

    def save_pretrained(self, folder: Any, **_: Any) -> None:
        """Write the module's folder."""
        self.module.save(folder)

    def close(self) -> None:
        """Put flags and modes back; the module stays plugged."""
        self._opened.close()

    def __enter__(self) -> Trainable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("base", "weights", *_OF_THE_BASE) or name.startswith("__"):
                raise
            value = getattr(self.base.model, name)
            inner = (self.base.host.inner, self.base.model.base_model)
            return _Selecting(self, value) if any(value is module for module in inner) else value


# that the base is quantised keeps nobody from training a module beside it, and Trainer asks
_OF_THE_BASE = ("is_quantized", "hf_quantizer", "quantization_method")


class _Selecting:
    """The decoder as a trainable gives it away: called, it too has the module on (TRL computes its own loss so)."""

    def __init__(self, trainable: Trainable, decoder: nn.Module) -> None:
        self._trainable, self._decoder = trainable, decoder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._trainable.base.using(self._trainable.weights):
            return self._decoder(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)
