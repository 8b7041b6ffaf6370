"""The page of a comparison: learning against forgetting, quality against cost, curves over training, one table, what was run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from addenda.comparing.composition import mean_interference
from addenda.comparing.methods import METHODS
from addenda.measuring.plots import LIGHT, Curve, Mark, heat_maps, learning_forgetting, save_picture, scatter
from addenda.measuring.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from addenda.comparing.compare import Comparison, Row
    from addenda.comparing.composition import Composed
    from addenda.intervals import Interval

FORGETTING, LEARNING = (
    "forgetting: nats per token lost on general text",
    "learning: nats per token gained on the subject",
)
WIDE, NARROW = (8.6, 5.0), (4.1, 4.6)
#: columns of the table
HEAD = ("method", "learned", "forgotten", "unrelated text", "parameters", "training", "request")


def role_of(row: Row) -> str:
    """A colour: gated or quiet modules, those that act everywhere, text in the window."""
    if METHODS[row.method].how in ("rag", "context"):
        return "third"
    return "first" if row.method.startswith("neutral") or row.method.endswith("neutral") else "second"


def write_page(found: Comparison) -> None:
    """Write `report.html`, and each plot as SVG and PNG beside it."""
    rows = [row for row in found.rows if row.method != "base"]
    page = Report(
        "The same text, given in every way",
        f"{len(rows)} ways to give “{found.base}” the same text, each at the same budget and at the learning rate that suits it "
        "best: what each learns of the subject, what it forgets of the rest, and what it costs.",
    )
    page.heading("Learning against forgetting")
    page.plots(
        _frontier(rows, WIDE), _frontier(rows, NARROW), "Learning against forgetting, by method",
        "Further up has learned more of the held-out subject, further left has forgotten less of general text. Bars are 95% "
        "intervals over documents; paths are validations during the first seed's training. Green: modules with a gate; orange: "
        "what acts everywhere; violet: text in the window.",
    )  # fmt: skip
    page.heading("Quality against cost")
    page.plots(
        _cost(rows, WIDE), _cost(rows, NARROW), "Learning against the time of a request, by method",
        "What is learned against what a request costs: the mean of two times over the bare base's, of reading the prompt and of "
        "each token written after it.",
    )  # fmt: skip
    page.table(
        HEAD,
        [cells_of(row) for row in found.rows],
        [role_of(row) if row.method != "base" else "ink" for row in found.rows],
    )
    page.note(
        "Nats per token against the base, means over seeds; intervals are 95%, by bootstrap over documents, paired with the "
        "base. Unrelated text: nats added there, and the share of its tokens that the module leaves bit-equal. Request: the "
        "times of prefill and of a decoded token over the bare base's, and the tokens read ahead."
    )
    if found.composed:
        _composition(page, found)
    if any(found.sweeps.values()):
        page.heading("How the rates were chosen")
        page.text(
            "Loss on the half of the held-out subject that nothing is reported on, at each rate's last rung; the least is chosen."
        )
        chosen = {row.method: f"{row.rate:.3g}" for row in found.rows if row.rate is not None}
        page.facts({name: tried_of(tried, chosen[name]) for name, tried in found.sweeps.items() if tried})
    page.heading("What was run")
    page.facts({row.method: row.said for row in found.rows} | found.facts)
    page.write(found.page, "Written by Addenda. This page holds everything it shows.")
    for name, figure in (("frontier", _frontier), ("cost", _cost)):
        for ending in ("svg", "png"):
            save_picture(figure(rows, (8.0, 5.0), LIGHT), found.out / f"{name}.{ending}")


def tried_of(tried: dict[str, float], chosen: str) -> str:
    """What each rate of a sweep lost; said where the chosen one is at the edge, for one beyond it may do better."""
    text = ", ".join(f"{rate}: {loss:.4f}" for rate, loss in tried.items())
    ordered = sorted(tried, key=float)
    for edge, told in ((ordered[0], "lowest"), (ordered[-1], "highest")):
        if len(tried) > 1 and chosen == edge:
            text += f"; chosen is the {told} tried, one beyond it may do better"
    return text


def _composition(page: Report, found: Comparison) -> None:
    """What modules keep of their gains together, and a heat map of who disturbs whom."""
    counts = sorted(found.composed[0].kept)
    page.heading("Modules together")
    page.text(
        f"The corpus was dealt out into {max(counts)} parts; for each part a module was trained by itself. Each is measured on "
        "the text it was trained on, alone and with others plugged at weight 1."
    )
    rows = []
    for one in found.composed:
        cells = [
            (f"{kept.value:.0%}", "" if kept.n < 2 else f"{kept.low:.0%} to {kept.high:.0%}")
            for kept in one.kept.values()
        ]
        gain = sum(one.alone) / len(one.alone)
        rows.append([title_of(one), f"{gain:+.3f}", *cells, f"{mean_interference(one):+.4f}"])
    page.table(
        ["method", "gain alone", *(f"kept, {n} on" if n > 1 else "1 on" for n in counts), "one more module adds"], rows
    )
    page.plots(
        _heat(found, 4), _heat(found, 2), "What one module adds to the loss on another's text, nats per token",
        "Row: the module whose text is read; column: the module plugged beside it. Lighter: nothing is added.",
    )  # fmt: skip
    for ending in ("svg", "png"):
        save_picture(_heat(found, 4, LIGHT), found.out / f"interference.{ending}")


def kept_of(found: Interval) -> tuple[str, str]:
    """A share that is kept, with its interval where it has one; a dash where alone nothing was gained."""
    told = "" if found.low == found.high else f"{found.low:.0%} to {found.high:.0%}"
    return (f"{found.value:.0%}", told) if found.n else ("-", "")


def title_of(found: Composed) -> str:
    """A method, and how its modules were trained."""
    return f"{found.method}{', among distractors' if found.distractors else ''}"


def _heat(found: Comparison, across: int, palette: dict[str, str] | None = None) -> Figure:
    titles = [title_of(one).replace(", among", "\namong") for one in found.composed]
    return heat_maps(
        dict(zip(titles, (one.pairs for one in found.composed), strict=True)), across=across, palette=palette
    )


def _frontier(rows: list[Row], size: tuple[float, float], palette: dict[str, str] | None = None) -> Figure:
    curves = [
        Curve(
            row.method,
            (
                *((one["forgetting"], one["learning"]) for one in row.curve[:-1]),
                (row.forgotten.value, row.learned.value),
            ),
            (row.forgotten.low, row.forgotten.high),
            (row.learned.low, row.learned.high),
            role_of(row),
        )
        for row in rows
    ]
    narrow = size[0] < 6
    x, y = (label.split(":")[0] if narrow else label for label in (FORGETTING, LEARNING))
    return learning_forgetting(curves, x_label=x, y_label=y, size=size, palette=palette)


def _cost(rows: list[Row], size: tuple[float, float], palette: dict[str, str] | None = None) -> Figure:
    marks = [
        Mark(row.method, request(row), row.learned.value, (row.learned.low, row.learned.high), role_of(row))
        for row in rows
    ]
    return scatter(
        marks,
        x_label="cost of a request, bare base = 1",
        y_label=LEARNING.split(":")[0] if size[0] < 6 else LEARNING,
        size=size,
        palette=palette,
    )


def request(row: Row) -> float:
    """Cost of a request: the mean of the times of prefill and of a decoded token, each over the bare base's."""
    return (row.prefill + row.decode) / 2


def cells_of(row: Row) -> list[tuple[str, str] | str]:
    """A row of the table, under `HEAD`: texts, or a text with small print."""
    nothing = row.method == "base"
    moved = "-" if nothing else f"{row.moved:+.3f}"
    left = "" if row.untouched is None else f"{row.untouched:.0%} bit-equal"
    ahead = f"{row.extra_tokens} tokens ahead" if row.extra_tokens else ""
    return [
        (row.method, "" if row.rate is None else f"rate {row.rate:.2g}"),
        _nats(row.learned, nothing),
        _nats(row.forgotten, nothing),
        (moved, left),
        (f"{row.parameters:,}" if row.parameters else "-", f"{row.bytes / 1e6:.1f} MB" if row.bytes else ""),
        (
            f"{row.seconds:,.0f} s" if row.seconds else "-",
            "" if row.peak_megabytes is None else f"peak {row.peak_megabytes:,.0f} MB",
        ),
        (f"{row.prefill:.2f}, {row.decode:.2f}", ahead),
    ]


def _nats(found: Interval, nothing: bool) -> tuple[str, str]:
    return ("-", "") if nothing else (f"{found.value:+.3f}", f"{found.low:+.3f} to {found.high:+.3f}")
