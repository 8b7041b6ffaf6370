"""Packed rows: a document of a packed row is itself alone, for whatever keeps state as the text is read."""

from __future__ import annotations

import pytest
import torch

from conformance.kinds import CASES, MAIN, home
from conformance.world import Subject, assert_alive, batch, close, logits, subject_of
from pico import random_ids

LENGTHS = (7, 11, 4)
#: cases in which something changes per row as the text is read
STATEFUL = [case for case, made in CASES.items() if made.gate in ("context", "document") or case.startswith("delta")]


def check_packed(subject: Subject) -> None:
    """Three documents in each of two rows, positions beginning anew with each: their logits are those of each alone."""
    ids = torch.stack([batch()[0].flatten()[: sum(LENGTHS)], random_ids(1, sum(LENGTHS), seed=3)[0]])
    positions = torch.cat([torch.arange(length) for length in LENGTHS]).expand(2, -1)
    with subject.base.using("m"):
        packed = subject.model(ids, position_ids=positions, use_cache=False).logits.float()
        for document, place in zip(ids.split(LENGTHS, 1), packed.split(LENGTHS, 1), strict=True):
            close(place, logits(subject.model, document))


@pytest.mark.parametrize(
    "case",
    [
        case if case in MAIN or case == "delta-product" else pytest.param(case, marks=pytest.mark.slow)
        for case in STATEFUL
    ],
)
@torch.no_grad()
def test_documents_of_a_packed_row_are_alone(case: str) -> None:
    with subject_of(home(case), case) as subject:
        subject.plug("m")
        assert_alive(subject)
        check_packed(subject)


@torch.no_grad()
def test_a_memory_that_is_told_no_documents_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: starts of documents do not reach stateful adapters."""
    monkeypatch.setattr("addenda.core.call.Call.starts_of", lambda *_: None)
    with subject_of("llama", "delta-product") as subject:
        subject.plug("m")
        with pytest.raises(AssertionError, match="logits differ"):
            check_packed(subject)
