"""What a run will do and take, told before its first step; and what it leaves undone."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from addenda.telling.changes import counted
from addenda.telling.progress import about, megabytes
from addenda.text.encoding import Encoder
from addenda.text.texts import Texts
from addenda.writing.budget import SCORED, rows_for, validations_for
from addenda.writing.corpus_run import CorpusRun
from addenda.writing.gate_fit import awaits_fit, tokens_to_fit
from addenda.writing.loop import ModuleRun
from addenda.writing.memory_run import MemoryRun
from addenda.writing.pace import pace_of, reading_pace_of
from addenda.writing.packing import is_replay, tokens_in
from addenda.writing.plan import Plan

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of a corpus that are counted at most
COUNTED = 2_000_000
#: tokens below which a corpus is for a kind that is taught what it says, rather than its language
SMALL = 20_000
#: fewer steps than these are remarked upon, where other sizes give this many at least
FEW, WORTH = 20, 8
#: files named one by one; how held-out files are called
NAMED, HELD_OUT = 3, re.compile(r"(^|[^a-z])(valid|validation|val|test|dev|held[-_ ]?out)([^a-z]|$)", re.IGNORECASE)
#: bytes of a parameter that learns: its value and gradient, and two moments of its optimizer; of these a checkpoint has three
IN_MEMORY, ON_DISK = 16, 12


def announce(run: CorpusRun) -> None:
    """Tell what the run will do: tokens and passes over the corpus, validations, time, memory and disk."""
    plan, base, say = run.plan, run.base, run.log.say
    fitting, cost = _fitting(base, plan) if run.resumed_from is None else (0, 0.0)
    for line in (*_data(base, plan), *_remarks(base, plan)):
        say(line)
    reads, taught = _teaching(run)
    pace = pace_of(run)
    left = (plan.steps - run.step) * plan.tokens_per_step * len(plan.names)
    training = None if pace is None else left / pace
    scored, words = _validations(plan)
    validating = None if pace is None else scored / (pace / SCORED) * left / max(1, plan.steps * plan.tokens_per_step)
    if words:
        took = "" if training is None or validating is None else f", {_of(validating, training + validating)}"
        say(f"  validation: {words}{took}")
    first = 0.0 if pace is None else cost / (pace / SCORED)
    if fitting:
        took = f", {about(first)}" if first else ""
        say(f"  gate: fitted first, on up to {fitting:,} tokens{took}")
    teaching = 0.0 if pace is None else reads / (pace / SCORED)
    if taught:
        say(f"  teacher: {taught}" + (f", {about(teaching)}" if teaching else ""))
    whole = None if training is None or validating is None else first + teaching + training + validating
    announce_costs(run, whole, pace, f"a pass over {plan.rows * plan.length * len(plan.names):,} tokens")


def _fitting(base: Base, plan: Plan) -> tuple[int, float]:
    """Tokens that are read to fit gates before the first step, and as many tokens as cost as much to score.

    They are read through the layers below a gate alone; the fit itself takes about as long again (SmolLM2: 13 of 45 seconds).
    """
    gates = [base.modules[name].gate for name in plan.names if awaits_fit(base, plan, name)]
    each, layers = tokens_to_fit(plan) if plan.settings.gate_fit else 0, base.anatomy.layers
    cost = sum(each * min(1.0, 2 * (gate.layer + 1) / layers) for gate in gates if gate is not None)
    return len(gates) * each, cost


def _teaching(run: CorpusRun) -> tuple[int, str]:
    """Tokens that the teachers read before the first step, and what they do, in words; nothing where there are none."""
    if run.lessons is None or run.step == run.steps:
        return 0, ""
    work, folder = run.lessons.to_do(), run.lessons.folder
    kept = f"{megabytes(work.bytes)} on {work.rows:,} tokens of {counted(work.records, 'record')}, in {folder}"
    if not work.reads:
        return 0, f"has read all of it before: {kept}"
    more = ""
    if run.rounds is not None and len(run.rounds.starts) > 1:
        more = f"; at most as much again in each of {len(run.rounds.starts) - 1} further rounds, on what the module answers"
    return work.reads, f"reads {work.reads:,} tokens once, and leaves {kept}{more}"


def announce_reading(run: MemoryRun) -> None:
    """Tell what `memorize` will read, how often, and what time, memory and disk that takes."""
    base, settings, say = run.base, run.options, run.log.say
    often = "once" if settings.passes == 1 else f"{settings.passes} times"
    for name, reading in run.readings.items():
        module = base.modules[name]
        say(
            f"{name}: {type(module.kind).__name__}, {module.size():,} parameters; {reading.source.name}, {run.tokens[name]:,} "
            f"tokens, read {often} in chunks of {settings.chunk} in a window of {run.window}"
        )
    pace = reading_pace_of(run)
    left = sum(run.tokens.values()) * settings.passes * (1 - run.step / run.steps)
    announce_costs(run, left / pace, pace, f"a window of {run.window:,} tokens")


def announce_costs(
    run: ModuleRun, seconds: float | None, pace: float | None, read: str, memory: int = IN_MEMORY, disk: int = ON_DISK
) -> None:
    """Tell what time, memory and disk a run takes.

    Args:
        run: before its first step.
        seconds: that it takes; None: not known.
        pace: tokens a second, as timed.
        read: what takes memory beside modules and base: "a pass over 4,096 tokens".
        memory: bytes for each parameter that learns.
        disk: bytes of a checkpoint for each.
    """
    if seconds is not None and pace is not None:
        run.log.say(f"  time: {about(seconds)}, at {pace:,.0f} tokens/s as timed on this machine just now")
    size = sum(run.base.modules[name].size() for name in run.names)
    weights = sum(p.numel() * p.element_size() for p in run.base.model.parameters())
    told = f"  memory: base {megabytes(weights)}, modules with their optimizer {megabytes(memory * size)}"
    told += f", and what {read} takes"
    if run.folder is not None:
        after = "kept" if run.settings.keep_run else "removed when the run is finished"
        told += f"; disk: checkpoints up to {megabytes((run.settings.keep + 1) * disk * size)} in {run.folder}, {after}"
    run.log.say(told)


def _data(base: Base, plan: Plan) -> list[str]:
    """What is trained, on what, in how many steps and passes."""
    encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
    tokens = plan.steps * plan.tokens_per_step
    again = "" if plan.settings.accumulate == 1 else f" x {plan.settings.accumulate} passes"
    size = f"{plan.rows} rows x {plan.length} tokens{again}"
    lines: list[str] = []
    for name, corpus in plan.corpora.items():
        module = base.modules[name]
        lines.append(
            f"{name}: {type(module.kind).__name__}, {module.size():,} parameters; {tokens:,} tokens in {plan.steps:,} steps of "
            f"{size}"
        )
        read = tokens * (1 - plan.replay_share)
        most = round(min(read, COUNTED))
        there = tokens_in(corpus, encoder, max(1, most))
        passes = f"{there:,} tokens, read {read / there:,.1f} times"
        if there >= most:
            documents = documents_read(base, plan, name, _rows(plan))
            passes = "read in part" + ("" if documents is None else f" ({counted(documents, 'document')})")
        replay = (
            "" if plan.replay is None else f"; {plan.replay_share:.0%} of the rows are replay of {_named(plan.replay)}"
        )
        lines.append(f"  corpus: {_named(corpus)}, {passes}{replay}")
    if plan.penalties:
        fitted = {source.name for source in plan.earlier.values()}
        on = f", fitted on {', '.join(sorted(fitted))}" if fitted else ""
        lines.append(f"  penalty: {', '.join(penalty.called() for penalty in plan.penalties)}{on}")
    return lines


def _named(source: Texts) -> str:
    """A source's name, with the files of a folder."""
    places = source.places()
    if places in ([], [source.name]):
        return source.name
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return f"{source.name} ({counted(len(places), 'file')}: {', '.join(places[:NAMED])}{more})"


def _rows(plan: Plan) -> int:
    """Rows of its corpus that a module of the plan reads."""
    rows = plan.steps * plan.settings.accumulate * plan.rows
    return sum(not is_replay(number, plan.replay_share) for number in range(rows)) if plan.replay else rows


def documents_read(base: Base, plan: Plan, name: str, rows: int) -> int | None:
    """How many documents the first rows of a module's corpus are of; None where that would take long to find out."""
    if rows * plan.length > COUNTED or plan.corpora[name].endless:
        return None
    documents: set[int] = set()
    for row in islice(plan.mixture(base).corpora[name].stream.rows(0), rows):
        documents.update(np.unique(row.documents).tolist())
    return len(documents)


def _validations(plan: Plan) -> tuple[float, str]:
    """Tokens that all validations score, and what they are, in words; nothing where there are none."""
    texts, settings = len(plan.validation), plan.settings
    if not texts:
        return 0.0, ""
    due = validations_for(
        plan.steps, plan.steps * plan.tokens_per_step, modules=len(plan.names), texts=texts,
        asked=settings.validation_tokens, every=plan.validate_every,
    )  # fmt: skip
    times = "once" if due.count == 1 else f"{due.count} times"
    several = "1 text" if texts == 1 else f"{texts} texts"
    if due.tokens is None:
        return 0.0, f"{times} {several}, all of each"
    return due.tokens * texts * (due.count * len(plan.names) + 1), f"{times} {several} of {due.tokens:,} tokens"


def _of(part: float, whole: float) -> str:
    """A part of a time, in words: "about 1 minute of 11"."""
    if whole < 90:
        return f"about {max(1, round(part))} of {round(whole)} seconds"
    if part < 60:
        return f"about {max(1, round(part))} seconds of {about(whole)}"
    return f"about {about(part)} of {whole / 60:,.0f}" if whole < 90 * 60 else f"about {about(part)} of {about(whole)}"


def _remarks(base: Base, plan: Plan) -> list[str]:
    """Remarks before the run: what it leaves undone, and which kind a tiny corpus is better given to."""
    lines = [f"  remark: {remark}" for remark in remarks_on(base, plan)]
    encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
    for name, corpus in plan.corpora.items():
        kind = type(base.modules[name].kind).__name__
        there = tokens_in(corpus, encoder, SMALL)
        if there < SMALL and kind not in ("LoRA", "Cartridge", "OpenBook"):
            lines.append(
                f"  remark: {corpus.name} has {there:,} tokens: to answer questions on so small a text, LoRA and Cartridge "
                f"(init='text') did better than {kind}, which leaves other text alone"
            )
    return lines


def _held_out(source: Texts | None) -> list[str]:
    """The files of a source that are called as held-out ones are."""
    return [] if source is None else [place for place in source.places() if HELD_OUT.search(place)]


def remarks_on(base: Base, plan: Plan) -> tuple[str, ...]:
    """What the run leaves undone: tokens that make no whole step, too few steps, what it cannot do for want of replay."""
    lines: list[str] = []
    trained = plan.steps * plan.tokens_per_step
    if trained < 0.95 * plan.asked:
        lines.append(
            f"{trained:,} of {plan.asked:,} tokens were trained on: a step has {plan.tokens_per_step:,}; a shorter length or "
            "fewer rows make smaller ones"
        )
    given = plan.given
    if plan.steps < FEW and (given.length is not None or given.batch_rows is not None):
        most = plan.length if given.length is None else given.length
        rows, length = rows_for(plan.asked, longest=most, smallest=8 * most, accumulate=given.accumulate)
        if plan.asked // (rows * length * given.accumulate) >= max(WORTH, 4 * plan.steps):
            steps = "1 step" if plan.steps == 1 else f"{plan.steps} steps"
            lines.append(
                f"{steps} only, of {plan.rows} rows x {plan.length} tokens: try {rows} rows (--batch-rows) of {length} tokens "
                "(--length)"
            )
    rows = plan.steps * plan.rows * given.accumulate
    learned = rows - int(rows * plan.replay_share + 1e-9)  # as `is_replay` deals them out
    if learned < plan.steps:
        lines.append(
            f"{learned:,} of {rows:,} rows are of the corpus, and most of {plan.steps:,} steps have none: a smaller replay share "
            "or more rows a step (--batch-rows) give them some"
        )
    held_out = [place for source in (*plan.corpora.values(), plan.replay) for place in _held_out(source)]
    if held_out:
        more = f" and {len(held_out) - NAMED} more" if len(held_out) > NAMED else ""
        lines.append(
            f"trained on {', '.join(held_out[:NAMED])}{more}, held-out text by name: what is measured there would be no proof"
        )
    gated = [name for name in plan.names if base.modules[name].gates() or base.modules[name].classifies]
    if plan.replay is None and gated:
        whose = "the gate" if len(plan.names) == 1 else f"the gate of {', '.join(gated)}"
        lines.append(f"no replay: {whose} was never asked to shut; give general text as replay (--replay)")
    return tuple(lines)
