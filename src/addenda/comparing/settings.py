"""Settings of a comparison: one frozen record, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from addenda.core.settings import Checked


@dataclass(frozen=True)
class CompareSettings(Checked):
    """How methods are compared; every field may be given to `addenda.compare` by name."""

    tokens: int = 200_000
    """of the corpus and replay that each method is trained on; where text is read in the window, none"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """one run each at the chosen rate"""
    replay_share: float = 0.1
    """share of the tokens that are replay"""
    extra: float = 0.2
    """size of modules, as a share of the base's parameters"""
    count: int = 128
    """registers, and slots of a cartridge"""
    rank: int = 64
    """slots of a memory in each layer"""
    rates: int = 3
    """learning rates tried for each method, a factor of about 3 apart around the kind's tested one; of an even number the extra
    one is below; 1: the tested one, and no sweep"""
    rung: float = 0.25
    """share of the tokens of the sweep's first rung; the better half of the rates goes on to twice as many, until one is left:
    of two or three rates the first rung is the only one"""
    length: int = 256
    """tokens of a row, and of a scored window"""
    batch_rows: int = 8
    """rows of one step"""
    held_tokens: int = 20_000
    """tokens scored of each held-out text"""
    chats: int = 30
    """general chats that every method answers, to see which answers change; 0: none"""
    zero_shot: int = 25
    """zero-shot questions of each of four sets that every method is asked; 0: none"""
    questions: str | None = None
    """a file of questions about the corpus, with answers, that every method is asked in chat"""
    judge: str | None = None
    """address of a chat endpoint as OpenAI's that is asked which of these answers are right; its key, if need be, in
    ADDENDA_JUDGE_KEY"""
    judge_model: str | None = None
    """its model; default: the first that it offers"""
    passages: int = 1
    """passages in the window, for rag"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """of training and scoring"""
    allow_overlap: bool = False
    """go on where held-out text shares runs of 13 tokens with the corpus"""
    compose: int = 0
    """parts that the corpus is dealt out into for modules to be trained apart and plugged together, 2 to 8; 0: none"""
    pairs: int = 5
    """timed pairs behind each ratio of cost"""

    free: ClassVar[frozenset[str]] = frozenset({"judge", "judge_model"})
    least: ClassVar[Mapping[str, int]] = {
        "count": 1, "rank": 1, "rates": 1, "batch_rows": 1, "passages": 1, "pairs": 1, "length": 8, "held_tokens": 8,
        "chats": 0, "zero_shot": 0,
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(
            self.tokens >= self.length * self.batch_rows,
            "tokens",
            f"at least one step, {self.length * self.batch_rows}",
        )
        self.check(
            len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds), "seeds", "one or more different numbers"
        )
        self.check(0 <= self.replay_share < 1, "replay_share", "a share from 0 up to 1")
        self.check(0 < self.rung <= 1, "rung", "a share above 0, up to 1")
        self.check(self.compose == 0 or 2 <= self.compose <= 8, "compose", "0, or from 2 to 8")
        self.check(self.extra > 0, "extra", "positive")
        self.check(
            self.judge is None or self.questions is not None, "judge", "given with 'questions', whose answers it judges"
        )

    @property
    def steps(self) -> int:
        """Whole steps in the tokens."""
        return self.tokens // (self.batch_rows * self.length)

    @property
    def trained(self) -> int:
        """Tokens of these steps; what makes no step is left out."""
        return self.steps * self.batch_rows * self.length
