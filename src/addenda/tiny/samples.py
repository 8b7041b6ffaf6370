"""Makes the small sample texts of the package: python -m addenda.tiny.samples --data DIR."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from . import paragraphs
from . import path as base_path
from .asked import choose, note
from .corpus import RunHasher, contains, read_jsonl, write_gzip

EXCERPT, PASSAGE = 30_000, 6_000  # characters taken from a novel, and from a contract
LICENSES = {
    "wikipedia_en": "CC BY-SA 3.0",
    "openstax": "CC BY 4.0",
    "novels_en": "public domain (US)",
}
# of what the base was not trained on
OTHERS = {"french": "public domain", "contracts": "CC BY 4.0", "statutes": "public domain", "dialogue": "CC BY-SA 4.0"}
# Sample -> file, bytes to take, longest document taken.
PLAN = {
    "pubmed_valid": (
        ("pubmed/abstracts_valid.jsonl.gz", 75_000, 10_000),
        ("pubmed/fulltext_valid.jsonl.gz", 75_000, 25_000),
    ),
    "pubmed_train": (
        ("pubmed/abstracts_train.jsonl.gz", 450_000, 10_000),
        ("pubmed/fulltext_train.jsonl.gz", 850_000, 40_000),
    ),
    "general_valid": (
        ("wikipedia_en/valid.jsonl.gz", 90_000, 15_000),
        ("openstax/valid.jsonl.gz", 60_000, 15_000),
        ("novels_en/valid.jsonl.gz", 60_000, EXCERPT),
    ),
    "general_train": (
        ("wikipedia_en/train_0.jsonl.gz", 400_000, 15_000),
        ("openstax/train.jsonl.gz", 200_000, 15_000),
        ("novels_en/train.jsonl.gz", 210_000, EXCERPT),
        # kinds of text that the base never saw: a gate is to know that they are not its subject either
        ("law/contracts_train.jsonl.gz", 120_000, PASSAGE),
        ("law/statutes_train.jsonl.gz", 60_000, 4_000),
        ("dialogue/train.jsonl.gz", 60_000, 4_000),
    ),
    "french_valid": (("french/novels_valid.jsonl.gz", 62_000, EXCERPT),),
    "french_train": (("french/novels_train.jsonl.gz", 400_000, EXCERPT),),
}


def excerpt(text: str, limit: int) -> str:
    """Whole paragraphs from about a third of the way in, `limit` characters at most."""
    start = text.find("\n\n", len(text) // 3) + 2
    end = text.rfind("\n\n", start, start + limit)
    return text[start:end]


def _candidates(data: Path, file: str, longest: int, intact: set[str]) -> list[dict]:
    """The documents of a file that may be taken, in an order that depends on their ids alone."""
    source = file.split("/")[0]
    records = []
    for record in read_jsonl(data / file):
        if "train" in file and source in LICENSES and record["id"] not in intact:
            continue
        text = record["text"]
        if "novels" in file or "contracts" in file:
            text = excerpt(text, longest)
        if len(text) > longest:
            continue
        row = {"id": record["id"], "text": text, "source": source}
        row["license"] = record.get("license") or (LICENSES | OTHERS)[_licensed(file)]
        if "title" in record:
            row["title"] = record["title"]
        if "book" in record:
            row["book"] = record["book"]
        records.append(row)
    return sorted(records, key=lambda r: hashlib.sha256(f"sample {r['id']}".encode()).digest())


def _licensed(file: str) -> str:
    """The name under which a file's licence stands: its folder, or of law its kind."""
    folder, name = file.split("/")
    return name.split("_")[0] if folder == "law" else folder


def take(data: Path, parts: Iterable, intact: set[str], forbidden: np.ndarray, hasher: RunHasher) -> list[dict]:
    """Documents up to each part's size, none with a forbidden run, no id twice."""
    taken: dict[str, dict] = {}
    for file, size, longest in parts:
        for record in _candidates(data, file, longest, intact):
            length = len(record["text"].encode())
            if record["id"] in taken or length > size:
                continue
            if contains(forbidden, hasher.runs(hasher.codes(record["text"]))).any():
                continue
            taken[record["id"]] = record
            size -= length
    return list(taken.values())


def saw_whole(manifest: Path) -> set[str]:
    """The ids of the documents that the base was trained on with no paragraph dropped."""
    # The dropped ones are left out: a sample must be text that the base saw as it stands.
    return {r["id"] for r in read_jsonl(manifest) if not r["dropped"]}


def make(data: Path, out: Path, manifest: Path) -> dict[str, list[dict]]:
    """Writes the samples and their SOURCE.md; returns the records."""
    hasher = RunHasher()
    intact = saw_whole(manifest)
    none = np.empty(0, dtype=np.uint64)
    made: dict[str, list[dict]] = {}
    for name in ("pubmed_valid", "general_valid", "french_valid"):
        made[name] = take(data, PLAN[name], intact, none, hasher)
    # Train documents must not share a run with any valid document, of either subject.
    texts = [r["text"] for records in made.values() for r in records]
    forbidden = np.unique(np.concatenate([hasher.runs(hasher.codes(t)) for t in texts]))
    for name in ("pubmed_train", "general_train", "french_train"):
        made[name] = take(data, PLAN[name], intact, forbidden, hasher)
    out.mkdir(parents=True, exist_ok=True)
    for name, records in made.items():
        write_gzip(out / f"{name}.jsonl.gz", records)
    write_gzip(out / "questions.jsonl.gz", choose(data))
    write_gzip(out / "paragraphs.jsonl.gz", paragraphs.gather(data))
    asked = f"## Questions and chats\n\n{note()}\n## Paragraphs with questions\n\n{paragraphs.note()}"
    (out / "SOURCE.md").write_text(f"{source_note(made)}\n{asked}", encoding="utf-8")
    return made


def source_note(made: dict[str, list[dict]]) -> str:
    """Credits and licences of every record."""
    lines = [
        "# Sample texts",
        "",
        "Small samples for the demo and the tests, made by `python -m addenda.tiny.samples`. Gzip JSON",
        "lines: `id`, `text`, `source`, `license`, and `title` or `book` where there is one.",
        "",
        "| file | documents | kB of text |",
        "| --- | --- | --- |",
    ]
    for name, records in sorted(made.items()):
        size = sum(len(r["text"].encode()) for r in records) / 1000
        lines.append(f"| {name}.jsonl.gz | {len(records)} | {size:.0f} |")
    lines += [
        "",
        "`general_train` is replay: encyclopedia, textbooks and novels that the embedded base was trained on, and contracts,",
        "statutes and dialogues that it was not. `general_valid` and the `pubmed` and `french` files are new to it. No train",
        "document shares a run of 13 words with a valid document.",
        "",
        "## Licences and credits",
        "",
        "- **pubmed**: articles on randomised trials from the PubMed Central open-access subset, by way of",
        "  `jayded/evidence-inference` (commit `b9831b6c59b52ac2d277f757d413ececf0949a8d`). Each article is",
        "  under its own licence, CC BY, CC0 or public domain, in `license`; credit it by its PMC number,",
        "  `id`: `https://www.ncbi.nlm.nih.gov/pmc/articles/<id>/`. Citation marks, competing interests,",
        "  funding and acknowledgements were cut; abstracts were rebuilt as one paragraph.",
        "- **wikipedia_en**: English Wikipedia of 2015, CC BY-SA 3.0, by way of `jason-feng/wikiVisual`",
        "  (commit `1c0fac92f29f17c1603bfffbe864e0dfdff66897`). Credit: Wikipedia contributors. Plain text,",
        "  headings and lists partly removed. The articles are listed below.",
        "- **openstax**: OpenStax, Rice University, CC BY 4.0. Access for free at openstax.org. Sections of",
        "  the books listed below, exercises, figures and tables removed; `id` has repository and module.",
        "- **novels_en**: excerpts of novels in the public domain in the United States, from",
        "  `computationalstylistics/100_english_novels` (commit `143e601875d70e195f2cc5ebd8b034609271194d`).",
        "- **law**: excerpts of commercial contracts from CUAD v1, CC BY 4.0, The Atticus Project, by way of",
        "  `maastrichtlawtech/law3027-advanced-legal-analytics` (commit `77c8f5a3cc2e6e5e3793b43f84a3bc097a414f9e`); sections",
        "  of the District of Columbia Code, public domain, from `DCCouncil/dc-law-xml` (commit",
        "  `f3b6cbebd5b743567547240f3a8ed49551effb7e`), annotations dropped.",
        "- **dialogue**: task dialogues, CC BY-SA 4.0, Google, from `google-research-datasets/dstc8-schema-guided-dialogue`",
        "  (commit `e852981ae34990f4358979625854259302feaa78`), annotations dropped.",
        "- **french**: excerpts of French novels in the public domain, 1840 to 1920, from `COST-ELTeC/ELTeC-fra`",
        "  (commit `83f0a43fdb967cd1db646027a1a237307e4924a1`).",
        "",
    ]
    records = [r for rows in made.values() for r in rows]
    articles = sorted({(r["title"], r["id"]) for r in records if r["source"] == "wikipedia_en"})
    lines.append("Wikipedia articles (title, `curid`):")
    lines.append("; ".join(f"{title} ({number})" for title, number in articles) + ".")
    lines.append("")
    books = sorted({r["book"] for r in records if r["source"] == "openstax"})
    lines.append("OpenStax books: " + "; ".join(books) + ".")
    lines.append("")
    novels = sorted({r["id"] for r in records if r["source"] == "novels_en"})
    lines.append("Novels: " + "; ".join(novels) + ".")
    lines.append("")
    lines.append("French novels: " + "; ".join(sorted({r["id"] for r in records if r["source"] == "french"})) + ".")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m addenda.tiny.samples", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "samples")
    parser.add_argument("--manifest", type=Path, default=base_path() / "documents.jsonl.gz", help="what the base saw")
    options = parser.parse_args(arguments)
    for name, records in make(options.data, options.out, options.manifest).items():
        sys.stdout.write(f"{name}: {len(records)} documents, {sum(len(r['text']) for r in records)} characters\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
