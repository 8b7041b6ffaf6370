"""Settings of `teach`: frozen, checked before anything is read; what is None is chosen for the documents and the base."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.gate import GateMethod
from addenda.core.registry import asked_for
from addenda.objectives.objective import Objective


@dataclass(frozen=True)
class TeachSettings:
    """How a module is taught documents; every field may be given to `addenda.teach` by name."""

    kind: Any = None
    """what stands beside the base, by name with options, `LoRA(rank=32)`; default: by the documents' length and the base"""
    reader: str | None = None
    """folder of a LoRA that has learned to read on this base, from which a module that reads begins; `none`: from nothing;
    default: what the base learns once by practice, where there is time for that"""
    gate: Any = "document(hold=True, by_turn=True, read_at='fifth')"
    """what the module stands behind, so that it is silent off the documents; None: nothing"""
    passes: float | None = None
    """how often the study set is read; default: by its size, or as `minutes` allow"""
    tokens: int | None = None
    """to train on, replay counted, in the place of `passes`"""
    replay_share: float = 0.15
    """share of the tokens that are replay: the base's own answers to general prompts, and general text"""
    lr: float | None = None
    """peak learning rate; default: the kind's own"""
    length: int = 256
    """tokens of a row; conversations in it do not see one another"""
    batch_rows: int = 4
    """rows of a step"""
    objective: Any = "lm"
    """what a token costs: `lm`, or `distill`, by which the module learns what the base says with the chunk in its window"""
    share: float = 0.95
    """of the tokens of general chats, so many are left exactly alone: the gate is calibrated to it"""
    held: int = 40
    """exercises that are held out of training, to be asked at the end, in words that were not studied; 0: none"""
    precision: Literal["fp32", "bf16"] | None = None
    """`bf16`: autocast; default: where the device computes it fast"""
    judge: str | None = None
    """address of a chat endpoint as OpenAI's that is asked at the end which answers are right; its key, if need be, in
    ADDENDA_JUDGE_KEY"""
    judge_model: str | None = None
    """its model; default: the first that it offers"""
    log: bool = True
    """say on standard error what is done and how it goes"""

    #: what may differ between a call and its resumption
    free: ClassVar[frozenset[str]] = frozenset({"judge", "judge_model", "log"})

    def __post_init__(self) -> None:
        if self.kind is not None:
            asked_for(Kind, self.kind)
        asked_for(Objective, self.objective)
        for name, least in (("tokens", 1), ("length", 16), ("batch_rows", 1), ("held", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise AddendaError(f"setting '{name}' must be a whole number from {least}; got {value!r}")
        for name in ("replay_share", "share"):
            if not 0 <= getattr(self, name) < 1:
                raise AddendaError(f"setting '{name}' must be a share from 0 up to 1; got {getattr(self, name)!r}")
        if self.gate is not None:
            asked_for(GateMethod, self.gate)
            if not self.replay_share:
                raise AddendaError(
                    "a gate learns from replay where to be silent: give 'replay_share' a share, or gate=None"
                )
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise AddendaError(f"setting 'lr' must be positive, and finite; got {self.lr!r}")
        if self.passes is not None and not self.passes > 0:
            raise AddendaError(f"setting 'passes' must be positive; got {self.passes!r}")
        if self.passes is not None and self.tokens is not None:
            raise AddendaError("give 'passes' or 'tokens', not both: one follows from the other")

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self) if field.name not in self.free}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else str(value)
