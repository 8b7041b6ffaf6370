"""Reports: one self-contained page of tables, figures and readings, for light and dark screens, wide and narrow."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from addenda.measuring.looking.activity import Activity


_HERE = Path(__file__).parent


class Report:
    """A page put together from top to bottom. It holds everything it shows: no address is ever asked for anything.

    Whatever text a method is given is escaped.
    """

    def __init__(self, title: str, lead: str) -> None:
        self.title = title
        self.parts: list[str] = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead)}</p>']

    def heading(self, text: str) -> None:
        """A section begins."""
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, *paragraphs: str) -> None:
        """Paragraphs."""
        self.parts += [f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs]

    def note(self, text: str) -> None:
        """Small print."""
        self.parts.append(f'<p class="note">{escape(text)}</p>')

    def bullets(self, items: Iterable[str]) -> None:
        """A list."""
        self.parts.append("<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>")

    def keys(self, numbers: Iterable[tuple[str, str]]) -> None:
        """The few numbers that matter most, each with what it says."""
        cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in numbers)
        self.parts.append(f'<div class="keys">{cells}</div>')

    def checks(self, checked: Iterable[tuple[bool, str]]) -> None:
        """What was checked, and whether it held."""
        lines = (f"<li{'' if held else ' class=bad'}>{escape(what)}</li>" for held, what in checked)
        self.parts.append(f'<ul class="checks">{"".join(lines)}</ul>')

    def facts(self, pairs: Mapping[str, str]) -> None:
        """Names and values."""
        lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in pairs.items())
        self.parts.append(f'<div class="wide"><table class="facts">{lines}</table></div>')

    def table(
        self, head: Sequence[str], rows: Iterable[Sequence[tuple[str, str] | str]], roles: Sequence[str] = ()
    ) -> None:
        """A table. A cell is a text, or a text with small print below it; `roles` colour the rows' first cells."""
        lines = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"]
        for number, row in enumerate(rows):
            cells = [_cell(cell) for cell in row]
            if number < len(roles):
                cells[0] = f'<span class="dot" style="--c: var(--{escape(roles[number])})"></span>{cells[0]}'
            lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        self.parts.append(f'<div class="wide"><table>{"".join(lines)}</table></div>')

    def plots(self, wide: Figure, narrow: Figure, title: str, caption: str) -> None:
        """A figure drawn twice, for wide screens and for narrow ones."""
        from addenda.measuring.drawing.plots import to_svg

        number = len(self.parts)
        pictures = [
            f'<div class="{sort}">{to_svg(figure, f"{sort}{number}", escape(title))}</div>'
            for sort, figure in (("roomy", wide), ("narrow", narrow))
        ]
        self.parts.append(f"<figure>{''.join(pictures)}<figcaption>{escape(caption)}</figcaption></figure>")

    def samples(
        self,
        sort: str,
        prompt: str,
        texts: Mapping[str, str],
        roles: Mapping[str, str],
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """A prompt and what each model wrote after it; `notes` stand beside the models' names."""
        notes = notes or {}
        cells = "".join(
            f'<div style="--c: var(--{escape(roles.get(by, "line"))})"><h4>{escape(by)}'
            + (f" <small>{escape(notes[by])}</small>" if by in notes else "")
            + f"</h4><p>{escape(text.strip()) or '(nothing)'}</p></div>"
            for by, text in texts.items()
        )
        self.parts.append(
            f'<p class="prompt"><small>{escape(sort)}</small>{escape(prompt)} …</p><div class="samples">{cells}</div>'
        )

    def activity(self, seen: Activity, bands: Sequence[tuple[str, int]] = ()) -> None:
        """Where a gate fires: the text token by token, then layer by layer; `bands` are (name, tokens) of its parts."""
        from addenda.measuring.drawing.heat import gate_picture

        self.parts.append(gate_picture(seen, bands))

    def html(self, footer: str = "") -> str:
        """The whole page."""
        style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
            + "\n".join(self.parts)
            + (f"\n<footer>{escape(footer)}</footer>" if footer else "")
            + f"\n<script>{script}</script>\n</body>\n</html>\n"
        )

    def write(self, path: Path, footer: str = "") -> Path:
        """Write the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.html(footer), encoding="utf-8", newline="\n")
        return path


def escape(text: str) -> str:
    """Text as it may stand in the page."""
    return html.escape(text, quote=True)


def _cell(cell: tuple[str, str] | str) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return f"{escape(cell[0])}<small>{escape(cell[1])}</small>"
