"""Edits: of facts that a module was told to change, how many it changed, in other words too, and what else it moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from addenda.core.errors import AddendaError, DataError
from addenda.core.plain import Plain
from addenda.measuring.asking.options import BATCH_TOKENS, all_likelihoods, first_wins
from addenda.measuring.asking.tasks import data_folder
from addenda.measuring.looking.canary import WasOn, proved
from addenda.plug.selection import Names, weights_of
from addenda.telling.intervals import SHARE, Interval, of_mean
from addenda.text.files import json_lines

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: prompts in other words, and about others, asked of each edit at most
MOST = 4


@dataclass(frozen=True)
class Edit:
    """A fact to change: after `prompt` should come `new` and no longer `true`.

    `paraphrases` ask the same in other words; `neighbours` ask about others, of whom `true` stays true.
    """

    subject: str
    prompt: str
    true: str
    new: str
    paraphrases: tuple[str, ...]
    neighbours: tuple[str, ...]

    @property
    def statement(self) -> str:
        """What a module is written from."""
        return f"{self.prompt} {self.new}."


@dataclass(frozen=True)
class EditScores(Plain):
    """Shares, each with its interval over edits, modules off and on.

    `reliability` of edits whose new answer is likelier than the true one; `generality` the same in other words; `locality` of
    questions about others for which the modules choose between the two answers as the base does (1 without modules).
    """

    base: str
    modules: dict[str, float]
    canary: tuple[WasOn, ...]
    edits: int
    reliability_before: Interval
    reliability: Interval | None
    generality_before: Interval | None
    generality: Interval | None
    locality: Interval | None


def load_edits(path: str | Path | None = None, *, limit: int | None = None) -> list[Edit]:
    """Edits from JSON lines of CounterFact's form: subject, relation_id, prompt, target_true, target_new, neighborhood_prompts.

    Where a record has no `paraphrase_prompts`, the other phrasings of its relation in the file serve, if it names one.

    Args:
        path: plain or .gz; default: `known_facts/facts.jsonl.gz` of the data folder (`ADDENDA_DATA`).
        limit: so many, evenly over the file.

    Raises:
        DataError: it cannot be read, a line is not of the form (which one), or it holds none.
    """
    place = Path(path) if path is not None else data_folder() / "known_facts" / "facts.jsonl.gz"
    try:
        records = [_checked(where, record) for where, record in json_lines(place)]
    except OSError as error:
        raise DataError(f"edits cannot be read from '{place}': {error}") from None
    if not records:
        raise DataError(f"'{place}' holds no edit")
    count = len(records) if limit is None else min(limit, len(records))
    if count < 1:
        raise AddendaError(f"limit must be positive; got {limit}")
    phrasings: dict[str, list[str]] = {}
    for record in records:
        if record["subject"] in record["prompt"] and record.get("relation_id") is not None:
            blank = record["prompt"].replace(record["subject"], "{}")
            kept = phrasings.setdefault(str(record["relation_id"]), [])
            kept += [blank] if blank not in kept else []
    return [_edit(records[int(n * len(records) / count)], phrasings) for n in range(count)]


def _checked(where: str, record: dict[str, Any]) -> dict[str, Any]:
    for name in ("subject", "prompt", "target_true", "target_new"):
        if not isinstance(record.get(name), str):
            raise DataError(f"{where}: '{name}' is not a text; edits have subject, prompt, target_true, target_new")
    for name in ("paraphrase_prompts", "neighborhood_prompts"):
        texts = record.get(name) or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where}: '{name}' is not a list of texts")
    return record


def _edit(record: dict[str, Any], phrasings: dict[str, list[str]]) -> Edit:
    subject, prompt = record["subject"], record["prompt"]
    others = [template.replace("{}", subject) for template in phrasings.get(str(record.get("relation_id")), ())]
    paraphrases = record.get("paraphrase_prompts") or [other for other in others if other != prompt]
    neighbours = record.get("neighborhood_prompts") or []
    return Edit(
        subject, prompt, record["target_true"], record["target_new"], tuple(paraphrases[:MOST]), tuple(neighbours[:MOST])
    )  # fmt: skip


def score_edits(
    base: Base, edits: Sequence[Edit], modules: Names = (), *, batch_tokens: int = BATCH_TOKENS
) -> EditScores:
    """Reliability, generality and locality of edits, by likelihood per token of the two answers.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer; its own selection is put back after.
        edits: as `load_edits` reads them.
        modules: what acts; nothing scores the base alone.
        batch_tokens: tokens of one forward pass.

    Raises:
        AddendaError: there is no edit, or a module did not run.
    """
    if not edits:
        raise AddendaError("there is no edit to score")
    weights = weights_of(modules)
    with base.off():
        before = _Chosen(base, edits, batch_tokens)
    after, canary = None, proved(base, weights)
    if weights:
        with base.using(weights):
            after = _Chosen(base, edits, batch_tokens)
    return EditScores(
        base=base.name,
        modules=weights,
        canary=tuple(canary),
        edits=len(edits),
        reliability_before=_of(before.prompts),
        reliability=None if after is None else _mean(after.prompts),
        generality_before=_mean(before.paraphrases),
        generality=None if after is None else _mean(after.paraphrases),
        locality=None if after is None else _mean(
            [(a == b).astype(float) for a, b in zip(before.neighbours, after.neighbours, strict=True)]
        ),
    )  # fmt: skip


class _Chosen:
    """For each edit, and each prompt of a sort, whether the new answer was chosen (1), the true one (0), or a tie (0.5)."""

    def __init__(self, base: Base, edits: Sequence[Edit], batch_tokens: int) -> None:
        def asked(prompts: list[tuple[str, ...]]) -> list[np.ndarray]:
            questions = [(p, (edit.new, edit.true)) for edit, many in zip(edits, prompts, strict=True) for p in many]
            likelihoods = all_likelihoods(base, questions, batch_tokens=batch_tokens) if questions else []
            chosen = np.array([first_wins([option.mean for option in options]) for options in likelihoods])
            return np.split(chosen, np.cumsum([len(many) for many in prompts])[:-1])

        self.prompts = asked([(edit.prompt,) for edit in edits])
        self.paraphrases = asked([edit.paraphrases for edit in edits])
        self.neighbours = asked([edit.neighbours for edit in edits])


def _mean(by_edit: Sequence[np.ndarray]) -> Interval | None:
    """As `_of`; None where there is no prompt."""
    return _of(by_edit) if any(map(len, by_edit)) else None


def _of(by_edit: Sequence[np.ndarray]) -> Interval:
    """The mean over prompts, edits drawn whole."""
    groups = [n for n, many in enumerate(by_edit) for _ in many]
    return of_mean(np.concatenate(by_edit), groups, SHARE)
