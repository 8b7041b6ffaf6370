"""The plan of a forgetting run: what was asked, checked and resolved, before the first token is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from addenda.core.errors import AddendaError, DataError, TrainingError
from addenda.core.files import several
from addenda.core.module import KnowledgeModule, plugged
from addenda.core.registry import asked_for, plain_options, recorded
from addenda.forgetters.forgetter import Forgetter
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts
from addenda.writing.budget import ROWS_OF_A_TEXT, SIZES, rows_for
from addenda.writing.packing import Feed, Stream, shuffled_among, tokens_in

if TYPE_CHECKING:
    from addenda.plug.base import Base

FORGET, RETAIN = 0, 1
#: times that the forget text is read where no number of tokens was given, and the most of it that counts for that
PASSES, COUNTED = 8, 8192
#: what may differ between a run and its resumption
FREE = frozenset({"checkpoint_every", "keep", "keep_run", "log", "measured"})
#: share of a kind's own learning rate that forgetting takes: it has far less to change than learning had
SHARE = 0.3


@dataclass(frozen=True)
class ForgetSettings:
    """How a module forgets; every field may be given to `addenda.forget` by name."""

    length: int | None = None
    """tokens of a row; default: up to 512, as tokens and texts allow"""
    batch_rows: int | None = None
    """rows of one batch of either text; default: 8, of few tokens 4 or 2"""
    warmup: float = 0.05
    """share of the steps over which the learning rate rises"""
    floor: float = 0.1
    """share of the learning rate that the cosine ends at"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast; the module's own parameters stay float32"""
    measured: int = 16_000
    """tokens of each text that are measured at the end, before and after"""
    checkpoint_every: int | None = None
    """steps between checkpoints; default: a twentieth of the run"""
    keep: int = 2
    """checkpoints kept while it runs"""
    keep_run: bool = False
    """keep the checkpoints of a finished run too, which still know what was forgotten"""
    log: bool = True
    """say on standard error what the run will do and how it goes"""

    def __post_init__(self) -> None:
        least = {"length": 2, "batch_rows": 1, "measured": 1, "checkpoint_every": 1, "keep": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            self._check(value is None or value >= smallest, name, f"at least {smallest}")
        for name in ("warmup", "floor"):
            self._check(0 <= getattr(self, name) <= 1, name, "a share from 0 to 1")

    def _check(self, holds: bool, name: str, wanted: str) -> None:
        if not holds:
            raise AddendaError(f"setting '{name}' must be {wanted}; got {getattr(self, name)!r}")

    def plain(self) -> dict[str, Any]:
        """The settings that decide what is forgotten, as plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in FREE}


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a run forgets."""

    module: KnowledgeModule
    method: Forgetter
    forget: Texts
    retain: Texts
    lr: float
    seed: int
    settings: ForgetSettings
    rows: int
    length: int
    steps: int
    shuffle: int

    @property
    def batches(self) -> int:
        """Batches of one step: one of the forget text, the others of the retain text."""
        return 1 + self.method.batches

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step, both texts."""
        return self.rows * self.length * self.batches

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""
        return self.settings.checkpoint_every or max(1, self.steps // 20)

    def feeds(self, base: Base) -> dict[str, Feed]:
        """The rows of both texts, from their beginning."""
        encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
        sources = {"forget": (self.forget, FORGET), "retain": (self.retain, RETAIN)}
        return {
            name: Feed(
                Stream(source, encoder, length=self.length, seed=self.seed, code=code, shuffle_tokens=self.shuffle)
            )
            for name, (source, code) in sources.items()
        }

    def identity(self, base: Base, start: str) -> dict[str, Any]:
        """What a resumption must agree with; `start` is the hash of the module's tensors before the first step."""
        return {
            "module": [type(self.module.kind).__name__, plain_options(self.module.kind)],
            "the module's tensors at the start": start,
            "base": base.fingerprint,
            "method": recorded(self.method),
            "forget": self.forget.identity(),
            "retain": self.retain.identity(),
            "lr": self.lr,
            "seed": self.seed,
            "steps": self.steps,
            "rows": self.rows,
            "row length": self.length,
            **self.settings.plain(),
        }


def make_plan(
    base: Base,
    name: str,
    *,
    forget: Any,
    retain: Any,
    method: Any,
    tokens: int | None,
    lr: float | None,
    seed: int,
    settings: ForgetSettings,
) -> Plan:
    """Check and resolve what `forget` was asked.

    Raises:
        AddendaError: the module is not there, cannot forget so, or a text, rate, seed or size is none.
    """
    chosen = asked_for(Forgetter, method)
    module = module_of(base, name)
    _check_module(module)
    chosen.check(module)
    gone, kept = _texts(name, forget, retain)
    if not _whole(seed) or not 0 <= seed < 2**63:
        raise TrainingError(f"seed is a whole number from 0 to 2**63 - 1; got {seed!r}")
    if tokens is not None and not _whole(tokens):
        raise TrainingError(f"tokens is a whole number, both texts counted; got {tokens!r}")
    if lr is not None and not (isinstance(lr, int | float) and not isinstance(lr, bool) and 0 < lr < math.inf):
        raise TrainingError(f"lr is a positive number; got {lr!r}")
    encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
    most = max(ROWS_OF_A_TEXT * SIZES[0][1], COUNTED)
    sizes = [tokens_in(source, encoder, most) for source in (gone, kept)]
    batches = 1 + chosen.batches
    total = PASSES * min(sizes[0], COUNTED) * batches if tokens is None else tokens
    longest = base.context or SIZES[0][1]
    if settings.length is not None and settings.length > longest:
        raise AddendaError(f"rows of {settings.length} tokens do not fit the base's context of {longest}")
    rows, length = rows_for(
        total, longest=longest, smallest=min(sizes), accumulate=batches, rows=settings.batch_rows,
        length=settings.length,
    )  # fmt: skip
    if total < rows * length * batches:
        raise TrainingError(
            f"{total:,} tokens do not make one step of {rows * length * batches:,} ({batches} batches of {rows} x {length}); "
            "give more tokens, or smaller rows or batches"
        )
    return Plan(
        module=module,
        method=chosen,
        forget=gone,
        retain=kept,
        lr=SHARE * module.kind.default_lr if lr is None else float(lr),
        seed=seed,
        settings=settings,
        rows=rows,
        length=length,
        steps=total // (rows * length * batches),
        shuffle=shuffled_among(total),
    )


def module_of(base: Base, name: str) -> KnowledgeModule:
    """A plugged module.

    Raises:
        AddendaError: no such module is plugged.
    """
    return plugged(base.modules, name)


def _check_module(module: KnowledgeModule) -> None:
    """Refuse modules that were written rather than trained, or that nothing can be changed of."""
    module.check_adapts("forget")
    if any(record.objective == "memorize" for record in module.card.training):
        raise AddendaError(
            f"'{module.name}' was written by memorize, chunk upon chunk: write it anew from the text without what is to go, "
            "or forget it whole"
        )
    if module.awaits_text:
        raise AddendaError(f"'{module.name}' still awaits its first text: there is nothing in it to forget")
    if not any(p.requires_grad for p in module.adapters.parameters()):
        raise TrainingError(
            f"module '{module.name}' is frozen: none of its parameters wants a gradient; "
            f"base.modules['{module.name}'].requires_grad_(True) thaws it"
        )


def _texts(name: str, forget: Any, retain: Any) -> tuple[Texts, Texts]:
    missing = [word for word, text in (("forget", forget), ("retain", retain)) if text is None]
    if missing:
        raise AddendaError(
            f"forgetting a part of '{name}' takes both texts, what is to go (forget=) and what is to stay (retain=); "
            f"{' and '.join(missing)} is missing. Without either the module is forgotten whole"
        )
    gone, kept = texts(forget), texts(retain)
    same = gone.fingerprint()
    if gone.reads(kept) or (same is not None and same == kept.fingerprint()):
        raise DataError(
            f"forget and retain are the same text ('{gone.name}'): retain is what the module should still know"
        )
    return gone, kept


def side_owners(module: KnowledgeModule) -> str:
    """Whose side tensors a module has, in words; nothing where there are none."""
    owners = {key.partition(".")[0] for key in module.side}
    return several(owners, "owner").partition(": ")[2] if owners else ""


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
