"""The errors a user can meet: what was asked, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class AddendaError(ValueError):
    """Base of every error that is the user's to mend; the command line prints it without a traceback."""


class UnsupportedError(AddendaError):
    """The base, its attention implementation or the kind cannot do what was asked; says which and why."""


class SelectionError(AddendaError):
    """A selection names what is not plugged, or has the wrong number of rows or a weight out of range."""


class FileError(AddendaError):
    """A module folder is missing, malformed, hostile or made for another base."""


class DataError(AddendaError):
    """A corpus cannot be read, is empty, or is shorter than one sequence."""


class TrainingError(AddendaError):
    """Training cannot start or go on: loss not finite, module not plugged, nothing to resume."""


def known(name: str, names: Iterable[str]) -> str:
    """One phrase for 'you said X, these exist', with the nearest spelling first."""
    have = sorted(names)
    plain = {choice.lower(): choice for choice in have}
    near = difflib.get_close_matches(name, have, n=1) or difflib.get_close_matches(name.lower(), plain, n=1)
    hint = f"; did you mean '{plain.get(near[0].lower(), near[0])}'?" if near else ""
    return f"{', '.join(have) if have else 'none'}{hint}"


def near(path: str | Path) -> Path | None:
    """The file or folder that is there and called nearly so, each part of the way for itself; None where there is none."""
    at = Path()
    try:
        for part in Path(path).expanduser().parts:
            if (at / part).exists():
                at = at / part
                continue
            names = {entry.name.lower(): entry for entry in at.iterdir()} if at.is_dir() else {}
            close = difflib.get_close_matches(part.lower(), names, n=1)
            if not close:
                return None
            at = names[close[0]]
    except (OSError, ValueError):  # no right to look, or what can be no path
        return None
    return at


def meant(path: str | Path) -> str:
    """The end of a sentence on a file that is not there: what was probably meant; nothing where no name is near."""
    guess = near(path)
    return "" if guess is None else f"; did you mean '{guess}'?"
