"""Merge: fold modules into a plain checkpoint of the base's own architecture, with the proof that it computes the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from addenda.bases.folding import Folding
from addenda.combining.checkpoint_files import check_out, write_checkpoint
from addenda.combining.gguf.write import Written, convert
from addenda.combining.gguf.write import check as check_gguf
from addenda.combining.manifest import Manifest, Merged, Width
from addenda.combining.proof import Proof, Rows, probe_rows, prove
from addenda.core.contracts import Adapter
from addenda.core.errors import AddendaError, UnsupportedError, known
from addenda.core.module import KnowledgeModule
from addenda.core.site import Seam
from addenda.core.units import Units
from addenda.selection import weights_of

if TYPE_CHECKING:
    from addenda.plugging import Base

FORMATS = ("checkpoint", "gguf")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class MergeReport:
    """What was merged. `width` is the FFN's number of hidden units before and after, `proof` stands beside the weights."""

    names: tuple[str, ...]
    weights: dict[str, float]
    out: Path
    bytes: int
    files: tuple[str, ...]
    width: tuple[int, int]
    proof: Proof
    gguf: Written | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = {k: getattr(self, k) for k in ("weights", "bytes")}
        plain |= {"names": list(self.names), "out": str(self.out), "files": list(self.files), "width": list(self.width)}
        plain |= {"gguf": self.gguf.as_dict()} if self.gguf is not None else {}
        return plain | {"proof": self.proof.as_dict()}

    def __str__(self) -> str:
        proof, (before, after) = self.proof, self.width
        wider = f"; FFN {before:,} -> {after:,} units" if before != after else ""
        return (
            f"{' + '.join(self.names)} merged into {self.out} ({self.bytes / 2**20:,.1f} MiB, {proof.dtype}{wider})\n"
            f"  merged against plugged on {proof.tokens:,} tokens of {proof.text}: largest difference "
            f"{proof.difference:.1e} of the largest logit (allowed {proof.allowed:.1e}; the modules move it by "
            f"{proof.changed:.1e}), first choice equal for {proof.same_first_choice:.1%}"
            + (f"\n  {self.gguf}" if self.gguf is not None else "")
        )


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

    Raises:
        UnsupportedError: a module cannot be folded, or not into this base; or no GGUF is written for it; says why.
        AddendaError: no such module is plugged, the dtype or format is none, or the merged model computes something else than
            the plugged one.
        FileError: `out` holds something else, or cannot be written.
    """
    weights = _checked(base, names)
    if multiple < 1 or shard_bytes < 1:
        raise AddendaError(f"multiple and shard_bytes are positive; got {multiple} and {shard_bytes}")
    if format not in FORMATS:
        raise AddendaError(f"format is one of {known(format, FORMATS)}; got {format!r}")
    if format == "gguf":
        check_gguf(base.model.config, base.tokenizer, gguf_type)
    written = _dtype(dtype) or base.host.dtype()
    check_out(Path(out))
    folding = Folding(base.host, multiple, written)
    finish = _Finish(base, weights, folding, written, probe_rows(base, probe), gguf_type if format == "gguf" else None)
    for name in sorted(weights):
        _fold(base, folding, base.modules[name], weights[name])
    files, size = write_checkpoint(base.model, base.tokenizer, folding, Path(out), written, shard_bytes, finish)
    assert finish.proof is not None
    shape = base.anatomy.ffn
    before = 0 if shape is None else shape.units
    return MergeReport(
        tuple(sorted(weights)), weights, Path(out), size if finish.gguf is None else finish.gguf.bytes, files,
        (before, folding.width), finish.proof, finish.gguf,
    )  # fmt: skip


@dataclass
class _Finish:
    """Proves a checkpoint that was written, and turns it into a GGUF where one is asked for."""

    base: Base
    weights: Mapping[str, float]
    folding: Folding
    dtype: torch.dtype
    rows: Rows
    gguf_type: str | None
    proof: Proof | None = None
    gguf: Written | None = None

    def __call__(self, folder: Path) -> Manifest:
        found = prove(self.base, self.weights, folder, self.dtype, self.rows)
        self.proof = found
        if not found.holds:
            raise AddendaError(_unproven(found))
        manifest = _manifest(self.base, self.weights, self.folding, found)
        if self.gguf_type is not None:
            notes = manifest.model_dump(mode="json", exclude={"files", "gguf"})
            self.gguf = convert(folder, self.base.tokenizer, self.gguf_type, self.rows[0], notes)
            manifest.gguf = self.gguf.as_dict()
        return manifest


def _checked(base: Base, names: str | Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    """Weights by name, of modules that are plugged."""
    weights = weights_of(names)
    if not weights:
        raise AddendaError("merge takes the name of at least one plugged module")
    for name in weights:
        if name not in base.modules:
            raise AddendaError(f"no module '{name}' is plugged; plugged are {known(name, base.modules)}")
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


def _fold(base: Base, folding: Folding, module: KnowledgeModule, weight: float) -> None:
    kind = type(module.kind).__name__
    try:
        if module.gate is not None:
            raise UnsupportedError("it has a gate that reads the document so far, which plain weights cannot do")
        for key in module.sites():
            site, adapter = base.host.site(key), module.adapter(key)
            if site.seam is Seam.LINEAR:  # when its turn has come: all matrices together would be as large as the base
                folding.add_matrix(site.path, partial(_matrix, adapter, weight))
                continue
            found = adapter.fold()
            assert isinstance(found, Units)
            folding.add_units(
                module.name, site.layer, Units(found.up, found.values * weight, found.gate, found.activation)
            )
    except UnsupportedError as error:
        raise UnsupportedError(f"'{module.name}' ({kind}) cannot be folded into plain weights: {error}") from None


@torch.no_grad()
def _matrix(adapter: Adapter, weight: float) -> Tensor:
    found = adapter.fold()
    assert isinstance(found, Tensor)
    return found * weight


def _manifest(base: Base, weights: Mapping[str, float], folding: Folding, proof: Proof) -> Manifest:
    shape = base.anatomy.ffn
    beside = {name for spans in folding.spans.values() for name, _, _ in spans}
    return Manifest(
        base=base.record(),
        base_dtype=str(base.host.dtype()).removeprefix("torch."),
        dtype=proof.dtype,
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
            multiple=folding.multiple,
            config=folding.size_in_config(),
        ),
        proof=proof.as_dict(),
    )
