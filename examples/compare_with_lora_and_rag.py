"""Compare: the same text given to a base in several ways at one budget, as a page to look at.

python examples/compare_with_lora_and_rag.py --corpus manual.txt --held-out questions.jsonl --out runs/manual
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import addenda


def main() -> None:
    """Compare, then say where the page is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    parser.add_argument("--corpus", default="pubmed_train", help="what is to be learned")
    parser.add_argument("--held-out", default="pubmed_valid", help="text of the same kind that is not in it")
    parser.add_argument("--methods", default="neutral,lora,rag,context")
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--out", default="runs/example-compare")
    parser.add_argument("--quick", action="store_true", help="a few steps only, and one rate")
    given = parser.parse_args()
    sizes: dict[str, Any] = {"tokens": given.tokens, "seeds": (0,)}
    if given.quick:
        sizes |= {"tokens": 4_096, "rates": 1, "held_tokens": 1_000, "pairs": 1}

    found = addenda.compare(
        given.base, corpus=given.corpus, learning=given.held_out, replay="general_train", forgetting="general_valid",
        methods=given.methods.split(","), out=given.out, tell=print, **sizes,
    )  # fmt: skip
    for row in found.rows:
        changed = f"learned {row.learned.value:+.3f}, forgot {row.forgotten.value:+.3f} nats"
        print(f"{row.method}: {changed}, {row.extra_tokens} tokens read ahead")
    for one in found.failed:
        print(one)
    print(f"look at {found.page}")


if __name__ == "__main__":
    try:
        main()
    except addenda.AddendaError as error:
        sys.exit(f"error: {error}")
