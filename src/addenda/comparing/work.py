"""The work of a comparison: one method at one rate and seed, trained, measured and kept; what is kept is not done again."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from addenda.comparing.cost import peak, ratios, reset_peak
from addenda.comparing.methods import Method, Size, equal_rank
from addenda.comparing.settings import CompareSettings
from addenda.comparing.window import Ahead, beginning, retrieved
from addenda.core.errors import AddendaError
from addenda.core.registry import plain_options
from addenda.encoding import Encoder
from addenda.files import replace_text
from addenda.measuring.disturbance import disturbance
from addenda.plugging import Base, load_base
from addenda.scoring import Score, score
from addenda.texts import Texts, texts
from addenda.writing.memorize import memorize
from addenda.writing.plain import PlainTraining
from addenda.writing.train import train

NAME = "compared"
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
    """A method at work: `on` selects it for a block, `base` is what it acts in, `model` what runs, `ahead` what is read first."""

    base: Base
    on: Callable[[], AbstractContextManager[Any]]
    model: Any = None
    ahead: Ahead | None = None
    parameters: int = 0
    size: int = 0


class Work:
    """Runs of one comparison on one base, with their records under `out/records`."""

    def __init__(
        self, name: str, base: Base, sources: Sources, settings: CompareSettings, out: Path, tell: Tell
    ) -> None:
        self.name, self.base, self.sources, self.settings, self.out, self.tell = (
            name,
            base,
            sources,
            settings,
            out,
            tell,
        )
        self.size = Size(settings.extra, settings.count, settings.rank)
        self.data = {
            key: getattr(sources, key).identity()
            for key in ("corpus", "learning", "forgetting", "unrelated", "choosing")
        }
        self.data["replay"] = "" if sources.replay is None else sources.replay.identity()

    # -- records -----------------------------------------------------------------------------------------------------

    def record(self, method: Method, lr: float | None, tokens: int, seed: int, *, final: bool) -> dict[str, Any]:
        """The record of a run: read where there is one, else made. A run that is not final only tells how it learns."""
        kind = None if method.kind is None else method.kind(self.base, self.size)
        kept = {
            k: v
            for k, v in self.settings.plain().items()
            if k not in ("tokens", "seeds", "rates", "rung", "allow_overlap", "compose", "pairs")
        }
        identity = {
            "method": method.name, "kind": None if kind is None else [type(kind).__name__, plain_options(kind)], "lr": lr,
            "tokens": tokens, "seed": seed, "final": final, "base": self.base.fingerprint, "data": self.data, "settings": kept,
        }  # fmt: skip
        mark = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]
        path = self.out / "records" / f"{method.name}-{mark}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        told = "" if lr is None else f", rate {lr:.2g}, {tokens:,} tokens" + (f", seed {seed}" if final else ", sweep")
        self.tell(f"{method.name}{told}")
        folder = self.out / "modules" / path.stem
        found = self._run(method, kind, lr, tokens, seed, folder, final)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps({"identity": identity} | found, default=float) + "\n")
        if not final:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.with_name(f"{folder.name}.run"), ignore_errors=True)
        return found

    def _run(
        self, method: Method, kind: Any, lr: float | None, tokens: int, seed: int, folder: Path, final: bool
    ) -> dict[str, Any]:
        device = self.base.device
        reset_peak(device)
        began = time.perf_counter()
        with self._trained(method, kind, lr, tokens, seed, folder) as (trained, curve):
            seconds, most = time.perf_counter() - began, peak(device)
            if not final:
                return {"choosing": self._score(trained, self.sources.choosing).nats, "seconds": seconds}
            texts_ = ("learning", "forgetting", "choosing")
            found = {key: plain_score(self._score(trained, getattr(self.sources, key))) for key in texts_}
            extra = 0 if trained.ahead is None else len(trained.ahead(self._prompt().numpy()))
            cost = None
            if method.how not in ("nothing", "full"):  # what is the base, or has its shape, costs what it costs
                # against the bare base: what PEFT acts in has its LoRA on whatever is selected
                cost = ratios(
                    self.base, trained.on, self.base.off, self._prompt(), extra, self.settings.pairs, trained.model
                )
            return found | {
                "unrelated": self._unrelated(trained),
                "parameters": trained.parameters,
                "bytes": trained.size,
                "seconds": seconds if method.rates else 0.0,
                "peak_megabytes": most,
                "extra_tokens": extra,
                "cost": cost or (1.0, 1.0),
                "curve": curve,
            }

    # -- training ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _trained(
        self, method: Method, kind: Any, lr: float | None, tokens: int, seed: int, folder: Path
    ) -> Iterator[tuple[Trained, list[dict[str, float]]]]:
        """The method at work in this block, and what was validated on the way."""
        base, source = self.base, self.sources
        if method.how in ("full", "peft"):
            assert lr is not None
            yield self._plain(method, lr, tokens, seed, folder), []
        elif method.how == "nothing":
            yield Trained(base, base.off), []
        elif method.how in ("rag", "context"):
            room = (base.context or 2 * self.settings.length) - self.settings.length - 1
            ahead = (
                retrieved(base, source.corpus, self.settings.passages)
                if method.how == "rag"
                else beginning(base, source.corpus, room)
            )
            yield Trained(base, base.off, ahead=ahead), []
        else:
            try:
                curve = self._module(method, kind, lr, tokens, seed, folder)
                module = base.modules[NAME]
                size = sum(file.stat().st_size for file in folder.iterdir())
                yield Trained(base, lambda: base.using(NAME), parameters=module.size(), size=size), curve
            finally:
                if NAME in base.modules:
                    base.unplug(NAME)

    def _module(
        self, method: Method, kind: Any, lr: float | None, tokens: int, seed: int, folder: Path
    ) -> list[dict[str, float]]:
        base, chosen, source = self.base, self.settings, self.sources
        if (folder / "card.json").exists():  # trained, but the process ended before it was measured
            base.plug(folder, name=NAME)
            return []
        if method.how == "stream":
            text = _first_tokens(base, source.corpus, tokens)
            memorize(
                base, NAME, text=text, kind=kind, out=folder, resume=True, lr=lr, seed=seed, baseline=False, log=False,
                window=self._window(), chunk=self._window() // 2, precision=chosen.precision,
            )  # fmt: skip
            return []
        base.new(NAME, kind, seed=seed)
        report = train(
            base, NAME, corpus=source.corpus, replay=source.replay, tokens=tokens, lr=lr, seed=seed, out=folder, resume=True,
            length=chosen.length, batch_rows=chosen.batch_rows, precision=chosen.precision, log=False,
            validation={"learning": source.choosing, "forgetting-general": source.forgetting},
            validation_tokens=max(8, chosen.held_tokens // 4),
            **({} if source.replay is None else {"replay_share": chosen.replay_share}),
        )  # fmt: skip
        return [
            {"tokens": record["step"] * chosen.length * chosen.batch_rows}
            | {name.split("-")[0]: one["value"] for name, one in found.items()}
            for record in report.history
            for found in record.get("validation", {}).values()
        ]

    def _plain(self, method: Method, lr: float, tokens: int, seed: int, folder: Path) -> Trained:
        """Every weight of a fresh base, or PEFT's LoRA beside one."""
        torch.manual_seed(seed)
        fresh = load_base(self.name, dtype=torch.float32)
        model: Any = fresh.model
        if method.how == "peft":
            try:
                import peft
            except ImportError:
                raise AddendaError("method 'peft' compares with the package peft, which is not installed") from None
            rank = equal_rank(self.base, self.size)
            model = peft.get_peft_model(
                model, peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
            )
        chosen, source = self.settings, self.sources
        training = PlainTraining(
            model if method.how == "full" else model.base_model.model, fresh.tokenizer, source.corpus, source.replay,
            lr=lr, seed=seed, rows=chosen.batch_rows, length=chosen.length, share=chosen.replay_share,
            precision=chosen.precision, work=folder.with_name(f"{folder.name}.run"),
        )  # fmt: skip
        training.run(tokens)
        model.eval()
        parameters = sum(parameter.numel() for parameter in training.names)
        size = sum(parameter.numel() * parameter.element_size() for parameter in training.names)
        # PEFT put its linears into the very model that `fresh` scores
        return Trained(fresh, nullcontext, fresh.model, parameters=parameters, size=size)

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _score(self, trained: Trained, source: Texts) -> Score:
        with trained.on():
            return score(
                trained.base, source, length=self.settings.length, tokens=self.settings.held_tokens,
                precision=self.settings.precision, before=trained.ahead,
            )  # fmt: skip

    def _unrelated(self, trained: Trained) -> dict[str, float]:
        """How far unrelated text is moved: nats added, and for modules what stays bit-equal and the KL from the base."""
        with self.base.off():
            bare = self._score(Trained(self.base, self.base.off), self.sources.unrelated)
        change = self._score(trained, self.sources.unrelated).minus(bare)
        found = {"nats": change.nats, "low": change.low, "high": change.high}
        if trained.base is self.base and NAME in self.base.modules:
            seen = disturbance(
                self.base,
                NAME,
                self.sources.unrelated,
                tokens=self.settings.held_tokens // 2,
                length=self.settings.length,
            )
            found |= {"untouched": seen.untouched.value, "kl": seen.kl.value}
        return found

    def _prompt(self) -> Tensor:
        """Token ids [T] of a request."""
        encoder = Encoder(self.base.tokenizer, self.base.vocabulary)
        found: list[np.ndarray] = []
        for document in encoder.documents(self.sources.learning):
            found.append(document.ids)
            if sum(map(len, found)) >= self.settings.length // 2:
                break
        return torch.from_numpy(np.concatenate(found)[: self.settings.length // 2].astype(np.int64))

    def _window(self) -> int:
        return min(2 * self.settings.length, self.base.context or 2 * self.settings.length)


def plain_score(found: Score) -> dict[str, Any]:
    """A score as plain data, with what pairs it with others."""
    return {"nats": found.nats, "sums": found.sums.tolist(), "counts": found.counts.tolist()}


def _first_tokens(base: Base, source: Texts, tokens: int) -> str:
    """The beginning of a corpus as one running text."""
    parts, left = [], tokens
    for document in Encoder(base.tokenizer, base.vocabulary).documents(source):
        parts.append(base.tokenizer.decode(document.ids[:left], skip_special_tokens=True))
        left -= len(document.ids)
        if left <= 0:
            break
    return "\n\n".join(parts)


def halves(source: Any) -> tuple[Texts, Texts]:
    """A held-out text in two, document by document: to choose by, and to report on; of one document its two halves."""
    found = [record["text"] for record in texts(source)]
    if len(found) == 1:
        middle = len(found[0]) // 2
        found = [found[0][:middle], found[0][middle:]]
    name = texts(source).name
    return texts(found[::2], name=f"{name}, even"), texts(found[1::2], name=f"{name}, odd")
