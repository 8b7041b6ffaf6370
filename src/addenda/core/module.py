"""A knowledge module: the adapters of one kind, site by site, with their card."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.optimizer import register_optimizer_step_post_hook

from addenda.core.card import Card
from addenda.core.contracts import Adapter, AroundAdapter, ChoosingAdapter, ClassifyingAdapter, Kind
from addenda.core.errors import AddendaError, SelectionError, UnsupportedError, known
from addenda.core.gate import Gate

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RESERVED = frozenset({"base", "off"})


def check_name(name: str) -> str:
    """Return `name` if it can name a module.

    Raises:
        AddendaError: it is reserved or has other characters than `[a-z0-9._-]`.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise AddendaError(
            "a module's name is 1 to 64 characters of a-z, 0-9, '.', '_' and '-', starting with a letter or digit; "
            f"got {name!r}"
        )
    if name in RESERVED:
        raise AddendaError(f"'{name}' is reserved; choose another name")
    return name


def _public(key: str) -> str:
    """The name in a file of a key of `state_dict`."""
    return key.removeprefix("adapters.").replace("/", ".")


def unused(stem: str, modules: Mapping[str, KnowledgeModule]) -> str:
    """`stem-0`, or with the next number that no module is called by."""
    return next(name for number in count() if (name := f"{stem}-{number}") not in modules)


def plugged(modules: Mapping[str, KnowledgeModule], name: Any) -> KnowledgeModule:
    """The module of a name among those that are plugged.

    Raises:
        SelectionError: none is; says which are.
    """
    if not isinstance(name, str) or name not in modules:
        raise SelectionError(f"no module '{name}' is plugged; plugged are {known(str(name), modules)}")
    return modules[name]


def _tensors_in(module: nn.Module) -> Iterator[Tensor]:
    """Every parameter and buffer under a module, in order."""
    held: dict[str, dict[str, Any]] = vars(module)
    for part in ("_parameters", "_buffers"):
        for tensor in held[part].values():
            if tensor is not None:
                yield tensor
    for child in held["_modules"].values():
        if child is not None:
            yield from _tensors_in(child)


#: every module that lives, for `_after_step`
_made: set[weakref.ref[KnowledgeModule]] = set()


def _after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Follow a step of any optimizer over our parameters.

    The step is counted in their version, which fused optimizers leave as it was; then adapters bring them back to where
    their kind allows them.
    """
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for module in [alive for made in list(_made) if (alive := made()) is not None]:
        stepped = [p for p in module.parameters() if id(p) in moved]
        if stepped:
            increment_version(stepped)
            module.constrain()


register_optimizer_step_post_hook(_after_step)


class KnowledgeModule(nn.Module):
    """What is trained, saved, plugged and served; `.parameters()` are its own and nothing of the base.

    `adapter(site_key)` gives the adapter at a site, `gate` the module's own gate if it has one, `card` its
    description.
    """

    def __init__(
        self, name: str, kind: Kind, adapters: Mapping[str, Adapter], card: Card, gate: Gate | None = None
    ) -> None:
        super().__init__()
        self.name = check_name(name)
        self.kind = kind
        self.card = card
        # a ModuleDict refuses dots in its keys
        self.adapters = nn.ModuleDict({key.replace(".", "/"): adapter for key, adapter in adapters.items()})
        self.gate = gate
        #: what methods keep beside it, under dotted names that begin with whose they are: `fisher.layers.3.ffn.down`; on the CPU
        self.side: dict[str, Tensor] = {}
        #: whether something of it changes per row as the text is read
        self.stateful = gate is not None or any(a.stateful for a in adapters.values())
        #: whether its gate, or what it chooses by, begins anew where the user begins to speak
        self.by_turn = (gate is not None and gate.by_turn) or any(
            isinstance(adapter, ChoosingAdapter) for adapter in adapters.values()
        )
        #: keys of the sites that it stands around, where no other module of a row may
        self.around = frozenset(key for key, a in adapters.items() if isinstance(a, AroundAdapter))
        #: whether training asks something of it to tell subject from replay, with the weight `gate_weight`
        self.classifies = (gate is not None and gate.taught) or any(
            isinstance(a, ClassifyingAdapter) for a in adapters.values()
        )
        self.probe: list[int] | None = None
        #: what a text memory holds; None for modules that touch the base
        self.memory = kind.blank()
        #: set by the plug: writes the module's folder (this floor knows no files)
        self.writer: Callable[[KnowledgeModule, Path], Path] | None = None
        _made.add(weakref.ref(self, _made.discard))
        self._untouched: list[int] | None = None
        self.awaits_text = kind.starts_from_text

    @property
    def awaits_text(self) -> bool:
        """Still to be started from text by the first `train`; no longer once its parameters were changed in place."""
        versions = self._untouched
        return versions is not None and all(
            p._version <= before for p, before in zip(self.parameters(), versions, strict=True)
        )

    @awaits_text.setter
    def awaits_text(self, waits: bool) -> None:
        self._untouched = [p._version for p in self.parameters()] if waits else None

    def check_adapts(self, verb: str) -> None:
        """Refuse a text memory, which has nothing of a base that a verb (train, merge) could work on."""
        if self.memory is not None:
            raise UnsupportedError(
                f"'{self.name}' ({type(self.kind).__name__}) is a text memory: there is nothing to {verb}; "
                "base.remember(name, text), or addenda chat --remember FOLDER, lets it take in text"
            )

    def adapter(self, site: str) -> Adapter:
        """The adapter at a site key, `layers.3.ffn`."""
        adapter = self.adapters[site.replace(".", "/")]
        assert isinstance(adapter, Adapter)
        return adapter

    def sites(self) -> Iterator[str]:
        """The keys of the sites this module touches."""
        return (key.replace("/", ".") for key in self.adapters)

    def gates(self) -> dict[str, Any]:
        """What has a threshold: the module's own gate under the key "gate", or adapters under their sites' keys."""
        if self.gate is not None:
            return {"gate": self.gate}
        adapters = {key: self.adapter(key) for key in self.sites()}
        return {
            key: adapter
            for key, adapter in adapters.items()
            if isinstance(dict(adapter.named_buffers()).get("threshold"), Tensor)
        }

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers under the names they have in a file: `layers.3.ffn.down`, `gate.weight`."""
        return {_public(key): tensor for key, tensor in self.state_dict().items()}

    def learning(self) -> dict[str, nn.Parameter]:
        """The parameters that want a gradient, under the names they have in a file."""
        return {_public(key): parameter for key, parameter in self.named_parameters() if parameter.requires_grad}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors named as in `tensors()` into this module, in place; names and shapes must match exactly."""
        own = self.tensors()
        assert own.keys() == tensors.keys()
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])

    def adopt(self, tensors: Mapping[str, Tensor]) -> None:
        """Make `tensors`, named as in `tensors()`, this module's own, dtype included; works on a module without memory.

        Names and shapes must match exactly.
        """
        state = {key: tensors[_public(key)] for key in self.state_dict()}
        assert len(state) == len(tensors)
        waits = self.awaits_text
        self.load_state_dict(state, assign=True)
        self.awaits_text = waits

    def side_of(self, owner: str) -> dict[str, Tensor]:
        """The side tensors of one owner, by the rest of their names."""
        return {key[len(owner) + 1 :]: tensor for key, tensor in self.side.items() if key.startswith(f"{owner}.")}

    def keep_beside(self, owner: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep an owner's side tensors, in place of those that it kept before."""
        others = {key: tensor for key, tensor in self.side.items() if not key.startswith(f"{owner}.")}
        self.side = others | {f"{owner}.{name}": tensor.detach().to("cpu") for name, tensor in tensors.items()}

    def constrain(self) -> None:
        """Bring every adapter's parameters back to where its kind allows them."""
        for key in self.sites():
            self.adapter(key).constrain()

    def size(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def version(self) -> tuple[Any, ...]:
        """Changes with every in-place change, load, dtype or device move of any parameter or buffer."""
        # asked at every forward pass: state_dict takes ten times as long
        return tuple((t._version, t.data_ptr(), t.dtype, t.device) for t in _tensors_in(self))

    def save(self, folder: str | Path) -> Path:
        """Write the module's folder: `module.safetensors`, `card.json`, `README.md` and side tensors, whole or not at all.

        Replaces an existing module folder, accepts an empty one.

        Raises:
            FileError: the folder holds something else, or cannot be written.
        """
        if self.writer is None:
            raise AddendaError(f"module '{self.name}' belongs to no base; make it with base.new or base.plug")
        return self.writer(self, Path(folder))

    def __repr__(self) -> str:
        """One line: name, kind with what is not its default, size, base, training."""
        kind: Any = self.kind
        chosen = [
            f"{option.name}={getattr(kind, option.name)!r}"
            for option in fields(kind)
            if getattr(kind, option.name) != option.default
        ]
        tokens = sum(run.tokens for run in self.card.training)
        trained = f"trained on {tokens:,} tokens" if self.card.training else "not trained"
        return (
            f"KnowledgeModule({self.name}: {type(kind).__name__}({', '.join(chosen)}), {self.size():,} parameters "
            f"at {len(self.adapters)} sites, {trained})"
        )


class Plugged(Mapping[str, KnowledgeModule]):
    """A read-only view of modules by name; printed one a line. Not a dict of its own: compilers trace plain ones only."""

    def __init__(self, modules: Mapping[str, KnowledgeModule]) -> None:
        self._held = modules

    def __getitem__(self, name: str) -> KnowledgeModule:
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return "{" + ",\n ".join(f"{name!r}: {module!r}" for name, module in self.items()) + "}"
