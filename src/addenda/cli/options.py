"""Options that several verbs share, and what they stand for: a base, plugged modules, a selection, named texts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import addenda
from addenda.bases.named import names
from addenda.cli.amounts import tokens as tokens_option
from addenda.tiny import SAMPLES

if TYPE_CHECKING:
    from addenda.core.card import Card
    from addenda.plug.base import Base


class Dtype(StrEnum):
    """The precision a base is loaded in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def _seed(value: int) -> int:
    if not 0 <= value < 2**63:
        raise typer.BadParameter(f"a seed is a whole number from 0 to 2**63 - 1; got {value}.")
    return value


#: what a text may be
TEXTS = (
    ".txt, .jsonl(.gz), .parquet, .md, .html, .docx, .pdf, a folder, a hub data set, or a sample "
    f"({', '.join(SAMPLES)})"
)
BaseName = Annotated[
    str,
    typer.Option(
        "--base", help=f"The base: {', '.join(names())}, a local folder, a .gguf file, or a hub id.", metavar="NAME"
    ),
]
DtypeName = Annotated[
    Dtype, typer.Option("--dtype", help="Precision of the base; auto: the checkpoint's own, and float32 for tiny.")
]
Device = Annotated[
    str | None, typer.Option("--device", help="Where the base runs, e.g. cpu or cuda; default: a GPU if there is one.")
]
Plug = Annotated[
    list[str] | None,
    typer.Option(
        "--plug", help="A module's folder or hub id to plug; NAME=FOLDER renames it. Repeatable.", metavar="FOLDER"
    ),
]
Modules = Annotated[
    str | None,
    typer.Option(
        "--modules",
        help="Which modules act, with weights: pubmed,law=0.5. Folders are plugged. Default: all that are plugged.",
        metavar="NAMES",
    ),
]
Router = Annotated[
    str,
    typer.Option("--router", help="How modules are chosen: one of `addenda methods router`.", metavar="ROUTER"),
]
Raw = Annotated[
    bool | None,
    typer.Option(
        "--raw/--chat",
        help="Prompts as they stand, or in the chat's form; default: in the chat's form where the base has learned one.",
        show_default=False,
    ),
]
System = Annotated[str | None, typer.Option("--system", help="What the base is told first, in the chat's form.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one line of JSON on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal to ask on.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.", callback=_seed)]
JudgeAddress = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="A chat endpoint as OpenAI's that is asked which written answers are right; its key, if need be, in "
        "ADDENDA_JUDGE_KEY.",
        metavar="URL",
    ),
]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", help="Its model; default: the first that it offers.", metavar="NAME")
]
Licence = Annotated[str | None, typer.Option("--licence", help="Licence of the module, for its card, e.g. cc-by-4.0.")]
MaxTokens = Annotated[int, tokens_option("--max-tokens", "Tokens to write at most.")]
Temperature = Annotated[
    float,
    typer.Option("--temperature", min=0.0, help="0: the likeliest token each time; above: drawn, 1 as the model says."),
]
TopK = Annotated[int | None, typer.Option("--top-k", min=1, help="Draw among the K likeliest tokens only.")]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", min=0.0, max=1.0, help="Draw among the likeliest tokens that make up this share."),
]
Penalty = Annotated[
    float,
    typer.Option("--repetition-penalty", min=0.01, help="Above 1: tokens that were there already become less likely."),
]


@dataclass(frozen=True)
class Loaded:
    """A base with what the command line plugged into it and selected."""

    base: Base
    selected: dict[str, float]
    #: the folders or hub ids that modules came from, by name
    sources: dict[str, str] = field(default_factory=dict)


def load(
    name: str,
    dtype: Dtype = Dtype.AUTO,
    device: str | None = None,
    plug: list[str] | None = None,
    modules: str | None = None,
) -> Loaded:
    """Load a base, plug modules and select them; without `modules` all that were plugged act at weight 1.

    Raises:
        AddendaError: something cannot be loaded, or a name is not plugged.
    """
    check_cards(name, plug)
    base = load_base(name, dtype, device)
    sources = {plug_one(base, text): named(text)[1] for text in plug or []}
    selected = dict.fromkeys(sources, 1.0) if modules is None else choose(base, modules, sources)
    base.use(selected)
    return Loaded(base, selected, sources)


def load_base(name: str, dtype: Dtype = Dtype.AUTO, device: str | None = None) -> Base:
    """Load a base in the precision and on the device asked for.

    Raises:
        AddendaError: it cannot be loaded, or there is no such device.
    """
    import torch

    from addenda.bases.devices import usable_device

    _quiet(name)
    place = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    base = addenda.load_base(name, dtype=None if dtype is Dtype.AUTO else getattr(torch, dtype.value))
    base.model.to(place)
    return base


def _quiet(name: str) -> None:
    """Errors only, and a progress bar only where someone waits for a large base."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    if name == "tiny" or not sys.stderr.isatty():
        logging.disable_progress_bar()


def cards(plug: list[str] | None) -> list[Card]:
    """The cards of modules' folders that are here; those of the hub, and of other forms, are read when they are plugged.

    Raises:
        FileError: a card cannot be read.
    """
    from addenda.modulefile.storage import CARD, read_card

    folders = [Path(named(text)[1]).expanduser() for text in plug or []]
    return [read_card(folder) for folder in folders if (folder / CARD).is_file()]


def check_cards(name: str, plug: list[str] | None) -> None:
    """Refuse modules that were made for another of the named bases, before the base is loaded.

    Raises:
        FileError: one was; says for which. Or its card cannot be read.
    """
    from addenda.core.errors import FileError

    for card in cards(plug):
        if name in names() and card.base.name in names() and card.base.name != name:
            raise FileError(
                f"module '{card.name}': wrong base: it was made for {card.base.name}, and this is {name}: add "
                f"--base {card.base.name}"
            )


def plug_one(base: Base, text: str) -> str:
    """Plug `FOLDER` or `NAME=FOLDER`; the module's name."""
    name, folder = named(text)
    return base.plug(folder, name=name or None).name


def check_apart(out: Path, *modules: str | None) -> None:
    """Refuse to write into the folder of a module that a verb reads.

    Raises:
        AddendaError: it is the folder of one; says which.
    """
    from addenda.core.errors import AddendaError

    for text in modules:
        folder = Path(named(text)[1]) if text is not None else None
        if folder is not None and folder.is_dir() and out.resolve() == folder.resolve():
            raise AddendaError(f"--out is the folder of the module '{folder}', which would be lost; give another")


def choose(base: Base, text: str, sources: dict[str, str] | None = None) -> dict[str, float]:
    """Weights from `pubmed,law=0.5`; a part that is a folder (or has a slash in it) is plugged under its card's name.

    What was plugged is noted in `sources`.

    Raises:
        AddendaError: a part cannot be read or plugged, or no module of that name is plugged.
    """
    from addenda.core.errors import SelectionError
    from addenda.core.module import plugged
    from addenda.plug.selection import parse

    weights: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        head, mark, weight = part.rpartition("=")
        folder = head if mark else part
        if folder not in base.modules and ("/" in folder or Path(folder).is_dir()):
            name = base.plug(folder).name
            part = name + mark + (weight if mark else "")
            if sources is not None:
                sources[name] = folder
        for name, value in parse(part).items():
            if name in weights:
                raise SelectionError(f"module '{name}' is selected twice in '{text}'")
            try:
                plugged(base.modules, name)
            except SelectionError as error:
                raise SelectionError(f"{error}; plug one with --plug FOLDER") from None
            weights[name] = value
    return weights


def named(text: str) -> tuple[str, str]:
    """`NAME=FILE` in its two parts; the name is empty where there is none."""
    name, mark, rest = text.partition("=")
    return (name.strip(), rest) if mark and "/" not in name else ("", text)


def named_texts(given: list[str] | None) -> dict[str, Any]:
    """`NAME=FILE` as texts by name; without a name, the file's.

    Raises:
        AddendaError: two have one name.
    """
    from addenda.core.errors import AddendaError

    texts: dict[str, Any] = {}
    for text in given or []:
        name, file = named(text)
        name = name or Path(file).name.split(".")[0]
        if name in texts:
            raise AddendaError(f"two texts are called '{name}'; name them apart: {name}-1={file}")
        texts[name] = file
    return texts


def selection_text(weights: dict[str, float]) -> str:
    """Weights as a person writes them: `pubmed, law=0.5`."""
    return ", ".join(name if weight == 1.0 else f"{name}={weight:g}" for name, weight in weights.items()) or "no module"
