"""Evaluation: texts, questions, chats, facts, edits and neutrality measured with modules on and off, paired one by one."""

# budget: the docstring of `evaluate` is the reference of the whole call
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError
from addenda.core.modes import own_modes
from addenda.measuring.asking.certificate import UNTOLD, loss_added
from addenda.measuring.asking.chats import OnChats, on_chats
from addenda.measuring.asking.edits import EditScores, score_edits
from addenda.measuring.asking.facts import Facts
from addenda.measuring.asking.recall import Recall, recall
from addenda.measuring.asking.three_settings import ThreeSettings, three_settings
from addenda.measuring.asking.zero_shot import ZeroShot, zero_shot
from addenda.measuring.conducting.foretold import foretold
from addenda.measuring.conducting.inputs import open_inputs
from addenda.measuring.looking.canary import WasOn, proved
from addenda.measuring.looking.disturbance import TOKENS as ON_NEUTRALITY
from addenda.measuring.looking.disturbance import Disturbance, disturbance
from addenda.measuring.looking.spectrum import Health
from addenda.measuring.looking.spectrum import spectrum as spectra
from addenda.plug.scoring import Difference, Score, score
from addenda.plug.selection import Names, weights_of
from addenda.telling.intervals import Interval
from addenda.telling.progress import part, shown
from addenda.text.texts import Texts

if TYPE_CHECKING:
    from addenda.measuring.conducting.harness import OnTask
    from addenda.plug.base import Base


@dataclass(frozen=True)
class OnText:
    """Scores of one text set: the base alone, and with the modules; `difference` is modules minus base, paired."""

    name: str
    off: Score
    on: Score | None
    difference: Difference | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        change = self.difference
        return {
            "name": self.name,
            "off": self.off.as_dict(),
            "on": None if self.on is None else self.on.as_dict(),
            "difference": None if change is None else {"nats": change.nats, "low": change.low, "high": change.high},
        }


@dataclass(frozen=True)
class Evaluation:
    """What was measured, for one selection; `canary` is the proof that its modules really ran. None, or empty: not asked for.

    `sources` has what the files of `facts`, `snapshot` and `edits` and the text of `spectrum` are called; `trained_on` names the
    texts that an acting module was trained, validated or calibrated on, going by the hashes in its card: what is measured
    there is not held out.
    """

    base: str
    modules: dict[str, float]
    canary: tuple[WasOn, ...]
    texts: tuple[OnText, ...] = ()
    tasks: tuple[OnTask, ...] = ()
    recall: Recall | None = None
    settings: ThreeSettings | None = None
    edits: EditScores | None = None
    neutrality: tuple[Disturbance, ...] = ()
    chats: OnChats | None = None
    questions: ZeroShot | None = None
    spectrum: dict[str, list[Health]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain: dict[str, Any] = {
            "base": self.base,
            "modules": self.modules,
            "canary": [probe.as_dict() for probe in self.canary],
            "texts": [text.as_dict() for text in self.texts],
            "tasks": [task.as_dict() for task in self.tasks],
            "spectrum": {name: [site.as_dict() for site in sites] for name, sites in self.spectrum.items()},
            "sources": self.sources,
            "trained_on": list(self.trained_on),
            "neutrality": [change.as_dict() for change in self.neutrality],
        }
        for name in ("recall", "settings", "edits", "chats", "questions"):
            result = getattr(self, name)
            plain[name] = None if result is None else result.as_dict()
        return plain


@own_modes()
def evaluate(
    base: Base,
    texts: Mapping[str, Any] | None = None,
    modules: Names = (),
    *,
    tasks: Sequence[str] = (),
    facts: Facts | str | Path | None = None,
    snapshot: Facts | str | Path | None = None,
    edits: str | Path | None = None,
    neutrality: Any = None,
    chats: Any = None,
    questions: bool = False,
    spectrum: Any = None,
    limit: int | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a base with modules on and off, on the texts, tasks, facts and edits that are given.

    Before anything is scored, all that is asked for is opened, and a probe checks that every site of every selected module runs
    with its weight.

    Args:
        base: as `addenda.attach` gives it; its own selection is put back after.
        texts: held-out texts by name, each as `addenda.train` takes a corpus: loss in nats per token.
        modules: what acts: names, or a mapping of weights; nothing measures the base alone.
        tasks: question sets of the data folder (`measuring.tasks`), through lm-evaluation-harness.
        facts: `addenda.biographies(...)`, or a file of them: closed-book recall, and locality.
        snapshot: the same facts at an earlier time; with it they are also asked in three settings: closed, with retrieval from
            the snapshot, and with retrieval from the current texts. May be `facts` again.
        edits: a file of edits, or `known`, those of the data folder: reliability, generality, locality.
        neutrality: text that no module was trained on: what the modules change there. Several in a tuple, or by name: the one
            that is moved most comes first.
        chats: `general`, the chats that come with the package, or chats of your own (`measuring.chats`): how many answers
            change.
        questions: the zero-shot questions that come with the package, `limit` of each set: right answers, pooled and by set.
        spectrum: text on which the hidden units of each module are looked at beside their host's.
        limit: so many questions of each set; default: all.
        settings: of `addenda.perplexity`.

    Raises:
        AddendaError: there is nothing to measure, a snapshot has no facts beside it, a module did not run, a package is missing,
            or a setting is out of range.
        DataError: a text or file cannot be read, or there is no such task.
    """
    asked = [texts, tasks, facts, edits, neutrality, chats, questions or None, spectrum]
    if not any(item is not None and (not hasattr(item, "__len__") or len(item)) for item in asked):
        raise AddendaError(
            "evaluate needs at least one text by name, or tasks, facts, edits, neutrality, chats, questions or spectrum"
        )
    weights = weights_of(modules)
    given = open_inputs(
        base, texts or {}, weights, tasks=tasks, facts=facts, snapshot=snapshot, edits=edits, neutrality=neutrality,
        chats=chats, questions=questions, spectrum=spectrum, limit=limit,
    )  # fmt: skip
    watched = shown()
    if watched is not None:
        total, words = foretold(base, given, weights, tasks, limit, settings.get("tokens"), questions)
        watched.say(words)
        watched.begin(total=total)
    canary = proved(base, weights)
    people, before = given.facts, given.snapshot
    scored = tuple(_on_text(base, name, source, weights, settings) for name, source in given.texts.items())
    recalled = None if people is None else recall(base, people, weights, questions=limit)
    return Evaluation(
        base=base.name,
        modules=weights,
        canary=tuple(canary),
        texts=scored,
        tasks=_on_tasks(base, tasks, weights, limit),
        recall=recalled,
        settings=None if people is None or before is None
        else three_settings(base, people, weights, snapshot=before, questions=limit, regression=_moved(scored, recalled)),
        edits=None if given.edits is None else score_edits(base, given.edits, weights),
        neutrality=_disturbed(base, given.neutrality, weights, settings.get("tokens") or ON_NEUTRALITY),
        chats=None if given.chats is None else on_chats(base, weights, *given.chats),
        questions=zero_shot(base, weights, each=limit) if questions else None,
        spectrum={} if given.spectrum is None else {name: spectra(base, name, given.spectrum) for name in weights},
        sources=given.sources,
        trained_on=_trained_on(
            base, weights, {**given.texts, **_named("neutrality", given.neutrality), "spectrum": given.spectrum}
        ),
    )  # fmt: skip


def _trained_on(base: Base, weights: Mapping[str, float], texts: Mapping[str, Texts | None]) -> tuple[str, ...]:
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

    return tuple(name for name, text in texts.items() if text is not None and seen(text))


def _named(what: str, texts: Sequence[Texts]) -> dict[str, Texts]:
    """Texts by what they are for: with their own names where there are several."""
    return {what if len(texts) == 1 else f"{what}, {text.name}": text for text in texts}


def _disturbed(base: Base, texts: Sequence[Texts], weights: dict[str, float], tokens: int) -> tuple[Disturbance, ...]:
    """What modules change on each text, the one that is moved most first."""
    changes = [disturbance(base, weights, text, tokens=tokens) for text in texts]
    return tuple(sorted(changes, key=lambda change: -change.kl.value))


def _on_text(base: Base, name: str, source: Any, weights: dict[str, float], settings: dict[str, Any]) -> OnText:
    with base.off(), part(f"{name}, modules off"):
        off = score(base, source, **settings)
    if not weights:
        return OnText(name, off, None, None)
    with base.using(weights), part(f"{name}, modules on", int(off.tokens)):
        on = score(base, source, **settings)
    return OnText(name, off, on, on.minus(off))


def _moved(texts: Sequence[OnText], recalled: Recall | None) -> dict[str, Interval]:
    """What the certificate need not measure again."""
    changes = {loss_added(text.name): text.difference for text in texts}
    measured = {name: Interval(c.nats, c.low, c.high, c.documents) for name, c in changes.items() if c is not None}
    return measured if recalled is None or recalled.kept is None else measured | {UNTOLD: recalled.kept}


def _on_tasks(base: Base, tasks: Sequence[str], weights: dict[str, float], limit: int | None) -> tuple[OnTask, ...]:
    if not tasks:
        return ()
    from addenda.measuring.conducting.harness import evaluate_tasks  # there: `open_inputs` has looked

    return tuple(evaluate_tasks(base, tasks, {"modules": weights} if weights else None, limit=limit))
