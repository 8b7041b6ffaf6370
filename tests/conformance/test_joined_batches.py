"""Batches are joined and split at any step: state of gates and memories goes with its rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from addenda.bases.cache import StateLayer
from conformance.kinds import home
from conformance.world import Subject, batch, close, subject_of
from pico import random_ids

CASES = ("delta-product", "delta-product-document", "neutral-document", "registers-context")


def joined(one: Any, two: Any) -> Any:
    """A cache with the rows of two that have read as many tokens, one's before two's; the first is changed."""
    for mine, other in zip(one.layers, two.layers, strict=True):
        if isinstance(mine, StateLayer):
            mine.extend(other)
        else:
            mine.keys, mine.values = torch.cat([mine.keys, other.keys]), torch.cat([mine.values, other.values])
    return one


def read(subject: Subject, ids: Tensor, rows: list[dict[str, float]], past: Any = None) -> Any:
    with subject.base.rows(rows):
        return subject.model(ids, past_key_values=past, use_cache=True)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_joined_and_split_rows_go_on_as_they_were(case: str) -> None:
    with subject_of(home(case), case) as subject:
        subject.plug("m")
        subject.plug("n", seed=1)
        ids, more = batch()[0], random_ids(4, 6, seed=9)
        first, second = [{"m": 1.0}, {"n": 0.5}], [{"n": 1.0, "m": 1.0}, {}]
        alone = [read(subject, ids[:2], first), read(subject, ids[2:], second)]
        expected = [
            torch.cat([read(subject, more[at, t : t + 1], rows, one.past_key_values).logits for t in range(6)], 1)
            for at, rows, one in ((slice(0, 2), first, alone[0]), (slice(2, 4), second, alone[1]))
        ]
        past = joined(
            *(read(subject, part, rows).past_key_values for part, rows in ((ids[:2], first), (ids[2:], second)))
        )
        together = [read(subject, more[:, t : t + 1], first + second, past).logits for t in range(3)]
        left = torch.tensor([3, 1])
        past.batch_select_indices(left)
        rest = [
            read(subject, more[left, t : t + 1], [(first + second)[row] for row in left.tolist()], past).logits
            for t in range(3, 6)
        ]
        close(torch.cat(together, 1), torch.cat(expected)[:, :3])
        close(torch.cat(rest, 1), torch.cat(expected)[left, 3:])
