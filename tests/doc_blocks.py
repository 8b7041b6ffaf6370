"""Blocks of code in the pages: where they stand, and the commands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from architecture import ROOT

_BLOCK = re.compile(r"^```(bash|sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Piece:
    """What is run at a time: a command of a shell block, or a whole Python block; `page` is relative to the checkout."""

    page: str
    language: str
    code: str

    @property
    def name(self) -> str:
        """The first line that says something."""
        lines = [line.strip() for line in self.code.splitlines()]
        return next((line for line in lines if line and not line.startswith(("#", "import ", "from "))), lines[0])


def pages() -> list[str]:
    """Pages for users, those that hold code or may."""
    docs = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ["README.md", *docs, "examples/README.md"]


def pieces(page: str, text: str | None = None) -> list[Piece]:
    """What a page has to run, in order; of a text in place of the page's own."""
    text = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    return [
        Piece(page, language, code)
        for language, block in _BLOCK.findall(text)
        for code in ([block] if language == "python" else _commands(block))
    ]


def _commands(block: str) -> list[str]:
    """The commands of a shell block: lines, joined where they end in a backslash; a block with a loop is one.

    Comments are left out.
    """
    if re.search(r"^done\b", block, re.MULTILINE):
        return [block]
    joined = re.sub(r"\\\n\s*", "", block)
    bare = (re.sub(r"\s+# .*$", "", line).strip() for line in joined.splitlines())
    return [line for line in bare if line and not line.startswith("#")]
