"""What several studies share: their texts, and full fine-tuning as a baseline."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from addenda import tiny
from addenda.encoding import Encoder
from addenda.objectives.head import Head
from addenda.objectives.objective import objective_named
from addenda.optimizers.adamw import adamw, rate
from addenda.plugging import Base
from addenda.scoring import Score, score
from addenda.texts import texts as open_texts
from addenda.writing.batches import Mixture, stack
from addenda.writing.packing import Feed, Stream


@dataclass(frozen=True)
class Texts:
    """The texts of a study: a subject to learn, replay for the old domain, and held-out documents of both."""

    corpus: Any
    replay: Any
    medical_valid: Any
    general_valid: Any
    calibration: Any
    validation_tokens: int = 60_000

    @property
    def held_out(self) -> dict[str, Any]:
        """Held-out texts by name."""
        return {"medical": self.medical_valid, "general": self.general_valid}


def study_texts() -> Texts:
    """PubMed and general English from `ADDENDA_DATA`, or the small samples that ship with the package."""
    data = Path(os.environ.get("ADDENDA_DATA", "../shared/data"))
    if not data.is_dir():
        sample = {
            name: tiny.sample(name) for name in ("pubmed_train", "pubmed_valid", "general_train", "general_valid")
        }
        general = _documents(sample["general_valid"])
        return Texts(
            sample["pubmed_train"], sample["general_train"], sample["pubmed_valid"], general[::2], general[1::2]
        )
    # what the base was trained on stands for its domain; what it never saw tells forgetting
    general = [
        *_documents(data / "wikipedia_en/valid.jsonl.gz"),
        *_documents(data / "openstax/valid.jsonl.gz"),
        *(piece for text in _documents(data / "novels_en/valid.jsonl.gz") for piece in _pieces(text)),
    ]
    general.sort(key=lambda text: hash_of(text))
    medical = [
        *_documents(data / "pubmed/abstracts_valid.jsonl.gz"),
        *_documents(data / "pubmed/fulltext_valid.jsonl.gz"),
    ]
    medical.sort(key=lambda text: hash_of(text))
    corpus = [
        *_documents(data / "pubmed/abstracts_train.jsonl.gz"),
        *_documents(data / "pubmed/fulltext_train.jsonl.gz"),
    ]
    return Texts(
        corpus,
        str(data / "wikipedia_en/train_0.jsonl.gz"),
        [text[:6000] for text in medical],
        [text[:6000] for text in general[::2]],
        [text[:6000] for text in general[1::2]],
    )


def hash_of(text: str) -> int:
    """An order of documents that does not depend on their files."""
    import zlib

    return zlib.crc32(text[:400].encode())


def _documents(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def _pieces(text: str, size: int = 6000) -> Iterator[str]:
    for start in range(0, len(text), size * 4):
        yield text[start : start + size]


def full_finetune(
    base: Base, texts: Texts, *, lr: float, tokens: int, seed: int, rows: int = 8, length: int = 512
) -> list[dict[str, Any]]:
    """Fine-tune every weight of the base on the same rows as the modules see; gain and forgetting along the way.

    The model is changed in place: load a fresh base for the next run. Interrupted, it starts again.
    """
    head = Head(base.model)
    encoder = Encoder(base.tokenizer, head.vocabulary, close=True)

    def feed(source: Any, code: int) -> Feed:
        return Feed(
            Stream(open_texts(source), encoder, length=length, context=0, seed=seed, code=code, shuffle_tokens=2**20)
        )

    mixture = Mixture({"full": feed(texts.corpus, 0)}, feed(texts.replay, 1), 0.1)
    objective = objective_named("lm", top_k=1, context=0)
    optimizer = adamw(base.model.parameters(), lr=lr, weight_decay=0.01)
    options: dict[str, Any] = {"tokens": texts.validation_tokens, "precision": "bf16", "length": length}
    bare = {name: score(base, source, **options) for name, source in texts.held_out.items()}
    steps = tokens // (rows * length)
    points = []
    for step in range(steps):
        batch = stack(mixture.take(rows), 0, False, torch.device("cpu"))
        with torch.autocast("cpu", torch.bfloat16):
            hidden = head.hidden(**batch.student())
            weights = batch.target_weights / batch.target_weights.sum()
            loss, _ = head.costs(objective, hidden.flatten(0, 1), batch.targets.flatten(), weights.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(base.model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(step, steps, 0.05, 0.1)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % max(1, steps // 10) == 0 or step + 1 == steps:
            on = {name: score(base, source, **options) for name, source in texts.held_out.items()}
            points.append(_full_point((step + 1) * rows * length, bare, on))
            print(f"  full, step {step + 1} of {steps}: {points[-1]}", flush=True)
    return points


def _full_point(at: int, bare: dict[str, Score], on: dict[str, Score]) -> dict[str, Any]:
    gain, lost = bare["medical"].minus(on["medical"]), on["general"].minus(bare["general"])
    return {
        "origin": "training",
        "at": at,
        "gain": [gain.nats, gain.low, gain.high],
        "forgetting": [lost.nats, lost.low, lost.high],
    }
