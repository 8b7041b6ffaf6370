"""Learning a route: a module's keys from its subject's text and general text, with what they do on prompts not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.core.module import plugged
from addenda.core.plain import Plain
from addenda.core.registry import asked_for
from addenda.routers.router import Router
from addenda.routing.keys import keep
from addenda.routing.prompts import drawn
from addenda.routing.reading import features_of
from addenda.telling.progress import shown
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.base import Base


@dataclass(frozen=True)
class LearnedRoute(Plain):
    """What was learned: the module and the router; prompts of the subject and general ones, half of each to learn from.

    Of the other half: `found`, the share of the subject's prompts that are the module's where it is the only one, and
    `threshold`, the distance up to which they are; it is set on these general prompts, of which at most `at_most` are.
    """

    module: str
    router: str
    corpus: str
    general: str
    prompts: int
    general_prompts: int
    at_most: float
    threshold: float
    found: float

    def __str__(self) -> str:
        return (
            f"keys of '{self.module}' for {self.router}, learned from {self.prompts} prompts of '{self.corpus}' and "
            f"{self.general_prompts} of '{self.general}', half of each; where at most {self.at_most:.1%} of general prompts are "
            f"given to it, so are {self.found:.1%} of the subject's (on the other halves)"
        )


def learn_route(
    base: Base,
    name: str,
    corpus: Any,
    *,
    general: Any = "general_train",
    router: str | Router = "nearest",
    at_most: float = 0.05,
    prompts: int = 1024,
    seed: int = 0,
) -> LearnedRoute:
    """Learn which prompts are a module's; its keys are kept beside it, and saved with it. The module itself does not change.

    Args:
        base: with the module plugged.
        name: of the module.
        corpus: text of its subject, whatever `addenda.train` takes, best what it was trained on. Of prompts and messages what
            the user says first counts, of running text stretches of 8 to 64 tokens.
        general: text of all else: prompts like it are to be answered by the bare base.
        router: `"nearest"`, `"wise"`, one with options (`"nearest(layer=5)"`), or a `Router`.
        at_most: the share of general prompts for which the report tells how many of the subject's are found; `addenda.route`
            is given its own.
        prompts: drawn from each text at most.
        seed: of the draws.

    Raises:
        AddendaError: no such module or router, or the router cannot route to the module; nothing is kept.
        DataError: a text cannot be read, or holds too little.
    """
    plugged(base.modules, name)
    check_share(at_most)
    if prompts < 2:
        raise AddendaError(f"prompts is a number of prompts to draw from each text, at least 2; got {prompts}")
    chosen, module = asked_for(Router, router), base.modules[name]
    chosen.sites(module, base.anatomy)  # what cannot be is told before anything is read
    subject, other = texts(corpus), texts(general)
    rows = [half for source in (subject, other) for half in drawn(base, source, prompts, seed)]
    _foretell(name, chosen, rows)
    features = [features_of(base, part, chosen, [module])[0] for part in rows]
    if not all(bool(torch.isfinite(part).all()) for part in features):
        raise AddendaError(
            f"the base's activations are not finite, so '{name}' gets no keys; load the base in float32 or bfloat16"
        )
    learning, checking, general_learning, general_held = features
    keys = chosen.learn(learning, general_learning)
    keys["general"] = chosen.distances(keys, general_held).sort().values
    threshold = chosen.threshold(keys, at_most)
    found = [way is not None for way in _alone(chosen, chosen.distances(keys, checking), threshold)]
    sizes = len(rows[0]) + len(rows[1]), len(rows[2]) + len(rows[3])
    facts = {"corpus": subject.name, "general": other.name, "prompts": list(sizes), "seed": seed}
    keep(base, module, chosen, keys, facts)
    return LearnedRoute(
        name, chosen.called(), subject.name, other.name, *sizes, at_most, threshold, sum(found) / len(found)
    )


def check_share(at_most: float) -> None:
    """Refuse what is no share.

    Raises:
        AddendaError: it is not above 0, up to 1.
    """
    if not 0 < at_most <= 1:
        raise AddendaError(f"at_most is a share of general prompts above 0, up to 1; got {at_most}")


def _alone(router: Router, distances: Tensor, threshold: float) -> list[str | None]:
    return router.choose(distances[:, None], torch.tensor([threshold]), ["it"])


def _foretell(name: str, router: Router, rows: list[list[Tensor]]) -> None:
    """Tell whoever watches what will be read."""
    watched = shown()
    if watched is not None:
        tokens = sum(len(row) for part in rows for row in part)
        prompts = sum(map(len, rows))
        watched.say(
            f"learning the route to {name} by {router.called()}: {prompts:,} prompts, {tokens:,} tokens, read once"
        )
        watched.begin(total=tokens)
