"""`addenda generate`: answer prompts, or go on with them, with modules, without, or both side by side."""

# budget: the signature of `generate` is its command line
from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering, note
from addenda.cli.commands import command

SILENT = (
    "Nothing changed: the gate of {} opens some tokens after its subject begins, and was closed here. A longer prompt "
    "on the subject shows more. This shows where it opens:"
)
AT_ONCE = "(ended at once)"
FULL = "The base's context was full before {:,} tokens were written; a shorter prompt leaves more room."
WHY_AT_ONCE = "The first token ended the text, so nothing was written. {} asks the other way."

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from addenda.routing.route import Routes
    from addenda.showing.generating import Continuation


def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to ask, or texts to go on with; '-' reads one from standard input.", show_default=False
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file of prompts, one on each line.")] = None,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Show what the bare base writes beside it.")
    ] = False,
    route: Annotated[
        bool, typer.Option("--route", help="Answer each prompt with the module that is chosen for it, or with none.")
    ] = False,
    router: o.Router = "nearest",
    raw: o.Raw = None,
    system: o.System = None,
    modules: o.Modules = None,
    plug: o.Plug = None,
    base: o.BaseName = "tiny",
    max_tokens: o.MaxTokens = 60,
    temperature: o.Temperature = 0.0,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    repetition_penalty: o.Penalty = 1.0,
    seed: o.Seed = 0,
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Answer prompts with the chosen modules.

    Where the base has learned a chat template, prompts are asked in the chat's form; --raw goes on with them as they stand, as
    it is done where there is none.

    With --route each prompt is given to one of the modules, or to none: their keys come from `addenda route --learn`.

    Example: `addenda generate "The patients were" --plug runs/pubmed --modules pubmed=0.8 --side-by-side`
    """
    with answering(json) as answer:
        from addenda.core.errors import AddendaError
        from addenda.showing.generating import side_by_side as write
        from addenda.text.prompting import chats

        if router != "nearest" and not route:
            raise AddendaError("--router is for --route")
        texts = read_prompts(prompts, file)
        loaded = o.load(base, dtype, device, plug, modules)
        sampling = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
        }
        chosen = _routed(loaded, texts, router) if route else None
        selections = [loaded.selected] * len(texts) if chosen is None else list(chosen)
        rows = [
            write(loaded.base, [text], _columns(weights, side_by_side), system=system, raw=raw, **sampling)[0]
            for text, weights in zip(texts, selections, strict=True)
        ]
        chat = chats(loaded.base.tokenizer) if raw is None else not raw
        data = {
            "base": loaded.base.name,
            "modules": loaded.selected,
            "sampling": sampling,
            "chat": chat,
            "system": system,
            "prompts": [as_dict(text, row) for text, row in zip(texts, rows, strict=True)],
        }
        if chosen is not None:
            data["route"] = {"router": chosen.router, "at_most": chosen.at_most, "thresholds": chosen.thresholds}
            for row, told in zip(data["prompts"], chosen.as_dict()["prompts"], strict=True):
                row["route"] = {name: value for name, value in told.items() if name != "prompt"}
        selected = {} if route else loaded.selected  # a route says itself why nothing changed
        gated = [name for name in selected if loaded.base.modules[name].gate is not None]
        where = {"base": base, "dtype": dtype, "device": device}
        hints = {name: command("inspect", loaded.sources[name], "--text", texts[0], **where) for name in gated[:1]}
        answer.give(data, lambda out: show(out, data["prompts"], gated, hints, chat))
        if any(given.full for row in rows for given in row.values()):
            note(FULL.format(max_tokens))


def _columns(weights: dict[str, float], side_by_side: bool) -> dict[str, dict[str, float]]:
    """What writes, by how it is called; the bare base beside modules, or where there are none."""
    columns = {o.selection_text(weights): weights} if weights else {}
    return {"base": {}, **columns} if side_by_side or not columns else columns


def _routed(loaded: o.Loaded, texts: list[str], router: str) -> Routes:
    """The module that each prompt is given to.

    Raises:
        AddendaError: there is none to choose among, or one has no keys.
    """
    from addenda.core.errors import AddendaError
    from addenda.routing.route import route

    if not loaded.selected:
        raise AddendaError("--route chooses among modules, and there are none; give their folders with --plug")
    return route(loaded.base, texts, router, loaded.selected)


def as_dict(prompt: str, row: dict[str, Continuation]) -> dict[str, Any]:
    """A prompt's continuations as plain data."""
    written = [
        {"by": by, "text": given.text, "tokens": given.tokens, "ended": given.ended, "full": given.full}
        for by, given in row.items()
    ]
    return {"prompt": prompt, "continuations": written}


def read_prompts(
    prompts: list[str] | None, file: Path | None, example: str = 'addenda generate "The patients were"'
) -> list[str]:
    """Prompts from the command line, standard input and a file; `example` shows how one is given.

    Raises:
        AddendaError: there is none.
    """
    from addenda.core.errors import AddendaError

    texts = [sys.stdin.read().strip("\n") if text == "-" else text for text in prompts or []]
    if file is not None:
        try:
            texts += [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise AddendaError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if not any(text.strip() for text in texts):
        raise AddendaError(f"there is no prompt; write e.g. {example}")
    return texts


def show(
    out: Console,
    rows: list[dict[str, Any]],
    gated: Sequence[str] = (),
    hints: Mapping[str, str] | None = None,
    chat: bool = False,
) -> None:
    """Text for one column, a table for several; said where nothing was written, or where gated modules changed nothing.

    `hints` are commands by the name of a gated module: where its gate opens.
    """
    from rich.table import Table
    from rich.text import Text

    for row in rows:
        written = row["continuations"]
        if "route" in row:
            out.print(Text(f"routed to {row['route']['why']}", style="dim"), soft_wrap=True)
        if len(written) == 1:
            between = "\n" if chat else ""
            out.print(Text.assemble((row["prompt"], "dim"), between, _text(written[0])), soft_wrap=True)
            continue
        table = Table(title=Text(row["prompt"], style="bold"), title_justify="left", show_lines=False)
        for column in written:
            table.add_column(column["by"], ratio=1, overflow="fold")
        table.add_row(*(Text(_text(column).strip()) for column in written))
        out.print(table)
        if gated and len({column["text"] for column in written}) == 1:
            out.print(Text(SILENT.format(", ".join(gated)), style="dim"))
            for hint in (hints or {}).values():
                out.print(Text(hint, style="dim"), soft_wrap=True)
    if any(_text(column) == AT_ONCE for row in rows for column in row["continuations"]):
        out.print(Text(WHY_AT_ONCE.format("--raw" if chat else "--chat"), style="dim"))


def _text(written: Mapping[str, Any]) -> str:
    return AT_ONCE if written["ended"] and not written["text"].strip() else str(written["text"])
