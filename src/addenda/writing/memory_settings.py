"""Settings of `memorize`: one frozen record, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from addenda.core.errors import TrainingError
from addenda.core.module import KnowledgeModule
from addenda.core.registry import asked_for, recorded
from addenda.core.settings import checked
from addenda.writes.write_rule import WriteRule
from addenda.writing.settings import WriteSettings

#: the sample of general text that ships with the package
GENERAL = "general"


@dataclass(frozen=True)
class MemorySettings(WriteSettings):
    """How a text is memorized; every field may be given to `addenda.memorize` by name."""

    window: int | None = None
    """tokens that the model reads at a time, context and fresh ones; default 2048, or the base's context if shorter"""
    chunk: int = 256
    """fresh tokens of each write"""
    steps: int = 1
    """optimizer steps on each chunk"""
    write: Any = "auto"
    """the rule that writes, by name or with options: `gradient`, steps of AdamW; `closed`, slots from activations and gradients;
    `auto`: the kind's own"""
    every: int = 1
    """write every so many chunks, and only score those between"""
    passes: int = 1
    """how often the text is read; the online loss is that of the first time"""
    lr: float | None = None
    """learning rate, constant; default: the kind's own tested one"""
    replay: Any = GENERAL
    """general text on which the memory should stay silent; a few tokens of it are read at each write. `general`: the sample that
    ships with the package, for Locas written by steps and for kinds with a gate; None: none"""
    replay_tokens: int = 64
    """tokens of replay read at each write"""
    local: float = 0.3
    """weight of the local neutrality loss on replay tokens; no other loss is taken on them"""
    through: bool = False
    """let the local loss of a layer teach the layers below it too, for which the base takes a backward pass on replay tokens"""
    published: bool = False
    """Locas as its authors have it: values no larger than tau allows, and nothing keeps the memory silent on other text"""
    weight_decay: float = 0.0
    """decoupled decay of matrices"""
    baseline: bool = True
    """score each chunk with the bare base too, for comparison"""
    seed: int = 0
    """of a new module's random part and of the replay's order"""

    free: ClassVar[frozenset[str]] = WriteSettings.free | {"replay"}
    least: ClassVar[Mapping[str, int]] = {
        **WriteSettings.least,
        "window": 1, "chunk": 1, "steps": 1, "every": 1, "passes": 1, "replay_tokens": 2,
    }  # fmt: skip
    sizes: ClassVar[tuple[str, ...]] = ("local", "gate_weight", "weight_decay")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.write != "auto":
            asked_for(WriteRule, self.write)
        self.check(self.lr is None or 0 < self.lr < math.inf, "lr", "a positive number")
        self.check(0 <= self.seed < 2**63, "seed", "a whole number from 0 to 2**63 - 1")

    def rule(self, module: KnowledgeModule) -> WriteRule:
        """The rule that writes a module.

        Raises:
            AddendaError: the one that was asked for is not for it.
        """
        rule = asked_for(WriteRule, module.kind.written_by if self.write == "auto" else self.write)
        rule.check(module)
        return rule

    def replay_for(self, modules: Sequence[KnowledgeModule]) -> Any:
        """What some modules read as replay; None for nothing.

        Raises:
            TrainingError: replay was given for a module whose rule learns nothing from it.
        """
        unused = [m for m in modules if not self.rule(m).replayed]
        if self.replay != GENERAL:
            if unused and self.replay is not None:
                raise TrainingError(
                    "a memory written in closed form learns nothing from replay; leave replay out, or take gradient steps with "
                    "write='gradient'"
                )
            return self.replay
        quiet = any(m.classifies or m.gate is not None or (m.kind.quiet and m not in unused) for m in modules)
        return "general_train" if quiet and not self.published else None

    def plain(self) -> dict[str, Any]:
        """The settings that decide what is learned, as plain data."""
        return super().plain() | {"write": self.write if isinstance(self.write, str) else recorded(self.write)}


def memory_settings(given: Mapping[str, Any]) -> MemorySettings:
    """Settings of `memorize` from keywords, checked.

    Raises:
        AddendaError: there is no such setting (with the nearest name), or a value has the wrong type or range.
    """
    return checked(MemorySettings, "memorize", given)
