"""Combine: several modules of one kind and base become one, which is measured beside its parents."""

# budget: the docstring of `combine` is the reference of the whole call
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from addenda.combiners.combiner import Combiner
from addenda.combining.common_gate import CommonGate
from addenda.combining.parts import add_up, check_alike, check_shared, fill, mean_moments, parts_of, take_fixed
from addenda.core.card import CombinedModule, CombinedRecord, Measure, joined_licences
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, DataError, UnsupportedError
from addenda.core.module import KnowledgeModule, plugged
from addenda.core.moments import OWNER
from addenda.core.registry import asked_for, recorded
from addenda.core.standing import gate_told, left_to
from addenda.modulefile.storage import digest_of
from addenda.plug.scoring import Score, default_length, encoded_documents, pace_of, score_documents
from addenda.plug.selection import weights_of
from addenda.telling.progress import about, shown
from addenda.text.encoding import Encoded, Encoder
from addenda.text.texts import texts
from addenda.writing.probe import probe_of

if TYPE_CHECKING:
    from addenda.plug.base import Base


def combine(
    base: Base,
    names: Iterable[str] | Mapping[str, float],
    method: str | Combiner = "mean",
    *,
    name: str,
    start: str | None = None,
    text: Any = None,
    tokens: int | None = None,
    subject: Any = None,
    replay: Any = None,
) -> KnowledgeModule:
    """Make one module of several of one kind, options and base; it is plugged under a new name, and they stay as they are.

    Methods differ in what they do where modules contradict each other: `addenda methods combiner` lists them. Where a result
    takes more room than each module has (ranks of LoRAs, units of side FFNs), it is as large as all of them together.

    The card of the new module tells its parents (names, hashes, weights), the method, and what they were trained on.

    Args:
        base: with the modules plugged.
        names: two modules or more; a mapping gives weights, of which most methods heed only the proportions.
        method: a combiner, its name, or its name with options: `"ties(density=0.2)"`.
        name: of the new module.
        start: a plugged module that all of these were trained on from: then changes to its parameters are combined, of any
            kind, and the result is as large as each of them. Default: modules that began from nothing.
        text: held-out text, or texts by name, on which the parents and the result are scored, for the card.
        tokens: of each text that are scored at most.
        subject: text of all subjects, where modules stand behind gates of different fits: a fresh gate is fitted to it.
        replay: general text, for the fresh gate to stay shut on.

    Returns:
        The new module. `card.combined` tells how it was made and what each parent gives alone, `card.measures` what it gives.

    Raises:
        AddendaError: fewer than two modules, or one that is not plugged; kinds, options, bases, frozen tensors or gates that
            differ; a weight that the method cannot take; numbers that are not finite; second moments missing; the name is taken.
        UnsupportedError: the method cannot combine modules of the kind; says what to do.
        DataError: a text cannot be read, or is too short.
    """
    chosen = asked_for(Combiner, method)
    modules = _checked(base, names, chosen)
    began = None if start is None else plugged(base.modules, start)
    check_alike(list(modules), began)
    check_shared(list(modules), began)
    gate = CommonGate(list(modules), subject, replay)
    first = next(iter(modules))
    kind = first.kind if began is not None else _room_for(base, first, len(modules), chosen)
    sources = _texts(base, text, tokens)
    _foretell(base, modules, chosen, name, sources)
    made = base.new(name, kind, gate=gate_told(first.card.gate))
    try:
        lost = _made_of(made, modules, chosen, began)
        made.awaits_text = False
        fitted = gate.put_before(base, made)
        record = CombinedRecord(
            method=recorded(chosen),
            modules=[CombinedModule(name=m.name, weight=w, sha256=digest_of(m)) for m, w in modules.items()],
            start=None if began is None else began.card.name,
            start_sha256=None if began is None else digest_of(began),
            lost=lost,
            gate=fitted,
        )
        _describe(made, list(modules), record)
        probes = [np.array(m.probe) for m in modules if m.probe]
        made.probe = probe_of(base, name, probes) if probes else None
        _measure(base, made, record, sources)
    except BaseException:
        base.unplug(name)
        raise
    return made


def _checked(base: Base, names: Any, method: Combiner) -> dict[KnowledgeModule, float]:
    weights = weights_of(names)
    modules = {plugged(base.modules, name): weight for name, weight in weights.items()}
    for module in modules:
        module.check_adapts("combine")
    if len(modules) < 2:
        raise AddendaError(f"combine takes two modules or more; got {', '.join(weights) or 'none'}")
    method.check_weights(weights)
    return modules


def _room_for(base: Base, first: KnowledgeModule, count: int, method: Combiner) -> Kind:
    """The kind of the result, checked against what the method does.

    Raises:
        UnsupportedError: no module of the kind adds what several add, or the method wants results of one size.
    """
    kind, called = first.kind, type(first.kind).__name__
    try:
        joined = kind.joined(count, left_to(base.anatomy, first.gate))
    except UnsupportedError as error:
        raise UnsupportedError(
            f"{called} modules cannot be combined: {error}. Give start= (--start), the module that all of them were trained "
            "on from, if there is one"
        ) from None
    if method.same_size and joined != kind:
        raise UnsupportedError(
            f"{method.called()} gives modules of the same size, and an exact average of {called} modules is larger; train "
            f"{method.same_size}, or choose mean"
        )
    return joined


def _made_of(
    made: KnowledgeModule, modules: dict[KnowledgeModule, float], method: Combiner, start: KnowledgeModule | None
) -> float:
    """Give the new module its tensors, and moments where it is of its parents' size; returns what it has no room for."""
    take_fixed(made, next(iter(modules)), start)
    shares, lost = method.shares(list(modules.values())), 0.0
    if shares is not None and start is None:
        add_up(made, list(modules), shares)
    else:
        lost = fill(made, method.combine(parts_of(modules, start, method)), start)
    if made.kind == next(iter(modules)).kind:
        made.keep_beside(OWNER, mean_moments(made, modules))
    return lost


def _describe(made: KnowledgeModule, modules: list[KnowledgeModule], record: CombinedRecord) -> None:
    """What the new module's card says of where it comes from."""
    made.card.base = modules[0].card.base.model_copy()
    made.card.training = [run for module in modules for run in module.card.training]
    made.card.licence = joined_licences({module.card.licence for module in modules})
    made.card.combined = record


def _texts(base: Base, text: Any, tokens: int | None) -> dict[str, list[Encoded]]:
    """Documents to score on, by what their text is called; read before anything is made.

    Raises:
        DataError: a text cannot be read, or holds no token.
    """
    if text is None:
        return {}
    given = cast("Mapping[Any, Any]", text) if isinstance(text, Mapping) else {None: text}
    encoder, found = Encoder(base.tokenizer, base.vocabulary), dict[str, list[Encoded]]()
    for name, source in given.items():
        opened = texts(source)
        documents = list(encoded_documents(encoder, opened, tokens, default_length(base)))
        if not documents:
            raise DataError(f"'{opened.name}' holds no token to score")
        found[opened.name if name is None else str(name)] = documents
    return found


def _measure(
    base: Base, made: KnowledgeModule, record: CombinedRecord, sources: Mapping[str, Sequence[Encoded]]
) -> None:
    """Score the bare base, each parent and the result; learning is what is taken off the bare base's loss, paired."""
    for on, documents in sources.items():

        def scored(name: str, documents: Sequence[Encoded] = documents, on: str = on) -> Score:
            with base.using({name: 1.0} if name else {}):
                return score_documents(base, documents, on)

        bare = scored("")
        for part in record.modules:
            part.measures = [*part.measures, _learned(bare, scored(part.name), on)]
        made.card.measures = [*made.card.measures, _learned(bare, scored(made.name), on)]


def _learned(bare: Score, now: Score, on: str) -> Measure:
    gain = bare.minus(now)
    return Measure.over(gain.documents, "learning", gain.nats, gain.low, gain.high, on=on)


def _foretell(
    base: Base,
    modules: Mapping[KnowledgeModule, float],
    method: Combiner,
    name: str,
    sources: Mapping[str, Sequence[Encoded]],
) -> None:
    """Tell whoever watches what will be done, and about how long scoring takes."""
    watched = shown()
    if watched is None:
        return
    told = " + ".join(f"{module.name}={weight:g}" for module, weight in modules.items())
    sites = sum(1 for _ in next(iter(modules)).sites())
    then = ""
    if sources:
        pace = pace_of(base)
        tokens = (2 + len(modules)) * sum(
            len(document.ids) - 1 for documents in sources.values() for document in documents
        )
        then = (
            f", then scored with its parents on {', '.join(sources)}: {about(tokens / pace)} at {pace:,.0f} tokens/s, as "
            "timed on this machine just now"
        )
        watched.begin(total=tokens)
    watched.say(f"combining {told} into {name} by {method.called()}, {sites} sites{then}")
