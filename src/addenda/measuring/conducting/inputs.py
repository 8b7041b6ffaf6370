"""Inputs: everything that an evaluation will read, looked at before anything is scored, so that no mistake costs an hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking.certificate import check_idle
from addenda.measuring.asking.chats import Messages, asked_of
from addenda.measuring.asking.edits import Edit, load_edits
from addenda.measuring.asking.facts import Facts, load_facts
from addenda.measuring.looking.disturbance import LENGTH as ON_NEUTRALITY
from addenda.measuring.looking.pieces import documents_of
from addenda.measuring.looking.spectrum import LENGTH as OF_SPECTRUM
from addenda.text.texts import Texts
from addenda.text.texts import texts as open_texts

if TYPE_CHECKING:
    from addenda.plug.base import Base


@dataclass(frozen=True)
class Inputs:
    """What `evaluate` was given, opened; `sources` has what files are called, without folder and ending."""

    texts: dict[str, Texts]
    facts: Facts | None
    snapshot: Facts | None
    edits: list[Edit] | None
    neutrality: tuple[Texts, ...]
    chats: tuple[str, list[Messages]] | None
    spectrum: Texts | None
    sources: dict[str, str]


def open_inputs(
    base: Base,
    texts: Mapping[str, Any],
    weights: Mapping[str, float],
    *,
    tasks: Sequence[str],
    facts: Facts | str | Path | None,
    snapshot: Facts | str | Path | None,
    edits: str | Path | None,
    neutrality: Any,
    chats: Any,
    questions: bool,
    spectrum: Any,
    limit: int | None,
) -> Inputs:
    """Open what is to be measured; arguments as of `evaluate`.

    Raises:
        AddendaError: a package is missing, the limit is not positive, neutrality, chats or a spectrum are asked for without
            modules, a snapshot without facts or while a module is trained, or words without a tokenizer.
        DataError: there is no such task or text, a file is not of its form, or a text is too short to be measured on.
    """
    if limit is not None and limit < 1:
        raise AddendaError(f"limit must be positive; got {limit}")
    if not weights and any(source is not None for source in (neutrality, chats, spectrum)):
        raise AddendaError("neutrality, chats and spectrum are of modules: name those that act")
    if snapshot is not None and facts is None:
        raise AddendaError("a snapshot is of facts at an earlier time: name the facts of today too")
    if base.tokenizer is None and (tasks or questions or any(source is not None for source in (facts, edits, chats))):
        raise AddendaError(
            "tasks, questions, chats, facts and edits ask in words, and the base has no tokenizer: "
            "addenda.attach(model, tokenizer)"
        )
    if snapshot is not None and find_spec("bm25s") is None:
        raise AddendaError("the snapshot is retrieved from, which needs bm25s: pip install bm25s")
    if snapshot is not None:
        check_idle(base)
    _check_tasks(tasks)
    files = {"facts": facts, "snapshot": snapshot, "edits": edits, "spectrum": None}
    inputs = Inputs(
        texts={name: _readable(open_texts(source)) for name, source in texts.items()},
        facts=load_facts(facts) if isinstance(facts, str | Path) else facts,
        snapshot=load_facts(snapshot) if isinstance(snapshot, str | Path) else snapshot,
        edits=None if edits is None else load_edits(None if edits == "known" else edits, limit=limit),
        neutrality=tuple(
            text for source in several(neutrality) if (text := _long_enough(base, source, ON_NEUTRALITY)) is not None
        ),
        chats=None if chats is None else asked_of(chats, limit),
        spectrum=_long_enough(base, spectrum, OF_SPECTRUM),
        sources={name: stem(file) for name, file in files.items() if isinstance(file, str | Path)},
    )
    if inputs.spectrum is not None:
        inputs.sources["spectrum"] = inputs.spectrum.name
    return inputs


def several(given: Any) -> list[Any]:
    """One text, or several in a tuple or by name; none for None."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [open_texts(source, name=name) for name, source in given.items()]
    return list(given) if isinstance(given, tuple) else [given]


def stem(file: str | Path) -> str:
    """What a file is called, without its folder and the endings that tell its form."""
    name = Path(file).name
    for ending in (".gz", ".jsonl", ".json"):
        name = name.removesuffix(ending)
    return name


def _check_tasks(tasks: Sequence[str]) -> None:
    if not tasks:
        return
    from addenda.measuring.asking.tasks import tasks_named

    tasks_named(list(tasks))
    try:
        import addenda.measuring.conducting.harness  # noqa: F401 - whether it can be imported is the question
    except ImportError as error:
        raise AddendaError(f"tasks need lm-eval ({error}): pip install lm-eval") from None


def _readable(source: Texts) -> Texts:
    """A text whose first record was read."""
    if next(iter(source), None) is None:
        raise DataError(f"'{source.name}' holds no token to score: it is empty")
    return source


def _long_enough(base: Base, given: Any, length: int) -> Texts | None:
    """A text that holds a document of the length that is measured on; None for none."""
    if given is None:
        return None
    source, length = open_texts(given), min(length, base.context or length)
    next(documents_of(base, source, [length], length))
    return source
