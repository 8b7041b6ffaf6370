"""State: what an adapter or a gate keeps for each row of a batch as the text is read; rows first, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

#: keys and values of an attention layer
KeyValues = tuple[Tensor, Tensor]

#: some rows of a batch by number, and their state
Piece = tuple[tuple[int, ...], Any]


def rows_on(rows: Sequence[int], device: torch.device) -> Tensor:
    """Row numbers on a device [R], without waiting for it."""
    return torch.tensor(rows, device="cpu").to(device, non_blocking=True)


def select_rows(state: Any, rows: Tensor) -> Any:
    """The state of other rows, in the order given, from a tensor with rows first or an object that has `select`."""
    return state.index_select(0, rows.to(state.device)) if isinstance(state, Tensor) else state.select(rows)


def spread(state: Tensor, rows: Tensor, before: Tensor | None, batch: int) -> Tensor:
    """The state [R, n] of some rows as one of the whole batch, in which the others keep what they had."""
    whole = state.new_zeros(batch, state.shape[1]) if before is None else before
    return whole.index_copy(0, rows, state)


class RowStates:
    """The state of an adapter for the rows of a batch that have one, in pieces: rows that are computed together.

    Rows that begin to select a module in the middle of a text are a piece of their own.
    """

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces

    def of(self, rows: tuple[int, ...]) -> list[Piece]:
        """The pieces of these rows; the last one, with None, is of those that have no state."""
        pieces = self._taken([(row, row) for row in rows])
        left = set(rows).difference(*(held for held, _ in pieces))
        return [*pieces, (tuple(row for row in rows if row in left), None)] if left else pieces

    def select(self, rows: Tensor) -> RowStates:
        """The states of a batch made of other rows, in the order given."""
        order: list[int] = rows.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return RowStates(self._taken(list(enumerate(order))))

    def extend(self, other: RowStates, batch: int) -> RowStates:
        """The states of a batch of `batch` rows with those of another behind it."""
        behind = [(tuple(batch + row for row in held), state) for held, state in other.pieces]
        return RowStates([*self.pieces, *behind])

    def others(self, rows: tuple[int, ...]) -> list[Piece]:
        """The pieces of all rows but these."""
        return self._taken([(row, row) for held, _ in self.pieces for row in held if row not in rows])

    def _taken(self, pairs: list[tuple[int, int]]) -> list[Piece]:
        """For pairs of a row's new number and its old one."""
        pieces: list[Piece] = []
        for held, state in self.pieces:
            mine = [(new, held.index(old)) for new, old in pairs if old in held]
            if not mine:
                continue
            places = [place for _, place in mine]
            if places != list(range(len(held))):
                rows = torch.tensor(places)
                state = select_rows(state, rows)
            pieces.append((tuple(new for new, _ in mine), state))
        return pieces


def extract_states(states: Mapping[Any, Any], rows: Tensor) -> dict[Any, Any]:
    """The states of some rows of a batch, by whose they are, as a batch of their own in the order given."""
    return {key: select_rows(state, rows) for key, state in states.items()}


def extend_states(states: Mapping[Any, Any], batch: int, others: Mapping[Any, Any], more: int) -> dict[Any, Any]:
    """The states of a batch with those of another behind it, so that rows may join a batch at any step.

    Args:
        states: of the batch, by whose they are: tensors [batch, ...] or `RowStates`.
        batch: how many rows it has.
        others: those of the other; what only one of the two has begins at zero, or with nothing, in the other.
        more: how many rows that has.
    """
    joined: dict[Any, Any] = {}
    for key in [*states, *(key for key in others if key not in states)]:
        first, second = states.get(key), others.get(key)
        known = first if first is not None else second
        if isinstance(known, Tensor):
            one = known.new_zeros(batch, *known.shape[1:]) if first is None else first
            two = known.new_zeros(more, *known.shape[1:]) if second is None else second.to(one)
            joined[key] = torch.cat([one, two])
        else:
            joined[key] = (first or RowStates([])).extend(second or RowStates([]), batch)
    return joined
