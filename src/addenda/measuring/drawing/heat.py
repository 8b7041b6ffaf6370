"""Heat: the picture of where a module's gate fires, token by token and layer by layer."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from addenda.measuring.looking.activity import Activity

WHAT = {"gate": "gate", "change": "mean |contribution|"}


def gate_picture(seen: Activity, bands: Sequence[tuple[str, int]] = ()) -> str:
    """An HTML block: each token coloured by its mean over layers, a reading for each, and a map of layers by tokens.

    Full colour stands for the 98th percentile of the means (of the values, in the map), so that one loud token does
    not dim all others.
    """
    if seen.measured == "slots":
        return (
            '<p class="note">This kind shares the text\'s softmax: every token reads its slots; there is no gate.</p>'
        )
    mean = seen.mean
    top, most = _top(mean), _top(seen.values)
    what = WHAT[seen.measured]
    data = {
        "labels": list(seen.labels),
        "top": most,
        "rows": [[round(float(v), 4) for v in row] for row in seen.values],
    }
    script = json.dumps(data).replace("<", "\\u003c")
    return (
        f'<div class="gate"><p class="words">{"".join(_words(seen, mean / top, bands))}</p>'
        '<div class="reading"><p>Point at a word, or touch it, to see its value at each layer.</p></div>'
        f'<p class="scale">silent <i></i> mean {what} of {top:.3f} or more</p>'
        f'{_map(seen, most, bands)}<script type="application/json">{script}</script></div>'
    )


def _top(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.98)) or float(values.max()) or 1.0


def _words(seen: Activity, shares: np.ndarray, bands: Sequence[tuple[str, int]]) -> Iterator[str]:
    starts, at = {}, 0
    for name, count in bands:
        starts[at] = name
        at += count
    for number, (word, share) in enumerate(zip(seen.tokens, shares, strict=True)):
        if number in starts:
            yield f"<i>{html.escape(starts[number])}</i>"
        if not word:
            continue  # a special token stands for no text
        values = "&#10;".join(
            f"{html.escape(label)}: {row[number]:.3f}" for label, row in zip(seen.labels, seen.values, strict=True)
        )
        style = "" if share <= 0 else f' style="--v:{min(1.0, float(share)):.3f}"'
        end = "" if word.strip("\n") else ' class="end"'
        yield f'<span data-n="{number}" title="{values}"{end}{style}>{html.escape(word) if not end else "¶ "}</span>'


def _map(seen: Activity, top: float, bands: Sequence[tuple[str, int]]) -> str:
    count = len(seen.tokens)
    lines = []
    if bands:
        cells = "".join(f'<span style="flex:{n} 1 0">{html.escape(name)}</span>' for name, n in bands)
        lines.append(f'<span></span><div class="bands">{cells}</div><span>live</span>')
    for label, live, row in zip(seen.labels, seen.live, seen.values, strict=True):
        rects = "".join(
            f'<rect x="{n}" width="1" height="1" fill-opacity="{max(0.12, min(1.0, float(v) / top)):.2f}"/>'
            for n, v in enumerate(row)
            if v > 0
        )
        frame = f'viewBox="0 0 {count} 1" preserveAspectRatio="none" fill="var(--first)" aria-hidden="true"'
        picture = f"<svg {frame}>{rects}</svg>"
        lines.append(f"<span>{html.escape(label)}</span>{picture}<span>{live:.0%}</span>")
    return f'<div class="heat">{"".join(lines)}</div>'
