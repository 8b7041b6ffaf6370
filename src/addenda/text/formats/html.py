"""HTML: the headings and passages of a page, without scripts, styles and what leads around the site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from addenda.text.blocks import Block, needs, one_line, table, tidy

#: what is no part of a document's words
_LEFT_OUT = "script style template noscript svg nav form button select input iframe object canvas audio video head dialog".split()
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INLINE = frozenset(
    """a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark output q rp rt ruby s samp small span
    strike strong sub sup time tt u var wbr img""".split()
)


def read(data: bytes) -> Iterator[Block]:
    """The blocks of a page; its title is a heading where it has no other of the first level.

    Raises:
        DataError: the package that reads HTML is not installed.
    """
    try:
        from bs4 import BeautifulSoup, FeatureNotFound
    except ModuleNotFoundError:
        raise needs("beautifulsoup4", "HTML") from None
    try:
        soup = BeautifulSoup(data, "lxml")  # it closes what authors leave open
    except FeatureNotFound:
        raise needs("lxml", "HTML") from None
    title = one_line(soup.title.get_text()) if soup.title else ""
    for tag in soup.find_all(_LEFT_OUT):
        tag.decompose()
    root: Any = soup.find("main") or soup.find("article") or soup.body or soup
    if title and not root.find("h1"):
        yield Block(title, 1)
    yield from _blocks(root)


def _blocks(parent: Any) -> Iterator[Block]:
    """The blocks in a tag; loose words between its blocks are paragraphs."""
    loose: list[str] = []
    for child in parent.children:
        name = getattr(child, "name", None)
        if name is None or name in _INLINE or name == "br":
            loose.append(_words(child))
            continue
        yield from _passage("".join(loose))
        loose = []
        yield from _block(child, name)
    yield from _passage("".join(loose))


def _block(tag: Any, name: str) -> Iterator[Block]:
    if name in _HEADINGS:
        text = one_line(_words(tag))
        if text:
            yield Block(text, _HEADINGS[name])
    elif name in ("ul", "ol"):
        yield from _passage("\n".join(_items(tag, "")), tidied=True)
    elif name == "table":
        yield from _table(tag)
    elif name == "pre":
        yield from _passage(tag.get_text().strip("\n"), tidied=True)
    elif name == "dl":
        yield from _passage("\n".join(_terms(tag)), tidied=True)
    else:
        yield from _blocks(tag)


def _table(tag: Any) -> Iterator[Block]:
    """A table of words; one that holds blocks was made for the layout of a page, and is read as these."""
    if tag.find(["table", *_HEADINGS, "ul", "ol"]):
        for cell in tag.find_all(["td", "th"]):
            if cell.find_parent("table") is tag:
                yield from _blocks(cell)
        return
    if tag.caption:
        yield from _passage(_words(tag.caption))
    rows = [[_words(cell) for cell in row.find_all(["td", "th"])] for row in tag.find_all("tr")]
    yield from _passage(table(rows), tidied=True)


def _items(tag: Any, indent: str) -> Iterator[str]:
    """The items of a list as lines."""
    number = int(tag.get("start", 1)) if str(tag.get("start", 1)).isdigit() else 1
    for at, item in enumerate(tag.find_all("li", recursive=False)):
        mark = f"{number + at}. " if tag.name == "ol" else "- "
        own = [child for child in item.children if getattr(child, "name", None) not in ("ul", "ol")]
        yield (
            indent + mark + one_line(" ".join(_words(child) if child.name is None else _spaced(child) for child in own))
        )
        for inner in item.find_all(["ul", "ol"], recursive=False):
            yield from _items(inner, indent + "  ")


def _spaced(tag: Any) -> str:
    """The words of a tag in a list's item: of a block, apart from what stands beside it."""
    return _words(tag) if tag.name in _INLINE else f" {_words(tag)} "


def _terms(tag: Any) -> Iterator[str]:
    """A list of terms as lines `term: what it is`."""
    term = ""
    for part in tag.find_all(["dt", "dd"]):
        words = one_line(_words(part))
        if part.name == "dt":
            term = words
        elif words:
            yield f"- {term}: {words}" if term else f"- {words}"


def _words(node: Any) -> str:
    """The words of a node: line ends of the source are spaces, breaks are line ends."""
    name = getattr(node, "name", None)
    if name is None:
        plain = type(node).__name__ in ("NavigableString", "CData")  # comments and declarations are strings too
        return " ".join(node.split("\n")) if plain else ""
    if name == "br":
        return "\n"
    return "".join(map(_words, node.children))


def _passage(text: str, tidied: bool = False) -> Iterator[Block]:
    words = text if tidied else tidy(text)
    if words.strip():
        yield Block(words)
