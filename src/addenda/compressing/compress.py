"""Compress: a smaller module in the place of a large one, with its loss before and after on its card."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from addenda.compressing.texts import Inputs, Reading, read
from addenda.compressors.compressor import Compressor, Whole
from addenda.core.card import Measure
from addenda.core.contracts import Adapter, Kind
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.modes import own_modes
from addenda.core.module import KnowledgeModule, check_name, plugged, unused
from addenda.core.registry import asked_for, options_of, recorded, written
from addenda.core.standing import gate_for, gate_told, left_to
from addenda.plug.scoring import Score, pace_of, score_documents
from addenda.telling.progress import about, megabytes, shown, tick

if TYPE_CHECKING:
    from collections.abc import Mapping

    from addenda.plug.base import Base

#: tokens measured on at most
TOKENS = 20_000


def compress(
    base: Base,
    module: str,
    method: str | Compressor,
    *,
    text: Any,
    name: str | None = None,
    at_most: float | None = None,
    calibration: Any = None,
    tokens: int = TOKENS,
) -> KnowledgeModule:
    """Make a plugged module smaller, measure what that costs, and plug the result; the base and the selection stay.

    The module's own gate is kept as it is. The card tells the loss on `text` in nats per token, before and after, their
    difference paired over documents, each with its 95% interval, and the bytes of the tensors before and after. What the
    card measured before is dropped, for it was another module's.

    Args:
        base: with the module plugged.
        module: its name.
        method: a compressor, or its name with options: `"ternary"`, `"svd(rank=4)"`, `"nl_svd(keep=16)"`.
        text: held-out text of the module's subject, whatever `addenda.train` takes as a corpus.
        name: what the result is called; the module's own name puts it in that one's place. Default: both names, `book-svd`.
        at_most: nats per token that the mean loss on `text` may rise by; above it nothing is made.
        calibration: text that compressors look at which fit to text. Default: every second document of `text` (of a lone
            one its first half), which is then not measured on.
        tokens: measured on at most, of each text.

    Returns:
        The smaller module, plugged and not selected; selected where it takes the place of one that was.

    Raises:
        AddendaError: no such module or method, a setting is out of range, it loses more than `at_most`, or is no smaller;
            nothing has changed then.
        UnsupportedError: the method cannot compress such a module, or it is a text memory; says why.
        DataError: a text cannot be read, or is too short.
    """
    chosen = asked_for(Compressor, method)
    before = _checked(base, module, chosen, name, at_most, tokens)
    new = name or f"{module}-{chosen.called()}"
    if new != module:
        base._free(new)
    reading = read(base, text, calibration, chosen.reads, tokens)
    seen = Inputs(base, before, reading)
    _foretell(base, before, chosen, reading, len(seen.groups))
    made = _made(base, before, chosen, seen)
    if (after := size_of(made)) >= size_of(before):
        told = f"{after:,} bytes, and '{module}' has {size_of(before):,}"
        raise AddendaError(f"nothing was made: {written(chosen)} gives {told}; let it keep less")
    made.card.measures = _measured(base, before, made, chosen, reading, at_most)
    _place(base, made, new)
    return made


def size_of(module: KnowledgeModule) -> int:
    """Bytes of a module's tensors in its file."""
    return sum(tensor.numel() * tensor.itemsize for tensor in module.tensors().values())


def _checked(
    base: Base, module: str, method: Compressor, name: str | None, at_most: float | None, tokens: int
) -> KnowledgeModule:
    found = plugged(base.modules, module)
    found.check_adapts("compress")
    if name is not None:
        check_name(name)
    if at_most is not None and not 0 <= at_most < math.inf:
        raise AddendaError(f"at_most is nats per token, 0 or more, e.g. 0.02; got {at_most}")
    if tokens < 2:
        raise AddendaError(f"tokens is how many to measure on, 2 at least; got {tokens}")
    if found.awaits_text:
        raise AddendaError(f"'{module}' has not been started from its text yet: there is nothing to compress")
    if base._trainables.naming(module):
        raise AddendaError(f"'{module}' is being trained; close that before {method.called()} compresses it")
    return found


def _foretell(base: Base, module: KnowledgeModule, method: Compressor, reading: Reading, times: int) -> None:
    """Tell whoever watches what will be read, and about how long that takes."""
    watched = shown()
    if watched is None:
        return
    measured = sum(len(document.ids) for document in reading.measured)
    pace, tokens = pace_of(base), 3 * measured + times * reading.fitted
    fitted = f"looks at {reading.fitted:,} tokens of {reading.fitted_on}, then " if reading.fitted else ""
    watched.say(
        f"compressing {module.name} ({type(module.kind).__name__}, {megabytes(size_of(module))}) by {written(method)}: "
        f"{fitted}measures on {measured:,} tokens of {reading.on}, read three times; about {about(tokens / pace)} of reading "
        f"at {pace:,.0f} tokens/s, as timed on this machine just now"
    )
    watched.begin(total=tokens)


def _made(base: Base, module: KnowledgeModule, method: Compressor, seen: Inputs) -> KnowledgeModule:
    """The compressed module, its gate a copy, not plugged."""
    anatomy = left_to(base.anatomy, module.gate)
    adapters = {key: module.adapter(key) for key in module.sites()}
    with own_modes():
        try:  # texts are read once the method asks for what enters a site: it refuses kinds before
            kind, made = method.compress(Whole(module.kind, adapters, anatomy, seen, tick))
        except UnsupportedError as error:
            raise UnsupportedError(
                f"'{module.name}' cannot be compressed by {method.called()}: {error}; `addenda methods compressor` lists others"
            ) from None
        assert made.keys() == adapters.keys()
        return _as_before(module, kind, {key: adapter.to(adapters[key].dtype) for key, adapter in made.items()}, method)


def _as_before(
    module: KnowledgeModule, kind: Kind, adapters: Mapping[str, Adapter], method: Compressor
) -> KnowledgeModule:
    """A module of these adapters, with all else that `module` has: gate, card, probe, side tensors that are not its tensors'."""
    told = None if module.gate is None else gate_for(module.kind, gate_told(module.card.gate))
    card = module.card.model_copy(
        deep=True,
        update={
            "kind": type(kind).__name__,
            "config": options_of(kind),
            "gate": None if told is None or kind.module_gate is not None else recorded(told),
            "compressed": [*(module.card.compressed or ()), recorded(method)],
            "sha256": None,
            "side_sha256": None,
        },
    )
    made = KnowledgeModule(module.name, kind, adapters, card, copy.deepcopy(module.gate))
    made.awaits_text, made.probe = False, module.probe
    gone = _of_tensors(module)
    made.side = {key: tensor for key, tensor in module.side.items() if key.partition(".")[0] not in gone}
    return made


def _of_tensors(module: KnowledgeModule) -> set[str]:
    """Whose side tensors speak of the module's own tensors, by name: second moments, a Fisher."""
    names = [f".{name}." for name in module.tensors()]
    return {key.partition(".")[0] for key in module.side if any(name in f".{key}." for name in names)}


def _measured(
    base: Base,
    before: KnowledgeModule,
    made: KnowledgeModule,
    method: Compressor,
    reading: Reading,
    at_most: float | None,
) -> list[Measure]:
    """What the card tells of the compression; refused where it costs more than `at_most`."""

    def loss(name: str | None) -> Score:
        with base.using({} if name is None else {name: 1.0}):
            return score_documents(base, reading.measured, reading.on)

    hidden = unused("compressed", base.modules)
    made.name = hidden
    base._machinery.place(made)
    base._insert(made)
    try:
        bare, old, new = loss(None), loss(before.name), loss(hidden)
    finally:
        base.unplug(hidden)
    cost = new.minus(old)
    if not math.isfinite(cost.nats) or (at_most is not None and cost.nats > at_most):
        interval = f" (95%: {cost.low:.4f} to {cost.high:.4f})" if cost.documents > 1 else ""
        limit = "" if at_most is None else f", more than at_most={at_most:g}"
        raise AddendaError(
            f"nothing was made: {written(method)} costs {cost.nats:.4f} nats per token on '{reading.on}'{interval}{limit}; "
            "let it keep more, or allow more"
        )

    def measure(name: str, of: Any, **more: Any) -> Measure:
        return Measure.over(of.documents, name, of.nats, of.low, of.high, on=reading.on, **more)

    return [
        measure("loss", new, reference=bare.nats),
        measure("loss before compression", old, reference=bare.nats),
        measure("cost of compression", cost),
        Measure(name="size", value=size_of(made), unit="bytes"),
        Measure(name="size before compression", value=size_of(before), unit="bytes"),
    ]


def _place(base: Base, made: KnowledgeModule, name: str) -> None:
    """Plug the module under its name, or in the place of the one that has it: whoever selects that gets this."""
    made.name = made.card.name = name
    if name not in base.modules:
        base._insert(made)
        return
    base._modules[name] = made
    base._machinery.refit()
