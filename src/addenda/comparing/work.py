"""The work of a comparison: one method at one rate and seed, trained, measured and kept; what is kept is not done again."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from addenda.comparing.cost import ratios
from addenda.comparing.making import Maker, Sources, Task, Trained
from addenda.comparing.methods import Method
from addenda.comparing.settings import CompareSettings
from addenda.comparing.window import first_ids
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, DataError, TrainingError
from addenda.core.files import kept_json, replace_text, sha256_of
from addenda.core.registry import plain_options
from addenda.measuring.asking.answers import answers_to, is_right, with_documents, with_passages
from addenda.measuring.asking.asked import opened_questions
from addenda.measuring.asking.chats import GENERAL, answers, asked_of, parts_at
from addenda.measuring.asking.judge import VERDICTS, Judge
from addenda.measuring.asking.zero_shot import fitting, right, usual
from addenda.measuring.looking.disturbance import divergence
from addenda.measuring.looking.pieces import documents_of
from addenda.plug.base import Base
from addenda.plug.scoring import Score
from addenda.telling.interrupts import Stopped
from addenda.telling.progress import part
from addenda.text.records import plain_text
from addenda.text.texts import Texts, texts

#: settings that change nothing that a run learns; what was timed once is not timed again for more `pairs`
FREE = frozenset({"tokens", "seeds", "rates", "rung", "allow_overlap", "compose", "pairs"})
#: settings that records of earlier versions know nothing of: at their defaults they do not tell runs apart
NEWER = {name: getattr(CompareSettings, name) for name in ("chats", "zero_shot", "questions")}
#: what errors say of a run that would fail again: these alone are kept
DIVERGED = "not finite"
#: ways that leave the base's own answers alone: text in the window is read where it is asked for, and nowhere else
LEAVE_BASE = ("nothing", "rag", "context")
#: how questions are asked where text is read in the window
READ = {"rag": with_passages, "context": with_documents}
Tell = Callable[[str], None]
Record = dict[str, Any]


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

    def reach(self, tokens: int) -> None:
        """So many are done in all: runs that a failed method was spared count too."""
        if tokens > self.done:
            self.add(tokens - self.done)


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
        self.base, self.sources, self.settings = base, sources, settings
        self.out, self.tell, self.plan = out, tell, plan
        self.maker = Maker(name, base, sources, settings)
        given = {field.name: getattr(sources, field.name) for field in fields(sources)}
        self.data = {key: "" if source is None else source.identity() for key, source in given.items()}
        self.chats = asked_of(GENERAL, settings.chats)[1] if settings.chats else []
        self.zero_shot = fitting(base, settings.zero_shot) if settings.zero_shot and base.tokenizer is not None else []
        self.questions = opened_questions(settings.questions)[1] if settings.questions is not None else []
        if settings.questions is not None:
            self.data["questions"] = sha256_of(Path(settings.questions))
        self.judge = (
            None if settings.judge is None else Judge(settings.judge, settings.judge_model, out / VERDICTS.name)
        )
        self.prompt = torch.from_numpy(first_ids(base, sources.learning, settings.length // 2).astype(np.int64))

    # -- records -----------------------------------------------------------------------------------------------------

    def record(self, method: Method, lr: float | None, tokens: int, seed: int, *, final: bool) -> Record:
        """The record of a run: read where there is one, else made. A run that is not final only tells how it learns.

        Where the method failed, the record has the reason under `failed`, and nothing else but an infinite `choosing`.
        """
        try:
            kind = None if method.kind is None else method.kind(self.base, self.maker.size)
        except AddendaError as error:
            record: Record = {"failed": str(error)}
        else:
            identity = self._identity(method, kind, lr, tokens, seed, final)
            path = self.out / "records" / f"{_as_file(method.name)}-{mark(identity)}.json"
            kept: Record = kept_json(path) if path.exists() else {}
            # records of earlier versions lack times by repeat: what trains nothing is soon measured again
            if kept and ("times" in kept or "failed" in kept or method.rates):
                record = kept
            else:
                folder = self.out / "modules" / path.stem
                record = self._made(Task(method, kind, lr, tokens, seed, folder, final), identity, path)
        self.plan.add(cost_of(tokens, self.settings, final=final))
        return record | {"choosing": math.inf} if "failed" in record else record

    def _identity(
        self, method: Method, kind: Kind | None, lr: float | None, tokens: int, seed: int, final: bool
    ) -> Record:
        """What a record is known by."""
        identity = {
            "method": method.name, "kind": described(kind), "lr": lr, "tokens": tokens, "seed": seed, "final": final,
            "base": self.base.fingerprint, "data": self.data,
            "settings": {k: v for k, v in self.settings.plain().items() if k not in FREE and v != NEWER.get(k)},
        }  # fmt: skip
        named = {} if method.rival is None else {"rival": method.rival.plain()}
        return identity | named | where(self.base)

    def _made(self, task: Task, identity: Record, path: Path) -> Record:
        """Do the run, and write its record; a failure is kept where the same run would fail again."""
        told = task.method.name
        if task.lr is not None:
            told += f", rate {task.lr:.2g}, {task.tokens:,} tokens" + (
                f", seed {task.seed}" if task.final else ", sweep"
            )
        self.tell(told)
        try:
            with part(told):
                record = self._run(task)
        except (DataError, Stopped):  # concern all methods
            raise
        except (AddendaError, torch.OutOfMemoryError) as error:
            record = {"failed": _reason(error, task)}
            self.tell(f"{told}: {record['failed']}")
        if "failed" in record and DIVERGED not in record["failed"]:
            return record
        replace_text(path, json.dumps(plain({"identity": identity} | record), allow_nan=False) + "\n")
        if not task.final or "failed" in record:
            shutil.rmtree(task.folder, ignore_errors=True)
        shutil.rmtree(task.run, ignore_errors=True)
        return record

    def _run(self, task: Task) -> Record:
        scores = self.maker.scores
        with self.maker.at_work(task) as trained:
            if not task.final:
                return {"choosing": _finite(scores.of(trained, self.sources.choosing)).nats, "seconds": trained.seconds}
            record: Record = {
                key: plain_score(_finite(scores.of(trained, getattr(self.sources, key))))
                for key in ("learning", "forgetting", *(("unrelated",) if self.sources.apart else ()))
            }
            record["unrelated"] = record.get("unrelated", record["forgetting"]) | self._apart(trained, task.method)
            record |= self._asked(trained, task.method) | self._answered(trained, task.method)
            extra = 0 if trained.ahead is None else len(trained.ahead(self.prompt.numpy()))
            prefill, decode = [1.0], [1.0]
            if task.method.how not in ("nothing", "full"):  # what is the base, or has its shape, costs what it costs
                # against the bare base: what PEFT acts in has its LoRA on whatever is selected
                pairs, model = self.settings.pairs, trained.model
                prefill, decode = ratios(self.base, trained.on, self.base.off, self.prompt, trained.ahead, pairs, model)
            return record | {
                "parameters": trained.parameters,
                "bytes": trained.size,
                "seconds": trained.seconds,
                "peak_megabytes": trained.peak,
                "extra_tokens": extra,
                "times": {"prefill": prefill, "decode": decode},
                "curve": list(trained.curve),
                **({} if trained.rival is None else {"rival": trained.rival.plain()}),
            }

    def _apart(self, trained: Trained, method: Method) -> Record:
        """Of what changes the base, token by token on unrelated text: what it leaves bit-equal, and the KL from the base."""
        if method.how in LEAVE_BASE:
            return {}
        source, chosen = self.sources.unrelated, self.settings
        length = longest(self.base, source, chosen.length)
        if length is None:
            return {}
        tokens = chosen.held_tokens // 2
        kl, untouched = divergence(self.base, trained.base, trained.on, source, tokens=tokens, length=length)
        return {"untouched": untouched.as_dict(), "kl": kl.as_dict()}

    def _asked(self, trained: Trained, method: Method) -> Record:
        """Of the base and of what changes it: which general chats it answers otherwise, which zero-shot questions rightly."""
        record: Record = {}
        if self.base.tokenizer is None or (method.how in LEAVE_BASE and method.how != "nothing"):
            return record
        with trained.on():
            if self.chats and method.how != "nothing":
                said = answers(trained.base, self.chats)
                record["changed"] = [parts_at(*both) is not None for both in zip(self._bare_answers, said, strict=True)]
            if self.zero_shot:
                record["right"] = usual(self.zero_shot, right(trained.base, self.zero_shot)).tolist()
        return record

    def _answered(self, trained: Trained, method: Method) -> Record:
        """What is said to questions about the corpus in chat, and which rightly; where text is read in the window, with that."""
        if not self.questions:
            return {}
        chats = [list(one.messages) for one in self.questions]
        if method.how in READ:
            corpus = [plain_text(record) for record in self.sources.corpus]
            chats = READ[method.how](trained.base, self.questions, corpus)
        with trained.on():
            said = answers_to(trained.base, chats)
        return {"answered": [is_right(*both) for both in zip(self.questions, said, strict=True)], "said": list(said)}

    @cached_property
    def _bare_answers(self) -> list[list[int]]:
        """What the bare base answers to the chats."""
        with self.base.off():
            return answers(self.base, self.chats)


def longest(base: Base, source: Texts, length: int) -> int | None:
    """The length, or a half, a quarter, ... of it that some document has; None where all are shorter than eight tokens."""
    while length >= 8:
        try:
            next(documents_of(base, source, [length], length))
        except DataError:
            length //= 2
        else:
            return length
    return None


def _finite(score: Score) -> Score:
    if not math.isfinite(score.nats):
        raise TrainingError(f"its loss on '{score.on}' is {DIVERGED}; a smaller rate may help")
    return score


def _as_file(name: str) -> str:
    """A method's name as part of a file's: options may hold what no file is called by."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")[:80]


def _reason(error: Exception, task: Task) -> str:
    """Why a run failed, in one line; its checkpoints go, and are not named."""
    told = str(error).splitlines()[0]
    for end in (". The last good checkpoint", ". There is no checkpoint"):
        told = told.split(end)[0]
    return told


def plain(value: Any) -> Any:
    """Plain data that every reader of JSON takes: numbers that are not finite are null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    return float(value) if math.isfinite(float(value)) else None


def plain_score(score: Score) -> Record:
    """A score as plain data, with what pairs it with others."""
    return {"nats": score.nats, "sums": score.sums.tolist(), "counts": score.counts.tolist()}


def described(kind: Kind | None) -> list[Any] | None:
    """A kind as plain data, for what a record is known by."""
    return None if kind is None else [type(kind).__name__, plain_options(kind)]


def mark(identity: Any) -> str:
    """A short name of what a record is known by, plain data, that changes with all of it."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]


def where(base: Base) -> dict[str, str]:
    """What else a record is known by: precision and device, where they are not what they mostly are."""
    dtype, place = str(base.model.dtype), base.device.type
    named = {"dtype": (dtype, str(torch.float32)), "device": (place, "cpu")}
    return {key: value for key, (value, mostly) in named.items() if value != mostly}


def records_of(source: Texts) -> list[Any]:
    """Its records, those that are plain text as strings.

    Raises:
        DataError: it has no end.
    """
    if source.endless:
        raise DataError(f"'{source.name}' has no end: a comparison takes its texts apart, so give it a part of that")
    return [record.get("text", record) for record in source]


def halves(source: Any) -> tuple[Texts, Texts]:
    """A held-out text in two, document by document: to choose by, and to report on; of one document its two halves.

    Raises:
        DataError: it has no end, or one conversation alone, which has no halves.
    """
    records, name = records_of(texts(source)), texts(source).name
    if len(records) == 1:
        if not isinstance(records[0], str):
            raise DataError(
                f"'{name}' has one record: rates are chosen on some and all is reported on others, so give two or more"
            )
        middle = len(records[0]) // 2
        records = [records[0][:middle], records[0][middle:]]
    return texts(records[::2], name=f"{name}, even"), texts(records[1::2], name=f"{name}, odd")
