"""Markdown: its headings and passages, without the marks of emphasis and links."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from addenda.text.blocks import Block, one_line, table, tidy

_FRONT = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_COMMENT, _TAG = re.compile(r"<!--.*?-->", re.DOTALL), re.compile(r"</?[a-zA-Z][^<>]*>")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


def read(text: str) -> Iterator[Block]:
    """The blocks of a text in Markdown (CommonMark with tables); data before the text, between lines of ---, is left out."""
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    parser = MarkdownIt("commonmark").enable("table")
    yield from _blocks(SyntaxTreeNode(parser.parse(_FRONT.sub("", text))))


def _blocks(parent: Any) -> Iterator[Block]:
    for node in parent.children:
        if node.type == "heading":
            block = Block(one_line(_inline(node)), int(node.tag[1]))
        elif node.type == "blockquote":
            yield from _blocks(node)
            continue
        elif node.type in ("fence", "code_block"):
            block = Block(node.content.rstrip("\n"))
        else:
            block = Block("\n".join(_lines(node, "")))
        if block.text.strip():
            yield block


def _lines(node: Any, indent: str) -> Iterator[str]:
    """The lines of a passage; those of lists in lists are indented."""
    if node.type == "paragraph":
        yield from (indent + line for line in tidy(_inline(node)).split("\n") if line)
    elif node.type in ("bullet_list", "ordered_list"):
        number = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
        for at, item in enumerate(node.children):
            mark = "- " if number is None else f"{number + at}. "
            lines = [line for child in item.children for line in _lines(child, "")]
            yield from (indent + ("  " if place else mark) + line for place, line in enumerate(lines))
    elif node.type == "table":
        rows = [[_inline(cell) for cell in row.children] for part in node.children for row in part.children]
        yield from (indent + line for line in table(rows).split("\n"))
    elif node.type in ("fence", "code_block"):
        yield from (indent + line for line in node.content.rstrip("\n").split("\n"))
    elif node.type == "html_block":
        yield from (indent + line for line in tidy(_without_tags(node.content)).split("\n") if line)
    else:  # a heading or a quotation in a list
        for child in node.children:
            yield from (indent + line for line in tidy(_inline(child)).split("\n") if line)


def _inline(node: Any) -> str:
    """The words of a node, without the marks around them."""
    if node.type in ("text", "code_inline"):
        return node.content
    if node.type == "softbreak":
        return " "
    if node.type == "hardbreak":
        return "\n"
    if node.type == "html_inline":
        return "\n" if _BREAK.fullmatch(node.content) else ""
    return "".join(map(_inline, node.children))


def _without_tags(text: str) -> str:
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", _COMMENT.sub("", text))))
