"""The canary: proof that the selected modules really ran, site by site, with their weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from addenda.core.call import Share
from addenda.core.errors import AddendaError
from addenda.core.modes import evaluating

if TYPE_CHECKING:
    from addenda.plug.base import Base

Finding = Literal["on", "silent", "fresh"]


@dataclass(frozen=True)
class WasOn:
    """What the canary found of one module.

    `finding` is "on" where it changed the logits of the probe. Where it left them alone it is "silent" if its card has a
    record of training (a gate may be shut, a weight too small to show), else "fresh". Neither of the two is an error.
    """

    name: str
    weight: float
    sites: int
    finding: Finding
    largest_change: float
    probe_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """What is told of it, as plain data."""
        return {"module": self.name, "finding": self.finding, "sites": self.sites}


def was_on(base: Base, ids: Tensor | None = None) -> list[WasOn]:
    """Run the selected modules on a probe and check that every site of each ran with its weight.

    The probe runs in evaluation mode, whatever mode the model is in.

    Args:
        base: with the selection to check: one for all rows, as `use` and `using` make it.
        ids: token ids [T] to probe with; default: the probe kept with each module, else 16 fixed ids.

    Raises:
        AddendaError: a site of a selected module did not run, or ran with another weight, or a module that was written
            for its probe leaves its logits as they are.
    """
    chosen = base.selection
    if chosen.rows is not None or chosen.index is not None:
        raise AddendaError("the canary checks a selection for all rows; select with use or using")
    if len(chosen.everyone) > 1:  # one alone is run so below
        _all_ran(base, chosen.everyone, _probe(base, None, ids))
    return [_check(base, name, weight, ids) for name, weight in sorted(chosen.everyone.items())]


def proved(base: Base, weights: Mapping[str, float]) -> list[WasOn]:
    """The canary of a selection that need not be at work; nothing for none."""
    if not weights:
        return []
    with base.using(dict(weights)):
        return was_on(base)


def _probe(base: Base, name: str | None, ids: Tensor | None) -> Tensor:
    """Token ids [1, T] to run on."""
    kept = None if name is None else base.modules[name].probe
    default = torch.arange(16) * 7919 % base.model.config.vocab_size
    probe = ids if ids is not None else default if kept is None else torch.tensor(kept)
    return probe.to(base.device)[None]


@torch.no_grad()
def _all_ran(base: Base, weights: Mapping[str, float], row: Tensor) -> Tensor:
    """The logits under some weights, every site of every module having run with its own.

    Raises:
        AddendaError: one did not.
    """
    ran: dict[str, dict[str, float]] = {name: {} for name in weights}

    def observer(share: Share, site: str, **_: Any) -> None:
        if isinstance(share.weight, float):
            ran[share.name][site] = share.weight

    with base.using(dict(weights)), base.watching(observer=observer), evaluating(base.model):
        logits = base.model(input_ids=row, use_cache=False).logits
    for name, weight in weights.items():
        lost = sorted(site for site in base.modules[name].sites() if ran[name].get(site) != weight)
        if lost:
            raise AddendaError(
                f"module '{name}' is selected at {weight} but did not run so at {', '.join(lost)}: another library "
                "may have replaced the base's forwards since it was plugged; unplug and plug it again"
            )
    return logits


def _check(base: Base, name: str, weight: float, ids: Tensor | None) -> WasOn:
    module = base.modules[name]
    kept = ids is None and module.probe is not None
    row = _probe(base, name, ids)
    # dropout would change the logits of a module that does nothing, and hide one that is lost
    with torch.no_grad(), evaluating(base.model), base.off():
        bare = base.model(input_ids=row, use_cache=False).logits
    on = _all_ran(base, {name: weight}, row)
    change = float((on.float() - bare.float()).abs().max())
    if not math.isfinite(change):
        whose = f"module '{name}'" if bool(bare.isfinite().all()) else "the base by itself"
        raise AddendaError(f"{whose} gives logits that are not finite: nothing can be measured of it")
    if kept and change == 0.0 and weight == 1.0:
        raise AddendaError(
            f"module '{name}' leaves the logits of its own probe as they are: its tensors are not the ones it was written with"
        )
    finding: Finding = "on" if change > 0 else "silent" if module.card.training else "fresh"
    return WasOn(name, weight, len(list(module.sites())), finding, change, row.shape[1])
