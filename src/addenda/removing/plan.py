"""The plan of a forgetting run: what was asked, checked and resolved, before the first token is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from addenda.core.errors import AddendaError, TrainingError
from addenda.core.files import several
from addenda.core.module import KnowledgeModule, plugged
from addenda.core.registry import asked_for, recorded
from addenda.forgetters.forgetter import Forgetter
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts
from addenda.writing.asked import check_differ, check_learns, check_seed, rates_of, whole
from addenda.writing.batches import Mixture
from addenda.writing.budget import ROWS_OF_A_TEXT, SIZES, rows_for
from addenda.writing.keeping import identity_of
from addenda.writing.packing import Feed, Stream, shuffled_among, tokens_in
from addenda.writing.settings import RunSettings

if TYPE_CHECKING:
    from addenda.plug.base import Base

FORGET, RETAIN = 0, 1
#: times that the forget text is read where no number of tokens was given, and the most of it that counts for that
PASSES, COUNTED = 8, 8192
#: share of a kind's own learning rate that forgetting takes: it has far less to change than learning had
SHARE = 0.3


@dataclass(frozen=True)
class ForgetSettings(RunSettings):
    """How a module forgets; every field may be given to `addenda.forget` by name."""

    length: int | None = None
    """tokens of a row; default: up to 512, as tokens and texts allow"""
    batch_rows: int | None = None
    """rows of one batch of either text; default: 8, of few tokens 4 or 2"""
    warmup: float = 0.05
    """share of the steps over which the learning rate rises"""
    floor: float = 0.1
    """share of the learning rate that the cosine ends at"""
    measured: int = 16_000
    """tokens of each text that are measured at the end, before and after"""

    free: ClassVar[frozenset[str]] = RunSettings.free | {"measured"}
    least: ClassVar[Mapping[str, int]] = {**RunSettings.least, "length": 2, "batch_rows": 1, "measured": 1}
    shares: ClassVar[tuple[str, ...]] = ("warmup", "floor")


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

    def mixture(self, base: Base) -> Mixture:
        """The rows of both texts, from their beginning."""
        encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
        options: dict[str, Any] = {"length": self.length, "seed": self.seed, "shuffle_tokens": self.shuffle}
        sources = {"forget": (self.forget, FORGET), "retain": (self.retain, RETAIN)}
        feeds = {name: Feed(Stream(text, encoder, code=code, **options)) for name, (text, code) in sources.items()}
        return Mixture(feeds, None, 0.0)

    def identity(self, base: Base, start: str) -> dict[str, Any]:
        """What a resumption must agree with; `start` is the hash of the module's tensors before the first step."""
        return {
            **identity_of(base, [self.module.name]),
            "the module's tensors at the start": start,
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
    check_seed(seed)
    if tokens is not None and not whole(tokens):
        raise TrainingError(f"tokens is a whole number, both texts counted; got {tokens!r}")
    rate = rates_of({name: module.kind}, SHARE * module.kind.default_lr if lr is None else lr)[name]
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
        lr=rate,
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
    check_learns(module, module.adapters)


def _texts(name: str, forget: Any, retain: Any) -> tuple[Texts, Texts]:
    missing = [word for word, text in (("forget", forget), ("retain", retain)) if text is None]
    if missing:
        raise AddendaError(
            f"forgetting a part of '{name}' takes both texts, what is to go (forget=) and what is to stay (retain=); "
            f"{' and '.join(missing)} is missing. Without either the module is forgotten whole"
        )
    gone, kept = texts(forget), texts(retain)
    check_differ("forget", gone, "retain", kept, "is what the module should still know")
    return gone, kept


def side_owners(module: KnowledgeModule) -> str:
    """Whose side tensors a module has, in words; nothing where there are none."""
    owners = {key.partition(".")[0] for key in module.side}
    return several(owners, "owner").partition(": ")[2] if owners else ""
