"""Subtract: take a module's units out of a merged checkpoint again, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from addenda.bases.fingerprint import fingerprint
from addenda.bases.folding import Narrowing
from addenda.bases.host import Host
from addenda.bases.load import load_model
from addenda.combining.checkpoint_files import check_out, write_checkpoint
from addenda.combining.manifest import Manifest, Merged, read_manifest
from addenda.core.errors import AddendaError, UnsupportedError, known

Spans = dict[int, list[tuple[str, int, int]]]


@dataclass(frozen=True)
class SubtractReport:
    """What was taken out. `remaining` are the modules still in; `restored` says that none is, and the base is back.

    `exact` is False where the merge was written in another dtype than its base had: then its numbers are those of that
    dtype.
    """

    names: tuple[str, ...]
    remaining: tuple[str, ...]
    out: Path
    width: tuple[int, int]
    restored: bool
    exact: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = {k: getattr(self, k) for k in ("restored", "exact")}
        plain |= {"names": list(self.names), "remaining": list(self.remaining), "width": list(self.width)}
        return plain | {"out": str(self.out)}

    def __str__(self) -> str:
        left = f"still in: {', '.join(self.remaining)}" if self.remaining else "the base is back"
        how = ", bit for bit" if self.exact else ", in the dtype of the merge, which is not the base's own"
        units = f"FFN {self.width[0]:,} -> {self.width[1]:,} units"
        return f"{' + '.join(self.names)} taken out into {self.out}; {units}; {left}{how}"


def subtract(
    folder: str | Path, names: str | Iterable[str], *, out: str | Path, shard_bytes: int = 2**31
) -> SubtractReport:
    """Write a merged checkpoint without some of its modules: their units are cut out, all others keep every bit.

    Where no module is left, the result has the fingerprint of the base it was merged into, else nothing is written (not
    checked in float16, which rounds otherwise than the fingerprint, unless the base was in it).

    Args:
        folder: a checkpoint that `merge` wrote.
        names: of modules in it that were folded as units.
        out: folder for the new checkpoint.
        shard_bytes: largest size of one file of weights.

    Raises:
        UnsupportedError: a module was added to the base's own matrices, where rounding cannot be undone.
        AddendaError: no such module is in the checkpoint, or the base does not come back.
        FileError: `folder` is no merge of ours, or `out` holds something else.
    """
    manifest = read_manifest(folder)
    if manifest.gguf is not None:
        raise UnsupportedError(f"'{folder}' is a GGUF file; take modules out of a merged checkpoint, and merge anew")
    wanted = (names,) if isinstance(names, str) else tuple(names)
    modules = {module.name: module for module in manifest.modules}
    _check(folder, wanted, modules)
    check_out(Path(out))
    model, tokenizer, _ = load_model(str(folder), "auto")
    host = Host(model)
    before = manifest.width.before
    spans, kept = _without(manifest.units, wanted, before, host.anatomy.layers)
    most = max(len(units) for units in kept.values())
    width = before if most == before else -(-most // manifest.width.multiple) * manifest.width.multiple
    remaining = tuple(name for name in modules if name not in wanted)

    def finish(folder: Path) -> Manifest:
        # what was rounded to float16 is rounded otherwise than the fingerprint rounds
        if not remaining and (manifest.dtype != "float16" or manifest.base_dtype == "float16"):
            again = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
            if fingerprint(again) != manifest.base.fingerprint:
                raise AddendaError(
                    f"nothing was written: without {', '.join(wanted)} the checkpoint is not the base "
                    f"'{manifest.base.name}' that it was merged into; it was changed since"
                )
        return manifest.model_copy(
            update={
                "modules": [modules[name] for name in remaining],
                "units": spans,
                "width": manifest.width.model_copy(update={"after": width}),
                "proof": None,
                "approximation": None,
                "subtracted": [*manifest.subtracted, *(modules[name] for name in wanted)],
            }
        )

    narrow = Narrowing(host, kept, width, manifest.width.config if width == before else width)
    write_checkpoint(model, tokenizer, narrow, Path(out), host.dtype(), shard_bytes, finish)
    exact = manifest.base_dtype == manifest.dtype
    return SubtractReport(wanted, remaining, Path(out), (manifest.width.after, width), not remaining, exact)


def _check(folder: str | Path, wanted: tuple[str, ...], modules: dict[str, Merged]) -> None:
    """Refuse names that were not merged, or cannot be taken out."""
    if not wanted:
        raise AddendaError(f"subtract takes the name of a merged module; merged are {', '.join(modules)}")
    for name in wanted:
        if name not in modules:
            raise AddendaError(f"no module '{name}' was merged into {folder}; merged are {known(name, modules)}")
        if modules[name].form != "units":
            raise UnsupportedError(
                f"'{name}' ({modules[name].kind}) was added to the base's own matrices, and rounding cannot be undone; "
                "merge the other modules into the base anew"
            )


def _without(units: Spans, names: tuple[str, ...], before: int, layers: int) -> tuple[Spans, dict[int, torch.Tensor]]:
    """The spans that stay, moved together, and which units of each layer are kept."""
    spans, kept = Spans(), dict[int, torch.Tensor]()
    for layer in range(layers):
        chosen, at = [torch.arange(before)], before
        for name, first, end in units.get(layer, []):
            if name not in names:
                chosen.append(torch.arange(first, end))
                spans.setdefault(layer, []).append((name, at, at + end - first))
                at += end - first
        kept[layer] = torch.cat(chosen)
    return spans, kept
