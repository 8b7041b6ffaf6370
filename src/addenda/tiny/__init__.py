"""The embedded base: a small language model, its sample texts, and the recipe that made them."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
SAMPLES = ("pubmed_train", "pubmed_valid", "general_train", "general_valid", "french_train", "french_valid")
#: what bases are asked, and the files that it stands in; see `tiny.asked` and `tiny.paragraphs`
ASKED = {
    "questions": "questions.jsonl.gz",
    "chats": "chats.jsonl",
    "prompts": "prompts.jsonl",
    "chat_prompts": "chat_prompts.jsonl",
    "paragraphs": "paragraphs.jsonl.gz",
}


def path() -> Path:
    """The folder of the embedded base: weights, tokenizer, card."""
    return _HERE / "base"


def sample(name: str) -> Path:
    """A shipped sample by its name: a text (gzip JSON lines with `id` and `text`), or what is asked of bases (`ASKED`)."""
    if name in ASKED:
        return _HERE / "samples" / ASKED[name]
    if name not in SAMPLES:
        raise ValueError(f"no sample named {name!r}; there are: {', '.join((*SAMPLES, *ASKED))}")
    return _HERE / "samples" / f"{name}.jsonl.gz"
