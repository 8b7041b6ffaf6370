"""Overlap: runs of 13 tokens that held-out text shares with what is trained on, and documents that are copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import addenda
from addenda.comparing.overlap import Overlap, check_held_out, overlap_of, runs
from addenda.core.errors import DataError


def test_shared_runs_of_13_tokens_are_found(ways: Any) -> None:
    base = addenda.load_base(ways.folder)
    corpus = ways.text(ways.words, 0, 20)
    other = ways.text(ways.plain, 1, 5)
    held = {"all": corpus[:3], "none": other, "some": [corpus[0], *other], "short": ["short"]}
    share = {one.held: one.share for one in overlap_of(base, corpus, held)}
    assert (share["all"], share["none"], share["short"]) == (1.0, 0.0, 0.0)
    assert 0 < share["some"] < 1
    assert len(runs(np.arange(20))) == 8
    assert len(runs(np.arange(12))) == 0


def test_a_copied_document_is_found_among_many(ways: Any) -> None:
    base = addenda.load_base(ways.folder)
    corpus, other = ways.text(ways.words, 0, 20), ways.text(ways.plain, 1, 150)
    one, none = overlap_of(base, corpus, {"learning": [*other[:20], corpus[3], "short"], "forgetting": other})
    assert (one.copied, one.documents) == (1, 21)
    assert (none.copied, none.documents, none.share) == (0, 150, 0.0)
    assert one.refused
    assert not none.refused
    # what is shared on average does not tell: one long document among short ones
    assert Overlap("learning", "corpus", ("a", "b"), 0.009, 1, 99).refused
    assert not Overlap("learning", "corpus", ("a", "b"), 0.009, 1, 100).refused
    assert Overlap("learning", "corpus", ("a", "b"), 0.02, 0, 100).refused
    with pytest.raises(
        DataError, match=r"have more than 50% of their runs there.*at most 1% of all runs and 1% of documents"
    ):
        check_held_out([none, one])


@pytest.mark.parametrize(("trained", "told"), [("corpus", "the corpus, 'texts'"), ("replay", "the replay, 'texts'")])
def test_forgetting_text_must_be_held_out_too(ways: Any, tmp_path: Path, trained: str, told: str) -> None:
    general = ways.text(ways.plain, 3)
    with pytest.raises(DataError, match=f"the text of forgetting, 'texts', stand in {told}.*allow_overlap"):
        ways.compare(tmp_path, **{trained: general, "allow_overlap": False}, methods=("lora",))
    assert not (tmp_path / "records").exists()


def test_the_samples_are_held_out() -> None:
    base = addenda.load_base("tiny")
    held = {"learning": "pubmed_valid", "forgetting": "general_valid"}
    check_held_out([one for trained in ("pubmed_train", "general_train") for one in overlap_of(base, trained, held)])
