"""Pages of studies: tables over seeds, and the figures that go with them, from records."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from addenda.core.errors import AddendaError
from addenda.telling.intervals import Interval, of_runs
from recipes import tables
from recipes.drawing import COLOURS
from recipes.records import Records

Cell = Callable[[Records], str]
#: a value, the ends of its 95% interval, and of a difference of losses the number of documents
Triple = Sequence[float]
INTERVALS = (
    "In brackets 95% intervals: where a line is one run (one seed), its own, by bootstrap over held-out documents or people; "
    "where it is several, that and Student's over seeds, added in quadrature; of shares kept and of means over modules "
    "Student's alone."
)


def table(heads: Sequence[str], groups: Mapping[Any, Records], cells: Sequence[Cell]) -> list[str]:
    """One line for each group: its names, how many runs, and what each cell says of its records."""
    check_alike(groups.values())
    rows = []
    for key, group in groups.items():
        names = [
            f"{name:,}" if isinstance(name, int) else str(name) for name in (key if isinstance(key, tuple) else (key,))
        ]
        assert len(names) == len(heads) - len(cells) - 1, (names, heads)
        rows.append((*names, len(group), *(cell(group) for cell in cells)))
    return tables.table(heads, rows)


def noted(lines: list[str], note: str) -> list[str]:
    """A table with a sentence under it, where there are both."""
    return [*lines, "", note] if lines and note else lines


def check_alike(groups: Iterable[Records]) -> None:
    """Refuse to average runs that differ in more than their seed.

    Raises:
        AddendaError: a line would hold runs of different settings, held-out texts or bases, or two of one seed.
    """
    for group in groups:
        for key in group[0]["run"].keys() - {"seed", "part"}:
            values = sorted({json.dumps(record["run"][key], sort_keys=True) for record in group})
            if len(values) > 1:
                raise AddendaError(
                    f"records of '{group[0]['run']['method']}' differ in '{key}': {', '.join(values)}; --docs with another "
                    "folder keeps studies of different scale apart, and records of runs that are no longer planned can go"
                )
        if len({record.get("base") for record in group}) > 1:
            raise AddendaError(
                f"records of '{group[0]['run']['method']}' are of different bases: keep them in folders of their own"
            )
        seeds = [record["run"]["seed"] for record in group]
        if len(set(seeds)) < len(seeds):
            raise AddendaError(f"there are two records of one run of '{group[0]['run']['method']}', of one seed")


def gain_of(subject: str) -> Cell:
    """Gain on a subject."""
    return lambda records: told(records, lambda record: record["gains"][subject])


def gain(record: dict[str, Any]) -> Triple:
    """Gain on the one subject of a run, with its interval over documents."""
    (triple,) = record["gains"].values()
    return triple


def lost(record: dict[str, Any]) -> Triple:
    """Loss added on general text, with its interval over documents."""
    return record["forgetting"]


def own_gain(records: Records) -> str:
    """Gain on the one subject of each run."""
    return told(records, gain)


def forgotten(records: Records) -> str:
    """Loss added on general text."""
    return told(records, lost)


def untouched(records: Records) -> str:
    """Share of general tokens left bit-equal."""
    shares = [record["untouched"] for record in records if "untouched" in record]
    return f"{sum(shares) / len(shares):.1%}" if shares else "-"


def parameters(records: Records) -> str:
    """Parameters of what was trained."""
    return f"{records[0]['parameters']:,}"


def seconds(records: Records) -> str:
    """The median of what training took."""
    return f"{median(record['seconds'] for record in records):.0f}"


def rate(records: Records) -> str:
    """The learning rate."""
    return ", ".join(f"{lr:g}" for lr in sorted({record["run"]["lr"] for record in records}))


def over(
    records: Records, triple: Callable[[dict[str, Any]], Triple], within: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float, float]:
    """Mean over runs and its 95% interval, as `of_runs` joins them: `within` says between what the number lies in any case."""
    found = of_runs([Interval(*triple(record)[:3], 1) for record in records])
    return found.value, max(found.low, within[0]), min(found.high, within[1])


def told(
    records: Records,
    triple: Callable[[dict[str, Any]], Triple],
    places: int = 3,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> str:
    """Mean and interval over runs."""
    return tables.with_interval(over(records, triple, within), places)


def bars(records: Records, triple: Callable[[dict[str, Any]], Triple]) -> tuple[float, float, float]:
    """Mean, and how far an error bar goes below and above."""
    mean, low, high = over(records, triple)
    return mean, mean - low, high - mean


def devices(records: Records) -> str:
    """On what the runs were computed."""
    names = sorted({record["device"] for record in records})
    return "Computed on: " + "; ".join(names) + "." if names else ""


def units(records: Records) -> str:
    """How many held-out documents the intervals are drawn over."""
    documents: dict[str, set[int]] = defaultdict(set)
    for record in records:
        triples = [(name, gain) for name, gain in record["gains"].items() if not isinstance(gain, dict)]
        triples += [(name, gain["alone"]) for name, gain in record["gains"].items() if isinstance(gain, dict)]
        lost = record["forgetting"]
        for name, triple in (*triples, ("general text", lost["all"] if isinstance(lost, dict) else lost)):
            documents[name].update(triple[3:])
    told = [f"{name} {', '.join(map(str, sorted(counts)))}" for name, counts in documents.items() if counts]
    return f"Held-out documents: {'; '.join(told)}." if told else ""


def cost(records: Records) -> str:
    """Time of prefill and of a decoded token on the subject, over the bare base's: medians over runs."""
    pairs = [record["cost"] for record in records if "cost" in record]
    return ", ".join(f"{median(column):.2f}" for column in zip(*pairs, strict=True)) if pairs else "1"


def written(parts: Iterable[tuple[str, list[str]]], records: Records) -> str:
    """Titled tables as Markdown; parts without a table are left out."""
    body = "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in parts if lines)
    return f"{body}\n\n{' '.join(filter(None, (INTERVALS, units(records), devices(records))))}\n" if body else ""


def marks(
    axes: Any,
    groups: Mapping[str, Records],
    x: Callable[[dict[str, Any]], Triple],
    y: Callable[[dict[str, Any]], Triple],
) -> None:
    """A point with error bars for each method."""
    for method, mine in groups.items():
        (across, *dx), (up, *dy) = bars(mine, x), bars(mine, y)
        ends = [[error] for error in dy], [[error] for error in dx]
        axes.errorbar(across, up, *ends, "o", ms=6, capsize=2, color=COLOURS[method], label=method)


def at_values(axes: Any, values: Iterable[int], base: int = 10) -> None:
    """A logarithmic axis with a tick at each value that occurs, and none between."""
    ticks = sorted(set(values))
    axes.set_xscale("log", base=base)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
    axes.minorticks_off()
