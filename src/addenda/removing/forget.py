"""Forget: take a text out of a module while it keeps another, or take the module out whole, with proof."""

# budget: the docstring of `forget` is the reference of the whole call
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from addenda.core.card import TrainingRecord
from addenda.core.errors import AddendaError
from addenda.core.files import check_place
from addenda.forgetters.forgetter import Forgetter
from addenda.modulefile.storage import MEMBERS
from addenda.plug.scoring import pace_of
from addenda.removing.looking import Look, look
from addenda.removing.plan import ForgetSettings, Plan, make_plan, side_owners
from addenda.removing.report import ForgetReport, WholeReport, remarks_on
from addenda.removing.run import Run
from addenda.removing.whole import remove
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.telling.progress import about, megabytes
from addenda.text.encoding import Encoder
from addenda.writing import checkpoint
from addenda.writing.budget import SCORED
from addenda.writing.packing import tokens_in
from addenda.writing.plan import folder_of
from addenda.writing.prepare import check_free, prepared
from addenda.writing.probe import probe_of
from addenda.writing.run_log import RunLog
from addenda.writing.settings import checked
from addenda.writing.signals import TrainingStopped
from addenda.writing.taking_up import take_up

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: rows tried for a probe on which the module shows itself
PROBE_ROWS = 8


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
    if out is not None:
        check_place(out, MEMBERS)
    places = {} if out is None else {plan.module.name: out}
    folder = checkpoint.begin(out, resume or finish)
    with ExitStack() as block:
        block.callback(checkpoint.leave, folder)
        block.enter_context(checkpoint.held(folder))
        block.enter_context(prepared(base, [plan.module.name], seed=plan.seed, gradient_checkpointing=False))
        log = RunLog(
            folder,
            plan.steps,
            show=plan.settings.log,
            tracker=None,
            name=plan.module.name,
            config={},
            task="forgetting in",
        )
        run = Run(base, plan, block.enter_context(log), folder)
        interrupts = block.enter_context(Interrupts(run.promise))
        block.enter_context(_as_it_was(run))
        over = (resume or finish) and take_up(run, places, finish=finish)
        freed = 0
        if not over:
            _work(base, plan, run, interrupts, finish=finish)
            if out is not None and folder is not None:
                plan.module.save(out)
                freed = checkpoint.finish(folder, run.step, run.state(), plan.settings.keep_run)
    return _report(plan, run, out, freed)


@contextmanager
def _as_it_was(run: Run) -> Iterator[None]:
    """Put the module's tensors, card and side tensors back where the block ends with an error."""
    module = run.module
    card, side, probe = module.card.model_copy(deep=True), module.side, module.probe
    try:
        yield
    except BaseException:
        module.load_tensors(run.before)
        module.card, module.side, module.probe = card, side, probe
        raise


def _work(base: Base, plan: Plan, run: Run, interrupts: Interrupts, *, finish: bool) -> None:
    """Tell what will be done, do it, measure it, and describe it in the card."""
    try:
        if plan.settings.log:
            _announce(base, plan, run)
    except Stopped as stopped:
        if run.resumed_from is not None:
            raise TrainingStopped.after(run.at, stopped.signal, run.folder) from None
        raise TrainingStopped.after("the first step", stopped.signal, run.folder, begun=False) from None
    if not finish:
        run.go(interrupts)
    try:
        with run.log.shown.part("measuring", 2 * plan.settings.measured):
            looks = [_look(base, run, side) for side in (plan.forget, plan.retain)]
            # one that was kept may be of the very text that is gone
            plan.module.probe = _probe(base, plan)
    except Stopped as stopped:
        run.leave(stopped.signal)
        return
    dropped = side_owners(plan.module)
    plan.module.side = {}
    run.found = {
        "forget": looks[0].as_dict(),
        "retain": looks[1].as_dict(),
        "groups": plan.method.remaining(plan.module),
        "dropped": dropped,
    }
    _describe(plan, run)


def _look(base: Base, run: Run, source: Any) -> Look:
    plan = run.plan
    return look(base, run.module, run.before, source, tokens=plan.settings.measured, length=plan.length)


def _probe(base: Base, plan: Plan) -> list[int] | None:
    if plan.module.probe is None:
        return None
    feed = plan.feeds(base)["retain"]
    return probe_of(base, plan.module.name, [feed.take().ids for _ in range(PROBE_ROWS)])


def _announce(base: Base, plan: Plan, run: Run) -> None:
    """Tell what will be done, and the time, memory and disk it takes."""
    module, say = plan.module, run.log.say
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
    say(f"  time: {about(seconds + 2 * 4 * plan.settings.measured / pace)}, as timed on this machine just now")
    size, kept = 4 * module.size(), ""
    if run.folder is not None:
        kept = f"; disk: checkpoints up to {megabytes((plan.settings.keep + 1) * 5 * size)} in {run.folder}"
        kept += ", kept" if plan.settings.keep_run else ", removed when the run is finished"
    say(f"  memory: {megabytes((6 + plan.batches) * size)} beside the base{kept}")


def _describe(plan: Plan, run: Run) -> None:
    """Write the run into the module's card."""
    card, report = plan.module.card, _report(plan, run, None, 0)
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


def _report(plan: Plan, run: Run, out: Path | None, freed: int) -> ForgetReport:
    found: Mapping[str, Any] | None = run.found
    assert found is not None
    gone, dropped = Look.of(found["forget"]), found["dropped"]
    remarks = remarks_on(gone)
    if dropped:
        remarks += (
            f"remark: what {dropped} kept beside the module told of the old one, and was dropped: make it anew",
        )
    if run.step < plan.steps:
        remarks += (f"remark: finished early, at {run.at}",)
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
