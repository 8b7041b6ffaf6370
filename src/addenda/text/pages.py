"""Pages: texts as token ids that know their page and their line, for kinds that show a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from addenda.core.errors import DataError
from addenda.text.prompting import bare_ids, marks
from addenda.text.sentences import sentences


def laid_out(tokenizer: Any, pages: Sequence[str | Sequence[str]]) -> Tensor:
    """Token ids of pages [T, 3]: a token, its line and its page, both counted from zero through all of them.

    A page is a text, or its lines. A line of a text is a sentence, a heading or an entry of a list. Each page begins as a text
    of the tokenizer's does.

    Raises:
        DataError: no page has text.
    """
    rows: list[tuple[int, int, int]] = []
    line, page = -1, -1
    for told in pages:
        written = lines_of(told) if isinstance(told, str) else told
        parts = [ids for one in written if (ids := bare_ids(tokenizer, one))]
        if not parts:
            continue
        page += 1
        parts[0] = [*marks(tokenizer)[0], *parts[0]]
        for part in parts:
            line += 1
            rows += [(token, line, page) for token in part]
    if not rows:
        raise DataError("there is no text on any page")
    return torch.tensor(rows)


def lines_of(text: str) -> list[str]:
    """A text's lines, which put together are the text; the space before a line is its own."""
    starts, at = list[int](), 0
    for sentence in sentences(text):
        first = sentence.split(None, 1)[0]
        at = text.index(first, at)
        starts.append(at)
        at += len(first)
    if not starts:
        return [text] if text else []
    # white space stands before the word that it parts from the one before, as tokenizers have it
    edges = [0, *(len(text[:start].rstrip()) for start in starts[1:]), len(text)]
    return [text[a:b] for a, b in pairwise(edges) if b > a]
