"""Standing: the adapters of a kind in a base, and the gate that the whole module stands behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from addenda.core.contracts import Adapter, Kind
from addenda.core.errors import AddendaError
from addenda.core.gate import Gate, GateMethod, behind
from addenda.core.registry import asked_for, build
from addenda.core.site import Anatomy, Seam


def gate_named(name: str, options: Mapping[str, Any] | None = None) -> GateMethod:
    """A gate by its name, with options, checked.

    Raises:
        AddendaError: no such gate, an unknown option, or a value of the wrong type.
    """
    return cast("GateMethod", build("gate", name, options or {}))


def gate_told(told: Mapping[str, Any] | None) -> GateMethod | None:
    """The gate that a card tells of; None where it tells of none, so that the kind's own options say.

    Raises:
        AddendaError: it has no name, there is no such gate, or its options do not fit.
    """
    if told is None:
        return None
    if not isinstance(told.get("name"), str):
        raise AddendaError(f"the card: the gate has no name; it is {told!r:.200}")
    return gate_named(told["name"], {option: value for option, value in told.items() if option != "name"})


def gate_for(kind: Kind, asked: str | GateMethod | None = None) -> GateMethod | None:
    """The gate of a module of a kind: the one asked for, else the one that the kind's options ask for; None: none.

    Raises:
        AddendaError: both are asked for and differ, or the kind cannot stand behind one.
    """
    own = None if kind.module_gate is None else gate_named(*kind.module_gate)
    if asked is None:
        return own
    called = type(kind).__name__
    if kind.seam is Seam.TEXT:
        raise AddendaError(
            f"{called} is text in the window, which takes no gate: leave it out, and select it where it is wanted"
        )
    given = asked_for(GateMethod, asked)
    if own is not None and given != own and asked != own.called():
        raise AddendaError(f"two different gates: {own} in {called}, and {given} for the module; give one")
    if kind.gates_itself:
        raise AddendaError(
            f"{kind} decides for each token by itself; choose another gate in {called}, or none for the module"
        )
    return own or given


def left_to(anatomy: Anatomy, gate: Gate | None) -> Anatomy:
    """An anatomy with the sites alone that a module may touch: those that run once its gate is known, without a gate all."""
    if gate is None:
        return anatomy
    return behind(anatomy, next(site for site in anatomy.sites if site.key == gate.site))


def adapters_of(kind: Kind, anatomy: Anatomy, gate: GateMethod | None) -> tuple[Mapping[str, Adapter], Gate | None]:
    """Fresh adapters by site key, and the module's gate: behind one, at the sites alone that run once it is known.

    Raises:
        AddendaError: the kind's options do not fit the anatomy, or it has no layer where the gate is to read.
    """
    if gate is None:
        return kind.adapters(anatomy), None
    site = gate.site(anatomy, kind.seam)
    left = behind(anatomy, site)
    if not left.at(kind.seam):
        raise AddendaError(
            f"a gate that reads layer {site.layer} leaves {type(kind).__name__} no place: of {anatomy.layers} layers none has "
            f"a site that runs after it; let the gate read a layer further down (read_at={max(0, site.layer - 1)})"
        )
    return kind.adapters(left), gate.module(site)
