"""Writes a checkpoint as an ordinary model folder, with the losses and the story on its card."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from addenda.core.errors import DataError
from addenda.writing import checkpoint
from addenda.writing.run_log import LOG

from . import sample
from .corpus import CHAT_TEMPLATE, SPECIAL, read_jsonl, tokens_of
from .network import make_model
from .rows import Rows

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
    """The model of the newest checkpoint in bfloat16, and where the run stood.

    Raises:
        DataError: there is no checkpoint.
    """
    found = checkpoint.newest(work)
    if found is None:
        raise DataError(f"{work} holds no checkpoint to export; the recipe without --export-only makes one")
    settings = found.state["identity"]
    model = make_model(settings["vocab_size"], **settings["config"] or {})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(found.tensors[f"value.{name}"])
    return model.bfloat16().eval(), found.state


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


def losses_on(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, files: dict[str, Path], limit: int | None
) -> Any:
    """The loss on each of some files of texts that are there, by name."""
    read = {name: (record["text"] for record in read_jsonl(path)) for name, path in files.items() if path.exists()}
    return {name: held_out_loss(model.float(), tokenizer, texts, limit) for name, texts in read.items()}


def unique_tokens(work: Path, state: dict[str, Any]) -> int:
    """How many different tokens of the corpus have been trained on."""
    settings, tokens = state["identity"], tokens_of(work)
    edges = torch.zeros(len(tokens) + 1, dtype=torch.int32)
    for length, rows in (("short", "short_rows"), ("long", "long_rows")):
        starts = Rows(tokens, settings[length], settings["seed"]).starts(state[rows])
        starts = torch.from_numpy(starts)
        edges.index_add_(0, starts, torch.ones(len(starts), dtype=torch.int32))
        edges.index_add_(0, starts + settings[length], torch.full((len(starts),), -1, dtype=torch.int32))
    return int((edges.cumsum(0) > 0).sum())


def train_loss(work: Path, records: int = 3) -> float:
    """The mean training loss of the last records in the log."""
    lines = (work / LOG).read_text(encoding="utf-8").splitlines()[-records:]
    return round(sum(json.loads(line)["loss"] for line in lines) / len(lines), 4)


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

    model, state = load_checkpoint(work)
    settings = state["identity"] | {"tokens": state["tokens"]}
    config = model.config
    tokenizer = make_tokenizer(work, config.max_position_embeddings)
    corpus = json.loads((work / "corpus.json").read_text())
    held_out = {name: data / file for name, file in HELD_OUT}
    samples = {name: sample(name) for name in SAMPLES}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (Path(folder) / "documents.jsonl.gz").write_bytes((work / "documents.jsonl.gz").read_bytes())
        whole = losses_on(model, tokenizer, {f"sample {name}": path for name, path in samples.items()}, None)
        card = {
            "parameters": model.num_parameters(),
            "tokens_seen": state["read"],
            "tokens_planned": settings["tokens"],
            "finished": state["read"] >= settings["tokens"],
            "unique_tokens_seen": unique_tokens(work, state),
            "corpus_tokens": corpus["packed"]["tokens"],
            "train_seconds": round(state["seconds"][0]),
            "train_loss": train_loss(work),
            "losses": losses_on(model, tokenizer, held_out, limit) | whole,
            "quick_scores": losses_on(model, tokenizer, samples, QUICK),
            "settings": settings,
            "corpus": corpus,
        }
        (Path(folder) / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (Path(folder) / "README.md").write_text(readme(card, config), encoding="utf-8")
        _install(Path(folder), out)
    return card
