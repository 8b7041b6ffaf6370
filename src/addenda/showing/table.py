"""The demo's table: a line for each measure, a column for the base, the LoRA, the module, and the module switched off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from addenda.plug.scoring import Difference, Score
    from addenda.showing.columns import Column
    from addenda.showing.demo_report import DemoReport
    from addenda.telling.intervals import Interval

#: a number, and its interval in small print; empty where there is none
Cell = tuple[str, str]
NOTHING: Cell = ("–", "")


def table_of(report: DemoReport) -> tuple[list[str], list[list[Cell]]]:
    """The head, and each line: what is measured, with its unit in small print, and a cell for each column."""
    subject, general = report.scene.subject, report.scene.general
    lines: list[tuple[str, str, Callable[[Column], Cell]]] = [
        (f"{subject}: loss", "nats per token", lambda column: _score(column.subject)),
        (f"{subject}: learned", "loss taken off", lambda column: _change(column.learned)),
        (f"{general}: loss", "nats per token", lambda column: _score(column.general)),
        (f"{general}: forgotten", "loss added", lambda column: _change(column.forgotten)),
        (f"{general}: moved", "KL from the base, nats", lambda column: _interval(column.kl, "{:.4f}")),
        (f"{general}: left bit-equal", "share of tokens", lambda column: _interval(column.untouched, "{:.0%}")),
    ]
    if (chats := report.module.chats) is not None:
        what = f"of {chats.changed.n} general ones"
        lines.append(("chat: answers changed", what, _chats))
    if (asked := report.bare.questions) is not None:
        lines.append(("questions: right", f"of {asked.questions}; guessing {asked.chance:.0%}", _right))
        lines.append(("questions: change", "paired", _gained))
    rows = [[(what, unit), *(cell(column) for column in report.columns)] for what, unit, cell in lines]
    return ["", *(column.label for column in report.columns)], rows


def changed(change: Difference | None) -> str:
    """A change of loss with its sign."""
    return "–" if change is None else sign(change.nats)


def sign(value: float, form: str = "{:.3f}", unit: str = "") -> str:
    """A number with its sign, a true minus, and no sign for a zero."""
    text = form.format(abs(value))
    return (text if not float(text) else ("+" if value > 0 else "−") + text) + unit


def _score(score: Score) -> Cell:
    return f"{score.nats:.3f}", f"{score.low:.3f} to {score.high:.3f}"


def _change(change: Difference | None) -> Cell:
    return NOTHING if change is None else (changed(change), f"{sign(change.low)} to {sign(change.high)}")


def _interval(interval: Interval | None, form: str) -> Cell:
    return (
        NOTHING
        if interval is None
        else (form.format(interval.value), f"{form.format(interval.low)} to {form.format(interval.high)}")
    )


def _chats(column: Column) -> Cell:
    if column.chats is None:
        return NOTHING
    share = column.chats.changed
    return f"{round(share.value * share.n)}", f"{share.low:.0%} to {share.high:.0%}"


def _right(column: Column) -> Cell:
    asked = column.questions
    return NOTHING if asked is None else _interval(asked.off if asked.on is None else asked.on, "{:.1%}")


def _gained(column: Column) -> Cell:
    asked = column.questions
    if asked is None or asked.change is None:
        return NOTHING
    change = asked.change
    points = [sign(100 * value, "{:.1f}") for value in (change.value, change.low, change.high)]
    return f"{points[0]} points", f"{points[1]} to {points[2]}"
