"""Merge: fold modules into a plain checkpoint of the base's own architecture, with the proof that it computes the same."""

# budget: the docstring of `merge` is the reference of the whole call
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from addenda.bases.folding import Folding
from addenda.bases.gguf_file import plain_config
from addenda.combining import approximate as nearest
from addenda.combining.approximate import Approximation
from addenda.combining.checkpoint_files import check_out, check_saving, write_checkpoint
from addenda.combining.gguf.write import Written, convert
from addenda.combining.gguf.write import check as check_gguf
from addenda.combining.manifest import Manifest, Merged, Width
from addenda.combining.proof import Proof, Rows, probe_rows, prove
from addenda.core.errors import AddendaError, UnsupportedError, known
from addenda.core.module import KnowledgeModule, plugged
from addenda.core.units import Units
from addenda.plug.scoring import pace_of
from addenda.plug.selection import weights_of
from addenda.telling.progress import about, megabytes, shown

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: bytes a second that a disk is taken to write, and to read back
DISK = 2e8
FORMATS = ("checkpoint", "gguf")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


#: what is said to whoever merges a module with a gate
DROP = (
    "--drop-gate SUBJECT_TEXT --drop-gate GENERAL_TEXT (drop_gate=[...]) folds it as if the gate were always open, so that it "
    "acts on all text"
)
APPROXIMATE = (
    "--approximate SUBJECT_TEXT --approximate GENERAL_TEXT (approximate=[...]) fits its values anew to come nearest to what it "
    "adds with its gate"
)


@dataclass(frozen=True)
class MergeReport:
    """What was merged. `width` is the FFN's number of hidden units before and after, `proof` stands beside the weights.

    Where gated modules were folded as nearly as could be there is no proof, and `approximation` says what it loses.
    """

    names: tuple[str, ...]
    weights: dict[str, float]
    out: Path
    bytes: int
    files: tuple[str, ...]
    width: tuple[int, int]
    dtype: str
    proof: Proof | None
    gguf: Written | None = None
    approximation: Approximation | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = {k: getattr(self, k) for k in ("weights", "bytes", "dtype")}
        plain |= {"names": list(self.names), "out": str(self.out), "files": list(self.files), "width": list(self.width)}
        for key in ("proof", "gguf", "approximation"):
            part = getattr(self, key)
            plain |= {} if part is None else {key: part.as_dict()}
        return plain

    def __str__(self) -> str:
        before, after = self.width
        wider = f"; FFN {before:,} -> {after:,} units" if before != after else ""
        numbers = (
            self.dtype if self.gguf is None else self.gguf.type
        )  # of what was written, not of what it was made from
        lines = [f"{' + '.join(self.names)} merged into {self.out} ({self.bytes / 2**20:,.1f} MiB, {numbers}{wider})"]
        for part in (self.proof, self.approximation, self.gguf):
            lines += [f"  {line}" for line in str(part).splitlines()] if part is not None else []
        return "\n".join(lines)


def merge(
    base: Base,
    names: str | Iterable[str] | Mapping[str, float],
    *,
    out: str | Path,
    dtype: torch.dtype | str | None = None,
    multiple: int = 64,
    probe: Any = "general_valid",
    shard_bytes: int = 2**31,
    format: Literal["checkpoint", "gguf"] = "checkpoint",
    gguf_type: str = "f16",
    approximate: Sequence[Any] = (),
    drop_gate: Sequence[Any] = (),
    tokens: int | None = None,
) -> MergeReport:
    """Fold plugged modules into a plain checkpoint that transformers, and any engine of the architecture, loads.

    Units of FFN kinds stand beside the base's own, padded with zeros to one width for all layers; matrices of linear
    kinds are added. The loaded base is left as it is. Tensors are written one shard at a time; then the checkpoint is
    loaded by transformers alone and compared with the plugged modules. Nothing is left at `out` unless that holds.

    Args:
        base: with the modules plugged, in plain numbers (not quantised).
        names: which modules, or a mapping of weights.
        out: folder for the checkpoint; a new or empty one, or that of an earlier merge.
        dtype: of the checkpoint; default: the loaded base's.
        multiple: the FFN's width is rounded up to a multiple of it.
        probe: text on which merged and plugged logits are compared.
        shard_bytes: largest size of one file of weights.
        format: `checkpoint`, or `gguf`: the one file `model.gguf` in that folder, for llama.cpp and its relatives.
        gguf_type: numbers of that file: `f32`, `f16` or `q8_0`. What they cost on the probe text is measured and reported.
        approximate: texts, of the subject and general, for modules with a gate: their units are folded without it, values
            refitted to what the module adds on these texts. In place of the proof, what that loses is measured on rows
            of the texts that were not fitted on.
        drop_gate: texts, of the subject and general, for modules behind a gate: they are folded as if it were always open. In
            place of the proof, what that loses on these texts is measured.
        tokens: read of each text of `approximate` (default 65,536, of which an eighth are measured on) or `drop_gate` (8,192).

    Raises:
        UnsupportedError: a module cannot be folded, or not into this base; or no GGUF is written for it; says why.
        AddendaError: no such module is plugged, the dtype or format is none, the merged model computes something else than
            the plugged one, or there is nothing to approximate.
        DataError: a text cannot be read, or is too short.
        FileError: `out` holds something else, or cannot be written.
    """
    weights = _checked(base, names)
    for name in weights:
        base.modules[name].check_adapts("merge")
    if multiple < 1 or shard_bytes < 1:
        raise AddendaError(f"multiple and shard_bytes are positive; got {multiple} and {shard_bytes}")
    if tokens is not None and tokens < 1:
        raise AddendaError(f"tokens is a positive number; got {tokens}")
    if tokens is not None and not approximate and not drop_gate:
        raise AddendaError(
            "tokens are those read of the texts of approximate or drop_gate: give one of them, or leave it out"
        )
    if format not in FORMATS:
        raise AddendaError(f"format is one of {known(format, FORMATS)}; got {format!r}")
    if format == "gguf":
        check_gguf(base.host.config, base.tokenizer, gguf_type)
    written = _dtype(dtype) or base.host.dtype()
    check_out(Path(out))
    check_saving(plain_config(base.host.config), base.host.model, base.tokenizer)
    folding = Folding(base.host, multiple, written)
    fitted = _without_gates(base, weights, approximate, drop_gate, tokens)
    finish = _Finish(
        base, weights, folding, written, probe_rows(base, probe), fitted, gguf_type if format == "gguf" else None
    )
    units = _refitted(base, weights, fitted)
    for name in sorted(weights):
        _fold(folding, base.modules[name], weights[name], units.get(name), fitted.as_they_are and name in fitted.names)
    _foretell(base, weights, Path(out), finish)
    files, size = write_checkpoint(base.host.model, base.tokenizer, folding, Path(out), written, shard_bytes, finish)
    shape = base.anatomy.ffn
    return MergeReport(
        names=tuple(sorted(weights)),
        weights=weights,
        out=Path(out),
        bytes=size if finish.gguf is None else finish.gguf.bytes,
        files=files,
        width=(0 if shape is None else shape.units, folding.width),
        dtype=str(written).removeprefix("torch."),
        proof=finish.proof,
        gguf=finish.gguf,
        approximation=finish.approximation,
    )


@dataclass(frozen=True)
class _Fitted:
    """Gated modules that are folded as nearly as can be, or `as_they_are` without their gates, and the texts for it."""

    names: list[str]
    texts: list[nearest.Text]
    as_they_are: bool = False


def _without_gates(
    base: Base, weights: Mapping[str, float], approximate: Sequence[Any], drop_gate: Sequence[Any], tokens: int | None
) -> _Fitted:
    """The modules whose gates are left out, and the texts on which that is measured.

    Raises:
        AddendaError: both ways are asked for, or none of the modules has a gate to leave out.
    """
    if approximate and drop_gate:
        raise AddendaError("give approximate or drop_gate, not both")
    if drop_gate:
        behind = [name for name in sorted(weights) if base.modules[name].gate is not None]
        if not behind:
            raise AddendaError("none of these modules stands behind a gate: leave drop_gate out")
        return _Fitted(behind, nearest.read(base, drop_gate, tokens, as_they_are=True), as_they_are=True)
    gated = [name for name in sorted(weights) if nearest.can(base.modules[name])] if approximate else []
    if approximate and not gated:
        raise AddendaError("none of these modules has a gate beside an FFN to approximate: leave approximate out")
    return _Fitted(gated, nearest.read(base, approximate, tokens))


def _refitted(base: Base, weights: Mapping[str, float], fitted: _Fitted) -> dict[str, dict[str, Units]]:
    try:
        wanted = fitted.names and not fitted.as_they_are
        return nearest.fit(base, weights, fitted.names, fitted.texts) if wanted else {}
    except UnsupportedError as error:
        raise UnsupportedError(f"no fold comes near {', '.join(fitted.names)}: {error}") from None


@dataclass
class _Finish:
    """Proves a checkpoint that was written, or measures how near it comes, and turns it into a GGUF where that is asked for."""

    base: Base
    weights: Mapping[str, float]
    folding: Folding
    dtype: torch.dtype
    rows: Rows
    fitted: _Fitted
    gguf_type: str | None
    proof: Proof | None = None
    approximation: Approximation | None = None
    gguf: Written | None = None

    def __call__(self, folder: Path) -> Manifest:
        if self.fitted.names:
            names, texts = self.fitted.names, self.fitted.texts
            self.approximation = nearest.measure(self.base, self.weights, folder, self.dtype, names, texts)
            if self.fitted.as_they_are:
                self.approximation = replace(self.approximation, fitted_on=0)
        else:
            self.proof = prove(self.base, self.weights, folder, self.dtype, self.rows)
            if not self.proof.holds:
                raise AddendaError(_unproven(self.proof))
        manifest = _manifest(self)
        if self.gguf_type is not None:
            notes = manifest.model_dump(mode="json", exclude={"files", "gguf"})
            self.gguf = convert(folder, self.base.tokenizer, self.gguf_type, self.rows[0], notes)
            manifest.gguf = self.gguf.as_dict()
        return manifest


def _foretell(base: Base, weights: Mapping[str, float], out: Path, finish: _Finish) -> None:
    """Tell whoever watches what will be written, what it is compared on, and about how long that takes."""
    watched = shown()
    if watched is None:
        return
    size = sum(p.numel() for p in base.model.parameters()) * finish.dtype.itemsize
    rows, where = finish.rows
    on = f"compared with the plugged modules on {sum(map(len, rows)):,} tokens of {where}"
    if finish.fitted.names:
        rows = [row for text in finish.fitted.texts for row in text.held]
        on = f"measured on held-out rows of {', '.join(text.name for text in finish.fitted.texts)}"
    seconds = 4 * sum(map(len, rows)) / pace_of(base) + 3 * size / DISK
    watched.say(f"merging {' + '.join(weights)} into {out}: {megabytes(size)} of weights, {on}; about {about(seconds)}")


def _checked(base: Base, names: str | Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    """Weights by name, of modules that are plugged."""
    weights = weights_of(names)
    if not weights:
        raise AddendaError("merge takes the name of at least one plugged module")
    for name in weights:
        plugged(base.modules, name)
    return weights


def _unproven(proof: Proof) -> str:
    told = f"the merged model differs from the plugged one by {proof.difference:.1e} of the largest logit"
    if proof.difference <= proof.allowed:
        told += f", and the modules themselves change it by {proof.changed:.1e}: {proof.dtype} is too coarse for them"
    else:
        told += f", and {proof.allowed:.1e} is allowed"
    remedy = "" if proof.dtype == "float32" else "; merge in float32: dtype='float32' (--save-dtype float32)"
    return f"nothing was written: {told}{remedy}"


def _dtype(given: torch.dtype | str | None) -> torch.dtype | None:
    if given is None or given in DTYPES.values():
        return given  # type: ignore[return-value]
    if not isinstance(given, str) or given not in DTYPES:
        raise AddendaError(f"dtype is one of {', '.join(DTYPES)}; got {given!r}")
    return DTYPES[given]


def _fold(
    folding: Folding, module: KnowledgeModule, weight: float, refitted: Mapping[str, Units] | None, ungated: bool
) -> None:
    try:
        folding.add(module, weight, refitted, ungated=ungated)
    except UnsupportedError as error:
        ways = ways_for(module.gate is not None and not ungated, refitted is None and nearest.can(module))
        told = f"'{module.name}' ({type(module.kind).__name__}) cannot be folded into plain weights: {error}"
        raise UnsupportedError(told + ways) from None


def ways_for(gated: bool, nearly: bool) -> str:
    """What a module that cannot be folded is offered: without the gate it stands behind, or nearly; as the end of a sentence."""
    ways = [way for way, there in ((DROP, gated), (APPROXIMATE, nearly)) if there]
    return "".join(f"; {way}" for way in ways) + ("; what that loses is told" if ways else "")


def _manifest(done: _Finish) -> Manifest:
    base, weights, folding = done.base, done.weights, done.folding
    shape = base.anatomy.ffn
    beside = {name for spans in folding.spans.values() for name, _, _ in spans}
    return Manifest(
        base=base.record(),
        base_dtype=str(base.host.dtype()).removeprefix("torch."),
        dtype=str(done.dtype).removeprefix("torch."),
        modules=[
            Merged(
                name=name,
                kind=type(base.modules[name].kind).__name__,
                weight=weights[name],
                form="units" if name in beside else "matrices",
                sha256=base.modules[name].card.sha256,
                licence=base.modules[name].card.licence,
            )
            for name in sorted(weights)
        ],
        units=folding.spans,
        width=Width(
            before=0 if shape is None else shape.units,
            after=folding.width,
            multiple=folding.multiple or 1,
            config=folding.size_in_config(),
        ),
        proof=None if done.proof is None else done.proof.as_dict(),
        approximation=None if done.approximation is None else done.approximation.as_dict(),
    )
