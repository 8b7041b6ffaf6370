"""The manifest of a merge: what went into a checkpoint, where its units are, and the proof; written beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from addenda.core.card import BaseRecord
from addenda.core.files import read_json, refuse

MANIFEST = "merge.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow")


class Merged(_Record):
    """One module that was folded in."""

    name: str
    kind: str
    weight: float
    form: Literal["units", "matrices"] = Field(description="beside the FFN's units, or added to the base's matrices")
    sha256: str | None = None
    licence: str | None = None


class Width(_Record):
    """Hidden units of each FFN before and after, and what the number is a multiple of."""

    before: int = Field(ge=0)
    after: int = Field(ge=0)
    multiple: int = Field(ge=1)
    config: int | None = Field(default=None, description="what the base's configuration said; None: nothing")


class Manifest(_Record):
    """Everything worth knowing of a merged checkpoint beside its weights."""

    format: Literal["addenda merge"] = "addenda merge"
    base: BaseRecord
    base_dtype: str
    dtype: str
    modules: list[Merged]
    units: dict[int, list[tuple[str, int, int]]] = Field(description="by layer: name, first unit, last + 1")
    width: Width
    proof: dict[str, Any] | None = Field(default=None, description="merged against plugged logits")
    approximation: dict[str, Any] | None = Field(
        default=None, description="gated modules: what their nearest fold loses"
    )
    gguf: dict[str, Any] | None = Field(default=None, description="what the numbers of a GGUF file cost")
    subtracted: list[Merged] = Field(default_factory=list[Merged], description="taken out again")
    files: list[str] = Field(default_factory=list[str])


def read_manifest(folder: str | Path) -> Manifest:  # noqa: RET503 - `refuse` raises
    """What stands beside the weights of a merge.

    Raises:
        FileError: the folder is no merge of ours, or what stands there is malformed; lists everything wrong.
    """
    problems: list[str] = []
    content = read_json(Path(folder), MANIFEST, problems)
    try:
        if content is not None:
            return Manifest.model_validate(content)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    refuse(f"'{folder}' is no checkpoint that addenda merged", problems)
