"""A pico base in a folder, texts of shuffled words, and a comparison that takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import addenda
from addenda.comparing.comparison import Comparison
from pico import pico, pico_tokenizer

WORDS = "the patients were given insulin and the outcome of the trial was measured at the end of the week"
PLAIN = "the river ran past the old mill and the children sang as they walked home along the lane"


@dataclass(frozen=True)
class Ways:
    """A base's folder, and what is given to it."""

    folder: str
    words: str = WORDS
    plain: str = PLAIN

    def text(self, words: str, seed: int, lines: int = 60) -> list[str]:
        draw, parts = np.random.default_rng(seed), words.split()
        return [" ".join(draw.permutation(parts).tolist()) + "." for _ in range(lines)]

    def compare(self, out: Path, **changes: Any) -> Comparison:
        return addenda.compare(
            self.folder, out=out,
            **{
                "corpus": self.text(WORDS, 0, 200), "replay": self.text(PLAIN, 1, 200), "learning": self.text(WORDS, 2),
                "forgetting": self.text(PLAIN, 3), "tokens": 1024, "seeds": (0, 1), "rates": 2, "rung": 0.5,
                "held_tokens": 300, "length": 32, "batch_rows": 4, "count": 8, "rank": 4, "pairs": 1, "allow_overlap": True,
                "device": "cpu",
            } | changes,
        )  # fmt: skip


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Ways:
    place = tmp_path_factory.mktemp("compare") / "base"
    pico("llama").save_pretrained(place)
    pico_tokenizer().save_pretrained(place)
    return Ways(str(place))
