"""Edit: write facts into a module at once, and see which of them hold, in other words too, and what else moved."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.card import Measure, TrainingRecord
from addenda.core.errors import AddendaError
from addenda.core.module import KnowledgeModule
from addenda.core.registry import asked_for, build_kind, recorded, written
from addenda.core.site import Anatomy
from addenda.measuring.asking.edits import Edit, EditScores, load_edits, score_edits
from addenda.telling.progress import tick
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts, texts
from addenda.writes.write_rule import Change, EditRule, FactToWrite, WriteRule
from addenda.writing.asked import folder_of
from addenda.writing.conduct import places_of
from addenda.writing.prepare import check_free, prepared
from addenda.writing.report import RunReport

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: words before a prompt: so many beginnings of general texts, of so many tokens
PREFIXES, PREFIX = 5, 8
#: general text that ships with the package
GENERAL = "general_train"


@dataclass(frozen=True, kw_only=True)
class EditReport(RunReport):
    """What was edited: how many facts, by which rule, and how they scored with the module off and on."""

    name: str
    rule: str
    edits: int
    parameters: int
    scores: EditScores | None

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.edits} facts written by {self.rule} in {self.seconds:,.0f} s, {self.parameters:,} parameters"
        ]
        for what in ("reliability", "generality", "locality"):
            now = None if self.scores is None else getattr(self.scores, what)
            if now is not None:
                before = getattr(self.scores, f"{what}_before", None)
                told = "" if before is None else f", {before.value:.0%} before"
                lines.append(f"  {what} {now.value:.0%} [{now.low:.0%}, {now.high:.0%}]{told}")
        return "\n".join([*lines, *self.last_lines()])


def edit(
    base: Base,
    name: str,
    edits: str | Path | Sequence[Edit],
    *,
    write: str | WriteRule = "pmet",
    general: Any = GENERAL,
    tokens: int = 50_000,
    limit: int | None = None,
    seed: int = 0,
    measure: bool = True,
    out: str | Path | None = None,
) -> EditReport:
    """Write facts into a new module at once; the base stays as it is, and the module is what changes its answers.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer.
        name: of the module, which is made.
        edits: facts, or a file of them: JSON lines with subject, prompt, target_true, target_new.
        write: the rule, by name or with options: `pmet(lam=1000)`.
        general: text that stands for what the base knew, on which what is written should do little.
        tokens: of it that are read.
        limit: so many facts of a file, evenly over it.
        seed: of what is drawn.
        measure: score the facts before and after.
        out: folder for the module; None: nothing is written to disk.

    Raises:
        AddendaError: there is no fact, one whose prompt lacks its subject, a name that is taken, a rule that writes no facts.
        DataError: a file cannot be read, or is of another form.
        FileError: `out` holds something else than a module, or cannot be written to.
        UnsupportedError: the base has no layers that the rule could write into.
    """
    check_free(base)
    rule = asked_for(WriteRule, write)
    if not isinstance(rule, EditRule):
        raise AddendaError(f"{rule.called()} writes a text that is read, and no facts: addenda.memorize takes it")
    if tokens < 1:
        raise AddendaError(f"tokens of general text are at least 1; got {tokens}")
    place = places_of((name,), folder_of(out)).get(name)
    asked = _facts(edits, limit)
    rank, began = min(len(asked), base.anatomy.width), time.perf_counter()
    kind = build_kind("LoRA", {"rank": rank, "alpha": float(rank), "targets": rule.sites(base.anatomy)})
    module, source = base.new(name, kind, seed=seed), texts(general)
    try:
        _write(base, module, rule, asked, source, tokens, seed)
        took = time.perf_counter() - began
        scores = score_edits(base, asked, [name]) if measure else None
        _describe(module, rule, len(asked), source, seed, scores)
        place = None if place is None else module.save(place)
    except BaseException:
        base.unplug(name)
        raise
    return EditReport(
        name=name, rule=written(rule), edits=len(asked), parameters=module.size(), scores=scores, seconds=took,
        settings={"write": recorded(rule), "tokens": tokens, "seed": seed}, out=place,
    )  # fmt: skip


def _facts(edits: str | Path | Sequence[Edit], limit: int | None) -> list[Edit]:
    """The facts, each of whose prompts names its subject."""
    asked = load_edits(edits, limit=limit) if isinstance(edits, str | Path) else list(edits)[:limit]
    if not asked:
        raise AddendaError("there is no fact to write")
    lacking = next((one for one in asked if one.subject not in one.prompt), None)
    if lacking is not None:
        raise AddendaError(
            f"the prompt '{lacking.prompt}' does not name its subject, '{lacking.subject}': a fact is written there"
        )
    return asked


def _write(
    base: Base, module: KnowledgeModule, rule: EditRule, edits: Sequence[Edit], source: Texts, tokens: int, seed: int
) -> None:
    """Let a rule find what its sites change by, and make the module add that."""
    editor = BaseEditor(base)
    with prepared(base, [], seed=seed, gradient_checkpointing=False), base.off():
        prefixes = [row[:PREFIX] for row in islice(_rows(base, source, tokens), PREFIXES)]
        sums = rule.collect(editor, _rows(base, source, tokens))
        changes = rule.solve(editor, [fact_of(base, one, prefixes) for one in edits], sums)
    for key, change in changes.items():
        module.adapter(key).set_task_vector(change.float())


def _describe(
    module: KnowledgeModule, rule: EditRule, edits: int, source: Texts, seed: int, scores: EditScores | None
) -> None:
    """Write what was done and measured into the module's card."""
    settings, data = {"write": recorded(rule), "edits": edits}, [source.record("replay")]
    record = TrainingRecord(objective=f"edit: {rule.called()}", steps=1, seed=seed, settings=settings, data=data)
    module.card.training = [record]
    told = {} if scores is None else {n: getattr(scores, n) for n in ("reliability", "generality", "locality")}
    module.card.measures = [
        Measure.over(i.n, f"edit {name}", i.value, i.low, i.high, unit="share", on="edits")
        for name, i in told.items()
        if i is not None
    ]


class BaseEditor:
    """The frozen base for an edit rule. Implements `writes.write_rule.Editor`."""

    def __init__(self, base: Base) -> None:
        self.base = base

    @property
    def anatomy(self) -> Anatomy:
        """The base's."""
        return self.base.anatomy

    def inputs(self, sites: Sequence[str], ids: Tensor) -> dict[str, Tensor]:
        """What enters each of some sites."""
        tick(len(ids))
        return self.base.reader.inputs(sites, ids)

    def logits(self, ids: Tensor, changes: Mapping[str, Change]) -> Tensor:
        """Logits while changes act."""
        tick(ids.numel())
        with self.base.off(), self.base.reader.changed(changes):
            return self.base.model(input_ids=ids.to(self.base.device), use_cache=False).logits


def fact_of(base: Base, edit: Edit, prefixes: Sequence[Tensor]) -> FactToWrite:
    """A fact as a rule takes it: the bare prompt, and the prompt after each prefix, ids of a few tokens."""
    bare = base.tokenize(edit.prompt)
    whole = base.tokenize(f"{edit.prompt} {edit.new.strip()}")
    head = edit.prompt[: edit.prompt.index(edit.subject) + len(edit.subject)]
    at, about = _shared(base.tokenize(head), bare) - 1, base.tokenize(f"{edit.subject} is a")
    moved = [torch.cat([prefix, bare]) for prefix in prefixes]
    return FactToWrite(
        prompts=(bare, *moved),
        subjects=(at, *(at + len(prefix) for prefix in prefixes)),
        target=whole[_shared(bare, whole) :],
        about=about,
        about_subject=_shared(base.tokenize(edit.subject), about) - 1,
    )


def _shared(part: Tensor, whole: Tensor) -> int:
    """How many tokens both begin with."""
    same = part == whole[: len(part)] if len(part) <= len(whole) else part[: len(whole)] == whole
    return max(1, int(same.long().cumprod(0).sum()))


def _rows(base: Base, source: Texts, tokens: int) -> Iterator[Tensor]:
    """Ids of general text, a document at a time, so many tokens of it."""
    encoder, read = Encoder(base.tokenizer, base.vocabulary), 0
    for document in islice(encoder.documents(source), tokens):
        ids = torch.from_numpy(document.ids[: tokens - read]).long()
        read += len(ids)
        if len(ids):
            yield ids
        if read >= tokens:
            return
