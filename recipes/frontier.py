"""Report of the study of learning against forgetting: curves, ratios at equal gain, thresholds, tables and plots.

Points along training, and the module at smaller weights, are scored on one set of held-out tokens, the ends of runs on
a larger one, thresholds on documents of several lengths; points are compared with points of the same set alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from addenda.comparing.equal_gain import Curve, Ratio, envelope, ratio_at_equal_gain
from recipes.drawing import COLOURS, canvas, dress, save
from recipes.records import Records, grouped, in_part
from recipes.tables import joined, over, table, with_interval, with_t_interval

#: whose forgetting is compared with whose, at equal gain
PAIRS = (
    ("neutral-token", "lora"), ("neutral-token", "adapter"), ("neutral-token", "full"),
    ("neutral-context", "lora"), ("neutral-context", "adapter"), ("neutral-context", "full"),
    ("neutral-context", "neutral-token"), ("registers-neutral", "registers-joint"),
)  # fmt: skip
#: length of the documents that points along training are scored on, and thresholds among others
LENGTH = 256
#: records by method and seed
BySeed = dict[str, dict[int, Records]]


def curve_of(points: Records) -> Curve:
    """The best of some points of a record, each with gain and forgetting and their intervals."""
    return envelope((point["gain"][0], point["forgetting"][0]) for point in points)


def report(records: Records, folder: Path) -> str:
    """The tables as Markdown; the plots are written to `folder`."""
    runs = in_part(records, "study", "knobs")
    by_method = grouped(runs, lambda run: run["method"])
    by_seed: BySeed = {method: grouped(mine, lambda run: run["seed"]) for method, mine in by_method.items()}
    if by_seed:
        _draw(by_seed, folder)
    return joined(
        [_ends(runs), _ratios(by_seed), _thresholds(runs), _sweep(records), _precisions(records)] if runs else []
    )


def along(records: Records, *, weights: bool = False) -> list[dict[str, Any]]:
    """The points of some runs that are scored on the same tokens: along training, under thresholds, at weights below 1."""
    points = []
    for record in records:
        points += [p for p in record["points"] if p["origin"] != "end"]
        points += [p for p in record.get("thresholds", ()) if p["length"] == LENGTH]
        points += record.get("weights", ()) if weights else ()
    return points


# -- tables -----------------------------------------------------------------------------------------------------------


def _end(record: dict[str, Any]) -> dict[str, Any]:
    return next(point for point in record["points"] if point["origin"] == "end")


def _told(options: dict[str, Any], *hidden: str) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items() if key not in hidden)


def _ends(runs: Records) -> list[str]:
    """One line for each configuration: what it gained and forgot at the end, over seeds."""

    def configuration(run: dict[str, Any]) -> tuple[Any, ...]:
        told = _told(run["options"] | run["settings"], "extra", "count")
        return run["part"] != "study", run["method"], run["lr"], told, run["tokens"]

    groups = grouped(runs, configuration)
    rows = []
    for (_, method, lr, told, tokens), group in sorted(groups.items(), key=lambda item: (*item[0][:3], item[0][4])):
        gain, lost = (over([_end(record)[key][0] for record in group]) for key in ("gain", "forgetting"))
        shares = [record["alone"]["share"] for record in group if "alone" in record]
        alone = f"{np.mean(shares):.1%}" if shares else "not measured"
        size = f"{group[0].get('parameters', 0):,}" if "parameters" in group[0] else "all"
        rows.append(
            (method, told or "-", f"{lr:g}", f"{tokens:,}", len(group), gain, lost, alone, size, computed_in(group))
        )
    heads = "method | settings | lr | tokens | seeds | gain, nats | forgotten, nats | general left bit-equal | parameters | in"
    return table(heads, rows)


def _ratios(by_seed: BySeed) -> list[str]:
    rows = []
    for weights, told in ((False, "1"), (True, "1 and below")):
        for ours, theirs in PAIRS:
            found = [
                case for case in _by_seed(by_seed.get(ours, {}), by_seed.get(theirs, {}), weights) if case is not None
            ]
            if found:
                ratios, worst = [case.mean for case in found], max(case.worst for case in found)
                reach = f"{np.mean([case.low for case in found]):.2f} to {np.mean([case.high for case in found]):.2f}"
                each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
                both = " / ".join(computed_in([r for rs in by_seed[m].values() for r in rs]) for m in (ours, theirs))
                rows.append((ours, theirs, told, reach, with_t_interval(ratios), f"{worst:.2f}", each, both))
    heads = "forgetting of | over that of | weights | at gains of, nats | mean ratio [95% interval] | worst point | by seed | in"
    return table(heads, rows)


def _by_seed(ours: dict[int, Records], theirs: dict[int, Records], weights: bool) -> Iterator[Ratio | None]:
    """Comparisons seed by seed; at weights below one only where modules of both methods were tried at them."""
    for seed in sorted(ours.keys() & theirs.keys()):
        if not weights or all(any("weights" in record for record in side[seed]) for side in (ours, theirs)):
            yield ratio_at_equal_gain(*(curve_of(along(side[seed], weights=weights)) for side in (ours, theirs)))


def _thresholds(runs: Records) -> list[str]:
    groups: dict[tuple[str, float, int], Records] = defaultdict(list)
    for record in runs:
        for point in record.get("thresholds", ()):
            groups[_name(record["run"]), point["at"], point["length"]].append(point)
    rows = []
    for (method, share, length), group in sorted(groups.items()):
        gain, lost = (over([point[key][0] for point in group], 4) for key in ("gain", "forgetting"))
        alone, asked = f"{np.mean([point['alone'] for point in group]):.1%}", f"{share:.0%}" if share else "as trained"
        rows.append((method, asked, length, alone, gain, lost, len(group)))
    heads = "method | share asked for | document length | share left bit-equal | gain, nats | forgotten, nats | seeds"
    return table(heads, rows)


def _name(run: dict[str, Any]) -> str:
    """A method; with its settings where they are not those of the study."""
    return run["method"] if run["part"] == "study" else f"{run['method']} ({_told(run['settings'])})"


def _sweep(records: Records) -> list[str]:
    rows = []
    for record in sorted(in_part(records, "sweep"), key=lambda r: (r["run"]["method"], r["run"]["lr"])):
        run, ends = record["run"], (with_interval(_end(record)[key]) for key in ("gain", "forgetting"))
        rows.append((run["method"], _told(run["settings"]) or "-", f"{run['lr']:g}", f"{run['tokens']:,}", *ends))
    return table("sweep: method | settings | lr | tokens | gain, nats | forgotten, nats", rows)


def _precisions(records: Records) -> list[str]:
    """Short runs made again in float32, beside those of the sweep."""

    def same(run: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(run[key]) for key in ("method", "options", "settings", "lr", "tokens", "seed"))

    sweeps, rows = {same(record["run"]): record for record in in_part(records, "sweep")}, []
    for record in in_part(records, "precision"):
        other = sweeps.get(same(record["run"]))
        if other is not None and (computed_in([other]), computed_in([record])) == ("bf16", "fp32"):
            cells = (with_interval(_end(each)[key]) for key in ("gain", "forgetting") for each in (other, record))
            rows.append((record["run"]["method"], f"{record['run']['lr']:g}", *cells))
    return table("method | lr | gain in bf16, nats | in fp32 | forgotten in bf16, nats | in fp32", rows)


def computed_in(records: Records) -> str:
    """The precisions that runs were computed in."""
    return " and ".join(sorted({record.get("device", "unknown").rsplit(" ", 1)[-1] for record in records}))


# -- plots ------------------------------------------------------------------------------------------------------------


def _draw(by_seed: BySeed, folder: Path) -> None:
    figure, panels = canvas(2, 6.25, 5.2, sharey=True)
    for axes, weights in zip(panels, (False, True), strict=True):
        for method, seeds in sorted(by_seed.items(), key=lambda item: list(COLOURS).index(item[0])):
            for number, records in enumerate(seeds.values()):
                if weights and not any("weights" in record for record in records):
                    continue
                points, colour = along(records, weights=weights), COLOURS[method]
                curve = curve_of(points)
                axes.plot(curve.costs, curve.gains, color=colour, alpha=0.9, lw=1.5, label=None if number else method)
                x, y = ([p[key][0] for p in points] for key in ("forgetting", "gain"))
                axes.scatter(x, y, s=9, color=colour, alpha=0.35, linewidths=0)
        dress(axes, "forgetting: loss added on general text, nats per token", "", zero=True)
        if axes.lines:
            axes.legend(frameon=False, fontsize=9, loc="lower right")
    panels[0].set_ylabel("gain: loss taken off medical text, nats per token")
    panels[0].set_title("points along training, thresholds, other settings", fontsize=10)
    panels[1].set_title("the same, and modules at weights of 0.25, 0.5 and 0.75", fontsize=10)
    figure.suptitle("Up and to the left is better. Each line is one seed: the best that a method reached", fontsize=11)
    save(figure, folder / "frontier")
    _draw_thresholds(by_seed, folder)


def _draw_thresholds(by_seed: BySeed, folder: Path) -> None:
    methods = [m for m in COLOURS if any("thresholds" in r for rs in by_seed.get(m, {}).values() for r in rs)]
    if not methods:
        return
    lengths = sorted(
        {t["length"] for m in methods for rs in by_seed[m].values() for r in rs for t in r.get("thresholds", ())}
    )
    figure, panels = canvas(len(lengths), 3.4, 3.6, sharey=True)
    for axes, length in zip(panels, lengths, strict=True):
        named: set[str] = set()
        for record in (record for method in methods for records in by_seed[method].values() for record in records):
            points = [t for t in record.get("thresholds", ()) if t["length"] == length]
            if points:
                name, run = _name(record["run"]), record["run"]
                x, y = [t["alone"] for t in points], [t["gain"][0] for t in points]
                style = "o-" if run["part"] == "study" else "o:"
                axes.plot(
                    x, y, style, ms=3, lw=1.3, color=COLOURS[run["method"]], label=None if name in named else name
                )
                named.add(name)
        dress(axes, "share of general tokens left bit-equal", "", f"documents of {length} tokens", zero=True)
        axes.set_xlim(0, 1.02)
    panels[0].set_ylabel("gain on medical text, nats per token")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, fontsize=9, loc="outside lower center", ncol=min(3, len(names)))
    save(figure, folder / "thresholds")
