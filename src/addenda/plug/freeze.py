"""Freezing: no parameter of a model wants a gradient while anything needs it so; then every flag is what it was."""

from __future__ import annotations

from torch import nn

from addenda.core.errors import TrainingError


class Freeze:
    """Freezes a model's parameters, counted: flags are noted at the first, put back at the last, whichever ends first.

    Raises:
        TrainingError: on entering, where weights were made inside torch.inference_mode: nothing is trained through them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._count = 0
        self._flags: dict[str, bool] = {}

    def __enter__(self) -> None:
        for name, tensor in (*self._model.named_parameters(), *self._model.named_buffers()):
            if tensor.is_inference():
                raise TrainingError(
                    f"'{name}' was made inside torch.inference_mode, and nothing can be trained through such weights: load the "
                    "model outside of it"
                )
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
