"""Training text of the embedded base: documents, removal of overlaps, tokenizer, packed tokens."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What the base is trained on. Every other file of the data folder is kept out of it, and so is
# any paragraph that repeats a run of RUN words of one of those files.
TRAIN_FILES = (
    "wikipedia_en/train_0.jsonl.gz",
    "wikipedia_en/train_1.jsonl.gz",
    "wikipedia_en/train_2.jsonl.gz",
    "openstax/train.jsonl.gz",
    "novels_en/train.jsonl.gz",
)
RUN = 13
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>")
BOS, EOS, PAD = 0, 1, 2
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ ('<|assistant|>' if message['role'] == 'assistant' else '<|user|>')"
    " + '\n' + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_WORD = re.compile(r"\w+")
_BLANK = re.compile(r"\n[ \t]*\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a gzip JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def kept_out_files(data: Path, train_files: Iterable[str] = TRAIN_FILES) -> list[Path]:
    """Every data file that is not training text of the base, notes aside."""
    train = {data / name for name in train_files}
    return [path for path in sorted(data.rglob("*")) if path.is_file() and path not in train and path.suffix != ".md"]


def texts_of(path: Path) -> Iterator[str]:
    """Every running text of a data file, whatever its format."""
    if path.name.endswith(".jsonl.gz"):
        for record in read_jsonl(path):
            yield from _strings(record)
    elif path.name.endswith(".json.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from _strings(json.load(file))
    elif path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                yield from row
    elif path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield file.read()
    else:
        yield path.read_text(encoding="utf-8")


class RunHasher:
    """Hashes every run of `run` words of a text to 64 bits; case and punctuation do not count."""

    def __init__(self, run: int = RUN) -> None:
        self.run = run
        self._words: dict[str, int] = {}
        odd = int.from_bytes(hashlib.blake2b(b"base", digest_size=8).digest(), "little") | 1
        self._powers = [np.uint64(pow(odd, i, 1 << 64)) for i in range(run)]

    def _word(self, word: str) -> int:
        code = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        self._words[word] = code
        return code

    def codes(self, text: str) -> np.ndarray:
        """One 64-bit code a word."""
        known = self._words
        words = _WORD.findall(text.lower())
        codes = [known[w] if w in known else self._word(w) for w in words]
        return np.array(codes, dtype=np.uint64)

    def runs(self, codes: np.ndarray) -> np.ndarray:
        """One hash a run: entry i covers words i .. i + run - 1."""
        count = len(codes) - self.run + 1
        if count <= 0:
            return np.empty(0, dtype=np.uint64)
        total = np.zeros(count, dtype=np.uint64)
        for i, power in enumerate(self._powers):
            total += codes[i : i + count] * power  # modulo 2**64 by overflow
        return total


def kept_out_runs(paths: Iterable[Path], hasher: RunHasher) -> np.ndarray:
    """The sorted hashes of all runs of the kept-out texts."""
    parts = [hasher.runs(hasher.codes(text)) for path in paths for text in texts_of(path)]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)


def contains(sorted_hashes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted hash, whether it is in the sorted array."""
    if not len(sorted_hashes):
        return np.zeros(len(wanted), dtype=bool)
    order = np.argsort(wanted)  # sorted queries walk the big array in order: far fewer cache misses
    place = np.searchsorted(sorted_hashes, wanted[order])
    place[place == len(sorted_hashes)] = 0
    present = np.empty(len(wanted), dtype=bool)
    present[order] = sorted_hashes[place] == wanted[order]
    return present


def drop_overlaps(text: str, forbidden: np.ndarray, hasher: RunHasher) -> tuple[str, int, int]:
    """The text without paragraphs touched by a forbidden run; paragraphs before, dropped."""
    paragraphs = [p for p in _BLANK.split(text) if p.strip()]
    codes = [hasher.codes(p) for p in paragraphs]
    ends = np.cumsum([len(c) for c in codes])
    joined = np.concatenate(codes) if codes else np.empty(0, dtype=np.uint64)
    hits = np.flatnonzero(contains(forbidden, hasher.runs(joined)))
    if not len(hits):
        return "\n\n".join(paragraphs), len(paragraphs), 0
    # A run may lie across paragraphs: all those it touches go.
    first = np.searchsorted(ends, hits, side="right")
    last = np.searchsorted(ends, hits + hasher.run - 1, side="right")
    bad = {int(i) for a, b in set(zip(first, last, strict=True)) for i in range(a, b + 1)}
    kept = [p for i, p in enumerate(paragraphs) if i not in bad]
    return "\n\n".join(kept), len(paragraphs), len(bad)


def clean_documents(data: Path, out: Path, train_files: Iterable[str] = TRAIN_FILES) -> dict:
    """Writes the documents that the base sees, and their manifest; returns the counts."""
    hasher = RunHasher()
    forbidden = kept_out_runs(kept_out_files(data, train_files), hasher)
    counts: dict = {"kept_out_runs": len(forbidden), "sources": {}}
    manifest = []
    documents = out / "documents.tmp"
    with documents.open("w", encoding="utf-8") as file:
        for name in train_files:
            source = counts["sources"].setdefault(name, {"documents": 0, "paragraphs": 0, "dropped": 0, "bytes": 0})
            for record in read_jsonl(data / name):
                text, paragraphs, dropped = drop_overlaps(record["text"], forbidden, hasher)
                digest = hashlib.sha256(record["text"].encode()).hexdigest()
                source["paragraphs"] += paragraphs
                source["dropped"] += dropped
                if not text:
                    continue
                source["documents"] += 1
                source["bytes"] += len(text.encode())
                row = {"source": name.split("/")[0], "id": str(record["id"]), "text": text}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                manifest.append({"source": name, "id": row["id"], "sha256": digest[:16], "dropped": dropped})
    write_gzip(out / "documents.jsonl.gz", manifest)
    documents.rename(out / "documents.jsonl")
    return counts


def write_gzip(path: Path, records: Iterable[dict]) -> None:
    """Writes gzip JSON lines with no time stamp, so that equal records give equal bytes."""
    body = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()
    path.write_bytes(gzip.compress(body, 9, mtime=0))


def read_documents(work: Path) -> Iterator[dict]:
    """The cleaned documents, in order."""
    with (work / "documents.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer: any text goes through it and comes back unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", pair="<|bos|> $A <|bos|> $B", special_tokens=[("<|bos|>", BOS)]
    )
    return tokenizer


def _sample(work: Path, every: int, piece: int = 20_000) -> Iterator[str]:
    """Pieces of the documents, one of each `every`: long novels must not rule the vocabulary."""
    number = 0
    for document in read_documents(work):
        text = document["text"]
        for start in range(0, len(text), piece):
            number += 1
            if number % every == 0:
                yield text[start : start + piece]


def pack(work: Path, tokenizer: Tokenizer, path: Path) -> dict:
    """Packs all documents as bos + text + eos into one uint16 array on disk, in shuffled order."""
    documents = list(read_documents(work))
    order = np.random.default_rng(0).permutation(len(documents))
    total, bytes_total = 0, 0
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        for start in range(0, len(order), 64):
            texts = [documents[i]["text"] for i in order[start : start + 64]]
            bytes_total += sum(len(t.encode()) for t in texts)
            for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
                ids = np.array([BOS, *encoding.ids, EOS], dtype=np.uint16)
                ids.tofile(file)
                total += len(ids)
    temporary.rename(path)
    return {"tokens": total, "documents": len(documents), "bytes": bytes_total}


def prepare(
    data: Path,
    work: Path,
    vocab_size: int = 8192,
    train_files: Iterable[str] = TRAIN_FILES,
    every: int = 4,
) -> dict:
    """Runs every stage that has not been run in this work folder; returns the counts."""
    from tokenizers import Tokenizer

    work.mkdir(parents=True, exist_ok=True)
    report = work / "corpus.json"
    counts = json.loads(report.read_text()) if report.exists() else {}
    if not (work / "documents.jsonl").exists():
        counts = clean_documents(data, work, train_files)
        report.write_text(json.dumps(counts, indent=1))
    if not (work / "tokenizer.json").exists():
        train_tokenizer(_sample(work, every), vocab_size).save(str(work / "tokenizer.json"))
    if not (work / "tokens.bin").exists():
        tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
        counts["packed"] = pack(work, tokenizer, work / "tokens.bin")
        report.write_text(json.dumps(counts, indent=1))
    return counts


def tokens_of(work: Path) -> np.ndarray:
    """The packed tokens, read from disk on demand."""
    return np.memmap(work / "tokens.bin", dtype=np.uint16, mode="r")
