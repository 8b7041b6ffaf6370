"""The demo's page: what was learned and what was moved, what was written, where the gate fires, what was proved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from addenda.measuring.drawing.plots import LIGHT, save_picture
from addenda.measuring.drawing.report import Report
from addenda.showing.picture import panels_of, picture
from addenda.showing.table import changed, table_of

if TYPE_CHECKING:
    from addenda.showing.demo_report import DemoReport
    from addenda.showing.replies import Reply

#: what colours a column
ROLES = {"LoRA": "second", "module on": "first", "base": "ink"}


def write_page(report: DemoReport, drawing: Path | None = None) -> None:
    """Write `report.page`, and the picture alone where asked."""
    panels = panels_of(report)
    page = Report(*_opening(report))
    page.keys(_keys(report))
    page.heading("What was learned, and what else was moved")
    page.plots(
        picture(panels, size=(11.0, 2.7), across=len(panels)),
        picture(panels, size=(4.1, 1.75 * len(panels)), across=1),
        f"What the module and the LoRA learned of {report.scene.subject} text, and what else they moved",
        "Bars with 95% intervals. A good method has a long bar at the left and short ones beside it.",
    )
    head, rows = table_of(report)
    page.table(head, rows)
    page.note(_table_note(report))
    page.heading("The same prompts, before and after")
    page.text(_replies_lead(report))
    for reply in report.replies:
        page.samples(reply.sort, reply.prompt, reply.texts, ROLES, _notes(reply))
    page.note(
        "Every prompt is shown. They are openings of held-out paragraphs, fixed by a rule before anything was trained. What is "
        "written is drawn at temperature 0.7 with one seed for all: from the same predictions comes the same text."
    )
    page.heading("Where the gate fires")
    page.text(
        f"A passage of held-out text that goes from {report.scene.general} text to {report.scene.subject} text and back. The "
        "stronger a word's colour, the further the module's gate is open there; where it is shut the module adds nothing."
    )
    page.activity(report.seen, report.bands)
    page.note(_gate_note(report))
    page.heading("What was proved")
    page.checks((check.passed, check.text) for check in report.checks)
    page.heading("What was run")
    page.facts(report.facts)
    for name in report.cards:
        page.facts(_card(name, report))
    page.heading("What this does not show")
    page.bullets(_limits(report))
    page.write(report.page, f"Written by Addenda in {report.seconds:.0f} seconds. This page holds everything it shows.")
    if drawing is not None:
        title = f"{report.base} learns {report.scene.taught}: a module beside a LoRA of equal size"
        alone = picture(
            panels, size=(11.0, 3.2), across=len(panels), palette=LIGHT, title=title, note=_small_print(report)
        )
        save_picture(alone, drawing)


def _small_print(report: DemoReport) -> str:
    """What a picture that stands alone must say of itself."""
    run = next(iter(report.runs.values()))
    return (
        f"{report.facts['command'].split(' --tokens')[0]}: {run.tokens:,} tokens each, one seed; bars with 95% intervals over "
        "held-out text" + (" and chats" if report.module.chats else "")
    )


def _opening(report: DemoReport) -> tuple[str, str]:
    scene = report.scene
    return (
        f"“{report.base}” learns {scene.taught}, and gives it back",
        f"A knowledge module and a LoRA of the same size were trained on {scene.subject} text beside the frozen model. Here is "
        f"what each learned, what each changed of everything else, and the proof that the model is untouched once they are off.",
    )


def _keys(report: DemoReport) -> list[tuple[str, str]]:
    """The few numbers that a reader should take along."""
    scene, module, rival = report.scene, report.module, report.rival
    assert module.kl is not None
    assert rival.kl is not None
    (other, subject), (same, general) = (report.same("module on", on_subject=on) for on in (True, False))
    rivals, _ = report.same("LoRA", on_subject=False)
    passed = sum(check.passed for check in report.checks)
    return [
        (
            changed(module.learned),
            f"nats per token of {scene.subject} text learned by the module; LoRA {changed(rival.learned)}",
        ),
        (
            f"{module.kl.value:.3f}",
            f"nats per token by which the module moves predictions on {scene.general} text; LoRA {rival.kl.value:.3f}",
        ),
        (f"{subject - other} of {subject}", f"{scene.subject} prompts continued otherwise than by the base"),
        (f"{same} of {general}", f"other prompts continued word for word as by the base; LoRA {rivals}"),
        (f"{passed} of {len(report.checks)}", "checks passed, switching off bit for bit among them"),
    ]


def _table_note(report: DemoReport) -> str:
    subject, general, scene = report.bare.subject, report.bare.general, report.scene
    return (
        "Losses in nats per token of held-out text, lower is better; below, 95% intervals by bootstrap over pieces of text "
        f"({scene.subject}: {subject.documents} pieces, {subject.tokens:,} tokens; {scene.general}: {general.documents} pieces, "
        f"{general.tokens:,} tokens), chats or questions. Changes are paired with the base, piece by piece."
    )


def _replies_lead(report: DemoReport) -> str:
    scene = report.scene
    (other, subject), (same, general) = (report.same("module on", on_subject=on) for on in (True, False))
    return (
        f"On its subject the module should write otherwise than the base: it did after {subject - other} of {subject} prompts. "
        f"On anything else it should write what the base writes, word for word: after {same} of {general}. A LoRA acts on every "
        f"text: off the subject, {scene.taught}, it wrote what the base writes after "
        f"{report.same('LoRA', on_subject=False)[0]} of {general}."
    )


def _notes(reply: Reply) -> dict[str, str]:
    """What stands beside each column: whether its gate was open, and whether its text is the base's."""
    notes = {}
    for column, live in reply.live.items():
        text = "the base's very words" if reply.same(column) else "other words than the base"
        gate = "no gate" if live is None else "gate shut" if live == 0 else f"gate open on {live:.0%} of tokens"
        notes[column] = f"{gate}; {text}"
    return notes


def _gate_note(report: DemoReport) -> str:
    mean, at, parts = report.seen.mean, 0, dict[str, list[float]]()
    for name, count in report.bands:
        parts.setdefault(name, []).extend(float(v) for v in mean[at : at + count])
        at += count
    open_at = ", ".join(
        f"{sum(value > 0 for value in values) / len(values):.0%} of the {name} tokens"
        for name, values in parts.items()
        if values
    )
    short = ", ".join(f"{live} of {count} on {sort} ones" for sort, (live, count) in report.short.items())
    return (
        f"The gate is open at {open_at}. “Live” is the share of all tokens at which it is open. Of prompts of one "
        f"sentence, which come with the package, it is open by the last token at {short}."
    )


def _card(name: str, report: DemoReport) -> dict[str, str]:
    card = report.cards[name]
    run = card.training[-1]
    options = ", ".join(f"{key}={value}" for key, value in card.config.items() if value is not None)
    data = "; ".join(
        f"{source.name} ({source.role}" + (f", sha256 {source.sha256[:12]}…" if source.sha256 else "") + ")"
        for source in run.data
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
        *report.scene.limits,
        "One seed. The intervals speak of the held-out text, not of other seeds or other data.",
        f"{tokens:,} tokens are minutes of training. Longer runs move every bar.",
        "Each method runs at its kind's default learning rate; nothing was swept here. The project's results pages have the "
        "sweeps, with three seeds and more methods.",
        report.scene.described,
    ]
