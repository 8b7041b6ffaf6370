"""How documents of a row are kept apart; that they are is tested with the step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import UnsupportedError
from addenda.writing import isolation
from addenda.writing.isolation import inputs, restarting, way_of


def test_positions_restart_with_each_document() -> None:
    documents = torch.tensor([[4, 4, 4, 5, 6, 6], [7, 7, 7, 7, 7, 7]])
    assert restarting(documents).tolist() == [[0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5]]


def test_the_mask_is_causal_within_documents() -> None:
    mask = inputs("mask", torch.tensor([[1, 1, 2]]), torch.float32)["attention_mask"]
    assert (mask == 0).tolist() == [[[[True, False, False], [True, True, False], [False, False, True]]]]


def test_the_way_is_found_by_trying(make_base: Any) -> None:
    assert way_of(make_base("llama")) == "positions"
    assert way_of(make_base("opt")) == "mask"


def test_a_base_that_obeys_neither_is_refused(base: addenda.Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "inputs", lambda *_: {})
    with pytest.raises(UnsupportedError, match="does not keep packed documents apart"):
        way_of(base)
