"""Rows of a packed token array in an order that depends on the row's number alone."""

from __future__ import annotations

import numpy as np
import torch


class Rows:
    """Rows of a packed token array in an order that depends on the row's number alone."""

    def __init__(self, tokens: np.ndarray, length: int, seed: int) -> None:
        self.tokens, self.length, self.seed = tokens, length, seed
        # One row less than would fit leaves room for each epoch's own offset.
        self.count = (len(tokens) - 1) // length - 1
        if self.count < 1:
            raise ValueError(f"{len(tokens)} tokens are too few for rows of {length}")
        self._epoch = -1

    def _starts(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, self.length, epoch])
            order = random.permutation(self.count)
            self._order = order * self.length + int(random.integers(self.length))
            self._epoch = epoch
        return self._order

    def starts(self, count: int) -> np.ndarray:
        """Where the first `count` rows begin."""
        whole, rest = divmod(count, self.count)
        parts = [self._starts(epoch) for epoch in range(whole)]
        return np.concatenate([*parts, self._starts(whole)[:rest]])

    def batch(self, first: int, count: int) -> torch.Tensor:
        """Rows first .. first + count - 1, each with one more token than its length."""
        rows = []
        for number in range(first, first + count):
            epoch, place = divmod(number, self.count)
            start = self._starts(epoch)[place]
            rows.append(self.tokens[start : start + self.length + 1].astype(np.int64))
        return torch.from_numpy(np.stack(rows))
