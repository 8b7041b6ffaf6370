"""Settings of runs, and those of training: frozen records, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from addenda.core.errors import TrainingError
from addenda.core.registry import asked_for, recorded
from addenda.core.settings import Checked, checked
from addenda.objectives.objective import Objective
from addenda.optimizers.optimizer import OptimizerMethod
from addenda.penalties.penalty import asked_penalties


@dataclass(frozen=True)
class RunSettings(Checked):
    """What every run that changes modules can be told: how it computes, what it keeps, what it says."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast; the module's own parameters stay float32"""
    checkpoint_every: int | None = None
    """steps (of `memorize`: chunks) between checkpoints; default: a twentieth of the run"""
    keep: int = 2
    """checkpoints kept while it runs"""
    keep_run: bool = False
    """keep the checkpoints of a finished run too; else its log alone stays"""
    log: bool = True
    """say on standard error what the run will do and how it goes"""

    #: what may differ between a run and its resumption: it changes nothing that is learned
    free: ClassVar[frozenset[str]] = frozenset({"checkpoint_every", "keep", "keep_run", "log"})
    least: ClassVar[Mapping[str, int]] = {"checkpoint_every": 1, "keep": 1}


@dataclass(frozen=True)
class WriteSettings(RunSettings):
    """What every run can be told that writes a text into modules."""

    gate_weight: float = 1.0
    """weight of what a context gate (by hinges) or sigmoid gates (by cross-entropy) are taught: shut on replay, open on the
    text"""
    clip: float | None = 1.0
    """largest norm of a module's gradient; None: no clipping"""
    loss_chunk: int | None = None
    """tokens whose logits exist at a time; default: what fits 32 MiB"""
    probe: bool = True
    """keep a few token ids with the module by which others can check that it is really on"""
    licence: str | None = None
    """of the module, for its card, e.g. `cc-by-4.0`"""

    free: ClassVar[frozenset[str]] = RunSettings.free | {"probe", "licence"}
    least: ClassVar[Mapping[str, int]] = {**RunSettings.least, "loss_chunk": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.clip is None or 0 < self.clip < math.inf, "clip", "positive, or None for no clipping")
        self.check(self.licence is None or bool(self.licence.strip()), "licence", "words, or None")


@dataclass(frozen=True)
class Settings(WriteSettings):
    """How a module is trained; every field may be given to `addenda.train` by name."""

    length: int | None = None
    """tokens of a row; default 512, or the base's context where that is shorter; fewer where the run would else have less than
    48 steps, or the smallest text less than 8 rows"""
    batch_rows: int | None = None
    """rows of one forward pass (for each module); default 8, or 4 or 2 where the run would else have less than 48 steps; on a
    CPU 2-4 thousand tokens a pass were fastest"""
    accumulate: int = 1
    """forward passes of one step"""
    objective: Any = "lm"
    """by name, or one with its options, as `reverse_kl(top_k=32)`. `lm`: the tokens that came; `distill` and others: what the
    bare base says of them after reading each record's `reads`, or, of running text, `context` tokens more"""
    replay_objective: Any = None
    """what a replay token costs, in the same form; with a teacher: what the bare base says of the same row, so that a module
    that is silent there pays nothing. Default: as `objective`"""
    teacher: str | None = None
    """folder for what a teacher says of records with `reads`, shared by all runs that ask the same; default: the run's own"""
    top_k: int = 64
    """teacher's tokens kept, for objectives with a teacher"""
    context: int | None = None
    """tokens of running text that the teacher alone reads; default 256, or half the base's context if that is less"""
    local: float | None = None
    """weight of the local neutrality loss on replay tokens; default: the kind's own"""
    gate_fit: bool = True
    """start a fresh context gate from a fit to corpus and replay, not from one that is open everywhere"""
    gate_lr: float = 0.1
    """share of the learning rate that a context gate takes: at the whole of it, what adapters want of the gate outweighs
    what replay asks, and it opens for general text too"""
    optimizer: Any = "adamw"
    """by name, or with options: `galore(rank=16)`; one with its options in Python"""
    penalty: Any = None
    """what the module pays for changing what it learned before: `ewc(weight=10)`; several as `ewc + osft(keep=0.3)` or a list;
    see docs/methods.md"""
    earlier: Any = None
    """text of an earlier training, for a penalty that is fitted on it; left out where that training kept what is needed. For
    several modules a mapping of names to texts"""
    weight_decay: float = 0.01
    """decoupled decay of matrices; vectors and gates take none"""
    warmup: float = 0.05
    """share of the steps over which the learning rate rises"""
    floor: float = 0.1
    """share of the learning rate that the cosine ends at"""
    gradient_checkpointing: bool = False
    """recompute each layer in the backward pass: slower, and far less memory"""
    isolate: bool = False
    """stop attention across the documents of a row"""
    shuffle_tokens: int | None = None
    """tokens among which rows are shuffled, for each stream; 9 bytes of memory each; default: 32 times what the run reads, 2**20
    at most"""
    validation: Any = None
    """texts by name; names that begin with "forgetting" report how much is lost on them, all others what is learned"""
    validation_tokens: int | Literal["auto"] | None = "auto"
    """tokens scored of each validation text; None: all; `auto`: so many, 50,000 at most, that all validations together cost a
    tenth of the training"""
    validate_every: int | None = None
    """steps between validations; default: so many that they cost no more than that, ten validations at most"""
    patience: int | None = None
    """stop after so many validations without a gain, and keep the best; None: never"""
    tracker: Any = None
    """passed on to accelerate's trackers, e.g. "tensorboard", or one of its tracker objects"""
    run_name: str | None = None
    """what the run is called in a tracker"""

    # texts are told apart by what they say
    free: ClassVar[frozenset[str]] = WriteSettings.free | {"tracker", "run_name", "validation", "earlier", "teacher"}
    least: ClassVar[Mapping[str, int]] = {
        **WriteSettings.least,
        "batch_rows": 1, "accumulate": 1, "top_k": 1, "shuffle_tokens": 1, "length": 2, "validate_every": 1,
        "validation_tokens": 1, "patience": 1, "context": 0,
    }  # fmt: skip
    sizes: ClassVar[tuple[str, ...]] = ("local", "gate_weight", "gate_lr", "weight_decay")
    shares: ClassVar[tuple[str, ...]] = ("warmup", "floor")

    def __post_init__(self) -> None:
        super().__post_init__()
        asked_for(OptimizerMethod, self.optimizer)
        asked_for(Objective, self.objective)
        if self.replay_objective is not None:
            asked_for(Objective, self.replay_objective)
        asked_penalties(self.penalty)
        self.check(self.validation is None or isinstance(self.validation, Mapping), "validation", "texts by name")
        self.check(self.patience is None or bool(self.validation), "patience", "None where there is no validation")

    def plain(self) -> dict[str, Any]:
        """The settings that decide what is learned, as plain data: for cards and checkpoints."""
        named = super().plain()
        for name in ("optimizer", "objective", "replay_objective"):
            named[name] = named[name] if isinstance(named[name], str | None) else recorded(named[name])
        named["penalty"] = [recorded(penalty) for penalty in asked_penalties(self.penalty)] or None
        return named | {"validation": sorted(self.validation or {})}


def settings_from(given: Mapping[str, Any]) -> Settings:
    """Settings of `train` from keywords, checked.

    Raises:
        AddendaError: there is no such setting (with the nearest name), or a value has the wrong type or range.
    """
    return checked(Settings, "train", given)


def compare(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other settings than it began with.

    Raises:
        TrainingError: says which differ, and how.
    """
    keys = sorted(saved.keys() | now.keys())
    differ = [f"{key}: {saved.get(key)!r} then, {now.get(key)!r} now" for key in keys if saved.get(key) != now.get(key)]
    if differ:
        raise TrainingError(
            "the run cannot be resumed with other settings than it began with: "
            + "; ".join(differ)
            + ". Give the old ones, or train into a new folder"
        )
