"""Generated pages: rewritten, or checked to be fresh, by the tool that makes them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(page: Path, make: Callable[[], str], purpose: str) -> int:
    """A tool's command line: write what `make` gives to `page`, or with --check fail where it says something else."""
    parser = argparse.ArgumentParser(description=purpose.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is stale")
    check = parser.parse_args().check
    wanted = make()
    if not check:
        page.parent.mkdir(exist_ok=True)
        page.write_text(wanted, encoding="utf-8")
        return 0
    if not page.exists() or page.read_text(encoding="utf-8") != wanted:
        print(f"stale: {page.relative_to(ROOT)}; run `make generated`", file=sys.stderr)
        return 1
    return 0
