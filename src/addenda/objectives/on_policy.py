"""On-policy distillation: the student answers, and the bare base, which has read the document, says what it should have said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from addenda.core.errors import AddendaError
from addenda.objectives.objective import Answering
from addenda.objectives.over_top_k import OverTopK, divergence


@dataclass(frozen=True)
class OnPolicy(OverTopK):
    """Learn from what the module itself answers: the student writes, the teacher scores, KL(student || teacher), in rounds.

    A run has `rounds` equal parts. Before each the base with the module answers the records' questions, at most
    `answer_tokens` tokens, drawn at `temperature` (0: greedily); the teacher, the bare base with the record's `reads` in its
    window, then says of each token of these answers what should have come. With `first="records"` the first part learns from
    the answers of the records as they are: a student that knows nothing yet says little that the teacher can mend. The cost
    is that of `reverse_kl`, with its bound. Records are conversations with `reads`.

    Source: self-distillation fine-tuning (SDFT), arXiv:2601.19897. Differs: whole rounds of answers rather than fresh ones in
    each step, so that the teacher runs once a round; top tokens and a rest; the teacher's weights stay the bare base's.
    """

    top_k: int = 64
    reads: int = 256
    rounds: int = 3
    temperature: float = 1.0
    answer_tokens: int = 64
    first: Literal["records", "student"] = "records"

    name: ClassVar[str] = "on_policy"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("rounds", "answer_tokens"):
            if getattr(self, option) < 1:
                raise AddendaError(f"{option} is a whole number from 1; got {getattr(self, option)}")
        if not 0 <= self.temperature < 100:
            raise AddendaError(f"temperature is 0 (greedy) or above; got {self.temperature}")

    @property
    def answering(self) -> Answering:
        """How the student answers between rounds."""
        return Answering(self.rounds, self.answer_tokens, self.temperature, self.first == "records")

    def between(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Nats for each token [n], of the classes' log-probabilities [n, k + 1]."""
        return divergence(student, teacher)
