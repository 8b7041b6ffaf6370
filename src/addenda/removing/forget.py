"""Forget: take a text out of a module while it keeps another, or take the module out whole, with proof."""

# budget: the docstring of `forget` is the reference of the whole call
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from torch import Tensor

from addenda.core.card import TrainingRecord
from addenda.core.errors import AddendaError
from addenda.core.module import KnowledgeModule
from addenda.core.settings import checked
from addenda.forgetters.forgetter import Forgetter
from addenda.plug.scoring import pace_of
from addenda.removing.looking import Look
from addenda.removing.plan import ForgetSettings, Plan, make_plan
from addenda.removing.report import ForgetReport, WholeReport, remarks_on
from addenda.removing.run import ForgetRun
from addenda.removing.whole import remove
from addenda.text.encoding import Encoder
from addenda.writing.announce import announce_costs
from addenda.writing.asked import folder_of
from addenda.writing.budget import SCORED
from addenda.writing.conduct import conduct
from addenda.writing.packing import tokens_in
from addenda.writing.prepare import check_free

if TYPE_CHECKING:
    from addenda.plug.base import Base


@overload
def forget(
    base: Base,
    name: str,
    *,
    forget: Any,
    retain: Any,
    method: str | Forgetter = "gu",
    tokens: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    finish: bool = False,
    **settings: Any,
) -> ForgetReport: ...


@overload
def forget(base: Base, name: str, *, folder: str | Path | None = None) -> WholeReport: ...


def forget(
    base: Base,
    name: str,
    *,
    forget: Any = None,
    retain: Any = None,
    method: str | Forgetter | None = None,
    tokens: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    finish: bool = False,
    folder: str | Path | None = None,
    **settings: Any,
) -> ForgetReport | WholeReport:
    """Take a text out of a module and keep another; without texts, take the module out whole.

    With texts the module's own parameters are changed, the base is not: what the base itself knows of the text stays. A
    forgetter that ends at the bare base's loss leaves the module as if it had not read the text, and no more than that. It is
    approximate: the report says what can still be got out of it. Whole removal is exact.

    A run that ends early, by Ctrl-C or an error, leaves the module in memory as it was.

    Args:
        base: as `addenda.attach` gives it, with a tokenizer.
        name: of a plugged module.
        forget: text that is to go, whatever `addenda.train` takes as a corpus.
        retain: text that is to stay: of what the module learned beside it.
        method: a forgetter by name, with options if need be, `"gs_lora(alpha=0.3)"`; see `addenda methods forgetter`.
        tokens: both texts counted; default: the forget text is read eight times.
        lr: peak learning rate; default: 0.3 of the kind's own.
        seed: of the order of rows.
        out: folder for the module. Beside it, `<out>.run` keeps the log, and checkpoints until the run is finished. Without it
            nothing is written to disk.
        resume: go on from the last checkpoint in `<out>.run`, to the same bits. The module must be as it was at the start.
        finish: make the module from the last checkpoint of an interrupted run, without a further step.
        folder: without texts: the module's folder, to be deleted once the proof holds.
        settings: see `removing.plan.ForgetSettings`.

    Returns:
        What is gone, what is kept, and how well: it goes into the card too. Without texts: the proof.

    Raises:
        AddendaError: the module is not plugged or was memorized, the method cannot work on its kind; only one text is given, or
            none and something that is for texts; a setting is unknown or out of range.
        DataError: a text cannot be read, is empty, or both are the same.
        TrainingError: too few tokens for one step; loss not finite; resumed with other settings. `TrainingStopped` after SIGINT
            or SIGTERM, with how to go on.
        FileError: `out` holds something else than a module, or `folder` is not this module's.
    """
    check_free(base)
    given = {
        "method": method,
        "tokens": tokens,
        "lr": lr,
        "out": out,
        "resume": resume or None,
        "finish": finish or None,
        "seed": seed or None,
    }
    if forget is None and retain is None:
        unused = [*(key for key, value in given.items() if value is not None), *settings]
        if unused:
            raise AddendaError(
                f"without texts '{name}' is forgotten whole, and {', '.join(unused)} would be ignored: give forget= and "
                "retain=, or leave it out"
            )
        return remove(base, name, folder)
    if folder is not None:
        raise AddendaError("folder= is for a module that is forgotten whole; give out= for what is left of one")
    chosen = checked(ForgetSettings, "forget", settings)
    plan = make_plan(
        base, name, forget=forget, retain=retain, method="gu" if method is None else method, tokens=tokens, lr=lr,
        seed=seed, settings=chosen,
    )  # fmt: skip
    return _run(base, plan, folder_of(out), resume=resume, finish=finish)


def _run(base: Base, plan: Plan, out: Path | None, *, resume: bool, finish: bool) -> ForgetReport:
    with _as_it_was(plan.module) as before:
        run, freed = conduct(
            base, (plan.module.name,), lambda log, folder, _: ForgetRun(base, plan, log, folder, before),
            out=out, resume=resume, finish=finish, seed=plan.seed, settings=plan.settings,
            logged={"steps": plan.steps, "task": "forgetting in"}, tell=_announce, describe=_describe,
        )  # fmt: skip
    return _report(run, out, freed)


@contextmanager
def _as_it_was(module: KnowledgeModule) -> Iterator[dict[str, Tensor]]:
    """Put the module's tensors, card and side tensors back where the block ends with an error; gives the tensors."""
    before = {name: tensor.detach().clone() for name, tensor in module.tensors().items()}
    card, side, probe = module.card.model_copy(deep=True), module.side, module.probe
    try:
        yield before
    except BaseException:
        module.load_tensors(before)
        module.card, module.side, module.probe = card, side, probe
        raise


def _announce(run: ForgetRun) -> None:
    """Tell what will be done, and the time, memory and disk it takes."""
    base, plan, module, say = run.base, run.plan, run.module, run.log.say
    encoder = Encoder(base.tokenizer, base.vocabulary, close=True)
    read = plan.steps * plan.rows * plan.length
    say(
        f"{module.name}: {type(module.kind).__name__}, {module.size():,} parameters; {plan.method.called()}, "
        f"{plan.steps:,} steps of {plan.batches} batches of {plan.rows} rows x {plan.length} tokens"
    )
    for word, source, much in (("to go", plan.forget, read), ("to stay", plan.retain, read * plan.method.batches)):
        there = tokens_in(source, encoder, much)
        passes = "read in part" if there >= much else f"{there:,} tokens, read {much / there:,.1f} times"
        say(f"  {word}: {source.name}, {passes}")
    pace = pace_of(base)
    left = (plan.steps - run.step) * plan.tokens_per_step
    # the bare base reads the forget text too; the end reads both texts in three states, and writes after their pieces
    seconds = left / (pace * SCORED) + (plan.steps - run.step) * plan.rows * plan.length / pace
    announce_costs(
        run, seconds + 2 * 4 * plan.settings.measured / pace, pace, f"a batch of {plan.rows * plan.length:,} tokens",
        memory=4 * (6 + plan.batches), disk=20,
    )  # fmt: skip


def _describe(run: ForgetRun) -> None:
    """Write the run into the module's card."""
    plan, card, report = run.plan, run.module.card, _report(run, None, 0)
    record = TrainingRecord(
        objective=f"forget: {plan.method.called()}",
        tokens=report.tokens,
        steps=report.steps,
        seed=plan.seed,
        lr=plan.lr,
        settings=report.settings,
        data=[plan.forget.record("forget"), plan.retain.record("retain")],
    )
    card.training = [*card.training, record]
    card.measures = list(report.measures())  # what was measured before was another module's


def _report(run: ForgetRun, out: Path | None, freed: int) -> ForgetReport:
    plan, found = run.plan, run.found
    assert found is not None
    gone, dropped = Look.of(found["forget"]), found["dropped"]
    remarks = remarks_on(gone)
    if dropped:
        remarks += (
            f"remark: tensors beside the module ({dropped}) were of the module as it was, and are gone; addenda route --learn "
            "learns a router's keys again, and training keeps new moments",
        )
    if run.ended is not None:
        remarks += (f"remark: {run.ended}",)
    return ForgetReport(
        name=plan.module.name,
        method=plan.method.called(),
        forget=gone,
        retain=Look.of(found["retain"]),
        steps=run.step,
        tokens=run.step * plan.tokens_per_step,
        seconds=run.seconds,
        settings={"method": run.method, "rows": plan.rows, "length": plan.length, "lr": plan.lr}
        | {k: v for k, v in plan.settings.plain().items() if k not in ("batch_rows", "length")},
        groups=found["groups"],
        remarks=remarks,
        resumed_from=run.resumed_from,
        out=out,
        run=run.folder,
        freed=freed,
    )
