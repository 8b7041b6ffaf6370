"""Reports of forgetting: what is gone and what is kept of a module, or the proof that it is gone whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from addenda.core.card import ENOUGH, Measure
from addenda.modulefile.folders import DeletedModule
from addenda.removing.looking import Look
from addenda.telling.changes import counted
from addenda.telling.intervals import Interval
from addenda.writing.report import RunReport


@dataclass(frozen=True, kw_only=True)
class ForgetReport(RunReport):
    """What was forgotten of a module, and what it cost.

    `forget` and `retain` are looks at both texts, before and after. `groups` are the norms of the groups that the method may
    remove, 0 where one is removed; empty where it removes none.
    """

    name: str
    method: str
    forget: Look
    retain: Look
    steps: int
    tokens: int
    groups: dict[str, float] = field(default_factory=dict[str, float])

    def __str__(self) -> str:
        gone = self.forget
        lines = [
            f"{self.name}: {self.method}, {self.tokens:,} tokens in {counted(self.steps, 'step')}, {self.seconds:,.0f} s",
            *_told("to go", gone),
            *_told("to stay", self.retain),
            f"    KL from before to after {_interval(self.retain.kl, sign='')} nats per token",
        ]
        if self.groups:
            left = sum(norm > 0 for norm in self.groups.values())
            lines.append(f"  {len(self.groups) - left} of {len(self.groups)} groups are removed")
        return "\n".join([*lines, *self.last_lines()])

    def measures(self) -> list[Measure]:
        """What goes into the card."""
        made: list[Measure] = []
        for what, look in (("forgotten", self.forget), ("retained", self.retain)):
            without = look.loss.bare.value - look.loss.before.value
            made.append(_measure(f"{what}, loss added", look, look.change, "nats per token", without))
            made.append(_measure(f"{what}, recall", look, look.recall.after, "share", look.recall.bare.value))
            if look.extraction is not None:
                made.append(
                    _measure(f"{what}, extraction", look, look.extraction.after, "share", look.extraction.bare.value)
                )
        return [*made, _measure("retained, KL", self.retain, self.retain.kl, "nats per token", None)]


def remarks_on(forget: Look) -> tuple[str, ...]:
    """What to know of what is left."""
    bare, before, after = forget.loss.bare.value, forget.loss.before.value, forget.loss.after.value
    if after > bare + max(0.1, 0.1 * (bare - before)):
        return (
            "remark: it now predicts what is to go worse than the bare base does. That is suppression: with the module off "
            "the base still knows what it knew",
        )
    if before >= bare:
        return (
            "remark: the module knew what is to go no better than the bare base: there was nothing to forget in it",
        )
    left = (bare - after) / (bare - before)
    if left > 0.1:
        return (f"remark: {left:.0%} of what it knew is left: more tokens (--tokens) or a larger --lr forget more",)
    return ()


@dataclass(frozen=True)
class WholeReport:
    """The proof that a module is gone whole.

    `proof` is what was found of the base without it: its fingerprint when attached and now, and the hash of a probe's logits
    with the module plugged but off, with it unplugged, and with every module unplugged. `deleted` says which files went, with
    their bytes and hashes; None where no folder was given.
    """

    name: str
    holds: bool
    parameters: int
    proof: dict[str, Any]
    deleted: DeletedModule | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = {name: getattr(self, name) for name in ("name", "holds", "parameters", "proof")}
        return plain | {"deleted": None if self.deleted is None else self.deleted.as_dict()}

    def __str__(self) -> str:
        if not self.holds:
            return (
                f"{self.name}: the base is not what it was when it was attached to; the module is unplugged, and nothing was "
                "deleted"
            )
        digest, logits = self.proof["fingerprint"], self.proof["sha256 of the probe's logits"]
        lines = [
            f"{self.name} is gone: {self.parameters:,} parameters unplugged",
            f"  the base is what it was: fingerprint {digest}",
            f"  its logits on a probe are the same bits, off and unplugged: sha256 {logits}",
        ]
        if self.deleted is None:
            return "\n".join([*lines, "  no folder was given: what is on disk is still there"])
        gone = self.deleted
        lines.append(f"  deleted {gone.path}, {gone.bytes:,} bytes:")
        lines += [f"    {name}, {size:,} bytes, sha256 {sha}" for name, (size, sha) in gone.files.items()]
        if gone.run is not None:
            lines.append(f"    {gone.run}, {gone.run_bytes:,} bytes of checkpoints and log")
        return "\n".join(lines)


def _told(what: str, look: Look) -> list[str]:
    loss = look.loss
    lines = [
        f"  {what} ({look.on}, {look.tokens:,} tokens): loss {loss.before.value:.3f} -> {loss.after.value:.3f}, "
        f"{_interval(look.change)} nats per token; the bare base {loss.bare.value:.3f}",
        f"    next tokens known {look.recall}",
    ]
    if look.extraction is not None:
        lines.append(f"    continued word for word {look.extraction}")
    return lines


def _interval(interval: Interval, sign: str = "+") -> str:
    value = f"{interval.value:{sign}.3f}"
    return value if interval.n < ENOUGH else f"{value} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _measure(name: str, look: Look, value: Interval, unit: str, reference: float | None) -> Measure:
    more: Mapping[str, Any] = {"unit": unit, "on": look.on, "reference": reference}
    return Measure.over(value.n, name, value.value, value.low, value.high, **more)
