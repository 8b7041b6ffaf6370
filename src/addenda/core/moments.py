"""Second moments of a module's gradients in rank-1 form: row and column means of each matrix, kept beside the module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

#: whose side tensors they are
OWNER = "moments"


@dataclass(frozen=True)
class Moment:
    """Mean squared gradient of one tensor.

    Of a tensor seen as a matrix [m, n] (its last dimension, and all others) `rows` [m] are the means over columns, `columns`
    [n] those over rows, and v ~ rows columns^T / mean: Adafactor's form, which keeps row and column sums. Of a vector, `rows`
    is all of it and `columns` None.
    """

    rows: Tensor
    columns: Tensor | None = None

    @classmethod
    def of(cls, squares: Tensor) -> Moment:
        """From squared gradients of any shape."""
        if squares.dim() < 2:
            return cls(squares.reshape(-1))
        matrix = squares.reshape(-1, squares.shape[-1])
        return cls(matrix.mean(1), matrix.mean(0))

    def full(self, shape: torch.Size) -> Tensor:
        """v, of the tensor's own shape."""
        if self.columns is None:
            return self.rows.reshape(shape)
        mean = self.rows.mean()
        scaled = self.rows / torch.where(mean > 0, mean, 1.0)
        return (scaled[:, None] * self.columns).reshape(shape)


def named(moments: Mapping[str, Moment]) -> dict[str, Tensor]:
    """Moments by tensor as side tensors: `layers.0.ffn.down.rows`, `layers.0.ffn.down.columns`."""
    tensors: dict[str, Tensor] = {}
    for name, moment in moments.items():
        tensors[f"{name}.rows"] = moment.rows
        if moment.columns is not None:
            tensors[f"{name}.columns"] = moment.columns
    return tensors


def read(tensors: Mapping[str, Tensor]) -> dict[str, Moment]:
    """Moments by tensor from what `named` gave."""
    names = [key.removesuffix(".rows") for key in tensors if key.endswith(".rows")]
    return {name: Moment(tensors[f"{name}.rows"], tensors.get(f"{name}.columns")) for name in names}
