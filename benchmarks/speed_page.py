"""The page of the speed benchmark: its tables as Markdown, and how new numbers join those that were there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recipes.tables import table, write_tables

from benchmarks import live, models, sections
from benchmarks.timing import QUIET


def markdown(report: dict[str, Any]) -> str:
    """The report as a page's tables: ratios, then memory, then what they were taken on."""
    timed = [r for r in report["records"] if r["section"] not in ("memory", "noise")]
    lines = _ratios("Ratios with a target", [r for r in timed if r["target"] is not None])
    for model in models.MODELS:
        lines += _ratios(
            f"All other ratios, {model}", [r for r in timed if r["target"] is None and r["model"] == model]
        )
    memory = [r for r in report["records"] if r["section"] == "memory"]
    rows = ((r["model"], r["kind"], r["what"], r["before"], r["peak"]) for r in memory)
    lines += _titled("Memory", "model | kind | step | resident before, MiB | at the peak, MiB", rows)
    return "\n".join([*lines, "### Machine, pairs and commands", "", *_facts(report)]) + "\n"


def _ratios(title: str, records: list[dict[str, Any]]) -> list[str]:
    rows = []
    for r in records:
        floor = "" if r["noise"] is None else "[{:.3f}, {:.3f}]".format(*r["noise"])
        mark = "" if r["target"] is None else f"at most {r['target']:.2f}: {r['verdict']}"
        ratio = f"{r['median']:.3f} [{r['low']:.3f}, {r['high']:.3f}]"
        rows.append((r["model"], r["section"], r["step"], r["a"], r["b"], ratio, floor, mark))
    return _titled(title, "model | section | step | A | B | B over A [95% interval] | base against base | target", rows)


def _titled(title: str, heads: str, rows: Iterable[Iterable[object]]) -> list[str]:
    """A table under its title; nothing where it has no row."""
    lines = table(heads, rows)
    return [f"### {title}", "", *lines, ""] if lines else []


def _facts(report: dict[str, Any]) -> list[str]:
    """What the numbers were taken on, and by which commands."""
    on, records = report["machine"], report["records"]
    pairs = sorted({r["pairs"] for r in records if "pairs" in r})
    timed = [r for r in records if "median" in r]
    loud = sum((r.get("others") or 0.0) > QUIET for r in timed)
    sources = sorted({r["live_source"] for r in records if r.get("live_source")})
    runs = sorted({(r["date"], r["command"]) for r in records})
    return [
        f"Taken on {on['cpu']}, {on['threads']} of {on['cores']} cores, torch {on['torch']}; medians of "
        f"{' or '.join(map(str, pairs))} interleaved pairs. During {loud} of {len(timed)} ratios other processes kept more "
        f"than {QUIET:g} cores busy: those are given, and no verdict on them (`disturbed`). *Base against base* is the bare "
        "base against a copy of itself; for training steps PEFT's LoRA against itself.",
        "",
        "Live shares: " + "; ".join(sources) + ".",
        "",
        *(f"- {date}: `{command}`" for date, command in runs),
    ]


def publish(report: dict[str, Any], shares: dict[str, live.Shares], folder: Path) -> None:
    """Write speed.json and speed.md; what was not measured now stays as it was.

    Unless it was taken on another machine, or under other live shares than those of now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "speed.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"records": [], "machine": {}}
    same = all(before["machine"].get(key) == report["machine"][key] for key in ("cpu", "cores", "threads", "torch"))
    names = ("model", "dtype", "section", "step", "a", "b", "kind", "what")
    measured = {tuple(r.get(name) for name in names) for r in report["records"]}
    kept = [
        r
        for r in before["records"]
        if same
        and tuple(r.get(name) for name in names) not in measured
        and r.get("live_source") == live.source_of(r, shares)
    ]
    order = ["noise", *sections.ALL]
    report = report | {
        "records": sorted(
            kept + report["records"], key=lambda r: (models.MODELS.index(r["model"]), order.index(r["section"]))
        )
    }
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    write_tables(folder / "speed.md", markdown(report))
