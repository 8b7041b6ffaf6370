"""Remember a book: read it once, carry it in a memory, fold that into a plain checkpoint, throw it away.

python examples/remember_a_book.py --text moby-dick.txt --out runs/moby-dick
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import addenda
from addenda.text.texts import texts


def main() -> None:
    """Memorize, measure, merge, forget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    parser.add_argument("--text", default="french_valid", help="a text file, or a sample")
    parser.add_argument("--out", type=Path, default=Path("runs/example-book"))
    parser.add_argument("--quick", action="store_true", help="a page of it, in small chunks from a short window")
    given = parser.parse_args()
    text = Path(given.text) if Path(given.text).exists() else given.text
    sizes = {}
    if given.quick:
        sizes, text = {"window": 256, "chunk": 128}, next(iter(texts(text)))["text"][:4000]

    base = addenda.load_base(given.base)
    report = addenda.memorize(base, "book", text=text, out=given.out, **sizes)
    print(report)  # nats per token while it was read, with the memory and without
    print(f"taken off over the last quarter: {report.texts['book'].gain(0.75):.3f} nats per token")

    # it stayed silent on other text while it was written
    found = addenda.evaluate(base, {"general": "general_valid"}, "book", tokens=5_000)
    assert found.texts[0].difference is not None
    print(f"added to the loss of general text: {found.texts[0].difference.nats:+.3f} nats")

    # a plain checkpoint of the same architecture, with the proof that it says the same
    merged = addenda.merge(base, ["book"], out=given.out.with_name(f"{given.out.name}-merged"))
    print(merged.proof)

    base.unplug("book")  # and the base is, bit for bit, what it was


if __name__ == "__main__":
    try:
        main()
    except addenda.AddendaError as error:
        sys.exit(f"error: {error}")
