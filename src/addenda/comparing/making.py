"""Making: each method put to work on a base, trained where it trains, with what that took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker

from addenda.comparing.cost import DECODED
from addenda.comparing.methods import Method, Size, equal_lora
from addenda.comparing.peak import Peak
from addenda.comparing.peft_methods import Rival, ours
from addenda.comparing.settings import CompareSettings
from addenda.comparing.window import Ahead, Retrieved, beginning, first_documents, first_ids
from addenda.core.contracts import Kind
from addenda.core.errors import TrainingError
from addenda.core.registry import plain_options
from addenda.plug.base import Base, load_base
from addenda.plug.scoring import Difference, Score, score
from addenda.text.texts import Texts
from addenda.writing import checkpoint
from addenda.writing.memorize import memorize
from addenda.writing.packing import shuffled_among
from addenda.writing.plain import PlainTraining
from addenda.writing.train import train

#: times that a run is validated, whatever that costs: every method's curve has the same points
VALIDATIONS = 10
NOT_FINITE = "the loss on validation text is not finite at step {}; a smaller rate may help"


@dataclass(frozen=True)
class Sources:
    """What is read: to train on, to choose the rate by, and to report on."""

    corpus: Texts
    replay: Texts | None
    choosing: Texts
    learning: Texts
    forgetting: Texts
    unrelated: Texts

    @property
    def apart(self) -> bool:
        """Whether the unrelated text is one of its own, and not that of forgetting again."""
        return self.unrelated is not self.forgetting


@dataclass(frozen=True)
class Trained:
    """A method at work: `on` selects it for a block, `base` is what it acts in, `model` what runs, `ahead` what is read first.

    `seconds` are those of its training, of all calls of a resumed run, without validations (for `rag` of building its index);
    `peak` is that of `memory.Peak` in MB, of this call; `size` is in bytes; `curve` has the validations. `rival` is the method of
    PEFT's that acts, with all options that it was given.
    """

    base: Base
    on: Callable[[], AbstractContextManager[Any]]
    model: Any = None
    ahead: Ahead | None = None
    parameters: int = 0
    size: int = 0
    seconds: float = 0.0
    peak: float | None = None
    curve: Sequence[dict[str, float]] = ()
    rival: Rival | None = None


@dataclass(frozen=True)
class Task:
    """What is to be trained: a method with its kind, at a rate and seed, on so many tokens, into `folder`.

    One that is not `final` is of a sweep: it only has to tell how it learns.
    """

    method: Method
    kind: Kind | None
    lr: float | None
    tokens: int
    seed: int
    folder: Path
    final: bool

    @property
    def run(self) -> Path:
        """Its log and checkpoints."""
        return checkpoint.run_folder(self.folder)


class Scores:
    """Losses on held-out text; the bare base's are taken once for each text."""

    def __init__(self, base: Base, settings: CompareSettings) -> None:
        self.base, self.settings = base, settings
        self._bare: dict[tuple[int, bool], Score] = {}

    @property
    def few(self) -> int:
        """Tokens scored in a validation while training."""
        return max(8, self.settings.held_tokens // 4)

    def of(self, trained: Trained, source: Texts, *, few: bool = False) -> Score:
        """The loss of a method; on `few` tokens, as while training."""
        tokens, chosen = self.few if few else self.settings.held_tokens, self.settings
        with trained.on():
            return score(
                trained.base, source, length=chosen.length, tokens=tokens, precision=chosen.precision, before=trained.ahead
            )  # fmt: skip

    def bare(self, source: Texts, *, few: bool = False) -> Score:
        """The loss of the base as it is."""
        key = (id(source), few)  # sources live as long as the comparison
        if key not in self._bare:
            self._bare[key] = self.of(Trained(self.base, self.base.off), source, few=few)
        return self._bare[key]

    def point(self, trained: Trained, tokens: int, sources: Sources) -> dict[str, float]:
        """What a method has learned and forgotten after so many tokens, as a validation measures it."""
        learning, forgetting = sources.choosing, sources.forgetting
        gained = self.bare(learning, few=True).minus(self.of(trained, learning, few=True))
        lost = self.of(trained, forgetting, few=True).minus(self.bare(forgetting, few=True))
        return _point(tokens, gained.nats, lost)


def _point(tokens: int, learning: float, lost: Difference) -> dict[str, float]:
    """A point of a curve; what was forgotten has its interval over documents."""
    ends = {"forgetting": lost.nats, "forgetting_low": lost.low, "forgetting_high": lost.high}
    return {"tokens": tokens, "learning": learning, **ends}


class Maker:
    """Puts methods to work on one base, each in a block of its own."""

    def __init__(self, name: str, base: Base, sources: Sources, settings: CompareSettings) -> None:
        self.name, self.base, self.sources, self.settings = name, base, sources, settings
        self.size = Size(settings.extra, settings.count, settings.rank)
        self.scores = Scores(base, settings)
        self._rivals: dict[str, Rival] = {}

    @contextmanager
    def at_work(self, task: Task) -> Iterator[Trained]:
        """The method at work in this block.

        Raises:
            TrainingError: its loss is not finite, or a checkpoint cannot be written.
            AddendaError: the base cannot host it.
        """
        base, corpus, how = self.base, self.sources.corpus, task.method.how
        if how in ("full", "peft"):
            yield self._plain(task)
        elif how == "nothing":
            yield Trained(base, base.off)
        elif how == "rag":
            yield self._retrieving()
        elif how == "context":
            yield Trained(
                base,
                base.off,
                ahead=beginning(base, corpus, self.settings.length if self._room is None else self._room),
            )
        else:
            try:
                yield self._plugged(task)
            finally:
                if task.method.name in base.modules:
                    base.unplug(task.method.name)

    @property
    def _room(self) -> int | None:
        """Tokens of the window that are left ahead of a scored window, and of a timed prompt with what is written after it."""
        length = self.settings.length
        needed = max(length + 1, length // 2 + DECODED)
        return None if self.base.context is None else max(0, self.base.context - needed)

    def _retrieving(self) -> Trained:
        most, began = Peak(self.base.model, self.base.device), time.perf_counter()
        retrieved = Retrieved(self.base, self.sources.corpus, self.settings.passages, self._room)
        seconds, peak = time.perf_counter() - began, most.megabytes()
        return Trained(self.base, self.base.off, ahead=retrieved, size=retrieved.size(), seconds=seconds, peak=peak)

    def _plugged(self, task: Task) -> Trained:
        """A module, trained now or taken up where it was interrupted."""
        base, name, most = self.base, task.method.name, Peak(self.base.model, self.base.device)
        seconds, curve = self._streamed(task) if task.method.how == "stream" else self._module(task)
        return Trained(
            base, lambda: base.using(name), parameters=base.modules[name].size(), seconds=seconds, curve=curve,
            size=sum(file.stat().st_size for file in task.folder.iterdir()), peak=most.megabytes(),
        )  # fmt: skip

    def _streamed(self, task: Task) -> tuple[float, list[dict[str, float]]]:
        """Write a memory as the beginning of the corpus streams by; it is validated once, at the end."""
        base, most, source = self.base, self.base.context, self.sources
        # as much of the corpus as the other methods read: theirs is what replay leaves of their tokens
        share = 0.0 if source.replay is None else self.settings.replay_share
        window = 2 * self.settings.length if most is None else min(2 * self.settings.length, most)
        text = "\n\n".join(first_documents(base, source.corpus, round(task.tokens * (1 - share))))
        report = memorize(
            base, task.method.name, text=text, kind=task.kind, out=task.folder, resume=True,
            replay=source.replay, lr=task.lr, seed=task.seed, baseline=False, log=False, window=window, chunk=window // 2,
            precision=self.settings.precision,
        )  # fmt: skip
        if not task.final:
            return report.seconds, []
        written = Trained(base, lambda: base.using(task.method.name))
        return report.seconds, [self.scores.point(written, task.tokens, source)]

    def _module(self, task: Task) -> tuple[float, list[dict[str, float]]]:
        """Train a module on rows: its seconds without validations, and these."""
        chosen, source = self.settings, self.sources
        assert task.kind is not None
        self.base.new(task.method.name, task.kind, seed=task.seed)
        options: dict[str, Any] = {} if source.replay is None else {"replay_share": chosen.replay_share}
        if task.final:
            options |= {
                "validation": {"learning": source.choosing, "forgetting-general": source.forgetting},
                "validation_tokens": self.scores.few, "tracker": _Finite(),
                "validate_every": max(1, task.tokens // (chosen.length * chosen.batch_rows) // VALIDATIONS),
            }  # fmt: skip
        report = train(
            self.base, task.method.name, corpus=source.corpus, replay=source.replay, tokens=task.tokens, lr=task.lr,
            seed=task.seed, out=task.folder, resume=True, length=chosen.length, batch_rows=chosen.batch_rows,
            precision=chosen.precision, log=False, **options,
        )  # fmt: skip
        return report.seconds, [
            _point(
                record["step"] * chosen.length * chosen.batch_rows, changes["learning"]["value"],
                Difference(*(changes["forgetting-general"][key] for key in ("value", "low", "high", "documents"))),
            )
            for record in report.history
            for changes in record.get("validation", {}).values()
        ]  # fmt: skip

    def _plain(self, task: Task) -> Trained:
        """Every weight of a fresh base, or a method of PEFT's in one, in the base's own precision, validated as modules are."""
        rival = self._rival(task.method) if task.method.how == "peft" else None
        torch.manual_seed(task.seed)
        fresh = self._fresh()
        most = Peak(fresh.model, self.base.device)
        model, chosen, source, scores = fresh.model, self.settings, self.sources, self.scores
        if rival is not None:
            rival.put(model, self._start(rival))
        assert task.lr is not None
        training = PlainTraining(
            model, fresh.tokenizer, source.corpus, source.replay, lr=task.lr, seed=task.seed, rows=chosen.batch_rows,
            length=chosen.length, share=chosen.replay_share, precision=chosen.precision, work=task.run,
            shuffle_tokens=shuffled_among(task.tokens),
        )  # fmt: skip
        # PEFT's methods act in the very model that `fresh` scores
        trained = Trained(fresh, nullcontext, model, rival=rival)

        def after(step: int, steps: int) -> None:
            loss = float(training.loss)
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is not finite at step {step} (loss {loss}); a smaller rate may help")
            if task.final and (step == steps or step % max(1, steps // VALIDATIONS) == 0):
                point = scores.point(trained, step * chosen.length * chosen.batch_rows, source)
                if not all(map(math.isfinite, point.values())):
                    raise TrainingError(NOT_FINITE.format(step))
                training.kept["curve"] = [*training.kept.get("curve", []), point]

        training.run(task.tokens, after)
        model.eval()
        return replace(
            trained,
            parameters=sum(parameter.numel() for parameter in training.names),
            size=sum(parameter.numel() * parameter.element_size() for parameter in training.names),
            seconds=training.seconds,
            peak=most.megabytes(),
            curve=training.kept.get("curve", []),
        )

    def _fresh(self) -> Base:
        """The base once more, to be changed in place."""
        fresh = load_base(self.name, dtype=self.base.model.dtype)
        fresh.model.to(self.base.device)
        return fresh

    def _rival(self, method: Method) -> Rival:
        """The method of PEFT's, as large as the others: sized once."""
        if method.rival is None:
            return ours(plain_options(equal_lora(self.base, self.size))["rank"])
        if method.name not in self._rivals:
            room, asked = self._room, method.rival.tokens
            if room is not None and asked is not None and asked > room:
                raise TrainingError(
                    f"{asked} virtual tokens are asked for, and a window of {self.base.context} has room for {room} ahead of rows"
                )
            count = self.size.count if room is None else min(self.size.count, room)
            self._rivals[method.name] = method.rival.sized(
                lambda: self._fresh().model,
                round(self.size.extra * self.base.anatomy.parameters),
                count,
                self._start(method.rival),
            )
        return self._rivals[method.name]

    def _start(self, rival: Rival) -> Any:
        """Token ids of the beginning of the corpus, for what stands for tokens."""
        return first_ids(self.base, self.sources.corpus, rival.tokens or self.size.count)


class _Finite(GeneralTracker):
    """Ends a run whose validation is not finite, as one whose loss is not ends by itself: it could write no checkpoint."""

    name = "finite"
    requires_logging_directory = False

    @property
    def tracker(self) -> _Finite:
        """Itself: accelerate asks for it."""
        return self

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        """See a record of the log.

        Raises:
            TrainingError: a validation's loss is not finite.
        """
        losses = (value for name, value in values.items() if name.startswith("validation/") and name.endswith("/loss"))
        if not all(map(math.isfinite, losses)):
            raise TrainingError(NOT_FINITE.format(step))
