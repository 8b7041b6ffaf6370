"""Fused use: modules folded into copies of the base's matrices that they touch, and the forwards that use these copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from addenda.bases.folding import Folding, plain
from addenda.bases.hooks import Forward, Replaced
from addenda.bases.host import Host
from addenda.core.call import RUNTIME
from addenda.core.errors import SelectionError, UnsupportedError
from addenda.core.modes import own_modes
from addenda.core.module import KnowledgeModule


class Fusion:
    """Copies of a base's matrices with modules folded in; the base's own tensors are not touched.

    `plugged` is the base's live view of its modules. Copies are made anew when a module or a touched matrix has changed.

    Raises:
        UnsupportedError: a module does not fold, or the base is quantised or not in memory.
    """

    def __init__(self, host: Host, plugged: Mapping[str, KnowledgeModule], weights: Mapping[str, float]) -> None:
        self.host, self.plugged, self.weights = host, plugged, dict(weights)
        self.modules = {name: plugged[name] for name in weights}
        for module in self.modules.values():
            module.check_adapts("fuse")
        #: weight and bias by the path of a linear layer; replaced as a whole, for another thread may be reading it
        self.matrices: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._touched: list[nn.Module] = []
        self._version: Any = None
        self._build()

    def refresh(self) -> None:
        """Follow what has changed since; called before each forward.

        Raises:
            SelectionError: a module was unplugged.
        """
        for name, module in self.modules.items():
            if self.plugged.get(name) is not module:
                raise SelectionError(f"module '{name}' is fused, and was unplugged in the meantime")
        if self._stamp() != self._version:
            self._build()

    def _stamp(self) -> Any:
        own = [
            (p._version, p.data_ptr(), p.dtype, p.device)
            for module in self._touched
            for p in module._parameters.values()
            if p is not None
        ]
        return [module.version() for module in self.modules.values()], own

    def _build(self) -> None:
        with own_modes(), torch.no_grad():
            self._make()

    def _make(self) -> None:
        folding = Folding(self.host, multiple=None)
        for name, module in self.modules.items():
            try:
                folding.add(module, self.weights[name])
            except UnsupportedError as error:
                raise UnsupportedError(
                    f"'{name}' ({type(module.kind).__name__}) cannot be fused: {error}; select it with using"
                ) from None
        changes = folding.changes()
        paths = dict.fromkeys(name.rpartition(".")[0] for name in changes)
        made: dict[str, tuple[Tensor, Tensor | None]] = {}
        for path in paths:
            parts = self.host.submodule(path).named_parameters(recurse=False)
            own = {name: plain(f"{path}.{name}", tensor) for name, tensor in parts}
            for name in own:
                for change in changes.get(f"{path}.{name}", ()):
                    own[name] = change(own[name])
            made[path] = own["weight"], own.get("bias")
        self._touched = [self.host.submodule(path) for path in paths]
        self._version = self._stamp()
        self.matrices = made


def hook_fused(module: nn.Module, path: str, current: Callable[[], Fusion | None]) -> Replaced:
    """Let a linear layer compute with the copy of whatever fusion is at work, if that has one of it."""
    turned = isinstance(module, Conv1D)  # keeps [in, out]

    def make(original: Forward, me: Replaced) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            fusion = current() if me.live and not RUNTIME.bare else None
            pair = None if fusion is None else fusion.matrices.get(path)
            if pair is None:
                return original(*args, **kwargs)
            weight, bias = pair
            x = args[0] if args else next(iter(kwargs.values()))
            return F.linear(x, weight.T if turned else weight, bias)

        return forward

    return Replaced(module, make)
