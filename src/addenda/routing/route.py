"""Routing: each prompt given to the module that it is nearest to by the modules' keys, or to none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.module import plugged
from addenda.core.registry import asked_for
from addenda.plug.selection import Names, weights_of
from addenda.routers.router import Router
from addenda.routing.keys import damaged, kept
from addenda.routing.learn import check_share
from addenda.routing.reading import features_of

if TYPE_CHECKING:
    from addenda.plug.base import Base


@dataclass(frozen=True)
class Routes(Sequence[dict[str, float]]):
    """A selection for each prompt, {} where no module is near enough; itself what `base.rows` takes.

    `distances` [prompts] by module and `thresholds` say why. With `nearer` a prompt is a module's below the threshold, else
    above it.
    """

    prompts: tuple[str, ...]
    router: str
    selections: list[dict[str, float]]
    distances: dict[str, tuple[float, ...]] = field(repr=False)
    thresholds: dict[str, float] = field(repr=False)
    nearer: bool
    at_most: float

    @overload
    def __getitem__(self, row: int) -> dict[str, float]: ...
    @overload
    def __getitem__(self, row: slice) -> list[dict[str, float]]: ...
    def __getitem__(self, row: int | slice) -> Any:
        """The selection of a prompt."""
        return self.selections[row]

    def __len__(self) -> int:
        return len(self.selections)

    def module(self, row: int) -> str | None:
        """The module that a prompt is given to; None where it is none."""
        return next(iter(self.selections[row]), None)

    def candidate(self, row: int) -> str:
        """The module that a prompt is given to, or else the one that it comes nearest to."""

        def beyond(name: str) -> float:
            far = self.distances[name][row] - self.thresholds[name]
            return far if self.nearer else -far

        return self.module(row) or min(self.distances, key=beyond)

    def why(self, row: int) -> str:
        """Why a prompt is answered as it is, in words."""
        name, chosen = self.candidate(row), self.module(row)
        distance, threshold = self.distances[name][row], self.thresholds[name]
        side = "below" if distance < threshold else "above" if distance > threshold else "at"
        end = f"distance {distance:.3f} is {side} {threshold:.3f}"
        return f"{name}: {end}" if chosen else f"no module: of the nearest, {name}, {end}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        rows = [
            {
                "prompt": prompt,
                "modules": self.selections[row],
                "why": self.why(row),
                "distances": {name: far[row] for name, far in self.distances.items()},
            }
            for row, prompt in enumerate(self.prompts)
        ]
        return {"router": self.router, "at_most": self.at_most, "thresholds": self.thresholds, "prompts": rows}

    def __str__(self) -> str:
        return "\n".join(f"{prompt!r} -> {self.why(row)}" for row, prompt in enumerate(self.prompts))


def route(
    base: Base,
    prompts: Sequence[str],
    router: str | Router = "nearest",
    among: Names | None = None,
    *,
    at_most: float = 0.05,
) -> Routes:
    """Choose for each prompt the module that answers it, or none, by keys that `addenda.learn_route` keeps beside modules.

    Each prompt of a batch then goes its own way::

        with base.rows(addenda.route(base, prompts)):
            base.model.generate(**base.prompts(prompts))

    Decided once for each prompt, from the prompt alone as it stands and the bare base's activations on it, whatever is selected;
    neither what is written later nor other prompts change it.

    Args:
        base: with the modules plugged, all of whose keys were learned by this router.
        prompts: B texts.
        router: `"nearest"`, `"wise"`, one with options (`"nearest(layer=5)"`), or a `Router`.
        among: names of modules, or weights with which each acts where it is chosen; default: all that are plugged, at 1.
        at_most: the share of general prompts that is given to any module at all; each of M modules may take an M-th of it.

    Raises:
        AddendaError: a prompt is empty, or a module has no keys of this router that hold here; says how they are learned.
        SelectionError: a module is not plugged.
    """
    check_share(at_most)
    rows = _read(base, prompts)
    chosen = asked_for(Router, router)
    weights = weights_of(list(base.modules) if among is None else among)
    for name in weights:
        plugged(base.modules, name)
    names = sorted(weights)
    if not names:
        raise AddendaError("no module is plugged that a prompt could be given to; base.plug(folder) plugs one")
    keys = [kept(base, name, chosen).keys for name in names]
    features = features_of(base, rows, chosen, [base.modules[name] for name in names])
    share = at_most if at_most == 1 else at_most / len(names)
    columns = [
        _column(chosen, name, *given, share)
        for name, given in zip(names, zip(keys, features, strict=True), strict=True)
    ]
    distances = torch.stack([column for column, _ in columns], 1)
    thresholds = torch.tensor([threshold for _, threshold in columns])
    ways = chosen.choose(distances, thresholds, names)
    return Routes(
        tuple(prompts),
        chosen.called(),
        [{} if way is None else {way: weights[way]} for way in ways],
        {name: tuple(column.tolist()) for name, (column, _) in zip(names, columns, strict=True)},
        {name: threshold for name, (_, threshold) in zip(names, columns, strict=True)},
        chosen.nearer,
        at_most,
    )


def _read(base: Base, prompts: Sequence[str]) -> list[Tensor]:
    """Token ids [T] of each prompt as it stands, as many of the last as the base's context holds.

    Raises:
        AddendaError: there is none, or one is empty.
    """
    if isinstance(prompts, str) or not prompts:
        raise AddendaError("route takes a list of prompts, at least one")
    rows = [base.tokenize(prompt) for prompt in prompts]
    for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True), 1):
        if not prompt.strip() or not len(row):
            raise AddendaError(f"prompt {number} is empty; give a text to route")
    return rows if base.context is None else [row[-base.context :] for row in rows]


def _column(router: Router, name: str, keys: dict[str, Tensor], features: Tensor, share: float) -> tuple[Tensor, float]:
    """Distances [B] from one module, and its threshold.

    Raises:
        AddendaError: the keys do not fit: the file was written by something else.
    """
    try:
        distances, threshold = router.distances(keys, features), router.threshold(keys, share)
    except AddendaError:  # too few general prompts for the share
        raise
    except (KeyError, RuntimeError, ValueError):
        raise damaged(name, router.called()) from None
    if distances.shape != features.shape[:1]:
        raise damaged(name, router.called())
    return distances, threshold
