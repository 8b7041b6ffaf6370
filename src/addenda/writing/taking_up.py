"""Taking up a run that was there before: interrupted, to go on or to be finished as it is; or finished, to be told again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from addenda.core.errors import TrainingError
from addenda.modulefile.storage import load_module
from addenda.writing import checkpoint

if TYPE_CHECKING:
    from addenda.plug.base import Base


class Resumable(Protocol):
    """A run of `train` or `memorize`."""

    base: Base
    folder: Path | None
    resumed_from: int | None

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one."""
        ...

    def take_up_finished(self, state: dict[str, Any]) -> None:
        """Take up what a finished run left beside its log."""
        ...


def take_up(run: Resumable, places: Mapping[str, Path], *, finish: bool) -> bool:
    """Take up the run in a run's folder; whether it was finished, so that nothing is left to do.

    Args:
        run: as it stands before its first step.
        places: the folders of its modules by name.
        finish: the run is to be finished as it is, for which there must be a checkpoint.

    Raises:
        TrainingError: other settings; nothing to finish; a finished run whose module is gone.
    """
    assert run.folder is not None
    state = None if checkpoint.folders(run.folder) else checkpoint.finished(run.folder)
    if state is not None:
        run.take_up_finished(state)
        for name, place in places.items():
            if not (place / "card.json").exists():
                raise TrainingError(
                    f"{run.folder} is of a finished run, whose module is gone from {place}: train it anew"
                )
            _read(run.base, name, place)
        return True
    run.resume()
    if finish and run.resumed_from is None:
        raise TrainingError(f"there is no checkpoint in {run.folder} to finish from")
    return False


def _read(base: Base, name: str, place: Path) -> None:
    """Give a module what stands in its folder."""
    module, kept = base.modules[name], load_module(place, base, name=name)
    module.load_tensors(kept.tensors())
    module.card, module.probe, module.side = kept.card, kept.probe, kept.side
    module.awaits_text = False
