"""Keys beside a module: what a router learned of it, with the router, the base and the module that they hold for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.module import KnowledgeModule
from addenda.core.registry import recorded
from addenda.modulefile.storage import digest_of
from addenda.routers.router import Router

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: the tensor that says what the others are: JSON, one byte a number
RECORD = "record"


@dataclass(frozen=True)
class Kept:
    """Keys as they stand beside a module, and what is recorded of them."""

    keys: dict[str, Tensor]
    record: dict[str, Any]


def keep(
    base: Base, module: KnowledgeModule, router: Router, keys: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Keep a module's keys beside it, in place of those that this router had of it; `facts` are recorded with them."""
    record = {"router": recorded(router), "base": base.fingerprint, **facts}
    if router.of_module:
        record["module"] = digest_of(module)
    said = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
    module.keep_beside(_owner(router), {**keys, RECORD: said})


def kept(base: Base, name: str, router: Router) -> Kept:
    """A module's keys, if they are this router's and hold here.

    Raises:
        AddendaError: there are none, they cannot be read, or they were learned with other options, on another base, or before
            the module changed; says how they are learned.
    """
    module, called = base.modules[name], router.called()
    tensors = module.side_of(_owner(router))
    learn = f"learn them with {_command(name, called)}, or addenda.learn_route(base, '{name}', corpus=...)"
    if not tensors:
        raise AddendaError(f"module '{name}' has no keys of the router {called}; {learn}")
    try:
        record = json.loads(bytes(tensors[RECORD].tolist()))
        asked, theirs, at = recorded(router), record["router"], record["base"]
        general, seen = tensors["general"].float(), record.get("module")
    except (KeyError, TypeError, ValueError):
        raise damaged(name, called) from None
    if general.dim() != 1 or not len(general) or not isinstance(theirs, dict) or "name" not in theirs:
        raise damaged(name, called)
    if theirs != asked:
        raise AddendaError(
            f"the keys of module '{name}' were learned by {_said(theirs)}, and {_said(asked)} is asked for; ask for the first, "
            f"or {learn}"
        )
    if at != base.fingerprint:
        raise AddendaError(
            f"the router keys of module '{name}' were learned on another base than '{base.name}'; {learn}"
        )
    if router.of_module and seen != digest_of(module):
        raise AddendaError(f"module '{name}' changed after its keys of the router {called} were learned; {learn}")
    return Kept({key: tensor for key, tensor in tensors.items() if key != RECORD}, record)


def damaged(name: str, router: str) -> AddendaError:
    """The error where keys are there and cannot be used."""
    learn = _command(name, router)
    return AddendaError(f"the keys of module '{name}' for the router {router} are damaged; learn them anew: {learn}")


def _owner(router: Router) -> str:
    return f"router.{router.called()}"


def _command(name: str, router: str) -> str:
    return shlex.join(["addenda", "route", "--learn", name.upper() + "_FOLDER", "--corpus", "FILE", "--router", router])


def _said(record: Any) -> str:
    """A recorded router as it is asked for: nearest(layer=3)."""
    options = dict(record)
    return f"{options.pop('name')}({', '.join(f'{key}={value!r}' for key, value in options.items())})"
