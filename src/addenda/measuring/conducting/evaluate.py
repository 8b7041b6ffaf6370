"""Evaluation: all that is asked for, with modules on and off, after a proof that these ran; it knows no measure by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, cast

from addenda.core.errors import AddendaError, known
from addenda.core.modes import own_modes
from addenda.core.registry import methods
from addenda.measuring.conducting.foretold import foretold
from addenda.measuring.conducting.measure import Acting, Measure, check_sizes, leading
from addenda.measuring.looking.canary import WasOn, proved
from addenda.plug.selection import Names, weights_of
from addenda.telling.progress import shown
from addenda.text.texts import Texts

if TYPE_CHECKING:
    from addenda.plug.base import Base


def known_measures() -> dict[str, type[Measure]]:
    """Every measure by its name, in the order in which they run and are told."""
    found = cast("dict[str, type[Measure]]", methods(Measure.stage))
    return dict(sorted(found.items(), key=lambda item: item[1].place))


@dataclass(frozen=True)
class Evaluation:
    """What was measured, for one selection; `canary` is the proof that its modules really ran.

    What each measure found stands in `found` under its name, and as an attribute: `evaluation.texts`; where it was not asked
    for, that is None or empty. `measures` are those that ran. `sources` has what files are called; `trained_on` names the texts
    that an acting module was trained, validated or calibrated on, going by the hashes in its card: what is measured there is not
    held out.
    """

    base: str
    modules: dict[str, float]
    canary: tuple[WasOn, ...]
    found: dict[str, Any]
    measures: dict[str, Measure] = field(default_factory=dict[str, Measure], repr=False)
    sources: dict[str, str] = field(default_factory=dict[str, str])
    trained_on: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in (there := {**known_measures(), **self.measures}):
            raise AttributeError(f"an evaluation has no '{name}'")
        return self.found.get(name, there[name].nothing)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "base": self.base,
            "modules": self.modules,
            "canary": [probe.as_dict() for probe in self.canary],
            **{name: _plain(getattr(self, name)) for name in {**known_measures(), **self.measures}},
            "sources": self.sources,
            "trained_on": list(self.trained_on),
        }


def _plain(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {name: _plain(one) for name, one in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(one) for one in found]
    return found.as_dict() if hasattr(found, "as_dict") else found


@own_modes()
def evaluate(
    base: Base,
    texts: Mapping[str, Any] | None = None,
    modules: Names = (),
    *,
    measures: Sequence[Measure] = (),
    **asked: Any,
) -> Evaluation:
    """Measure a base with modules on and off, by all measures that are asked for.

    Before anything is scored, all that is asked for is opened, and a probe checks that every site of every selected module runs
    with its weight.

    Args:
        base: as `addenda.attach` gives it; its own selection is put back after.
        texts: held-out texts by name, each as `addenda.train` takes a corpus: loss in nats per token.
        modules: what acts: names, or a mapping of weights; nothing measures the base alone.
        measures: further ones, as they are.
        asked: options of the measures by name, as `addenda methods measure` lists them. A measure runs where its first option
            is given: `tasks=["piqa"]`, `facts=` a file or `addenda.biographies(...)`, `snapshot=` the same at an earlier time,
            `edits=`, `neutrality=` text, or several in a tuple or by name, `chats="general"`, `zero_shot=True`, `spectrum=` text.
            All that have it share an option: `limit=` is so many questions of each set, `tokens=` so many of each text.

    Raises:
        AddendaError: there is nothing to measure, no measure has such an option, inputs do not fit together, a module did not
            run, a package is missing, or a setting is out of range.
        DataError: a text or file cannot be read, or there is no such task.
    """
    weights = weights_of(modules)
    chosen = _chosen({"texts": texts, **asked}) | {measure.called(): measure for measure in measures}
    _check(base, weights, chosen)
    acting = Acting(base, weights)
    opened = {name: measure.open(acting) for name, measure in chosen.items()}
    watched = shown()
    if watched is not None:
        readings = [one for name, measure in chosen.items() for one in measure.reads(acting, opened[name])]
        total, words = foretold(base, readings, weights)
        watched.say(words)
        watched.begin(total=total)
    canary = proved(base, weights)
    found: dict[str, Any] = {}
    for name, measure in chosen.items():
        found[name] = measure.run(acting, opened[name])
        acting.moved.update(measure.moved(found[name]))
    held_out = reduce(or_, (dict(one.texts) for one in opened.values()))
    return Evaluation(
        base=base.name,
        modules=weights,
        canary=tuple(canary),
        found=found,
        measures=chosen,
        sources=reduce(or_, (dict(one.sources) for one in opened.values())),
        trained_on=_trained_on(base, weights, held_out),
    )


def _chosen(asked: Mapping[str, Any]) -> dict[str, Measure]:
    """The measures whose first options are given, with what else is given; see `evaluate`."""
    options = {
        name: [one.name for one in fields(cast("Any", measure)) if one.name in asked]
        for name, measure in known_measures().items()
    }
    for name in asked:
        if not any(name in mine for mine in options.values()):
            there = {one.name for measure in known_measures().values() for one in fields(cast("Any", measure))}
            raise AddendaError(f"no measure has an option '{name}'; there are {known(name, there)}")
    made = {name: measure(**{one: asked[one] for one in options[name]}) for name, measure in known_measures().items()}
    for name, value in asked.items():
        having = [measure for one, measure in made.items() if name in options[one]]
        stray = len(having) == 1 and not having[0].asked and name != leading(having[0])
        if stray and value != getattr(type(having[0])(), name):
            raise AddendaError(f"{name} goes with {leading(having[0])}, which is not asked for")
    return {name: measure for name, measure in made.items() if measure.asked}


def _check(base: Base, weights: Mapping[str, float], chosen: Mapping[str, Measure]) -> None:
    """Refuse nothing to measure, numbers that are too small, and what a base, or one without modules, cannot be asked.

    Raises:
        AddendaError: says which, and what to do.
    """
    if not chosen:
        *most, last = (leading(measure) for measure in known_measures().values())
        raise AddendaError(f"evaluate needs at least one of {', '.join(most)} or {last}")
    for measure in chosen.values():
        check_sizes(measure)
    if not weights and (need := [leading(measure) for measure in chosen.values() if measure.of_modules]):
        raise AddendaError(
            f"{' and '.join(need)}: what modules do is measured, and none acts: name those that act (--plug FOLDER)"
        )
    if base.tokenizer is None and (need := [leading(measure) for measure in chosen.values() if measure.in_words]):
        raise AddendaError(
            f"{' and '.join(need)}: asked in words, and the base has no tokenizer: addenda.attach(model, tokenizer)"
        )


def _trained_on(base: Base, weights: Mapping[str, float], texts: Mapping[str, Texts]) -> tuple[str, ...]:
    """The texts that a card names among what its module was trained, validated or calibrated on: the same lists or files.

    A file counts also where it stood in a folder that was trained on, or stands in one that is measured on.
    """
    read = {
        digest
        for name in weights
        for training in base.modules[name].card.training
        for source in training.data
        if source.role in ("corpus", "replay", "alongside", "validation", "calibration", "forget", "retain")
        for digest in (source.sha256, *(source.files or ()))
    } - {None}

    def seen(text: Texts) -> bool:
        return bool(read) and not read.isdisjoint((text.sha256(), *(text.file_hashes() or ())))

    return tuple(name for name, text in texts.items() if seen(text))
