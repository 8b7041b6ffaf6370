"""The page of a comparison: learning against forgetting, quality against cost, curves over training, one table, what was run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from addenda.comparing.composition import LEAST, mean_interference
from addenda.comparing.methods import METHODS
from addenda.measuring.drawing.plots import LIGHT, Curve, Mark, heat_maps, learning_forgetting, save_picture, scatter
from addenda.measuring.drawing.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from addenda.comparing.comparison import Comparison
    from addenda.comparing.composition import Composed
    from addenda.comparing.rows import Row
    from addenda.measuring.asking.judge import Judged
    from addenda.telling.intervals import Interval

FORGETTING, LEARNING = (
    "forgetting: nats per token lost on general text",
    "learning: nats per token gained on the subject",
)
LEGEND = (
    "Nats per token against the base, means over seeds; intervals are 95%, by bootstrap over documents, paired with the "
    "base. KL from the base, and the share of tokens left bit-equal: on unrelated text, or where none was given "
    "on that of forgetting. Answers changed: of greedy answers to general chats, those that are not the base's, word for word. "
    "Tasks: zero-shot questions answered rightly (PIQA, ARC-Easy, BoolQ, HellaSwag), in points above the base. These four tell "
    "forgetting where the loss does not: an instruct model learns general text again from replay. "
    "Forgotten at equal gain: in the validations, where a method had gained as much as the gated module that learned most; "
    "its interval joins documents and seeds; a dash where it never had. "
    "Training: without validations; the peak is the most in use over what was in use before, and the base's weights. "
    "Request: the times of prefill and of a decoded token over the bare base's, medians with 95% intervals over timed "
    "repeats, and the tokens read ahead; finding them is part of the prefill. "
    "Answered: of questions about the corpus, those whose answer in chat, greedy, says one that counts."
)
WIDE, NARROW = (8.6, 5.0), (4.1, 4.6)


def head_of(comparison: Comparison) -> list[str]:
    """Names of the table's columns; without unrelated text what is added there is what is forgotten, and has none."""
    unrelated = ["unrelated text"] if comparison.apart else []
    answered = ["answered"] if _asked(comparison) else []
    answered += [] if comparison.judged is None else [f"judged right by {comparison.judged.judge}"]
    moved = ["KL", "bit-equal", "answers changed", "tasks"]
    return [
        "method", "learned", *answered, "forgotten", "forgotten at equal gain", *unrelated, *moved, "parameters", "training",
        "request",
    ]  # fmt: skip


def _asked(comparison: Comparison) -> bool:
    """Whether methods were asked questions about the corpus."""
    return any(row.answered is not None for row in comparison.rows)


def sentence(judged: Judged) -> str:
    """Who judged the answers, and of how many nothing was said; or why none is judged."""
    told = str(judged)
    return f"{told[0].upper()}{told[1:]}."


def role_of(method: str) -> str:
    """A colour: gated or quiet modules, those that act everywhere, text in the window."""
    if method == "base":
        return "ink"
    if METHODS[method].how in ("rag", "context"):
        return "third"
    return "first" if METHODS[method].gated else "second"


def write_page(comparison: Comparison) -> None:
    """Write `report.html`, and each plot as SVG and PNG beside it."""
    rows = [row for row in comparison.rows if row.method != "base"]
    page = Report(
        "The same text, given in every way",
        f"{len(rows)} ways to give “{comparison.base}” the same text, each at the same budget and at "
        + (
            "the learning rate that suits it best"
            if comparison.settings["rates"] > 1
            else "its kind's tested learning rate"
        )
        + ": what each learns of the subject, what it forgets of the rest, and what it costs.",
    )
    if comparison.remarks:
        page.bullets(comparison.remarks)
    if rows:
        _plots(page, rows)
    page.table(
        head_of(comparison),
        cells_of(comparison),
        [role_of(row.method) for row in comparison.rows],
    )
    page.note(LEGEND)
    if comparison.judged is not None:
        page.note(sentence(comparison.judged))
    page.bullets([str(failure) for failure in comparison.failed])
    if comparison.composed:
        _composition(page, comparison)
    if any(comparison.sweeps.values()):
        page.heading("How the rates were chosen")
        page.text(
            "Loss on the half of the held-out subject that nothing is reported on, at each rate's last rung; the least is chosen."
        )
        page.facts(
            {name: tried_of(tried, comparison.edges.get(name)) for name, tried in comparison.sweeps.items() if tried}
        )
    page.heading("What was run")
    page.facts({row.method: row.told() for row in comparison.rows} | comparison.facts)
    page.write(comparison.page, "Written by Addenda. This page holds everything it shows.")
    for name, figure in (("frontier", _frontier), ("cost", _cost)) if rows else ():
        for ending in ("svg", "png"):
            save_picture(figure(rows, (8.0, 5.0), LIGHT), comparison.out / f"{name}.{ending}")


def _plots(page: Report, rows: list[Row]) -> None:
    page.heading("Learning against forgetting")
    page.plots(
        _frontier(rows, WIDE), _frontier(rows, NARROW), "Learning against forgetting, by method",
        "Further up has learned more of the held-out subject, further left has forgotten less of general text. Large marks are "
        "what is reported, means over seeds with 95% intervals over documents. Paths are the first seed's validations during "
        "training, on fewer tokens, and of learning on the half by which rates are chosen: they end near their mark, not in it. "
        "Green: modules with a gate; orange: what acts everywhere; violet: text in the window.",
    )  # fmt: skip
    page.heading("Quality against cost")
    page.plots(
        _cost(rows, WIDE), _cost(rows, NARROW), "Learning against the time of a prompt, by method",
        "What is learned against the time of reading a prompt, with what is found and read ahead of it, over the bare base's. "
        "What each token written after it takes is in the table.",
    )  # fmt: skip


def tried_of(tried: dict[str, float], edge: str | None) -> str:
    """What each rate of a sweep lost; said where the chosen one is at the edge, for one beyond it may do better."""
    each = (f"{rate}: {loss:.4f}" if math.isfinite(loss) else f"{rate}: failed" for rate, loss in tried.items())
    return ", ".join(each) + ("" if edge is None else f"; {at_edge(edge)}")


def at_edge(edge: str) -> str:
    """What it means that the chosen rate is the "lowest" or the "highest"."""
    return f"the chosen rate is the {edge} tried, one beyond it may do better"


def _composition(page: Report, comparison: Comparison) -> None:
    """What modules keep of their gains together, and a heat map of who disturbs whom."""
    counts = sorted(comparison.composed[0].kept)
    page.heading("Modules together")
    page.text(
        f"The corpus was dealt out into {max(len(composed.alone) for composed in comparison.composed)} parts, "
        "each no longer than is read of it; for each part a module was trained by itself. Each is measured on the "
        "beginning of its part, alone and with others plugged at weight 1: on what was written into it, not on "
        "how that generalizes. Intervals are 95%, over parts, from three parts on."
    )
    rows = []
    for composed in comparison.composed:
        cells = [kept_of(kept) for kept in composed.kept.values()]
        gain = sum(composed.alone) / len(composed.alone)
        rows.append([title_of(composed), f"{gain:+.3f}", *cells, f"{mean_interference(composed):+.4f}"])
    page.table(
        ["method", "gain alone", *(f"kept, {n} on" if n > 1 else "1 on" for n in counts), "one more module adds"], rows
    )
    page.plots(
        _heat(comparison, 4), _heat(comparison, 2),
        "What one module adds to the loss on another's text, nats per token",
        "Row: the module whose text is read; column: the module plugged beside it. Lighter: nothing is added.",
    )  # fmt: skip
    for ending in ("svg", "png"):
        save_picture(_heat(comparison, 4, LIGHT), comparison.out / f"interference.{ending}")


def kept_of(share: Interval) -> tuple[str, str]:
    """A share that is kept, with its interval where it has one; a dash where alone nothing was gained."""
    told = "" if share.n < LEAST or share.low == share.high else f"{share.low:.0%} to {share.high:.0%}"
    return (f"{share.value:.0%}", told) if share.n else ("-", "")


def title_of(composed: Composed) -> str:
    """A method, and how its modules were trained."""
    return f"{composed.method}{', among distractors' if composed.distractors else ''}"


def _heat(comparison: Comparison, across: int, palette: dict[str, str] | None = None) -> Figure:
    titles = [title_of(composed).replace(", among", "\namong") for composed in comparison.composed]
    return heat_maps(
        dict(zip(titles, (composed.pairs for composed in comparison.composed), strict=True)),
        across=across,
        palette=palette,
    )


def _frontier(rows: list[Row], size: tuple[float, float], palette: dict[str, str] | None = None) -> Figure:
    curves = [
        Curve(
            row.method,
            (
                *((point["forgetting"], point["learning"]) for point in row.curve),
                (row.forgotten.value, row.learned.value),
            ),
            (row.forgotten.low, row.forgotten.high),
            (row.learned.low, row.learned.high),
            role_of(row.method),
        )
        for row in rows
    ]
    narrow = size[0] < 6
    x, y = (label.split(":")[0] if narrow else label for label in (FORGETTING, LEARNING))
    figure = learning_forgetting(curves, x_label=x, y_label=y, size=size, palette=palette)
    _end_paths(figure, curves)
    return figure


def _end_paths(figure: Figure, curves: list[Curve]) -> None:
    """Let each path end at its own last validation: what is reported is another half of the text, and a mean over seeds."""
    paths = {((0.0, 0.0), *curve.points) for curve in curves}
    for line in figure.axes[0].lines:
        points = tuple(map(tuple, line.get_xydata().tolist()))  # type: ignore[union-attr]
        if points in paths:
            line.set_data([x for x, _ in points[:-1]], [y for _, y in points[:-1]])


def _cost(rows: list[Row], size: tuple[float, float], palette: dict[str, str] | None = None) -> Figure:
    marks = [
        Mark(row.method, row.prefill.value, row.learned.value, (row.learned.low, row.learned.high), role_of(row.method))
        for row in rows
    ]
    marks.insert(0, Mark("base", 1.0, 0.0, (0.0, 0.0), "ink"))
    return scatter(
        marks,
        x_label="time of prefill, with what is read ahead; bare base = 1",
        y_label=LEARNING.split(":")[0] if size[0] < 6 else LEARNING,
        size=size,
        palette=palette,
    )


def cells_of(comparison: Comparison) -> list[list[tuple[str, str] | str]]:
    """The rows of the table, under `head_of`; the reason why one failed is too long for a cell."""
    dashes = ["-"] * (len(head_of(comparison)) - 1)
    asked, judged = _asked(comparison), comparison.judged is not None
    return [row_cells(row, comparison.apart, asked, judged) for row in comparison.rows] + [
        [(failure.method, "failed"), *dashes] for failure in comparison.failed
    ]


def row_cells(row: Row, apart: bool, asked: bool = False, judged: bool = False) -> list[tuple[str, str] | str]:
    """A method's cells: texts, or a text with small print."""
    nothing = row.method == "base"
    costs = (row.prefill, row.decode)
    ahead = [f"{row.extra_tokens} tokens ahead"] if row.extra_tokens else []
    return [
        (row.method, "" if row.rate is None else f"rate {row.rate:.2g}"),
        _number(row.learned, nothing),
        *([_number(row.answered, False, ".0%")] if asked else []),
        *([_number(row.judged, False, ".0%")] if judged else []),
        _number(row.forgotten, nothing),
        _number(row.at_gain, nothing),
        *([_number(row.moved, nothing)] if apart else []),
        _number(row.kl, nothing, ".3f"),
        _number(row.untouched, nothing, ".0%"),
        _number(row.changed, nothing, ".0%"),
        _number(row.tasks, nothing, "+.1%"),
        (f"{row.parameters:,}" if row.parameters else "-", f"{row.bytes / 1e6:.1f} MB" if row.bytes else ""),
        (
            f"{row.seconds:,.1f} s" if row.seconds else "-",
            "" if row.peak_megabytes is None else f"peak {row.peak_megabytes:,.0f} MB",
        ),
        (
            ", ".join(f"{cost.value:.2f}" for cost in costs),
            "\n".join([*(f"{cost.low:.2f} to {cost.high:.2f}" for cost in costs if cost.low < cost.high), *ahead]),
        ),
    ]


def _number(interval: Interval | None, nothing: bool, form: str = "+.3f") -> tuple[str, str]:
    """A number with its interval; a dash where there is none."""
    if interval is None or nothing:
        return "-", ""
    value, low, high = (f"{number:{form}}" for number in (interval.value, interval.low, interval.high))
    value, low, high = (told.replace("-", "+") if not float(told.rstrip("%")) else told for told in (value, low, high))
    return value, "" if interval.n < 2 and interval.low == interval.high else f"{low} to {high}"
