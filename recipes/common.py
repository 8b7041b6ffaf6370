"""What several studies share: their texts, the points of their curves, and an allocator that suits training."""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

import addenda
from addenda import tiny
from addenda.core.contracts import Kind
from addenda.core.registry import build_kind
from addenda.plug.base import Base
from addenda.plug.scoring import Score, score

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Texts:
    """The texts of a study: a subject to learn, replay for the old domain, and held-out documents of both."""

    corpus: Any
    replay: Any
    medical_valid: Any
    general_valid: Any
    calibration: Any

    @property
    def held_out(self) -> dict[str, Any]:
        """Held-out texts by name."""
        return {"medical": self.medical_valid, "general": self.general_valid}


def data_folder() -> Path:
    """Where real texts are: `ADDENDA_DATA`, or the folder beside the project."""
    return Path(os.environ.get("ADDENDA_DATA", "../shared/data"))


@cache
def study_texts() -> Texts:
    """PubMed and general English from `ADDENDA_DATA`, or the small samples that ship with the package."""
    data = data_folder()
    if not data.is_dir():
        general = documents(tiny.sample("general_valid"))
        medical = documents(tiny.sample("pubmed_valid"))
        return Texts(tiny.sample("pubmed_train"), tiny.sample("general_train"), medical, general[::2], general[1::2])

    def read(*files: str) -> list[str]:
        return [text for file in files for text in documents(data / f"{file}.jsonl.gz")]

    def held(texts: Iterable[str]) -> list[str]:
        return [text[:6000] for text in sorted(texts, key=hash_of)]

    # what the base was trained on stands for its domain; what it never saw tells forgetting
    novels = (piece for text in read("novels_en/valid") for piece in _pieces(text))
    general = held([*read("wikipedia_en/valid", "openstax/valid"), *novels])
    medical = held(read("pubmed/abstracts_valid", "pubmed/fulltext_valid"))
    corpus = read("pubmed/abstracts_train", "pubmed/fulltext_train")
    return Texts(corpus, str(data / "wikipedia_en/train_0.jsonl.gz"), medical, general[::2], general[1::2])


def hash_of(text: str) -> int:
    """An order of documents that does not depend on their files."""
    return zlib.crc32(text[:400].encode())


def documents(path: Path) -> list[str]:
    """The texts of a file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def _pieces(text: str, size: int = 6000) -> Iterator[str]:
    for start in range(0, len(text), size * 4):
        yield text[start : start + size]


def keep_pages() -> None:
    """Let glibc keep large blocks instead of mapping fresh pages for each tensor: training on a CPU is a tenth faster.

    Nothing happens where the C library has no `mallopt`.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def kind_as_recorded(name: str, options: Mapping[str, Any]) -> Kind:
    """The kind of a run, with the start that was the default when the first studies named their runs by their options."""
    return build_kind(name, ({"init": "small"} if name == "NeutralResidues" else {}) | dict(options))


def place() -> torch.device:
    """Where studies run: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(where: str = "tiny", **options: Any) -> Base:
    """A base in float32, at its place."""
    base = addenda.load_base(where, dtype=torch.float32, **options)
    base.model.to(place())
    return base


_asked: list[Precision] = []


@contextlib.contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Let `precision` say so within this block, whatever the CPU is best at."""
    _asked.append(precision)
    try:
        yield
    finally:
        _asked.pop()


def precision() -> Precision:
    """What this CPU has instructions for: bf16, or else fp32, which is then many times faster.

    On a GPU fp32: small bases wait there for launches, and casts are more of them.
    """
    if _asked:
        return _asked[-1]
    if place().type == "cuda":
        return "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") or able.get("bf16") else "fp32"


def taught(base: Base, name: str, kind: Kind, corpus: Any, *, seed: int, gate: str | None = None, **more: Any) -> Any:
    """Train a new module on a corpus: the general sample as replay, eight rows of 256 tokens, unless `more` says else."""
    base.new(name, kind, seed=seed, gate=gate)
    settings: dict[str, Any] = {
        "replay": "general_train",
        "length": 256,
        "batch_rows": 8,
        "precision": precision(),
    } | more
    return addenda.train(base, name, corpus=list(corpus), seed=seed, log=False, **settings)


def losses(base: Base, held: Mapping[str, Any], on: Any = None, **options: Any) -> dict[str, Score]:
    """The loss on each of some texts by name, with a module on, by name or weight, or none."""
    with base.using({} if on is None else on):
        return {name: score(base, list(texts), **options) for name, texts in held.items()}


def gained(bare: Mapping[str, Score], now: Mapping[str, Score]) -> dict[str, list[float]]:
    """What was taken off each loss, with its 95% interval over documents."""
    changes = {name: bare[name].minus(now[name]) for name in now}
    return {name: [change.nats, change.low, change.high] for name, change in changes.items()}
