"""Remarks: what a reader of a comparison should know before its table is believed."""

from __future__ import annotations

from collections.abc import Sequence

from addenda.comparing.methods import METHODS
from addenda.comparing.overlap import Overlap
from addenda.comparing.rows import Row
from addenda.comparing.settings import CompareSettings

#: steps of training of which fewer tell nothing of a method
FEW = 10
#: held-out documents of which fewer say little of others
DOCUMENTS = 10
#: KL from the base, nats per token, above which a base has moved, whatever its loss on general text
MOVED = 0.02


def remarks_on(
    rows: Sequence[Row], settings: CompareSettings, documents: Sequence[int], replay: bool, overlaps: Sequence[Overlap]
) -> tuple[str, ...]:
    """One sentence for each thing that makes a figure mean less than it seems to.

    Args:
        rows: what was measured.
        settings: those of the comparison.
        documents: tokens scored of each held-out document of the subject.
        replay: whether there was text that stands for what the base knew.
        overlaps: how much of the held-out texts stands in what was trained on.
    """
    remarks: list[str] = []
    names = {row.method for row in rows}
    steps = settings.steps
    if steps < FEW and any(METHODS[name].rates for name in names):
        remarks.append(f"{steps} step{'s' * (steps != 1)} of training: too few to tell methods apart.")
    if len(documents) < DOCUMENTS:
        remarks.append(
            f"What is learned is measured on {len(documents)} document{'s' * (len(documents) != 1)}: too few to speak of others. "
            "Give more held-out documents, or more --held-tokens where there are more."
        )
    gated = sorted(name for name in names if METHODS[name].gated)
    if gated and not replay:
        remarks.append(f"No replay: the gates of {', '.join(gated)} were never asked to shut on other text.")
    if "rag" in names:
        share = sum(max(0, n - settings.length) for n in documents) / max(1, sum(documents))
        if share < 0.5:
            remarks.append(
                f"rag had a passage for {share:.0%} of the scored tokens: passages are retrieved for what stands before a window "
                f"of {settings.length} tokens, and most documents are hardly longer than one."
            )
    remarks += [
        f"{row.method} forgets nothing by its loss, and is {row.kl.value:.3f} nats of KL from the base: judge it by KL, answers "
        "and tasks."
        for row in rows
        if row.kl is not None and row.forgotten.value <= 0 and row.kl.value > MOVED
    ]
    remarks += [
        f"{overlap}: what it tells is part learned, part remembered." for overlap in overlaps if overlap.refused
    ]
    return tuple(remarks)
