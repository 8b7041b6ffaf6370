"""`addenda inspect`: a module's card, sizes and gate activity, or what a base offers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.bases.named import names
from addenda.cli import options as o
from addenda.cli.answers import answering

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.measuring.looking.activity import Activity
    from addenda.measuring.looking.inspection import BaseInspection, ModuleInspection, PartSize
    from addenda.plug.cost import BaseCost

BARS = " ▁▂▃▄▅▆▇█"
#: rows of a table, and tensors of a layer, that are shown one by one unless all are asked for
MOST_ROWS, MOST_TENSORS = 12, 4
#: tokens whose activity is drawn side by side
WIDE = 48


def inspect(
    target: Annotated[
        str | None,
        typer.Argument(help="A module's folder or hub id, or a base; default: the base.", show_default=False),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Show where the module acts on this text.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="The same on the text of a file.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every layer and every measure, however many there are.")
    ] = False,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Show a module's card, sizes and activity layer by layer; or a base's anatomy, and what it costs on this machine.

    Memory and speed of a base are found by a probe of a few seconds.

    Example: `addenda inspect --base smollm2`
    """
    with answering(json) as answer:
        from addenda.measuring.looking.inspection import BaseInspection
        from addenda.measuring.looking.inspection import inspect as look
        from addenda.modulefile.peft_format import is_peft_folder

        what = base if target is None else target
        alone = target is None or is_base(what)
        text = watched(text, file, what if alone else None)
        if alone:
            inspection = look(o.load_base(what, dtype, device), cost=True)
        else:
            needed = text is not None or (Path(what).is_dir() and is_peft_folder(Path(what)))
            inspection = look(what, base=o.load_base(base, dtype, device) if needed else None, text=text)
        if isinstance(inspection, BaseInspection):
            answer.give(inspection.as_dict(), lambda out: show_base(out, inspection))
        else:
            answer.give(inspection.as_dict(), lambda out: show_module(out, inspection, verbose))


def watched(text: str | None, file: Path | None, base: str | None) -> str | None:
    """The one text to watch a module on, from --text or --file; `base` names what is inspected if it is no module.

    Raises:
        AddendaError: there are two texts, or there is one and no module, or the file is not UTF-8.
    """
    from addenda.core.errors import AddendaError

    if base is not None and (text is not None or file is not None):
        given = "--text" if file is None else "--file"
        raise AddendaError(
            f"{given} shows where a module acts, and '{base}' is a base: name the module's folder, or leave {given} out"
        )
    if file is None:
        return text
    if text is not None:
        raise AddendaError("--text and --file are two texts, and a module is watched on one: leave one of them out")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AddendaError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def is_base(name: str) -> bool:
    """Whether a name stands for a base: a named one, a GGUF file, or a model's folder."""
    folder = Path(name)
    if name in names() or folder.suffix.lower() == ".gguf":
        return True
    return (folder / "config.json").is_file() and not (folder / "module.safetensors").is_file()


def show_base(out: Console, inspection: BaseInspection) -> None:
    """Sizes, then sites by seam."""
    anatomy = inspection.anatomy
    facts = {
        "architecture": anatomy.model_type,
        "parameters": f"{anatomy.parameters:,} ({inspection.dtype} on {inspection.device})",
        "layers": f"{anatomy.layers}, width {anatomy.width}, {anatomy.heads} heads of {anatomy.head_dim}, "
        f"{anatomy.kv_heads} key-value heads",
        "FFN": "no single block of units"
        if anatomy.ffn is None
        else f"{anatomy.ffn.units:,} {'gated' if anatomy.ffn.gated else 'plain'} units, {anatomy.ffn.activation}",
        "fingerprint": inspection.fingerprint,
    }
    _facts(out, f"Base {inspection.name}", facts)
    table = _table("sites", "seam", "count", "for example")
    counts: dict[str, list[str]] = {}
    for site in anatomy.sites:
        counts.setdefault(site.seam.value, []).append(site.key)
    for seam, keys in counts.items():
        table.add_row(seam, str(len(keys)), inspection.refusals.get(seam, f"{keys[0]} … {keys[-1]}"))
    out.print(table)
    if inspection.cost is not None:
        _cost(out, inspection.cost)


def _cost(out: Console, cost: BaseCost) -> None:
    """Memory, speed, and how long that makes a run."""
    from addenda.telling.changes import counted

    size, minutes = f"{cost.length} tokens", cost.seconds_to_train(100_000) / 60
    facts = {
        "weights": f"{cost.weight_bytes / 1e6:,.0f} MB in {cost.dtype}",
        "training": f"about {cost.training_bytes() / 1e6:,.0f} MB with 8 rows of {size}, "
        f"{cost.training_bytes(2) / 1e6:,.0f} MB with 2 ({cost.kind}, {cost.module_parameters:,} parameters)",
        "reading": f"{cost.reading:,.0f} tokens a second",
        "learning": f"{cost.training:,.0f} tokens a second: 100,000 tokens in about {minutes:,.0f} minutes",
    }
    _facts(
        out,
        f"What it costs here ({cost.device}, {counted(cost.threads, 'thread')}; a probe of {cost.seconds:.0f} s)",
        facts,
    )


def show_module(out: Console, inspection: ModuleInspection, verbose: bool = False) -> None:
    """Card, sizes by layer, activity by layer; what is many is told in short, unless all is asked for."""
    _card(out, inspection, verbose)
    if inspection.parts:
        table = _table("sizes", "at", "tensors of each", "parameters", "bytes")
        for at, parts in grouped(inspection.parts, verbose):
            table.add_row(
                at, _shapes(parts), f"{sum(part.numbers for part in parts):,}", f"{sum(part.bytes for part in parts):,}"
            )
        out.print(table)
    if inspection.activity is not None:
        _activity(out, inspection.activity, verbose)


def grouped(parts: Sequence[PartSize], apart: bool = False) -> list[tuple[str, list[PartSize]]]:
    """Parts with their label; those that follow one another and are alike stand together: `layers 10-29`."""
    groups: list[list[PartSize]] = []
    for part in parts:
        last = groups[-1][-1] if groups else None
        if (
            not apart
            and last is not None
            and (last.sites, last.bytes, last.shapes) == (part.sites, part.bytes, part.shapes)
        ):
            groups[-1].append(part)
        else:
            groups.append([part])
    named = [(group[0].at, group[-1].at.rpartition(" ")[2], group) for group in groups]
    return [(at if len(group) == 1 else f"{at.replace('layer', 'layers')}-{last}", group) for at, last, group in named]


def _shapes(parts: Sequence[PartSize]) -> str:
    """The tensors of one of some like parts: `20 x ffn.down 144x576, ffn.up 576x288`; counted where they are many."""
    shapes = parts[0].shapes
    each = ", ".join(f"{name} {'x'.join(map(str, shape)) or '1'}" for name, shape in shapes.items())
    if len(shapes) > MOST_TENSORS:
        names = list(shapes)
        each = f"{len(shapes)} tensors at {parts[0].sites} sites, {names[0]} to {names[-1]}"
        return each if len(parts) == 1 else f"in each of {len(parts)} layers: {each}"
    return each if len(parts) == 1 else f"{len(parts)} x {each}"


def _card(out: Console, inspection: ModuleInspection, verbose: bool) -> None:
    from addenda.telling.changes import counted

    card = inspection.card
    config = ", ".join(f"{key}={value}" for key, value in card.config.items() if value is not None)
    facts = {
        "kind": f"{card.kind}({config})" + (f", behind the {card.gate_name} gate" if card.gate is not None else ""),
        "parameters": f"{card.parameters:,} ({inspection.dtype})" if inspection.parts else "none",
        "base": f"{card.base.name}, {card.base.model_type}, {card.base.parameters:,} parameters, "
        f"{card.base.fingerprint[:16]}…",
        "created": card.created,
        "licence": card.licence or "not stated",
    }
    if inspection.turns is not None:
        facts["holds"] = counted(inspection.turns, "turn")
    if inspection.beside:
        facts["beside it"] = ", ".join(f"{whose} ({size:,} bytes)" for whose, size in inspection.beside.items())
    if card.combined is not None:
        parents = " + ".join(f"{part.name}={part.weight:g}" for part in card.combined.modules)
        facts["combined"] = f"{card.combined.method.get('name')} of {parents}; what they were trained on:"
    for number, run in enumerate(card.training, 1):
        again = "trained" if number == 1 else f"trained, run {number}"
        facts[again] = f"{run.objective}, {run.tokens:,} tokens, {run.steps:,} steps, seed {run.seed}, lr {run.lr}"
    _facts(out, f"Module {card.name}", facts)
    if card.measures:
        table = _table("measured", "what", "value", "95% interval", "the base alone", "unit", "on", "n")
        shown = card.measures if verbose else card.measures[:MOST_ROWS]
        for measure in shown:
            interval = (
                "" if measure.low is None or measure.high is None else f"{measure.low:+.4f} to {measure.high:+.4f}"
            )
            bare = "" if measure.reference is None else f"{measure.reference:+.4f}"
            table.add_row(
                measure.name,
                f"{measure.value:+.4f}",
                interval,
                bare,
                measure.unit,
                measure.on or "",
                f"{measure.n or ''}",
            )
        out.print(table)
        _more(out, len(card.measures) - len(shown), "measures")


def _activity(out: Console, seen: Activity, verbose: bool) -> None:
    if seen.measured == "slots":
        out.print(f"{seen.kind} shares the text's softmax: every token reads its slots, and there is no gate to show.")
        return
    what = "gate" if seen.measured == "gate" else "mean |contribution| (this kind has no gate)"
    table = _table(f"activity: {what}", "at", "live tokens", "mean", "token by token")
    top = float(seen.values.max()) or 1.0
    rows = list(zip(seen.labels, map(float, seen.live), seen.values, strict=True))
    left = 0
    if len(rows) > MOST_ROWS and not verbose:
        ranked = sorted(rows, key=lambda row: float(row[2].mean()))
        told = [
            (f"{label}, {how}", *rest) for how, (label, *rest) in (("the most", ranked[-1]), ("the least", ranked[0]))
        ]
        mean = (f"mean of {len(rows)}", sum(row[1] for row in rows) / len(rows), seen.values.mean(0))
        rows, left = [mean, *told], len(rows) - 2
    for label, live, row in rows:
        line = "".join(BARS[min(8, int(v / top * 8 + (v > 0)))] for v in row[:WIDE])
        table.add_row(label, f"{live:.0%}", f"{row.mean():.4f}", line)
    out.print(table)
    _more(out, left, "layers")
    _words(out, seen)
    cut = f"; {seen.cut} tokens beyond the base's context were left out" if seen.cut else ""
    out.print(f"{len(seen.tokens)} tokens, {seen.untouched:.0%} of them left alone at every layer{cut}.")


def _more(out: Console, count: int, what: str) -> None:
    if count > 0:
        out.print(f"and {count} more {what}: --verbose shows them all")


def _words(out: Console, seen: Activity) -> None:
    """The text itself, the more a token is touched the stronger it is set."""
    from rich.text import Text

    mean = seen.mean
    top = float(mean.max()) or 1.0
    text = Text()
    for word, value in zip(seen.tokens, mean, strict=True):
        share = float(value) / top
        style = (
            "dim"
            if value == 0
            else "bold reverse"
            if share > 0.66
            else "bold underline"
            if share > 0.33
            else "underline"
        )
        text.append(word, style=style)
    out.print(text)


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(
            column, justify="right" if column in {"sites", "parameters", "bytes", "count", "mean", "value"} else "left"
        )
    return table


def _facts(out: Console, title: str, facts: dict[str, str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in facts.items():
        table.add_row(Text(key, style="dim"), Text(value))
    out.print(table)
