"""The errors a user can meet: what was asked, what was found, what to do."""

from __future__ import annotations

from collections.abc import Iterable


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
    import difflib

    have = sorted(names)
    plain = {one.lower(): one for one in have}
    near = difflib.get_close_matches(name, have, n=1) or difflib.get_close_matches(name.lower(), plain, n=1)
    hint = f"; did you mean '{plain.get(near[0].lower(), near[0])}'?" if near else ""
    return f"{', '.join(have) if have else 'none'}{hint}"
