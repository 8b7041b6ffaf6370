"""`addenda merge`: fold modules into a plain checkpoint that any engine of the architecture loads."""

# budget: the signature of `merge` is its command line
from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.commands import beginning, command, show_next
from addenda.cli.working import working

if TYPE_CHECKING:
    from rich.console import Console


class Format(StrEnum):
    """What is written."""

    CHECKPOINT = "checkpoint"
    GGUF = "gguf"


class GGUFType(StrEnum):
    """Numbers of a GGUF file."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"


def merge(
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")],
    plug: o.Plug = None,
    modules: o.Modules = None,
    save_dtype: Annotated[
        o.Dtype, typer.Option("--save-dtype", help="Precision of the checkpoint; auto: the loaded base's.")
    ] = o.Dtype.AUTO,
    multiple: Annotated[
        int, typer.Option("--multiple", min=1, help="Round the FFN's width up to a multiple of this.")
    ] = 64,
    format: Annotated[
        Format, typer.Option("--format", help="A checkpoint, or model.gguf for llama.cpp and its relatives.")
    ] = Format.CHECKPOINT,
    gguf_type: Annotated[
        GGUFType | None, typer.Option("--gguf-type", help="Numbers of the GGUF file.", show_default="f16")
    ] = None,
    probe: Annotated[
        str, typer.Option("--probe", help="Text on which the merged and the plugged model are compared.")
    ] = "general_valid",
    approximate: Annotated[
        list[str] | None,
        typer.Option(
            "--approximate",
            help="Fold modules that have a gate as nearly as can be, fitted on this text; say what it loses. Repeatable.",
            metavar="TEXT",
        ),
    ] = None,
    drop_gate: Annotated[
        list[str] | None,
        typer.Option(
            "--drop-gate",
            help="Fold modules behind a gate as if it were always open; say what that loses on this text. Repeatable.",
            metavar="TEXT",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        tokens_option("--tokens", "Tokens read of each text of --approximate (default 65,536) or --drop-gate (8,192)."),
    ] = None,
    subtract: Annotated[
        list[str] | None,
        typer.Option(
            "--subtract", help="Take this module out of --base, a merged checkpoint. Repeatable.", metavar="NAME"
        ),
    ] = None,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Fold modules into a plain checkpoint, with the proof beside it that it computes the same.

    Units of side FFNs (Locas memories, parallel adapters) stand beside the base's own, LoRA is added to its matrices.
    What has a gate, or adds keys and values, cannot be folded and is refused. Nothing is written unless the proof holds.

    `--approximate TEXT`, once with text of the subject and once with general text, folds gated side FFNs as nearly as can
    be; what that loses on held-out rows of these texts is measured and told in place of the proof.

    `--drop-gate TEXT`, once with text of each sort, folds modules behind a gate without it, and tells what that loses.

    `--subtract NAME` takes units out of a merged checkpoint again, bit for bit.

    Example: `addenda merge --plug runs/book --out runs/with-book`
    """
    with answering(json) as answer:
        import addenda
        from addenda.combining.checkpoint_files import check_out

        _check(subtract, bool(plug or modules), bool(approximate or drop_gate), format, gguf_type)
        if subtract:
            with working("subtracting", "nothing was written"):
                removed = addenda.subtract(base, subtract, out=out)
            answer.give(removed.as_dict(), lambda console: console.print(str(removed), markup=False))
            return
        check_out(out)
        if not (approximate or drop_gate or modules):
            _check_gates(plug or [])
        loaded = o.load(base, dtype, device, plug, modules)
        with working("merging", "nothing was written"):
            report = addenda.merge(
                loaded.base,
                loaded.selected,
                out=out,
                dtype=None if save_dtype is o.Dtype.AUTO else save_dtype.value,
                multiple=multiple,
                probe=probe,
                format=format.value,
                gguf_type=(gguf_type or GGUFType.F16).value,
                approximate=approximate or (),
                drop_gate=drop_gate or (),
                tokens=tokens,
            )
        then = next_command(out, next(iter([*(approximate or ()), *(drop_gate or ())]), probe), format, device)
        answer.give(report.as_dict() | {"next": then}, lambda console: show(console, str(report), then))


def next_command(out: Path, text: str, format: Format, device: str | None) -> str | None:
    """The command that lets the merged checkpoint write; None for a GGUF file, which is for other engines."""
    if format is Format.GGUF:
        return None
    prompt, raw = beginning(text)
    return command("generate", prompt, *(["--raw"] if raw else []), base=str(out), device=device)


def show(out: Console, report: str, then: str | None) -> None:
    """What was written, and the command to go on with."""
    out.print(report, markup=False)
    show_next(out, then)


def _check_gates(plug: list[str]) -> None:
    """Refuse a module's folder whose card tells of a gate before it, without loading a base for it.

    Raises:
        UnsupportedError: there is one; says in which ways it can be folded all the same.
    """
    from addenda.combining.merge import ways_for
    from addenda.core.errors import UnsupportedError
    from addenda.core.site import Seam
    from addenda.modulefile.building import kind_of

    for card in o.cards(plug):
        kind = kind_of(card, [])
        gate = card.gate if card.gate is not None or kind is None else kind.module_gate
        if gate is not None and kind is not None:
            ways = ways_for(True, kind.seam is Seam.FFN)
            raise UnsupportedError(
                f"'{card.name}' ({card.kind}) cannot be folded into plain weights: it stands behind the {card.gate_name} gate, "
                f"which has none{ways}"
            )


def _check(
    subtract: list[str] | None, plugs: bool, approximate: bool, format: Format, gguf_type: GGUFType | None
) -> None:
    """Refuse options that go against each other."""
    from addenda import AddendaError

    if subtract and plugs:
        raise AddendaError("--subtract takes modules out; --plug and --modules put them in: do one at a time")
    if subtract and approximate:
        raise AddendaError("--approximate and --drop-gate are for merging, not for --subtract; leave one out")
    if subtract and format is Format.GGUF:
        raise AddendaError("--subtract writes a checkpoint; leave --format out")
    if gguf_type is not None and format is not Format.GGUF:
        raise AddendaError("--gguf-type is for --format gguf; add it, or leave --gguf-type out")
