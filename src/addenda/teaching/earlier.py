"""Earlier: the module that an update starts from, with the study beside it; both are read, and stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, DataError
from addenda.core.files import kept_json
from addenda.core.gate import GateMethod
from addenda.core.module import KnowledgeModule
from addenda.core.registry import asked_for, written
from addenda.core.standing import gate_told
from addenda.modulefile.storage import load_module
from addenda.teaching.replay import ANSWERED
from addenda.teaching.study import ASKED
from addenda.teaching.study_set import CHOSEN, WORK, StudySet, load_study, study_folder
from addenda.teaching.teach_settings import TeachSettings

if TYPE_CHECKING:
    from addenda.plug.base import Base


class Earlier:
    """A taught module with the study beside it, as they stand in their folders. Neither is changed."""

    def __init__(self, base: Base, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.module: KnowledgeModule = load_module(self.folder, base)
        beside = study_folder(self.folder)
        try:
            self.study: StudySet = load_study(beside)
        except DataError as error:
            raise DataError(
                f"{error}; a module is updated with the study that it was taught, {beside.name} beside its folder: put that "
                "back, or teach the new documents from the start, without update="
            ) from None
        self.gate = None if (told := gate_told(self.module.card.gate)) is None else written(told)
        taught, asked = beside / WORK / CHOSEN, beside / WORK / ASKED
        before = kept_json(taught)["asked"] if taught.exists() else {}
        self.held: int = before.get("held", TeachSettings.held)
        #: whether its kind was chosen by the size of its documents, as it is then again: it is not gone on from its weights
        self.chosen = self.module.kind.starts_from_text and before.get("kind", "") is None
        #: how its documents were cut: cut otherwise, all of them would be new
        self.cut: dict[str, int] = {"chunk_tokens": kept_json(asked)["chunk_tokens"]} if asked.exists() else {}

    def settings(self, chosen: TeachSettings, given: Mapping[str, Any]) -> TeachSettings:
        """The settings with the module's own kind and gate.

        Raises:
            AddendaError: others were asked for.
        """
        name, own = self.module.card.name, written(self.module.kind)
        if chosen.kind is not None and asked_for(Kind, chosen.kind) != self.module.kind:  # type: ignore[type-abstract]
            raise AddendaError(
                f"'{name}' is {own}, and its next version goes on from it: leave kind out, or teach the documents from the "
                "start, without update="
            )
        if "gate" in given:
            gate = None if chosen.gate is None else written(asked_for(GateMethod, chosen.gate))  # type: ignore[type-abstract]
            if gate != self.gate:
                raise AddendaError(
                    f"'{name}' stands behind the gate {self.gate}, and its next version does too: leave gate out, or teach the "
                    "documents from the start, without update="
                )
        return replace(chosen, kind=None if self.chosen else self.module.kind, gate=self.gate)

    def check_out(self, place: Path) -> None:
        """Refuse to write the next version over this one.

        Raises:
            AddendaError: it is the same folder.
        """
        if place.resolve() == self.folder.resolve():
            raise AddendaError(
                f"'{place}' is the module that is updated, and stays as it is: give the next version a folder of its own (out=)"
            )

    @property
    def answers(self) -> Path:
        """The base's own answers to general prompts, which it does not give twice."""
        return study_folder(self.folder) / WORK / ANSWERED


def earlier_of(
    base: Base, folder: str | Path | None, chosen: TeachSettings, asked: dict[str, Any], given: Mapping[str, Any],
    place: Path | None = None,
) -> tuple[TeachSettings, dict[str, Any], Earlier | None]:  # fmt: skip
    """The module to update, if there is one, and settings as it has them.

    Raises:
        AddendaError: it, or its study, cannot be read, is for another base, or other settings were asked for than its own.
    """
    if folder is None:
        return chosen, asked, None
    earlier = Earlier(base, folder)
    if place is not None:
        earlier.check_out(place)
    return earlier.settings(chosen, given), earlier.cut | asked, earlier
