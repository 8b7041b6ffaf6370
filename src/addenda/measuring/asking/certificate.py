"""A certificate of what modules changed: target, time window, method, verification, regression, rollback, audit.

Source: "Memory in LLMs: Mechanisms, Evaluation, Evolution" (2025), F1-F7. What it states of regression and rollback was measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from addenda.bases.fingerprint import fingerprint
from addenda.core.errors import AddendaError
from addenda.core.files import replace_text
from addenda.core.modes import evaluating
from addenda.measuring.asking.facts import Facts
from addenda.measuring.asking.perplexity import LOSS, loss_added
from addenda.measuring.asking.recall import UNTOLD, kept
from addenda.measuring.looking.canary import WasOn
from addenda.plug.scoring import score
from addenda.telling.intervals import Interval

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: general text that comes with the package, and how many tokens of it are scored
GENERAL, TOKENS = "general_valid", 4_000


@dataclass(frozen=True)
class Certificate:
    """What was changed in a model and how it was checked, machine-readable: the survey's F1 to F7.

    `window` bounds the time that the facts hold for, by the texts that stated them; `regression` holds what else the modules
    moved, each with its 95% interval; `rollback` what was found of the base with everything unplugged.
    """

    target: str
    window: dict[str, Any]
    method: str
    verification: dict[str, Any]
    regression: dict[str, Any]
    rollback: dict[str, Any]
    audit: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            FileError: it cannot be written.
        """
        replace_text(Path(path), json.dumps(asdict(self), indent=1, default=str) + "\n")


def certificate(
    base: Base,
    weights: Mapping[str, float],
    facts: Facts,
    before: Facts,
    canary: Sequence[WasOn],
    verification: Mapping[str, Any],
    regression: Mapping[str, Any],
) -> Certificate:
    """The certificate of a selection whose modules were asked about facts; `before` is the snapshot of an earlier time.

    Raises:
        AddendaError: a module is being trained, and cannot be unplugged to look at the base.
    """
    cards = {name: base.modules[name].card for name in weights}
    trained = [record for card in cards.values() for record in card.training]
    return Certificate(
        target=f"{len(facts.told)} facts stated by {len(facts.documents)} texts",
        window=window(facts, before),
        method=", ".join(f"{type(base.modules[name].kind).__name__} '{name}' at {w:g}" for name, w in weights.items()) or "none",
        verification=dict(verification),
        regression={name: value.as_dict() if isinstance(value, Interval) else value for name, value in regression.items()},
        rollback=rolled_back(base),
        audit={
            "base": base.name,
            "fingerprint": base.fingerprint,
            "modules": dict(weights),
            "sha256": {name: card.sha256 for name, card in cards.items()},
            "training tokens": sum(record.tokens for record in trained),
            "data": [source.sha256 for record in trained for source in record.data],
            "canary": ", ".join(f"{probe.name}: {probe.finding}" for probe in canary),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )  # fmt: skip


def window(facts: Facts, before: Facts) -> dict[str, Any]:
    """From when to when facts hold, by what states them: from the snapshot where they stood in it, else from later on."""
    then = {(fact.subject, fact.relation): fact.answer for fact in before.told}
    was = [then.get((fact.subject, fact.relation)) for fact in facts.told]
    same = sum(old == fact.answer for old, fact in zip(was, facts.told, strict=True))
    return {
        "from": f"the snapshot, {len(before.documents)} texts, sha256 {_hash(before)}",
        "until": f"the current texts, {len(facts.documents)}, sha256 {_hash(facts)}",
        "hold since the snapshot": same,
        "hold since some time after it": len(was) - same,
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def moved(
    base: Base, weights: Mapping[str, float], facts: Facts, known: Mapping[str, Interval], batch_tokens: int
) -> dict[str, Interval]:
    """What modules change besides: loss on general text and choices about people that no text tells of, where not yet `known`."""
    measured = dict(known)
    if not weights:
        return measured
    if not any(name.startswith(LOSS) for name in measured):
        with base.off():
            bare = score(base, GENERAL, tokens=TOKENS, batch_tokens=batch_tokens)
        with base.using(dict(weights)):
            change = score(base, GENERAL, tokens=TOKENS, batch_tokens=batch_tokens).minus(bare)
        measured[loss_added(GENERAL)] = Interval(change.nats, change.low, change.high, change.documents)
    if UNTOLD not in measured and facts.untold:
        measured[UNTOLD] = kept(base, facts.untold, dict(weights), batch_tokens)
    return measured


def check_idle(base: Base) -> None:
    """Refuse to certify while modules are being trained: a rollback is tried, which would end that.

    Raises:
        AddendaError: one is; says which.
    """
    busy = [name for name in base.modules if base._trainables.naming(name)]
    if busy:
        raise AddendaError(
            f"modules are being trained ({', '.join(busy)}), and a certificate unplugs all to look: close that first"
        )


@torch.no_grad()
def rolled_back(base: Base) -> dict[str, Any]:
    """Unplug every module, look at the base, and plug them again in their order; the selection stays.

    `holds` where parameters have the fingerprint that the base had when it was attached to, and the logits of a probe, 16 fixed
    ids, are bit for bit those with everything off. No other thread may be running a module meanwhile.

    Raises:
        AddendaError: a module is being trained: unplugging would end that.
    """
    check_idle(base)
    modules = list(base.modules.values())
    expected = base.first_fingerprint
    with base.off():
        off = logits_hash(base)
        for module in modules:
            base.unplug(module.name)
        try:
            digest, bare = fingerprint(base.model), logits_hash(base)
        finally:
            for module in modules:
                base._insert(module)
    return {
        "how": f"unplug {', '.join(module.name for module in modules) or 'nothing'}",
        "holds": digest == expected and bare == off,
        "fingerprint": digest,
        "fingerprint when attached": expected,
        "sha256 of the probe's logits": bare,
        "the same before, everything off": off,
    }


def logits_hash(base: Base) -> str:
    """sha256 of the bytes of the logits, as selected, on a fixed probe of 16 ids."""
    probe = (torch.arange(16) * 7919 % base.vocabulary)[None].to(base.device)
    with evaluating(base.model):
        logits = base.model(input_ids=probe, use_cache=False).logits
    return hashlib.sha256(logits.float().cpu().contiguous().numpy().tobytes()).hexdigest()


def _hash(facts: Facts) -> str:
    return hashlib.sha256("\n".join(facts.documents).encode()).hexdigest()
