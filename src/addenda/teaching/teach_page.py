"""The page of a taught module: what it answers and what not, what else moved, where its gate is open, what it studied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from addenda.measuring.drawing.report import Report
from addenda.measuring.looking.activity import activity
from addenda.teaching.teach_report import TeachReport, gone_rows, told
from addenda.text.prompting import templated
from addenda.tiny.asked import chats

if TYPE_CHECKING:
    from addenda.plug.base import Base


#: what colours a column
ROLES = {"module on": "first", "base": "ink", "the documents": "second"}


def write_page(base: Base, report: TeachReport) -> None:
    """Write `report.page`, a page that holds all that it shows."""
    page = Report(
        f"{report.name}: what {report.base} was taught",
        f"{report.base} {report.did}; {report.seconds / 60:,.0f} minutes in all. A module of {report.bytes / 1e6:.1f} MB; "
        "unplugged, the base is bit for bit what it was.",
    )
    page.keys(_keys(report))
    page.heading("What it answers")
    page.table(["asked", "with the module", "without it"],
               [[on, told(share), told(report.before[on])] for on, share in report.right.items()]
               + [[f"{on}, {who}", *(told(by[on]) if on in by else "-" for by in (report.judged, report.judged_before))]
                  for on, who in report.judges.items()])  # fmt: skip
    page.note(
        "Held-out exercises are asked in words that were not studied; answered in chat, greedily, without the documents."
    )
    for question, wanted, off, on, right in report.shown:
        said = {"base": off, "module on": on, "the documents": wanted}
        page.samples("right" if right else "wrong", question, said, ROLES)
    if report.gone is not None:
        page.heading("Facts that are gone")
        page.table(["asked", "share"], [[asked, share] for asked, share in gone_rows(report.gone)])
        page.note("Questions of which the documents tell another answer than before, or none.")
        for question, then, now, before, after in report.gone.shown:
            said = {
                "before": before,
                "module on": after,
                "the documents": now or "(they no longer say)",
                "they said": then,
            }
            page.samples("no longer so", question, said, ROLES)
    page.heading("What else moved")
    rows = [("general chats answered otherwise", report.changed), ("the same as a second turn", report.after),
            ("answers that speak the documents' words", report.leaked)]  # fmt: skip
    page.table(["", "share"], [[what, told(share)] for what, share in rows if share is not None])
    if report.forgot is not None:
        page.text(
            f"General text: {report.forgot.value:+.4f} nats per token [{report.forgot.low:+.4f}, {report.forgot.high:+.4f}]."
        )
    if report.alone is not None:
        page.text(f"{report.alone:.1%} of the tokens of general chats are left exactly alone.")
        page.heading("Where the gate is open")
        for chat in (_asked(report), list(chats(1)[0].messages)):
            if chat and base.tokenizer.chat_template is not None:
                page.activity(activity(base, report.name, templated(base.tokenizer, chat)[1]))
    page.heading("What was studied")
    page.table(
        ["kind of exercise", "exercises"], [[kind, f"{count:,}"] for kind, count in report.study["kinds"].items()]
    )
    page.table(["left out", "exercises"], [[why, f"{count:,}"] for why, count in report.study["dropped"].items()])
    page.note(f"All of it stands in {report.out.name}.study, and may be edited.")
    page.write(report.page, "Written by Addenda. This page holds everything it shows.")


def _asked(report: TeachReport) -> list[dict[str, str]]:
    """A question about the documents."""
    return [{"role": "user", "content": report.shown[0][0]}] if report.shown else []


def _keys(report: TeachReport) -> list[tuple[str, str]]:
    keys = [(f"{share.value:.0%}", f"of {on} answered rightly") for on, share in report.right.items()]
    if report.changed is not None:
        keys.append((f"{1 - report.changed.value:.0%}", "of general answers word for word the base's"))
    if report.forgot is not None:
        keys.append((f"{report.forgot.value:+.3f}", "nats per token on general text"))
    return keys
