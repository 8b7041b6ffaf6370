"""`addenda calibrate`: raise a module's threshold until a stated share of general text is left exactly alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from addenda.cli import options as o
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.commands import command, show_next
from addenda.cli.working import working

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.core.module import KnowledgeModule
    from addenda.measuring.looking.neutrality import Calibration


def calibrate(
    module: Annotated[str, typer.Argument(help="A module's folder, or a hub id with --out.", metavar="FOLDER")],
    on: Annotated[str, typer.Option("--on", help=f"General text that was not trained on: {o.TEXTS}.")],
    share: Annotated[float, typer.Option("--share", min=0.0, help="Share of its tokens to leave bit-equal.")] = 0.9,
    per: Annotated[
        Literal["layer", "module"],
        typer.Option("--per", help="For token gates: a threshold each layer, or one for all."),
    ] = "layer",
    tokens: Annotated[int, tokens_option("--tokens", "Tokens read at each document length.")] = 20_000,
    out: Annotated[Path | None, typer.Option("--out", help="Save there; default: the module's own folder.")] = None,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Set the threshold of a gated module so that a share of general text is left bit-equal, and save the module.

    A token is left alone where no gate that it feels is open. The more is left alone, the less the module gives on its
    own subject: `addenda evaluate` tells how much is kept. The threshold can be lowered again the same way.

    Example: `addenda calibrate runs/pubmed --on general_train --share 0.9`
    """
    with answering(json) as answer:
        from addenda.core.errors import AddendaError
        from addenda.measuring.looking.neutrality import calibrate as set_thresholds

        if out is None and not Path(module).is_dir():
            raise AddendaError(f"'{module}' is no folder to save in: give --out FOLDER")
        if not share < 1:
            raise AddendaError(
                f"--share is a share of tokens from 0 up to, not including, 1; got {share:g}{_percent(share)}"
            )
        o.check_cards(base, [module])
        loaded = o.load_base(base, dtype, device)
        plugged = loaded.modules[o.plug_one(loaded, module)]
        with working("calibrating", "nothing was saved"):
            calibration = set_thresholds(loaded, plugged.name, on, share=share, per=per, tokens=tokens)
        saved = plugged.save(module if out is None else out)
        # on other text than it was set on, for there the share is lower
        other = "general_train" if on == "general_valid" else "general_valid"
        held_out = [word for text in held_out_of(plugged) for word in ("--on", text)]
        words = ("--plug", saved, *held_out, "--neutrality", other)
        then = command("evaluate", *words, base=base, dtype=dtype, device=device)
        facts = {
            "thresholds": calibration.thresholds,
            "before": {"thresholds": calibration.before, "share": calibration.share_before},
            "asked": calibration.asked,
            **calibration.measured.as_dict(),
            "saved": str(saved),
        }
        answer.give(facts | {"next": then}, lambda shown: show(shown, calibration, saved, then))


def held_out_of(module: KnowledgeModule) -> list[str]:
    """Samples of the package that are of the module's subject and were not trained on, going by its card."""
    from addenda.tiny import SAMPLES

    names = [source.name for run in module.card.training for source in run.data if source.role == "corpus"]
    samples = dict.fromkeys(
        name.removesuffix(".gz").removesuffix(".jsonl").replace("_train", "_valid") for name in names
    )
    return [name for name in samples if name in SAMPLES and f"{name}.jsonl" not in names]


def _percent(share: float) -> str:
    return f"; {share:g} percent are {share / 100:g}" if 1 < share < 100 else ""


def show(out: Console, calibration: Calibration, saved: Path, then: str) -> None:
    """The shares by document length, the thresholds, where they are, and the command to go on with."""
    out.print(str(calibration), markup=False, soft_wrap=True)
    show_next(out, then, saved=saved)
