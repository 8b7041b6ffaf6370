"""A tokenizer as a GGUF file keeps it: tokens with their types, merges or scores, special tokens, chat template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from addenda.core.errors import UnsupportedError

#: token types of GGUF
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
#: how text is cut before merges, as the tokenizer's file says it: llama.cpp knows these by name alone
CUTS = {
    "gpt2": "gpt-2",
    _LETTERS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _LETTERS + r"\p{N}" + _REST: "qwen2",
    "digits gpt2": "smollm",
}


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer: `model` is `gpt2` (byte-level merges) or `llama` (sentence pieces)."""

    model: str
    cut: str | None
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    space_before: bool

    def write(self, writer: Any, tokenizer: Any) -> None:
        """Put it into a GGUFWriter, with the tokenizer's special tokens."""
        writer.add_tokenizer_model(self.model)
        if self.cut is not None:
            writer.add_tokenizer_pre(self.cut)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.add_add_space_prefix(self.space_before)
        for name in ("bos", "eos", "pad", "unk"):
            token_id = getattr(tokenizer, f"{name}_token_id", None)
            if token_id is not None:
                getattr(writer, f"add_{name}_token_id")(token_id)
        alone = list(tokenizer("a")["input_ids"])
        writer.add_add_bos_token(tokenizer.bos_token_id is not None and alone[0] == tokenizer.bos_token_id)
        writer.add_add_eos_token(tokenizer.eos_token_id is not None and alone[-1] == tokenizer.eos_token_id)
        if isinstance(tokenizer.chat_template, str):
            writer.add_chat_template(tokenizer.chat_template)


def vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """The vocabulary of a transformers tokenizer, filled up to `size` entries, one for each row of the embedding.

    Raises:
        UnsupportedError: it has no `tokenizers` backend, merges nothing, or cuts text in a way that llama.cpp has no
            name for.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedError(f"a GGUF takes a tokenizer of the `tokenizers` library; got {type(tokenizer).__name__}")
    said = json.loads(backend.to_str())
    model = said["model"]
    if model["type"] != "BPE":
        raise UnsupportedError(f"a GGUF takes a tokenizer that merges pairs (BPE); this one is {model['type']}")
    tokens, types = _tokens(model, said["added_tokens"], size)
    merges = [_pair(merge) for merge in model["merges"]]
    parts = _parts(said.get("pre_tokenizer"))
    if any(part["type"] == "ByteLevel" for part in parts):
        joined = [" ".join(pair) for pair in merges]
        before = any(part.get("add_prefix_space") for part in parts)
        return Vocabulary("gpt2", _cut(parts), tokens, types, joined, [], before)
    if not model.get("byte_fallback"):
        raise UnsupportedError(
            "its tokenizer is neither byte-level nor one of sentence pieces that falls back to bytes"
        )
    return Vocabulary("llama", "default", tokens, types, [], _scores(tokens, merges), _space_before(said, parts))


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """A merge, which older files write as one text."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _tokens(model: dict[str, Any], added: list[dict[str, Any]], size: int) -> tuple[list[str], list[int]]:
    known = {index: (text, NORMAL) for text, index in model["vocab"].items()}
    if model.get("byte_fallback"):
        for index, (text, _) in known.items():
            if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
                known[index] = (text, BYTE)
    for token in added:
        unknown = token["content"] == model.get("unk_token")
        known[token["id"]] = (token["content"], UNKNOWN if unknown else CONTROL if token["special"] else USER)
    count = max(size, max(known) + 1)
    if count > size:
        raise UnsupportedError(f"its tokenizer has {count:,} tokens and the base embeds {size:,}")
    both = [known.get(index, (f"[PAD{index}]", UNUSED)) for index in range(count)]
    return [text for text, _ in both], [kind for _, kind in both]


def _parts(pre: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps that cut text before merges."""
    if pre is None:
        return []
    return [part for step in pre["pretokenizers"] for part in _parts(step)] if pre["type"] == "Sequence" else [pre]


def _cut(parts: list[dict[str, Any]]) -> str:
    """What llama.cpp calls the way in which these steps cut text."""
    told: list[str] = []
    for part in parts:
        if part["type"] == "ByteLevel":
            told += ["gpt2"] if part.get("use_regex", True) else []
        elif part["type"] == "Split" and "Regex" in part["pattern"]:
            told.append(part["pattern"]["Regex"])
        elif part["type"] == "Digits" and part.get("individual_digits"):
            told.append("digits")
        else:
            told.append(part["type"])
    cut = CUTS.get(" ".join(told))
    if cut is None:
        raise UnsupportedError(
            f"its tokenizer cuts text in a way that llama.cpp has no name for ({' '.join(told)[:120]})"
        )
    return cut


def _scores(tokens: list[str], merges: list[tuple[str, str]]) -> list[float]:
    """Sentence pieces are merged by score, the best first: the earlier a merge, the higher its piece's."""
    rank: dict[str, int] = {}
    for index, (left, right) in enumerate(merges):
        rank.setdefault(left + right, index)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def _space_before(said: dict[str, Any], parts: list[dict[str, Any]]) -> bool:
    """Whether a text is read as if a space stood before it."""
    normalizer = said.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    return any(step.get("type") == "Prepend" for step in steps) or any(
        part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never" for part in parts
    )
