"""Reports of runs, and that of a training run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from addenda.core.plain import plain_of
from addenda.telling.changes import change_in_words, learned_or_forgot
from addenda.telling.progress import megabytes
from addenda.writing.validation import label


def mean_of(losses: Iterable[float | None]) -> float | None:
    """The mean of the losses that there are; None where there is none."""
    there = [loss for loss in losses if loss is not None]
    return sum(there) / len(there) if there else None


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What every run tells. `seconds` are those of all calls of a resumed run, without what was spent on measuring.

    `run` is where its log is, `freed` the bytes of checkpoints that were removed from there. `remarks` say what to know of it.
    """

    seconds: float
    settings: dict[str, Any]
    resumed_from: int | None = None
    out: Path | None = None
    run: Path | None = None
    freed: int = 0
    remarks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {f.name: plain_of(getattr(self, f.name)) for f in fields(self) if f.repr}

    def last_lines(self) -> list[str]:
        """Remarks, and where the log is."""
        lines = [f"  {remark}" for remark in self.remarks]
        if self.freed:
            lines.append(f"  its log is in {self.run}; checkpoints of {megabytes(self.freed)} were removed from there")
        return lines


@dataclass(frozen=True, kw_only=True)
class TrainReport(RunReport):
    """What a run did.

    `losses` are each module's mean corpus loss over the last tenth of the run, or over the last steps that had tokens of the
    corpus; `learning` and `forgetting` map a
    module's name to its changes by validation text, in nats per token with 95% intervals; `history` is the log.
    `planned_steps` are more than `steps` where the run ended early. `seconds_here` are those of this call alone. `remarks` say
    what the run left undone, and how to do it. `on_corpus` has by module, where no
    text to learn was held out and the run is told of, the loss on a few tokens of its corpus, of the bare base and after the run.
    """

    names: tuple[str, ...]
    steps: int
    tokens: int
    losses: dict[str, float | None]
    learning: dict[str, dict[str, dict[str, Any]]]
    forgetting: dict[str, dict[str, dict[str, Any]]]
    parameters: dict[str, int]
    stopped_early: bool
    data_crc: int
    history: list[dict[str, Any]] = field(repr=False)
    seconds_here: float | None = None
    planned_steps: int | None = None
    on_corpus: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    @property
    def loss(self) -> float | None:
        """Mean over modules of their last training loss, nats per token; None where no token of a corpus counted."""
        return mean_of(self.losses.values())

    @property
    def tokens_per_second(self) -> float:
        """Speed of this call, checkpoints included, validation not."""
        done = self.tokens - (self.resumed_from or 0) * self.tokens // max(1, self.steps)
        seconds = self.seconds if self.seconds_here is None else self.seconds_here
        return done / seconds if seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; without the history."""
        return super().as_dict() | {"loss": self.loss, "tokens_per_second": self.tokens_per_second}

    def __str__(self) -> str:
        early = self.planned_steps is not None and self.steps < self.planned_steps
        steps = f"{self.steps:,} of {self.planned_steps:,} steps (ended early)" if early else f"{self.steps:,} steps"
        speed = f" ({self.tokens_per_second:,.0f} tokens/s)" if self.tokens_per_second else ""
        told = "no token of the corpus counted"
        if self.loss is not None:
            told = f"training loss at the end {self.loss:.3f} nats per token of the corpus"
        lines = [
            f"{', '.join(self.names)}: trained on {self.tokens:,} tokens in {steps}, {self.seconds:,.0f} s{speed}; {told}"
        ]
        for name, loss in self.on_corpus.items():
            bare, now = loss["bare"], loss["now"]
            lines.append(
                f"  {name} on {loss['tokens']:,.0f} tokens of its corpus: {learned_or_forgot(now - bare)} nats per token (base "
                f"{bare:.3f}, now {now:.3f})"
            )
        for word, table in (("learned", self.learning), ("forgot", self.forgetting)):
            for name, texts in table.items():
                for on, change in texts.items():
                    sure = (change["value"], change["low"], change["high"], change["documents"])
                    lines.append(f"  {name} on {label(on)}: {change_in_words(word, *sure)}")
        return "\n".join([*lines, *self.last_lines()])
