"""Folding: how a base's own tensors and configuration change when they take up what modules add."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from addenda.bases.gguf_file import plain_config
from addenda.bases.host import Host
from addenda.bases.wrappers import plain_name
from addenda.core.contracts import Adapter
from addenda.core.errors import UnsupportedError
from addenda.core.module import KnowledgeModule
from addenda.core.site import Anatomy, FFNShape, Seam
from addenda.core.units import Units

Change = Callable[[Tensor], Tensor]
#: makes a matrix [D_out, D_in] when its turn has come
Matrix = Callable[[], Tensor]


@dataclass
class Folding:
    """What is folded into a host: units by layer, matrices [D_out, D_in] by the path of their linear layer.

    Units of all layers are padded with zeros to one number, such that the FFN's width is a multiple of `multiple`: engines
    know one width for all layers, and kernels like round ones. Without `multiple` each layer is as wide as it needs to be.
    """

    host: Host
    multiple: int | None = 64
    #: of what is written; None: the base's own. Sums are rounded once, to it
    dtype: torch.dtype | None = None
    units: dict[int, list[Units]] = field(default_factory=dict[int, list[Units]])
    #: whose units they are, by layer: (name, first, last + 1) among the units of the folded FFN
    spans: dict[int, list[tuple[str, int, int]]] = field(default_factory=dict[int, list[tuple[str, int, int]]])
    matrices: dict[str, list[Matrix]] = field(default_factory=dict[str, list[Matrix]])

    @torch.no_grad()
    def add(
        self,
        module: KnowledgeModule,
        weight: float,
        refitted: Mapping[str, Units] | None = None,
        *,
        ungated: bool = False,
    ) -> None:
        """Fold all of a module in; `refitted` units, by the keys of their sites and with the weight in their values, for its own.

        `ungated`: without the gate that the module stands behind, as if that were always open.

        Raises:
            UnsupportedError: no plain weight computes what it adds, or not in this base; says why.
        """
        if refitted is None and module.gate is not None and not ungated:
            raise UnsupportedError("it has a gate that reads the document so far, which plain weights cannot do")
        for key in module.sites():
            site, adapter = self.host.site(key), module.adapter(key)
            if site.seam is Seam.LINEAR:  # when its turn has come: all matrices together would be as large as the base
                self.add_matrix(site.path, partial(_matrix, adapter, weight))
                continue
            bare = ungated and getattr(adapter, "threshold", None) is None  # no gate of its own is left
            units = refitted[key] if refitted is not None else adapter.units() if bare else adapter.fold()
            assert isinstance(units, Units)
            if refitted is None:
                units = replace(units, values=units.values * weight)
            self.add_units(module.name, site.layer, units)

    def add_units(self, name: str, layer: int, units: Units) -> None:
        """Put the hidden units of a module beside those of a layer.

        Raises:
            UnsupportedError: the layer's units are gated and these are not or the reverse, or use another activation.
        """
        shape = check_units(self.host.anatomy, units)
        spans = self.spans.setdefault(layer, [])
        first = spans[-1][2] if spans else shape.units
        spans.append((name, first, first + len(units.up)))
        self.units.setdefault(layer, []).append(units)

    def add_matrix(self, path: str, matrix: Matrix) -> None:
        """Add a matrix [D_out, D_in] to a linear layer's."""
        self.matrices.setdefault(path, []).append(matrix)

    @property
    def width(self) -> int:
        """Hidden units of each layer afterwards."""
        shape = self.host.anatomy.ffn
        if shape is None or not self.units:
            return 0 if shape is None else shape.units
        most = max(sum(len(added.up) for added in units) for units in self.units.values())
        multiple = self.multiple or 1
        return -(-(shape.units + most) // multiple) * multiple

    def size_in_config(self) -> int | None:
        """What the base's configuration says of its FFN's size; None where it says nothing, as GPT-2's may."""
        named = self.host.table.units
        return None if named is None else getattr(self.host.config, named.size, None)

    def config(self) -> Any:
        """The configuration of the folded model."""
        return config_with(self.host, self.width if self.units else self.size_in_config())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the folded model's checkpoint by name, one at a time; tied ones once."""
        return checkpoint_tensors(self.host, self.changes())

    def changes(self) -> dict[str, list[Change]]:
        """What is done to which tensor, by its name in a checkpoint."""
        changes: dict[str, list[Change]] = {}
        for path, matrices in self.matrices.items():
            turned = isinstance(self.host.submodule(path), Conv1D)
            changes.setdefault(f"{path}.weight", []).append(_adding(matrices, turned, self.dtype))
        named, shape = self.host.table.units, self.host.anatomy.ffn
        if named is None or shape is None or not self.units:
            return changes
        for part in _parts(self.host):
            units = self.units.get(part.layer, [])
            extra = self.width - shape.units if self.multiple else sum(len(added.up) for added in units)
            if extra == 0:
                continue
            gates = [added.gate for added in units if added.gate is not None]
            rows = {named.down: [added.values for added in units], named.up: [added.up for added in units]}.get(
                part.path, gates
            )
            change = _widening(rows, gates if part.fused else None, extra, part.axis, self.dtype)
            changes.setdefault(f"{part.name}.weight", []).append(change)
            if part.biased:
                changes.setdefault(f"{part.name}.bias", []).append(_lengthening(extra, part.fused))
        return changes


@dataclass
class Narrowing:
    """A host of which some units of each layer are left out: those not among `kept` [n], by layer, in that order.

    All layers are padded with zeros to `width` units.
    """

    host: Host
    kept: dict[int, Tensor]
    width: int
    #: what the configuration is to say of it; None: nothing
    said: int | None

    def config(self) -> Any:
        """The configuration of the narrowed model."""
        return config_with(self.host, self.said)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the narrowed model's checkpoint by name, one at a time; tied ones once."""
        changes: dict[str, list[Change]] = {}
        for part in _parts(self.host):
            kept = self.kept[part.layer]
            changes[f"{part.name}.weight"] = [_narrowing(kept, self.width, part.axis, part.fused)]
            if part.biased:
                changes[f"{part.name}.bias"] = [_narrowing(kept, self.width, 0, part.fused)]
        return checkpoint_tensors(self.host, changes)


@dataclass(frozen=True)
class _Part:
    """One linear layer of an FFN.

    `path` is that inside its layer, `name` the whole; `axis` is the one of its weight that the units lie along, gates first
    where it is `fused`; `biased` says whether it has a bias by unit.
    """

    layer: int
    path: str
    name: str
    axis: int
    fused: bool
    biased: bool


def _parts(host: Host) -> Iterator[_Part]:
    """The linear layers that hold the hidden units of a host, layer by layer."""
    named = host.table.units
    assert named is not None
    for layer in range(host.anatomy.layers):
        for path in dict.fromkeys(place for place in (named.up, named.gate, named.down) if place is not None):
            name = f"{host.table.layers}.{layer}.{path}"
            module, down = host.submodule(name), path == named.down
            # a Conv1D keeps [in, out]: its units are columns where a Linear's are rows, and the reverse for `down`
            axis = 0 if down == isinstance(module, Conv1D) else 1
            biased = not down and getattr(module, "bias", None) is not None
            yield _Part(layer, path, name, axis, named.gate == named.up == path, biased)


def config_with(host: Host, said: int | None) -> Any:
    """A copy of a host's configuration that says so of its FFN's size."""
    config, named = plain_config(host.config), host.table.units
    if named is not None:
        setattr(config, named.size, said)
    return config


def checkpoint_tensors(host: Host, changes: dict[str, list[Change]]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a host's checkpoint by name, changed, one at a time; tied ones once.

    Raises:
        UnsupportedError: the weights are quantised, cut over processes, or not in memory.
    """
    for name, parameter in host.model.named_parameters():
        if hasattr(parameter, "full_tensor") or getattr(parameter, "_fsdp_flattened", False):
            raise UnsupportedError(
                f"'{name}' is cut over processes (FSDP); load the base whole, in one, to fold into it"
            )
    left, seen = dict(changes), set[tuple[int, Any]]()
    for named, tensor in host.model.state_dict(keep_vars=True).items():
        name = plain_name(named)
        tensor = plain(name, tensor)
        same = (tensor.data_ptr(), tuple(tensor.shape))
        if same in seen and tensor.numel():
            continue
        seen.add(same)
        for change in left.pop(name, ()):
            tensor = change(tensor)
        yield name, tensor
    assert not left, f"no tensor is called {sorted(left)}"


def check_units(anatomy: Anatomy, units: Units) -> FFNShape:
    """The shape of a base's FFNs, beside whose own units such can stand.

    Raises:
        UnsupportedError: those are gated and these are not or the reverse, or use another activation.
    """
    shape = anatomy.ffn
    assert shape is not None
    if shape.gated != (units.gate is not None):
        raise UnsupportedError(
            f"its units are {'plain' if units.gate is None else 'gated'}, and those of this base are not"
        )
    if units.activation not in (None, shape.activation):
        raise UnsupportedError(
            f"its units are activated by '{units.activation}', and those of this base by '{shape.activation}'"
        )
    return shape


def plain(name: str, tensor: Tensor) -> Tensor:
    """The numbers of a tensor of the base.

    Raises:
        UnsupportedError: it is quantised, or not in memory.
    """
    tensor = tensor.detach()
    if tensor.device.type == "meta":
        raise UnsupportedError(f"'{name}' is not in memory; load the base without offloading to fold into it")
    if type(tensor) is not Tensor or not (tensor.is_floating_point() or tensor.dtype == torch.bool):
        raise UnsupportedError(f"'{name}' is quantised; load the base in plain numbers to fold into it")
    return tensor


@torch.no_grad()
def _matrix(adapter: Adapter, weight: float) -> Tensor:
    matrix = adapter.fold()
    assert isinstance(matrix, Tensor)
    return matrix * weight


def _narrowing(kept: Tensor, width: int, axis: int, fused: bool) -> Change:
    def narrow(weight: Tensor) -> Tensor:
        chosen = weight.index_select(axis, kept.to(weight.device))
        shape = list(chosen.shape)
        shape[axis] = width - len(kept)
        return torch.cat([chosen, chosen.new_zeros(shape)], dim=axis)

    def change(weight: Tensor) -> Tensor:
        return torch.cat([narrow(part) for part in weight.chunk(2, dim=axis)], dim=axis) if fused else narrow(weight)

    return change


def _adding(matrices: list[Matrix], turned: bool, dtype: torch.dtype | None) -> Change:
    def change(weight: Tensor) -> Tensor:
        total = weight.float()
        for make in matrices:
            matrix = make()
            total = total + (matrix.T if turned else matrix).to(weight.device)
        return total.to(dtype or weight.dtype)

    return change


def _widening(
    rows: list[Tensor], gates: list[Tensor] | None, extra: int, axis: int, dtype: torch.dtype | None
) -> Change:
    """Concatenate units, then zeros up to `extra`; where `gates` are given, the weight holds gates first, then units."""

    def widen(weight: Tensor, units: list[Tensor]) -> Tensor:
        own = [tensor.to(weight) for tensor in units]
        missing = extra - sum(map(len, own))
        zeros = weight.new_zeros(missing, weight.shape[1 - axis])
        return torch.cat([weight, *((tensor if axis == 0 else tensor.T) for tensor in (*own, zeros))], dim=axis)

    def change(weight: Tensor) -> Tensor:
        weight = weight.to(dtype or weight.dtype)
        if gates is None:
            return widen(weight, rows)
        gate, up = weight.chunk(2, dim=axis)
        return torch.cat([widen(gate, gates), widen(up, rows)], dim=axis)

    return change


def _lengthening(extra: int, fused: bool) -> Change:
    def change(bias: Tensor) -> Tensor:
        parts = bias.chunk(2) if fused else (bias,)
        return torch.cat([torch.cat([part, part.new_zeros(extra)]) for part in parts])

    return change
