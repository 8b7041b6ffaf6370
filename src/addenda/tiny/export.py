"""Writes a checkpoint as an ordinary model folder, with the losses and the story on its card."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from . import sample
from .corpus import CHAT_TEMPLATE, SPECIAL, read_jsonl, tokens_of
from .network import make_config, make_model
from .rows import Rows
from .training import CHECKPOINT

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PIECE = 512  # held-out text is scored in pieces of this many tokens, each opened by bos
# Held-out sets of the card: name, file relative to the data folder.
HELD_OUT = (
    ("wikipedia", "wikipedia_en/valid.jsonl.gz"),
    ("openstax", "openstax/valid.jsonl.gz"),
    ("novels", "novels_en/valid.jsonl.gz"),
    ("pubmed abstracts", "pubmed/abstracts_valid.jsonl.gz"),
)
SAMPLES = ("general_valid", "pubmed_valid")
QUICK = 6_000  # tokens of the quick score of a sample, for whoever checks an installation


def load_checkpoint(work: Path) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model of a checkpoint in bfloat16, and the checkpoint's position."""
    with safe_open(work / CHECKPOINT, "pt") as file:
        position = json.loads(file.metadata()["position"])
        settings = position["settings"]
        changes = settings["config"] or {}
        model = make_model(make_config(settings["variant"], settings["vocab_size"], **changes))
        named = dict(model.named_parameters())
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(file.get_tensor(f"model/{name}"))
    return model.bfloat16().eval(), position


def make_tokenizer(work: Path, context: int = 2048) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers wants it, with a plain chat template."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    bos, eos, pad, *extra = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(work / "tokenizer.json")),
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=extra,
        clean_up_tokenization_spaces=False,
        model_max_length=context,
        chat_learned=False,  # the template is there to be trained on: pre-training has none of it
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _pieces(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Iterator[list[int]]:
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, len(ids), PIECE - 1):
            yield ids[start : start + PIECE - 1]


@torch.no_grad()
def held_out_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], limit: int | None = None
) -> dict[str, Any]:
    """Mean loss over texts cut into pieces of PIECE tokens (bos first); nats, and bits per byte."""
    total, tokens, size = 0.0, 0, 0
    for piece in _pieces(tokenizer, texts):
        if limit and tokens >= limit:
            break
        row = torch.tensor([[tokenizer.bos_token_id, *piece]])
        logits = model(input_ids=row, use_cache=False).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum"))
        tokens += len(piece)
        # In the byte-level alphabet one character of a token stands for one byte.
        size += sum(len(t) for t in tokenizer.convert_ids_to_tokens(piece))
    return {
        "nats_per_token": round(total / tokens, 4),
        "bits_per_byte": round(total / math.log(2) / size, 4),
        "tokens": tokens,
    }


def evaluate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, data: Path, limit: int | None
) -> dict[str, Any]:
    """The losses of the card; the shipped samples are scored whole, so that a test can repeat it."""
    scorer = model.float()
    losses = {}
    for name, file in HELD_OUT:
        texts = (record["text"] for record in read_jsonl(data / file))
        losses[name] = held_out_loss(scorer, tokenizer, texts, limit)
    for name in SAMPLES:
        if (path := sample(name)).exists():
            texts = (record["text"] for record in read_jsonl(path))
            losses[f"sample {name}"] = held_out_loss(scorer, tokenizer, texts)
    return losses


def quick_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The losses of the first documents of the shipped samples."""
    scores = {}
    for name in SAMPLES:
        if (path := sample(name)).exists():
            texts = (record["text"] for record in read_jsonl(path))
            scores[name] = held_out_loss(model.float(), tokenizer, texts, QUICK)
    return scores


def unique_tokens(work: Path, position: dict[str, Any]) -> int:
    """How many different tokens of the corpus have been trained on."""
    settings, tokens = position["settings"], tokens_of(work)
    edges = torch.zeros(len(tokens) + 1, dtype=torch.int32)
    for length, rows in (("short", "short_rows"), ("long", "long_rows")):
        starts = Rows(tokens, settings[length], settings["seed"]).starts(position[rows])
        starts = torch.from_numpy(starts)
        edges.index_add_(0, starts, torch.ones(len(starts), dtype=torch.int32))
        edges.index_add_(0, starts + settings[length], torch.full((len(starts),), -1, dtype=torch.int32))
    return int((edges.cumsum(0) > 0).sum())


def train_loss(work: Path, steps: int = 60) -> float | None:
    """The mean training loss of the last steps in the log."""
    path = work / "loss.jsonl"
    if not path.exists():
        return None
    lines = path.read_text().splitlines()[-steps:]
    return round(sum(json.loads(line)["loss"] for line in lines) / len(lines), 4) if lines else None


def _install(folder: Path, out: Path) -> None:
    """Moves the files into place one by one: whoever reads the folder meanwhile finds whole files."""
    out.mkdir(parents=True, exist_ok=True)
    new = {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes for its owner alone
        path.replace(out / path.name)
    for path in out.iterdir():
        if path.is_file() and path.name not in new:
            path.unlink()


def export(data: Path, work: Path, out: Path, limit: int | None = 100_000) -> dict[str, Any]:
    """Writes weights, tokenizer, document list and card to a folder; returns the card."""
    from .readme import readme

    model, position = load_checkpoint(work)
    settings = position["settings"]
    config = model.config
    tokenizer = make_tokenizer(work, config.max_position_embeddings)
    seen = sum(position[f"{n}_rows"] * settings[n] for n in ("short", "long"))
    corpus = json.loads((work / "corpus.json").read_text())
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (Path(folder) / "documents.jsonl.gz").write_bytes((work / "documents.jsonl.gz").read_bytes())
        card = {
            "variant": settings["variant"],
            "parameters": model.num_parameters(),
            "tokens_seen": seen,
            "tokens_planned": settings["tokens"],
            "finished": seen >= settings["tokens"],
            "unique_tokens_seen": unique_tokens(work, position),
            "corpus_tokens": corpus["packed"]["tokens"],
            "train_seconds": round(position["seconds"]),
            "train_loss": train_loss(work),
            "losses": evaluate(model, tokenizer, data, limit),
            "quick_scores": quick_scores(model, tokenizer),
            "settings": settings,
            "corpus": corpus,
        }
        (Path(folder) / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (Path(folder) / "README.md").write_text(readme(card, config), encoding="utf-8")
        _install(Path(folder), out)
    return card
