"""The work of a comparison: one method at one rate and seed, trained, measured and kept; what is kept is not done again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from addenda.comparing.cost import ratios
from addenda.comparing.memory import peak, reset_peak
from addenda.comparing.methods import Method, Size, equal_rank
from addenda.comparing.settings import CompareSettings
from addenda.comparing.window import Ahead, beginning, first_documents, first_ids, retrieved
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.registry import plain_options
from addenda.files import replace_text
from addenda.measuring.disturbance import disturbance
from addenda.plugging import Base, load_base
from addenda.scoring import Score, score
from addenda.texts import Texts, texts
from addenda.writing import checkpoint
from addenda.writing.memorize import memorize
from addenda.writing.memory_report import MemorizeReport
from addenda.writing.plain import PlainTraining
from addenda.writing.report import TrainReport
from addenda.writing.train import train

NAME = "compared"
#: times that a run is validated, as `addenda.train` has it by default
VALIDATIONS = 10
#: settings that change nothing that a run leaves behind
FREE = frozenset({"tokens", "seeds", "rates", "rung", "allow_overlap", "compose", "pairs"})
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """What is read: to train on, to choose the rate by, and to report on."""

    corpus: Texts
    replay: Texts | None
    choosing: Texts
    learning: Texts
    forgetting: Texts
    unrelated: Texts


@dataclass(frozen=True)
class Trained:
    """A method at work: `on` selects it for a block, `base` is what it acts in, `model` what runs, `ahead` what is read first.

    `seconds` are those of its training, of all calls of a resumed run, validations included; `curve` has these validations.
    """

    base: Base
    on: Callable[[], AbstractContextManager[Any]]
    model: Any = None
    ahead: Ahead | None = None
    parameters: int = 0
    size: int = 0
    seconds: float = 0.0
    curve: Sequence[dict[str, float]] = ()


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


@dataclass
class Plan:
    """How far a comparison is, in tokens trained on and scored: `advance` is told what is done, and what is planned."""

    tokens: int
    advance: Callable[[int, int], None]
    done: int = 0

    def add(self, tokens: int) -> None:
        """So many more are done."""
        self.done += tokens
        self.advance(self.done, self.tokens)


def cost_of(tokens: int, settings: CompareSettings, *, final: bool) -> int:
    """What a run counts for: a token trained on as three, one that is only scored as one."""
    return 3 * tokens + settings.held_tokens * (3 if final else 1)


class Work:
    """Runs of one comparison on one base, with their records under `out/records`."""

    def __init__(
        self,
        name: str,
        base: Base,
        sources: Sources,
        settings: CompareSettings,
        out: Path,
        tell: Tell,
        plan: Plan,
    ) -> None:
        self.name, self.base, self.sources, self.settings = name, base, sources, settings
        self.out, self.tell, self.plan = out, tell, plan
        self.size = Size(settings.extra, settings.count, settings.rank)
        given = {field.name: getattr(sources, field.name) for field in fields(sources)}
        self.data = {key: "" if source is None else source.identity() for key, source in given.items()}
        self.prompt = torch.from_numpy(first_ids(base, sources.learning, settings.length // 2).astype(np.int64))

    # -- records -----------------------------------------------------------------------------------------------------

    def record(self, method: Method, lr: float | None, tokens: int, seed: int, *, final: bool) -> dict[str, Any]:
        """The record of a run: read where there is one, else made. A run that is not final only tells how it learns."""
        kind = None if method.kind is None else method.kind(self.base, self.size)
        identity = {
            "method": method.name, "kind": described(kind), "lr": lr, "tokens": tokens, "seed": seed, "final": final,
            "base": self.base.fingerprint, "data": self.data,
            "settings": {k: v for k, v in self.settings.plain().items() if k not in FREE},
        }  # fmt: skip
        path = self.out / "records" / f"{method.name}-{mark(identity)}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
        else:
            found = self._made(
                Task(method, kind, lr, tokens, seed, self.out / "modules" / path.stem, final), identity, path
            )
        self.plan.add(cost_of(tokens, self.settings, final=final))
        return found

    def _made(self, task: Task, identity: dict[str, Any], path: Path) -> dict[str, Any]:
        """Do the run, and write its record."""
        told = task.method.name
        if task.lr is not None:
            told += f", rate {task.lr:.2g}, {task.tokens:,} tokens" + (
                f", seed {task.seed}" if task.final else ", sweep"
            )
        self.tell(told)
        found = self._run(task)
        replace_text(path, json.dumps({"identity": identity} | found, default=float) + "\n")
        if not task.final:
            shutil.rmtree(task.folder, ignore_errors=True)
        shutil.rmtree(task.run, ignore_errors=True)
        return found

    def _run(self, task: Task) -> dict[str, Any]:
        reset_peak(self.base.device)
        with self._trained(task) as trained:
            most = peak(self.base.device)
            if not task.final:
                return {"choosing": self._score(trained, self.sources.choosing).nats, "seconds": trained.seconds}
            found = {
                key: plain_score(self._score(trained, getattr(self.sources, key))) for key in ("learning", "forgetting")
            }
            extra = 0 if trained.ahead is None else len(trained.ahead(self.prompt.numpy()))
            cost = (1.0, 1.0)
            if task.method.how not in ("nothing", "full"):  # what is the base, or has its shape, costs what it costs
                # against the bare base: what PEFT acts in has its LoRA on whatever is selected
                pairs, model = self.settings.pairs, trained.model
                cost = ratios(self.base, trained.on, self.base.off, self.prompt, extra, pairs, model)
            return found | {
                "unrelated": self._unrelated(trained),
                "parameters": trained.parameters,
                "bytes": trained.size,
                "seconds": trained.seconds,
                "peak_megabytes": most,
                "extra_tokens": extra,
                "cost": cost,
                "curve": list(trained.curve),
            }

    # -- training ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _trained(self, task: Task) -> Iterator[Trained]:
        """The method at work in this block."""
        base, corpus, how = self.base, self.sources.corpus, task.method.how
        if how in ("full", "peft"):
            yield self._plain(task)
        elif how == "nothing":
            yield Trained(base, base.off)
        elif how == "rag":
            yield Trained(base, base.off, ahead=retrieved(base, corpus, self.settings.passages))
        elif how == "context":
            room = (base.context or 2 * self.settings.length) - self.settings.length - 1
            yield Trained(base, base.off, ahead=beginning(base, corpus, room))
        else:
            try:
                report, curve = self._streamed(task) if how == "stream" else self._module(task)
                size = sum(file.stat().st_size for file in task.folder.iterdir())
                yield Trained(
                    base, lambda: base.using(NAME), parameters=base.modules[NAME].size(), size=size, seconds=report.seconds,
                    curve=curve,
                )  # fmt: skip
            finally:
                if NAME in base.modules:
                    base.unplug(NAME)

    def _streamed(self, task: Task) -> tuple[MemorizeReport, list[dict[str, float]]]:
        """A memory written as the beginning of the corpus streams by; nothing is validated on the way."""
        base, most = self.base, self.base.context
        window = 2 * self.settings.length if most is None else min(2 * self.settings.length, most)
        text = "\n\n".join(first_documents(base, self.sources.corpus, task.tokens))
        report = memorize(
            base, NAME, text=text, kind=task.kind, out=task.folder, resume=True,
            replay=self.sources.replay, lr=task.lr, seed=task.seed, baseline=False, log=False, window=window, chunk=window // 2,
            precision=self.settings.precision,
        )  # fmt: skip
        return report, []

    def _module(self, task: Task) -> tuple[TrainReport, list[dict[str, float]]]:
        """A module, trained now or taken up where it was interrupted, with its validations."""
        chosen, source = self.settings, self.sources
        assert task.kind is not None
        self.base.new(NAME, task.kind, seed=task.seed)
        options: dict[str, Any] = {} if source.replay is None else {"replay_share": chosen.replay_share}
        if task.final:
            texts_ = {"learning": source.choosing, "forgetting-general": source.forgetting}
            options |= {"validation": texts_, "validation_tokens": self._validation_tokens}
        report = train(
            self.base, NAME, corpus=source.corpus, replay=source.replay, tokens=task.tokens, lr=task.lr, seed=task.seed,
            out=task.folder, resume=True, length=chosen.length, batch_rows=chosen.batch_rows, precision=chosen.precision,
            log=False, **options,
        )  # fmt: skip
        return report, [
            {"tokens": record["step"] * chosen.length * chosen.batch_rows}
            | {name.split("-")[0]: one["value"] for name, one in found.items()}
            for record in report.history
            for found in record.get("validation", {}).values()
        ]

    def _plain(self, task: Task) -> Trained:
        """Every weight of a fresh base, or PEFT's LoRA beside one, validated as often as modules are."""
        torch.manual_seed(task.seed)
        fresh = load_base(self.name, dtype=torch.float32)
        model, chosen, source = fresh.model, self.settings, self.sources
        if task.method.how == "peft":
            model = _with_peft(model, equal_rank(self.base, self.size))
        assert task.lr is not None
        training = PlainTraining(
            model, fresh.tokenizer, source.corpus, source.replay, lr=task.lr, seed=task.seed, rows=chosen.batch_rows,
            length=chosen.length, share=chosen.replay_share, precision=chosen.precision, work=task.run,
        )  # fmt: skip
        # PEFT puts its linears into the very model that `fresh` scores
        trained = Trained(fresh, nullcontext, model)

        def after(step: int, steps: int) -> None:
            if step == steps or step % max(1, steps // VALIDATIONS) == 0:
                gained = self._score(bare, source.choosing, few=True).minus(
                    self._score(trained, source.choosing, few=True)
                )
                lost = self._score(trained, source.forgetting, few=True).minus(
                    self._score(bare, source.forgetting, few=True)
                )
                point = {
                    "tokens": step * chosen.length * chosen.batch_rows,
                    "learning": gained.nats,
                    "forgetting": lost.nats,
                }
                training.kept["curve"] = [*training.kept.get("curve", []), point]

        bare = Trained(self.base, self.base.off)
        training.run(task.tokens, *([after] if task.final else []))
        model.eval()
        return replace(
            trained,
            parameters=sum(parameter.numel() for parameter in training.names),
            size=sum(parameter.numel() * parameter.element_size() for parameter in training.names),
            seconds=training.seconds,
            curve=training.kept.get("curve", []),
        )

    # -- measuring ---------------------------------------------------------------------------------------------------

    @property
    def _validation_tokens(self) -> int:
        return max(8, self.settings.held_tokens // 4)

    def _score(self, trained: Trained, source: Texts, *, few: bool = False) -> Score:
        """The loss on held-out text; on `few` tokens, as while training."""
        tokens = self._validation_tokens if few else self.settings.held_tokens
        with trained.on():
            return score(
                trained.base, source, length=self.settings.length, tokens=tokens, precision=self.settings.precision,
                before=trained.ahead,
            )  # fmt: skip

    def _unrelated(self, trained: Trained) -> dict[str, float]:
        """How far unrelated text is moved: nats added, and for modules what stays bit-equal and the KL from the base."""
        source, chosen = self.sources.unrelated, self.settings
        change = self._score(trained, source).minus(self._score(Trained(self.base, self.base.off), source))
        found = {"nats": change.nats, "low": change.low, "high": change.high}
        if NAME in self.base.modules:
            seen = disturbance(self.base, NAME, source, tokens=chosen.held_tokens // 2, length=chosen.length)
            found |= {"untouched": seen.untouched.value, "kl": seen.kl.value}
        return found


def plain_score(found: Score) -> dict[str, Any]:
    """A score as plain data, with what pairs it with others."""
    return {"nats": found.nats, "sums": found.sums.tolist(), "counts": found.counts.tolist()}


def described(kind: Kind | None) -> list[Any] | None:
    """A kind as plain data, for what a record is known by."""
    return None if kind is None else [type(kind).__name__, plain_options(kind)]


def mark(identity: Any) -> str:
    """A short name of what a record is known by, plain data, that changes with all of it."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _with_peft(model: Any, rank: int) -> Any:
    """The model with PEFT's LoRA on all its linears, scaled as ours is."""
    try:
        import peft
    except ImportError:
        raise AddendaError("method 'peft' needs the package peft: pip install \"addenda[eval]\"") from None
    return peft.get_peft_model(
        model, peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    ).base_model.model


def halves(source: Any) -> tuple[Texts, Texts]:
    """A held-out text in two, document by document: to choose by, and to report on; of one document its two halves."""
    found = [record["text"] for record in texts(source)]
    if len(found) == 1:
        middle = len(found[0]) // 2
        found = [found[0][:middle], found[0][middle:]]
    name = texts(source).name
    return texts(found[::2], name=f"{name}, even"), texts(found[1::2], name=f"{name}, odd")
