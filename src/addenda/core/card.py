"""The card: the typed, versioned description that travels with a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_serializer

SCHEMA = 1
#: fields in which a record of text may state its licence
LICENCE = ("license", "licence")
#: units (documents, people, questions) below which an interval over them says nothing
ENOUGH = 5
#: licences of a text named in a card; of more the rest is counted
LICENCES = 5


class _Record(BaseModel):
    # a card written by a newer minor version may hold fields that this one does not know: keep them
    # JSON has no NaN: a number that is not finite is written as a string and read back as the number
    model_config = ConfigDict(extra="allow", validate_assignment=True, ser_json_inf_nan="strings")


class BaseRecord(_Record):
    """The base a module was made for."""

    name: str = Field(description="how the base was called when the module was made")
    model_type: str = Field(description="transformers' name of the architecture")
    fingerprint: str = Field(description="sha256 over architecture fields and parameters rounded to bfloat16")
    parameters: int = Field(ge=0, description="number of parameters of the base")
    architecture: dict[str, Any] | None = Field(
        default=None, description="the architecture fields of the fingerprint, so that a wrong base can be told apart"
    )
    body: str | None = Field(default=None, description="sha256 over all parameters but the embedding and the head")

    @model_serializer(mode="wrap")
    def _without_blanks(self, write: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        """Cards of the first version do not have the last two: written again they are the same bytes."""
        blank = {name for name in ("architecture", "body") if getattr(self, name) is None}
        return {name: value for name, value in write(self).items() if name not in blank}


class DataRecord(_Record):
    """One text source of a training run."""

    name: str = Field(description="file name, data set name or 'texts'; never a private path")
    role: Literal[
        "corpus", "replay", "earlier", "alongside", "start", "validation", "calibration", "forget", "retain"
    ] = "corpus"
    sha256: str | None = Field(default=None, description="hash of the file's bytes, or of the texts in order")
    documents: int | None = None
    licence: str | None = Field(default=None, description="what its records state, joined by '; '")
    read: int | None = Field(default=None, description="documents that were read of, where those were not all")
    files: list[str] | None = Field(default=None, description="hashes of the files of a folder, in their order")

    @model_serializer(mode="wrap")
    def _without_blanks(self, write: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        """Cards of the first version do not have the last two: written again they are the same bytes."""
        blank = {name for name in ("read", "files") if getattr(self, name) is None}
        return {name: value for name, value in write(self).items() if name not in blank}


class TrainingRecord(_Record):
    """One run of `train` or `memorize`."""

    objective: str = "lm"
    tokens: int = Field(default=0, ge=0, description="tokens seen, both streams")
    steps: int = Field(default=0, ge=0)
    seed: int = 0
    lr: float | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    data: list[DataRecord] = Field(default_factory=list[DataRecord])


class Measure(_Record):
    """One measured number, with what is needed to measure it again."""

    name: str = Field(description="what was measured, e.g. 'learning' or 'forgetting'")
    value: float
    unit: str = "nats per token"
    low: float | None = Field(default=None, description="lower end of the 95% interval")
    high: float | None = None
    n: int | None = Field(default=None, description="number of documents or tokens behind it")
    on: str | None = Field(default=None, description="the text it was measured on")
    reference: float | None = Field(default=None, description="the same of the bare base")

    @classmethod
    def over(cls, n: int, name: str, value: float, low: float, high: float, **more: Any) -> Self:
        """A mean over `n` units with its interval, which few units do not have."""
        interval = {"low": low, "high": high} if n >= ENOUGH else {}
        return cls(name=name, value=value, n=n, **interval, **more)


class CombinedModule(_Record):
    """One of the modules that a module was made from."""

    name: str
    weight: float
    sha256: str = Field(description="hash of the module.safetensors that it would be saved as")
    measures: list[Measure] = Field(
        default_factory=list[Measure], description="what it gave alone, where that was measured"
    )


class CombinedRecord(_Record):
    """How a module was made from others; what they were trained on stands in `training`."""

    method: dict[str, Any] = Field(description="name and options of the combiner")
    modules: list[CombinedModule]
    start: str | None = Field(default=None, description="the module that all of them were trained on from")
    start_sha256: str | None = Field(default=None, description="its hash, as those of the modules")
    lost: float = Field(default=0.0, ge=0, description="share of squares that the module's size left no room for")
    gate: list[DataRecord] = Field(
        default_factory=list[DataRecord], description="what its gate was fitted to anew: the subject's text, and other"
    )


class Card(_Record):
    """Everything worth knowing of a module without opening its tensors."""

    schema_version: int = Field(default=SCHEMA, ge=1)
    name: str
    kind: str = Field(description="class name of the kind")
    config: dict[str, Any] = Field(default_factory=dict, description="options of the kind")
    gate: dict[str, Any] | None = Field(
        default=None,
        description="name and options of the gate the whole module stands behind, where not the kind's options say",
    )
    base: BaseRecord
    licence: str | None = None
    description: str = ""
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    parameters: int = Field(default=0, ge=0)
    training: list[TrainingRecord] = Field(default_factory=list[TrainingRecord])
    measures: list[Measure] = Field(default_factory=list[Measure])
    compressed: list[dict[str, Any]] | None = Field(
        default=None,
        description="name and options of what it was compressed with, the first first; measures are of the result",
    )
    probe: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, max_length=4096, description="token ids on which a written module changes the logits"
    )
    awaits_text: bool = Field(default=False, description="still to be started from text by the first train call")
    versions: dict[str, str] = Field(default_factory=dict, description="library versions at saving")
    sha256: str | None = Field(default=None, description="hash of module.safetensors, filled at saving")
    side_sha256: str | None = Field(default=None, description="hash of side.safetensors, where there is one")
    memory_sha256: str | None = Field(default=None, description="hash of memory.json, of a text memory")
    combined: CombinedRecord | None = Field(default=None, description="what it was made from, where `combine` made it")

    @property
    def gate_name(self) -> str | None:
        """What the gate is called that the card tells of, the module's or one among its kind's options; None: none."""
        told = self.config.get("gate") if self.gate is None else self.gate.get("name")
        return told if isinstance(told, str) else None

    @model_serializer(mode="wrap")
    def _without_blanks(self, write: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        """Cards of the first version have no gate, side tensors, parents, compression: written again they are the same bytes."""
        later = ("gate", "side_sha256", "memory_sha256", "combined", "compressed")
        blank = {name for name in later if getattr(self, name) is None}
        return {name: value for name, value in write(self).items() if name not in blank}


def stated_licence(record: Any) -> str | None:
    """The licence that a record of text states in a field of its own."""
    if not isinstance(record, Mapping):
        return None
    fields = cast("Mapping[Any, Any]", record)
    stated = [fields[name] for name in LICENCE if name in fields]
    words = [" ".join(licence.split())[:100] for licence in stated if isinstance(licence, str) and licence.strip()]
    return words[0] if words else None


def joined_licences(licences: set[str | None]) -> str | None:
    """Licences as one line, in the order of the alphabet; None where no record states one."""
    named = sorted(licence for licence in licences if licence is not None)
    if not named:
        return None
    more = [f"{len(named) - LICENCES} more"] if len(named) > LICENCES else []
    return "; ".join([*named[:LICENCES], *more, *(["some not stated"] if None in licences else [])])
