"""State of rows: what only one of two joined batches has, and what is left when rows leave."""

from __future__ import annotations

import torch

from addenda.core.state import RowStates, extend_states, extract_states


def test_what_only_one_batch_has_begins_at_zero_in_the_other() -> None:
    joined = extend_states({"g": torch.ones(2, 1)}, 2, {"h": torch.full((3, 2), 5.0)}, 3)
    assert torch.equal(joined["g"], torch.tensor([[1.0], [1.0], [0.0], [0.0], [0.0]]))
    assert torch.equal(joined["h"][:2], torch.zeros(2, 2))
    assert torch.equal(joined["h"][2:], torch.full((3, 2), 5.0))


def test_pieces_move_behind_the_rows_and_come_out_again() -> None:
    one, two = RowStates([((1,), torch.tensor([[1.0]]))]), RowStates([((0, 2), torch.tensor([[2.0], [3.0]]))])
    joined = extend_states({"m": one}, 2, {"m": two, "n": two}, 3)
    assert [held for held, _ in joined["m"].pieces] == [(1,), (2, 4)]
    assert [held for held, _ in joined["n"].pieces] == [(2, 4)]
    left = extract_states(joined, torch.tensor([4, 0, 1]))
    found = {row: float(state[at, 0]) for held, state in left["m"].pieces for at, row in enumerate(held)}
    assert found == {2: 1.0, 0: 3.0}


def test_joining_with_nothing_is_the_batch_itself() -> None:
    states = {"g": torch.arange(4.0).view(2, 2)}
    assert torch.equal(extend_states(states, 2, {}, 0)["g"], states["g"])
    assert extend_states({}, 0, states, 2)["g"].equal(states["g"])
