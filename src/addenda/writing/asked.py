"""What a run is asked for, checked: folders, texts by module, rates, seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from addenda.core.errors import DataError, TrainingError
from addenda.core.files import shown
from addenda.core.module import KnowledgeModule
from addenda.text.texts import Texts, texts


def folder_of(out: Any) -> Path | None:
    """The folder that `out` names.

    Raises:
        TrainingError: it is no path, or none that a file system takes.
    """
    if out is None:
        return None
    try:
        path = Path(out).expanduser()
        for place in (path, path.with_name(f"{path.name}.run")):
            place.exists()  # a name that no file can have is found here, not after the training
        if "\0" in str(path):
            raise ValueError("it holds a zero byte")
    except TypeError:
        raise TrainingError(f"out is the path of the module's folder, or None to write nothing; got {out!r}") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(f"out can be no folder ({reason}): {shown(str(out))}") from None
    return path


def texts_by_name(
    names: tuple[str, ...], given: Any, wanted: str, opened: Callable[[Any], Texts] = texts
) -> dict[str, Texts]:
    """The text of each of some modules: of one, itself; of several, a mapping of names.

    Raises:
        DataError: several modules have not a text each; `wanted` is the beginning of the sentence.
    """
    by_name = isinstance(given, Mapping) and set(given) == set(names)
    if not by_name and len(names) > 1:
        raise DataError(f"{wanted}={{{', '.join(f'{n!r}: ...' for n in names)}}}")
    return {name: opened(given[name] if by_name else given) for name in names}


def check_differ(name: str, text: Texts, other: str, others: Texts | None, wanted: str) -> None:
    """Refuse two texts that are one.

    Raises:
        DataError: they are; says what the second is for.
    """
    if others is None:
        return
    known_as = text.fingerprint()
    if text.reads(others) or (known_as is not None and known_as == others.fingerprint()):
        raise DataError(f"{name} and {other} are the same text ('{text.name}'): {other} {wanted}")


def check_learns(module: KnowledgeModule, part: nn.Module | None = None) -> None:
    """Refuse a module of which, or of a part of which, nothing learns.

    Raises:
        TrainingError: it is frozen; says how to thaw it.
    """
    if not any(p.requires_grad for p in (part or module).parameters()):
        raise TrainingError(
            f"module '{module.name}' is frozen: none of its parameters wants a gradient; "
            f"base.modules['{module.name}'].requires_grad_(True) thaws it"
        )


def check_seed(seed: Any) -> None:
    """Refuse a seed that is none.

    Raises:
        TrainingError: it is no whole number, or out of range.
    """
    if not whole(seed) or not 0 <= seed < 2**63:
        raise TrainingError(f"seed is a whole number from 0 to 2**63 - 1; got {seed!r}")


def rates_of(kinds: Mapping[str, Any], lr: Any) -> dict[str, float]:
    """The learning rate of each module; default: its kind's own.

    Raises:
        TrainingError: one is no positive number, or there is not one for each module.
    """
    if lr is None:
        return {name: kind.default_lr for name, kind in kinds.items()}
    if isinstance(lr, Mapping) and set(lr) != set(kinds):
        raise TrainingError(
            f"lr as a mapping has one rate for each module that is trained ({', '.join(kinds)}); "
            f"got rates for {', '.join(map(str, lr)) or 'none'}"
        )
    rates: dict[str, Any] = dict(lr) if isinstance(lr, Mapping) else dict.fromkeys(kinds, lr)
    for rate in rates.values():
        if not number(rate) or not 0 < rate <= sys.float_info.max:
            raise TrainingError(
                f"lr is a positive number{', or one for each name' if len(kinds) > 1 else ''}; got {lr!r}"
            )
    return {name: float(rate) for name, rate in rates.items()}


def whole(value: Any) -> bool:
    """Whether something is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def number(value: Any) -> bool:
    """Whether something is a real number."""
    return isinstance(value, Real) and not isinstance(value, bool)
