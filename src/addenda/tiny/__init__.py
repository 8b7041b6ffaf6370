"""The embedded base: a small language model, its sample texts, and the recipe that made them."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
SAMPLES = ("pubmed_train", "pubmed_valid", "general_train", "general_valid", "french_train", "french_valid")


def path() -> Path:
    """The folder of the embedded base: weights, tokenizer, card."""
    return _HERE / "base"


def sample(name: str) -> Path:
    """A shipped sample text by its name, gzip JSON lines with the fields `id` and `text`."""
    if name not in SAMPLES:
        raise ValueError(f"no sample named {name!r}; there are: {', '.join(SAMPLES)}")
    return _HERE / "samples" / f"{name}.jsonl.gz"
