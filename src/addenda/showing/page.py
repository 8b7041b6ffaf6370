"""The demo's page: what was learned and forgotten, where the gate fires, what was proved, and what it does not show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from addenda.measuring.plots import LIGHT, Curve, learning_forgetting, save_picture
from addenda.measuring.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from addenda.scoring import Difference, Score
    from addenda.showing.demo import DemoReport
    from addenda.writing.report import TrainReport

X_LABEL = "forgetting: nats per token lost on general English"
Y_LABEL = "learning: nats per token gained on medical text"


def write_page(report: DemoReport, picture: Path | None = None) -> None:
    """Write `report.page`, and the plot alone where asked."""
    curves = curves_of(report)
    page = Report(*_opening(report))
    page.keys(_keys(report))
    page.heading("Learning against forgetting")
    page.plots(
        _plot(curves, (8.6, 4.8)),
        _plot(curves, (4.1, 4.6)),
        "Learning on medical text against forgetting of general English, during training",
        "Each path starts at the base and follows one module through its training; dots are validations, the last one "
        "is marked, with 95% intervals over held-out documents. Further up has learned more, further left has "
        "forgotten less.",
    )
    _table(page, report)
    page.checks((check.passed, check.text) for check in report.checks)
    page.heading("Where the gate fires")
    page.text(
        "A passage of held-out text that goes from general English to medicine and back. The stronger a word's colour, "
        "the further the module's gate is open there; where it is shut the module adds nothing. It is one gate for the "
        "whole module, averaged over the text so far, so it follows a change of subject some words later."
    )
    page.activity(report.seen, report.bands)
    page.note(_gate_note(report))
    page.heading("Three prompts")
    for sample in report.samples:
        page.samples(sample.sort, sample.prompt, sample.texts, {"LoRA": "second", "module on": "first", "base": "ink"})
    page.note(
        "Drawn at temperature 0.7 among the 50 likeliest tokens, with one seed for all. With its module off the model "
        "writes what the base writes."
    )
    page.heading("What was run")
    page.facts(report.facts)
    for name in report.cards:
        page.facts(_card(name, report))
    page.heading("What this does not show")
    page.bullets(_limits(report))
    page.write(report.page, f"Written by Addenda in {report.seconds:.0f} seconds. This page holds everything it shows.")
    if picture is not None:
        save_picture(_plot(curves, (8.0, 4.8), LIGHT, _small_print(report)), picture)


def curves_of(report: DemoReport) -> list[Curve]:
    """One curve for each module, from its validations during training."""
    rows = {row.role: row for row in report.rows if row.role != "ink"}
    names = {"first": "module", "second": "LoRA"}
    curves = []
    for role, run in zip(("first", "second"), report.runs.values(), strict=True):
        learned, forgotten = rows[role].learned, rows[role].forgotten
        assert learned is not None
        assert forgotten is not None
        curves.append(
            Curve(
                names[role],
                tuple(_validations(run)),
                (forgotten.low, forgotten.high),
                (learned.low, learned.high),
                role,
            )
        )
    return curves


def _validations(run: TrainReport) -> list[tuple[float, float]]:
    """(forgetting, learning) at each validation."""
    each = (texts for record in run.history for texts in record.get("validation", {}).values())
    return [(texts["forgetting-general"]["value"], texts["medical"]["value"]) for texts in each]


def _small_print(report: DemoReport) -> str:
    """What a picture that stands alone must say of itself."""
    run, row = next(iter(report.runs.values())), report.rows[0]
    documents = row.medical.documents + row.general.documents
    return (
        f"Base {report.base}, {run.tokens:,} tokens each, one seed; 95% intervals over {documents} held-out documents"
    )


def _plot(
    curves: list[Curve], size: tuple[float, float], palette: dict[str, str] | None = None, note: str = ""
) -> Figure:
    narrow = size[0] < 6
    x = "forgetting (nats per token, general)" if narrow else X_LABEL
    y = "learning (nats per token, medical)" if narrow else Y_LABEL
    return learning_forgetting(curves, x_label=x, y_label=y, size=size, palette=palette, note=note)


def _opening(report: DemoReport) -> tuple[str, str]:
    return (
        "Medicine, plugged in and out again",
        f"A knowledge module and a LoRA of the same size learned medical articles beside the frozen “{report.base}”. "
        "Here is what each learned, what each forgot of general English, and the proof that the base is untouched.",
    )


def _keys(report: DemoReport) -> list[tuple[str, str]]:
    rival, module = report.rows[1], report.rows[2]
    passed = sum(check.passed for check in report.checks)
    return [
        (_signed(module.learned), "nats per token learned by the module of held-out medical text"),
        (_signed(module.forgotten), "forgotten by the module of held-out general English"),
        (_signed(rival.learned), "learned by the LoRA of equal size"),
        (_signed(rival.forgotten), "forgotten by the LoRA"),
        (f"{passed} of {len(report.checks)}", "checks passed, switching off bit for bit among them"),
    ]


def _table(page: Report, report: DemoReport) -> None:
    rows = [
        (row.label, _score(row.medical), _change(row.learned), _score(row.general), _change(row.forgotten))
        for row in report.rows
    ]
    head = ("", "medical loss", "learned", "general loss", "forgotten")
    page.table(head, rows, [row.role for row in report.rows])
    medical, general = report.rows[0].medical, report.rows[0].general
    page.note(
        "Nats per token on held-out text; below, 95% intervals by bootstrap over documents "
        f"(medical: {medical.documents} documents, {medical.tokens:,} tokens; "
        f"general: {general.documents} documents, {general.tokens:,} tokens). "
        "Learned and forgotten are paired differences from the base, document by document."
    )


def _gate_note(report: DemoReport) -> str:
    mean, at, parts = report.seen.mean, 0, dict[str, list[float]]()
    for name, count in report.bands:
        parts.setdefault(name, []).extend(float(v) for v in mean[at : at + count])
        at += count
    means = ", ".join(f"{sum(values) / len(values):.3f} on {name} tokens" for name, values in parts.items() if values)
    alone = report.seen.untouched
    return (
        f"Mean gate: {means}. {alone:.0%} of the passage's tokens are left alone at every layer. "
        "“Live” is the share of tokens at which a layer's gate is open at all."
    )


def _card(name: str, report: DemoReport) -> dict[str, str]:
    card = report.cards[name]
    run = card.training[-1]
    options = ", ".join(f"{key}={value}" for key, value in card.config.items() if value is not None)
    data = "; ".join(
        f"{one.name} ({one.role}" + (f", sha256 {one.sha256[:12]}…" if one.sha256 else "") + ")" for one in run.data
    )
    local = run.settings.get("local")
    return {
        "module": name,
        "kind": f"{card.kind}({options})",
        "parameters": f"{card.parameters:,}",
        "learning rate": f"{run.lr:g}" + (f", local neutrality weight {local:g}" if local else ""),
        "data": data,
    }


def _limits(report: DemoReport) -> list[str]:
    tokens = next(iter(report.runs.values())).tokens
    return [
        "The base is very small: it writes plausible English and does not reason. The numbers compare two methods on "
        "it; they do not say what either reaches on a large model.",
        "One seed. The intervals speak of the held-out documents, not of other seeds or other data.",
        f"{tokens:,} tokens are minutes of training. Longer runs move every point of the plot.",
        "Each method runs at its kind's default learning rate; nothing was swept here. The project's results page has "
        "the sweeps, with three seeds and more methods.",
        "Medical means randomised trials in PubMed Central; general means encyclopedia, textbooks and novels.",
    ]


def _score(score: Score) -> tuple[str, str]:
    return f"{score.nats:.3f}", f"{score.low:.3f}\u00a0to {score.high:.3f}"


def _change(change: Difference | None) -> tuple[str, str] | str:
    return "–" if change is None else (_signed(change), f"{_sign(change.low)}\u00a0to {_sign(change.high)}")


def _signed(change: Difference | None) -> str:
    return "–" if change is None else _sign(change.nats)


def _sign(value: float) -> str:
    """A number with its sign, a true minus, and nothing for a zero."""
    text = f"{abs(value):.3f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text
