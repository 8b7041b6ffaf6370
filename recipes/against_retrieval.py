"""Against retrieval: modules, passages found by BM25 and a long context, on held-out articles and on questions about people.

    python -m recipes.against_retrieval

Two measures, for retrieval serves two purposes. Held-out medical articles, of which each window is predicted after what stands
before it: passages of the corpus are found by that (`addenda.compare`). And facts of people who do not exist, asked without
their text, with passages of it, and with the text that states them (the settings of `evaluate --snapshot`), by the bare base:
what it can read at best.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import addenda
from addenda.comparing.compare import Comparison
from addenda.measuring.asking.three_settings import three_settings
from addenda.telling.intervals import Interval
from addenda.text.texts import texts
from recipes.common import data_folder, documents, hash_of, load, precision
from recipes.records import device, write_record
from recipes.studies.subjects import facts_of
from recipes.tables import joined, table, with_interval, write_tables

METHODS = ("neutral", "lora", "rag", "context")
#: characters of a held-out article: longer than a window several times over, so that there is something to search by
PIECE = 6000
PEOPLE, QUESTIONS = 25, 60
#: what stands in the window of a question, by the name of the setting
WINDOW = {
    "closed": "nothing but the question",
    "online": "passages found by the question",
    "oracle": "the text that states the fact",
}


def articles(split: str) -> list[str]:
    """Full texts of medical articles."""
    return documents(data_folder() / "pubmed" / f"fulltext_{split}.jsonl.gz")


def compared(tokens: int, seeds: int, out: Path) -> Comparison:
    """Every method on the articles."""
    held = texts(
        [text[:PIECE] for text in sorted(articles("valid"), key=hash_of)], name="beginnings of held-out articles"
    )
    return addenda.compare(
        "tiny", corpus=articles("train"), learning=held, replay="general_train", forgetting="general_valid", methods=METHODS,
        tokens=tokens, seeds=tuple(range(seeds)), held_tokens=30_000, precision=precision(), out=out, tell=print,
    )  # fmt: skip


def asked() -> dict[str, Interval]:
    """Questions about people, answered by the bare base with passages in the window."""
    return three_settings(load("tiny"), facts_of(f"people-{PEOPLE}"), questions=QUESTIONS).shares


def page(comparison: Comparison, shares: dict[str, Interval], told: str) -> str:
    """The two tables as Markdown."""
    rows = (
        (
            row.method, _told(row.learned), _told(row.forgotten), f"{row.parameters:,}" if row.parameters else "-",
            row.extra_tokens or "-", _told(row.prefill, 2), _told(row.decode, 2),
        )
        for row in comparison.rows[1:]
    )  # fmt: skip
    heads = "method | learned, nats | forgotten, nats | parameters | tokens read ahead | prefill | decode"
    windows = table(
        "in the window | true answer chosen of ten", ((window, _told(shares[name])) for name, window in WINDOW.items())
    )
    said = f"{QUESTIONS} questions; guessing gets 0.100. Intervals over people. {told}"
    articles = ["### Held-out medical articles", "", *table(heads, rows), "", _run(comparison), *comparison.remarks]
    return joined([articles, [f"### Facts of {PEOPLE} people, asked of the bare base", "", *windows, "", said]])


def _run(comparison: Comparison) -> str:
    said = f"{comparison.facts['tokens']}; learning is measured on {comparison.facts['learning measured on']}"
    return f"{said}. Intervals over documents; those of times, over the bare base's, over timed pairs."


def _told(interval: Interval, places: int = 3) -> str:
    return with_interval((interval.value, interval.low, interval.high), places)


def main() -> None:
    """Compare, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000, help="for each module")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/against_retrieval"), help="records and modules of the comparison"
    )
    parser.add_argument("--docs", type=Path, default=Path("docs/results"), help="table, picture and record")
    given = parser.parse_args()
    comparison, shares, told = compared(given.tokens, given.seeds, given.out), asked(), f"Computed on: {device()}."
    given.docs.mkdir(parents=True, exist_ok=True)
    write_record(
        given.docs / "retrieval.json",
        {
            "comparison": comparison.as_dict(),
            "shares": {name: interval.as_dict() for name, interval in shares.items()},
            "told": told,
        },
    )
    text = page(comparison, shares, told)
    write_tables(given.docs / "retrieval.md", text)
    for ending in ("svg", "png"):
        shutil.copyfile(given.out / f"cost.{ending}", given.docs / f"retrieval.{ending}")
    print(text)


if __name__ == "__main__":
    main()
