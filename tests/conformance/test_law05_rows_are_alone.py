"""Law 5, rows are alone: in a mixed batch each row is itself run alone, whatever its neighbours read and select."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from addenda.bases import attention
from addenda.gates.context import ContextGate
from addenda.plug.selection import Selection
from conformance.kinds import MAIN, REFUSED, pairs
from conformance.world import (
    LENGTHS,
    TOKENS,
    Subject,
    assert_alive,
    batch,
    close,
    generate,
    logits,
    subject_of,
    throwaway,
)
from pico import PAD, random_ids

# Every module on several rows, at several weights, alone and together; some rows select nothing.
ROWS: list[dict[str, float]] = [{"m": 1.0}, {"n": 0.5, "m": 0.7}, {}, {"n": 1.0}, {"m": 1.0}, {"o": 1.0, "m": 0.7}]


def six(padded: bool) -> tuple[Tensor, Tensor]:
    """Six rows: the tests' batch and two more."""
    ids, mask = batch(padded)
    more = random_ids(2, TOKENS, seed=21)
    more_mask = torch.ones_like(more)
    if padded:
        more[1, :3], more_mask[1, :3] = PAD, 0
    return torch.cat([ids, more]), torch.cat([mask, more_mask])


def check_alone(subject: Subject, rows: list[dict[str, float]] = ROWS, *, padded: bool) -> Tensor:
    """Each row of a mixed batch against itself in a batch of one, by list and by index."""
    ids, mask = six(padded)
    lengths = [*LENGTHS, TOKENS, TOKENS - 3] if padded else [TOKENS] * 6
    alone = []
    for row, (chosen, length) in enumerate(zip(rows, lengths, strict=True)):
        with subject.base.using(chosen):
            alone.append(logits(subject.model, ids[row : row + 1, -length:])[0])
    distinct: list[Any] = []
    for chosen in rows:
        if chosen not in distinct:
            distinct.append(chosen)
    index = torch.tensor([distinct.index(chosen) for chosen in rows])
    for selection in (subject.base.rows(rows), subject.base.rows(index, table=distinct)):
        with selection:
            together = logits(subject.model, ids, mask)
        for row, length in enumerate(lengths):
            close(together[row, -length:], alone[row])
    return together


def check_neighbours(subject: Subject) -> None:
    """A row keeps its logits when its neighbours' texts and selections change, and when rows change places."""
    ids, mask = six(padded=False)
    with subject.base.rows(ROWS):
        before = logits(subject.model, ids, mask)
    changed, kept = ids.clone(), [0, 3]
    others = [row for row in range(6) if row not in kept]
    changed[others] = random_ids(len(others), TOKENS, seed=22)
    rows = [ROWS[row] if row in kept else {"m": 1.0, "n": 1.0} for row in range(6)]
    with subject.base.rows(rows):
        after = logits(subject.model, changed, mask)
    for row in kept:
        close(after[row], before[row])
    order = [5, 3, 1, 0, 2, 4]
    with subject.base.rows([ROWS[row] for row in order]):
        close(logits(subject.model, ids[order], mask[order]), before[order])


def plug_three(subject: Subject) -> None:
    """Two modules of the case and one of another kind."""
    subject.plug("m")
    subject.plug("n", seed=1)
    subject.plug("o", case="lora" if subject.case != "lora" else "registers")


@pytest.mark.parametrize(("arch", "case"), pairs())
def test_rows_are_alone(arch: str, case: str) -> None:
    with subject_of(arch, case) as subject:
        plug_three(subject)
        assert_alive(subject, "m", "n")
        check_alone(subject, padded=False)
        check_alone(subject, padded=True)
        check_neighbours(subject)


@pytest.mark.parametrize("arch", ["llama", "gemma2", "opt"])
def test_all_kinds_ride_in_one_batch(arch: str) -> None:
    cases = [case for case in MAIN if (arch, case) not in REFUSED]
    with subject_of(arch, "lora") as subject:
        for number, case in enumerate(cases):
            subject.plug(f"m{number}", case=case)
        rows = [{f"m{n}": 1.0, f"m{(n + 3) % len(cases)}": 0.5} for n in range(5)] + [
            {f"m{len(cases) - n}": 1.0 for n in (1, 2, 3)}
        ]
        check_alone(subject, rows, padded=True)


@pytest.mark.parametrize("case", MAIN)
def test_rows_generate_alone(case: str) -> None:
    with subject_of("llama", case) as subject:
        plug_three(subject)
        ids, mask = six(padded=True)
        lengths = [*LENGTHS, TOKENS, TOKENS - 3]
        with subject.base.rows(ROWS):
            together = generate(subject.model, ids, mask)
        for row, length in enumerate(lengths):
            with subject.base.using(ROWS[row]):
                alone = generate(subject.model, ids[row : row + 1, -length:])
            for step, scores in enumerate(alone.logits):
                close(together.logits[step][row], scores[0])
            assert torch.equal(together.sequences[row, TOKENS:], alone.sequences[0, length:])


@pytest.mark.parametrize("case", MAIN)
def test_rows_in_bfloat16_are_no_further_from_alone_than_the_bare_base(case: str) -> None:
    """At most twice the bare base's own difference between a batch and its rows."""
    with subject_of("llama", case, torch.bfloat16) as subject:
        plug_three(subject)
        ids, _ = six(padded=False)

        def apart(rows: list[dict[str, float]]) -> float:
            with subject.base.rows(rows):
                together = logits(subject.model, ids)
            far = 0.0
            for row, chosen in enumerate(rows):
                with subject.base.using(chosen):
                    alone = logits(subject.model, ids[row : row + 1])[0]
                far = max(far, float((together[row] - alone).abs().max()) / float(alone.abs().max()))
            return far

        # on this machine the bare base may show no difference at all: then one rounding of the largest logit is its own
        bare = max(apart([{}] * 6), 2**-8)
        assert apart(ROWS) <= 2 * bare


# -- mutants --------------------------------------------------------------------------------------------------------


def gate_averages_over_the_batch(patch: pytest.MonkeyPatch) -> None:
    """The context gate is one number for all rows."""
    original = ContextGate.scores
    patch.setattr(ContextGate, "scores", lambda self, x: original(self, x).mean(0, keepdim=True).expand(x.shape[:2]))


def every_row_gets_every_module(patch: pytest.MonkeyPatch) -> None:
    """The selection of rows is read as one of the whole batch."""
    original = Selection.shares

    def shares(self: Selection, *args: Any) -> Any:
        found = original(self, *args)
        for share in found:
            share.rows, share.weight = None, 1.0
        return found

    patch.setattr(Selection, "shares", shares)


def the_first_rows_weight_is_taken(patch: pytest.MonkeyPatch) -> None:
    """All rows of a module get the weight of its first."""
    original = Selection.shares

    def shares(self: Selection, *args: Any) -> Any:
        found = original(self, *args)
        for share in found:
            if isinstance(share.weight, Tensor):
                share.weight = float(share.weight.flatten()[share.weight.flatten().nonzero()[0]])
                share.by_row = dict.fromkeys(share.by_row, share.weight)
        return found

    patch.setattr(Selection, "shares", shares)


def groups_see_each_others_slots(patch: pytest.MonkeyPatch) -> None:
    """Rows with slots are computed together, each seeing the slots of all."""
    original = attention._groups

    def groups(shares: Any, batch: int) -> Any:
        found = original(shares, batch)
        return [(rows, [(share, 1.0) for share in shares]) for rows, _ in found]

    patch.setattr(attention, "_groups", groups)


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        (gate_averages_over_the_batch, "neutral-context"),
        (gate_averages_over_the_batch, "registers-context"),
        (every_row_gets_every_module, "lora"),
        (the_first_rows_weight_is_taken, "parallel"),
        (the_first_rows_weight_is_taken, "registers"),
        (groups_see_each_others_slots, "registers"),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = throwaway("llama", case)
    subject.base.unplug("m")
    plug_three(subject)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check_alone(subject, padded=False)
