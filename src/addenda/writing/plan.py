"""The plan of a run: what was asked, checked and resolved, before the first token is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, cast

from addenda.core.card import DataRecord
from addenda.core.errors import AddendaError, TrainingError, known
from addenda.core.registry import asked_for
from addenda.objectives.objective import Objective
from addenda.penalties.penalty import Penalty, asked_penalties
from addenda.plug.selection import weights_of
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts
from addenda.writing.asked import check_differ, check_learns, check_seed, number, rates_of, texts_by_name, whole
from addenda.writing.batches import Mixture
from addenda.writing.budget import ROWS_OF_A_TEXT, SIZES, rows_for, validations_for
from addenda.writing.keeping import identity_of
from addenda.writing.packing import SHUFFLE, Feed, Stream, shuffled_among, tokens_in
from addenda.writing.settings import Settings
from addenda.writing.studied import replay_objective, studied_by
from addenda.writing.validation import opened

if TYPE_CHECKING:
    from addenda.plug.base import Base

CORPUS, REPLAY, EARLIER = 0, 1, 2
#: share of the tokens that are replay, where there is replay and no share was given
REPLAY_SHARE = 0.1


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a run learns. In `settings` rows, length and validations are those of the run."""

    names: tuple[str, ...]
    corpora: dict[str, Texts]
    replay: Texts | None
    replay_share: float
    validation: dict[str, Texts]
    alongside: dict[str, float]
    lr: dict[str, float]
    local: dict[str, float]
    seed: int
    settings: Settings
    objective: Objective
    length: int
    steps: int
    #: tokens asked for; whole steps of them are trained on
    asked: int
    #: the settings as they were given
    given: Settings
    earlier: Mapping[str, Texts] = field(default_factory=dict[str, Texts])  # by module, for penalties fitted on it
    #: what replay rows cost, where that is told apart from the corpus
    replay_objective: Objective | None = None
    #: whether records say what their teacher reads, so that it reads all of them before the first step
    studied: bool = False

    @property
    def penalties(self) -> tuple[Penalty, ...]:
        """What its modules pay for changing what was there before."""
        return asked_penalties(self.settings.penalty)

    @property
    def context(self) -> int:
        """Tokens that a teacher reads before each row."""
        return self.objective.context

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step, for each module, both streams."""
        return self.rows * self.settings.accumulate * self.length

    @property
    def rows(self) -> int:
        """Rows of one forward pass, for each module."""
        assert self.settings.batch_rows is not None
        return self.settings.batch_rows

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        return self.settings.validate_every or self.steps

    def stream(self, base: Base, source: Texts, code: int) -> Stream:
        """A text as rows of this run; `code` tells apart the streams of one seed."""
        encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
        return Stream(
            source, encoder, length=self.length, context=self.context, seed=self.seed, code=code,
            shuffle_tokens=self.settings.shuffle_tokens or SHUFFLE, taught=self.studied and code == CORPUS,
        )  # fmt: skip

    def mixture(self, base: Base) -> Mixture:
        """The run's rows, from their beginning."""
        replay = None if self.replay is None else Feed(self.stream(base, self.replay, REPLAY))
        corpora = {name: Feed(self.stream(base, source, CORPUS)) for name, source in self.corpora.items()}
        return Mixture(corpora, replay, self.replay_share)

    def identity(self, base: Base, processes: int) -> dict[str, Any]:
        """What a resumption must agree with, as plain data."""
        return {
            **identity_of(base, self.names),
            "corpus": {name: source.identity() for name, source in self.corpora.items()},
            "replay": None if self.replay is None else self.replay.identity(),
            "replay_share": self.replay_share,
            "alongside": self.alongside,
            "lr": self.lr,
            "local": self.local,
            "steps": self.steps,
            "seed": self.seed,
            "processes": processes,
            **{k: v for k, v in self.settings.plain().items() if k != "local"},
            "validation": {name: source.identity() for name, source in self.validation.items()},
            "earlier": {name: source.identity() for name, source in self.earlier.items()} or None,
            "length": self.length,
            "context": self.context,
        }

    def data(self, name: str) -> list[DataRecord]:
        """The sources of one module, for its card."""
        records = [self.corpora[name].record("corpus")]
        if self.replay is not None:
            records.append(self.replay.record("replay"))
        records += [self.earlier[name].record("earlier")] if name in self.earlier else []
        records += [source.record("validation") for source in self.validation.values()]
        return records + [DataRecord(name=other, role="alongside") for other in self.alongside]


def make_plan(
    base: Base,
    name: str | Iterable[str],
    *,
    corpus: Any,
    replay: Any,
    replay_share: float,
    tokens: int,
    lr: float | Mapping[str, float] | None,
    seed: int,
    alongside: Any,
    settings: Settings,
    processes: int = 1,
) -> Plan:
    """Check and resolve what `train` was asked.

    Raises:
        TrainingError: a module is not plugged, is frozen, or the tokens do not make one step; a rate, share or seed is
            none; something was asked that would be ignored.
        DataError: a source is of no known form or empty, or corpus and replay are the same.
        AddendaError: a setting does not fit the base.
    """
    names = _names(base, name)
    corpora = texts_by_name(names, corpus, "several modules take one corpus each: corpus")
    again = None if replay is None else texts(replay)
    share = _share(again, replay_share)
    for source in corpora.values():
        check_differ("corpus", source, "replay", again, "stands for what the base knew before")
    _check_used({n: base.modules[n] for n in names}, settings, share)
    studied = studied_by(asked_for(Objective, settings.objective), settings, list(corpora.values()))
    objective = _objective(base, settings, studied)
    check_seed(seed)
    read = [*corpora.values(), *([again] if again is not None and share > 0 else [])]
    sized = _sized(base, settings, objective.context, tokens, read, processes)
    steps = _steps(tokens, sized)
    others = _alongside(base, names, alongside)
    kinds = {n: base.modules[n].kind for n in names}
    return Plan(
        names=names,
        corpora=corpora,
        replay=again if share > 0 else None,
        replay_share=share,
        validation=opened(base, settings.validation or {}),
        alongside=others,
        lr=rates_of(kinds, lr),
        local=_local(kinds, settings, share > 0),
        seed=seed,
        settings=_validated(replace(sized, isolate=sized.isolate or studied), steps, tokens, len(names)),
        objective=objective,
        length=sized.length or 0,
        steps=steps,
        asked=tokens,
        given=settings,
        earlier={}
        if settings.earlier is None
        else texts_by_name(names, settings.earlier, "several modules take one earlier each: earlier"),
        replay_objective=replay_objective(settings, objective, studied) if share > 0 else None,
        studied=studied,
    )


def _alongside(base: Base, names: tuple[str, ...], alongside: Any) -> dict[str, float]:
    """Weights of the distractors.

    Raises:
        TrainingError: one is not plugged, or is what is trained.
    """
    others = weights_of(alongside)
    for other in others:
        if other not in base.modules or other in names:
            raise TrainingError(
                f"cannot train alongside '{other}': "
                + ("it is what is being trained" if other in names else f"plugged are {known(other, base.modules)}")
            )
    return others


def _steps(tokens: int, sized: Settings) -> int:
    per_step = (sized.batch_rows or 0) * sized.accumulate * (sized.length or 0)
    if tokens < per_step:
        raise TrainingError(
            f"{tokens:,} tokens do not make one step of {per_step:,} (batch_rows {sized.batch_rows} x accumulate "
            f"{sized.accumulate} x length {sized.length}); give more tokens, or smaller rows or batches"
        )
    return tokens // per_step


def _sized(base: Base, settings: Settings, context: int, tokens: Any, read: list[Texts], processes: int) -> Settings:
    """The settings with the rows and the length that fit the tokens, the texts and the base."""
    if not whole(tokens) or tokens < 1:
        wanted = "must make at least one step" if whole(tokens) else "is a whole number, both streams counted"
        raise TrainingError(f"tokens {wanted}; got {tokens!r}")
    encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
    enough = 1 if settings.length else ROWS_OF_A_TEXT * SIZES[0][1]
    longest = SIZES[0][1] if base.context is None else base.context - context
    rows, length = rows_for(
        tokens, longest=longest, smallest=min(tokens_in(source, encoder, enough) for source in read),
        accumulate=settings.accumulate, rows=settings.batch_rows, length=settings.length, processes=processes,
    )  # fmt: skip
    shuffled = settings.shuffle_tokens or shuffled_among(tokens)
    return replace(settings, batch_rows=rows, length=length, shuffle_tokens=shuffled)


def _validated(sized: Settings, steps: int, tokens: int, modules: int) -> Settings:
    """The settings with the validations that the run can afford."""
    if not sized.validation:
        return sized
    validations = validations_for(
        steps, tokens, modules=modules, texts=len(sized.validation), asked=sized.validation_tokens,
        every=sized.validate_every, patience=sized.patience is not None,
    )  # fmt: skip
    return replace(sized, validate_every=validations.every, validation_tokens=validations.tokens)


def _names(base: Base, name: str | Iterable[str]) -> tuple[str, ...]:
    names = (name,) if isinstance(name, str) else tuple(name)
    if not names or len(set(names)) < len(names):
        raise TrainingError(f"train takes one module, or several different ones; got {list(names)}")
    for name in names:
        if name not in base.modules:
            raise TrainingError(
                f"module '{name}' is not plugged; make it with base.new('{name}', ...) or plug it; "
                f"plugged are {known(name, base.modules)}"
            )
        base.modules[name].check_adapts("train")
        check_learns(base.modules[name])
    return names


def _share(replay: Texts | None, asked: Any) -> float:
    """The share that replay gets; 0 without replay. The default is not taken as asked."""
    if asked == REPLAY_SHARE:
        return 0.0 if replay is None else REPLAY_SHARE
    if not number(asked) or not 0 <= asked < 1:
        raise TrainingError(f"replay_share is a share from 0 up to, not including, 1; got {asked!r}")
    if replay is None and asked > 0:
        raise TrainingError(f"a replay share of {asked:g} has no replay to take it from: give replay too, or no share")
    return asked


def _check_used(modules: Mapping[str, Any], settings: Settings, share: float) -> None:
    """Refuse what was asked and would be ignored; a setting at its default is not taken as asked."""
    changed = {f.name for f in fields(Settings) if f.name != "validation" and getattr(settings, f.name) != f.default}
    told = {name: f"{name}={getattr(settings, name)!r}" for name in changed}
    wrong = []
    if "validate_every" in changed and not settings.validation:
        wrong.append(f"{told['validate_every']} has nothing to validate on: give validation texts, or leave it out")
    penalties = asked_penalties(settings.penalty)
    if settings.earlier is not None and not any(penalty.fitted for penalty in penalties):
        wrong.append("earlier= is for a penalty that is fitted on earlier text, and none is asked for: leave it out")
    wrong += [
        f"the penalty '{penalty.called()}' is taken on replay: give replay= and a replay_share above 0"
        for penalty in penalties
        if penalty.replayed and not share
    ]
    taken = [name for name, _ in _taken(asked_for(Objective, settings.objective))]
    wrong += [
        f"{told[name]} is for the objective 'distill', and this is '{settings.objective}': choose that, or leave it out"
        for name in ("top_k", "context")
        if name in changed and name not in taken
    ]
    if "replay_objective" in changed and not share:
        wrong.append(f"{told['replay_objective']} is for replay rows: give replay= and a replay_share above 0")
    gates = [module.gate for module in modules.values()]
    taught = any(module.classifies for module in modules.values())
    used = {
        "gate_weight": taught,
        "gate_lr": any(gate is not None and gate.taught for gate in gates),
        "gate_fit": any(gate is not None for gate in gates),
    }
    whose = ", ".join(f"'{name}' ({type(module.kind).__name__})" for name, module in modules.items())
    wrong += [
        f"{told[name]} is for a gate that {whose} lacks: it would change nothing, leave it out"
        for name, needed in used.items()
        if name in changed and not needed
    ]
    if wrong:
        raise TrainingError("; ".join(wrong))


def _objective(base: Base, settings: Settings, studied: bool) -> Objective:
    """The objective, with the settings that are its options where it was asked for by name alone."""
    made, most = asked_for(Objective, settings.objective), base.context
    if isinstance(settings.objective, str) and "(" not in settings.objective:
        reads = settings.context if settings.context is not None else min(256, (most or 512) // 2)
        made = replace(
            cast("Any", made),
            **{option: {"top_k": settings.top_k, "context": reads}[name] for name, option in _taken(made)},
        )
    if studied:  # of the stream the teacher reads nothing then
        made = replace(cast("Any", made), **{option: 0 for name, option in _taken(made) if name == "context"})
    length = settings.length or 2
    if most and made.context + length > most:
        reads = f"{length} tokens" + (f" and the teacher's {made.context} before them" if made.context else "")
        raise AddendaError(f"rows of {reads} do not fit the base's context of {most}")
    return made


def _taken(objective: Objective) -> list[tuple[str, str]]:
    """Settings of the run that are options of an objective, with their names there."""
    own = {field.name for field in fields(cast("Any", objective))}
    return [(name, option) for name, option in (("top_k", "top_k"), ("context", "reads")) if option in own]


def _local(kinds: Mapping[str, Any], settings: Settings, replayed: bool) -> dict[str, float]:
    if settings.local and not replayed:
        raise TrainingError(
            "the local neutrality loss is taken on replay tokens: give replay= and a replay_share above 0"
        )
    if settings.local is not None:
        return dict.fromkeys(kinds, settings.local)
    return {name: kind.default_local if replayed else 0.0 for name, kind in kinds.items()}
