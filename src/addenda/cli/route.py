"""`addenda route`: which module answers a prompt, or none; and `--learn`, the keys by which that is decided."""

# budget: the signature of `route` is its command line
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli.answers import Answer, answering
from addenda.cli.commands import beginning, command, show_next
from addenda.cli.generate import read_prompts
from addenda.cli.working import working

if TYPE_CHECKING:
    from rich.console import Console

    from addenda.routing.route import Routes


def route(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="What is asked; '-' reads one from standard input.", show_default=False),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file of prompts, one on each line.")] = None,
    plug: o.Plug = None,
    modules: o.Modules = None,
    router: o.Router = "nearest",
    at_most: Annotated[
        float, typer.Option("--at-most", help="Share of general prompts that may be given to any module at all.")
    ] = 0.05,
    learn: Annotated[
        str | None,
        typer.Option("--learn", help="Learn the keys of this module, and save it with them.", metavar="FOLDER"),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", help=f"With --learn: text of the module's subject: {o.TEXTS}.")
    ] = None,
    general: Annotated[
        str, typer.Option("--general", help="With --learn: text that the bare base is to answer.")
    ] = "general_train",
    out: Annotated[
        Path | None, typer.Option("--out", help="With --learn: save there; default: the module's own folder.")
    ] = None,
    seed: o.Seed = 0,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Choose for each prompt the module that answers it, or none, by keys that stand in the modules' files.

    Keys are learned once for each module, from text of its subject and general text: `addenda route --learn runs/pubmed
    --corpus pubmed_train`. `addenda generate --route` answers each prompt with what is chosen for it.

    Example: `addenda route "The patients were given" "The old mill" --plug runs/pubmed --plug runs/french`
    """
    with answering(json) as answer:
        from addenda.core.errors import AddendaError

        where = {"base": base, "dtype": dtype, "device": device}
        if learn is not None:
            if prompts or file or plug or modules:
                raise AddendaError("--learn takes one module's folder and --corpus; prompts are routed afterwards")
            if corpus is None:
                raise AddendaError("--learn needs --corpus: text of the module's subject, best what it was trained on")
            options = {"general": general, "router": router, "at_most": at_most, "seed": seed}
            _learn(answer, learn, corpus, out, options, where)
            return
        if corpus or out:
            raise AddendaError("--corpus and --out are for --learn FOLDER")
        texts = read_prompts(prompts, file, 'addenda route "The patients were" --plug runs/pubmed')
        loaded = o.load(base, dtype, device, plug, modules)
        if not loaded.selected:
            raise AddendaError("there is no module to choose among; give their folders with --plug")
        from addenda.routing.route import route as choose

        routes = choose(loaded.base, texts, router, loaded.selected, at_most=at_most)
        answer.give(routes.as_dict(), lambda shown: show(shown, routes))


def _learn(
    answer: Answer, folder: str, corpus: str, out: Path | None, options: dict[str, Any], where: dict[str, Any]
) -> None:
    """Learn the keys of the module in a folder, and save it."""
    from addenda.core.errors import AddendaError
    from addenda.core.files import check_place
    from addenda.modulefile.storage import MEMBERS
    from addenda.routing.learn import learn_route

    if out is None and not Path(folder).is_dir():
        raise AddendaError(f"'{folder}' is no folder to save in: give --out FOLDER")
    check_place(Path(folder) if out is None else out, MEMBERS)
    loaded = o.load_base(where["base"], where["dtype"], where["device"])
    module = loaded.modules[o.plug_one(loaded, folder)]
    with working("learning the route", "nothing was saved"):
        learned = learn_route(loaded, module.name, corpus, **options)
    saved = module.save(folder if out is None else out)
    asked = [] if options["router"] == "nearest" else ["--router", options["router"]]
    then = command("route", beginning(corpus)[0], "--plug", saved, *asked, **where)
    facts = {**learned.as_dict(), "saved": str(saved), "next": then}

    def told(shown: Console) -> None:
        shown.print(str(learned), markup=False)
        show_next(shown, then, saved=saved)

    answer.give(facts, told)


def show(out: Console, routes: Routes) -> None:
    """A row for each prompt: what it is given to, else what it came nearest to, and by how much."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("prompt", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("module", overflow="fold")
    for name in ("distance", "threshold"):
        table.add_column(name, justify="right")
    for row, prompt in enumerate(routes.prompts):
        name, chosen = routes.candidate(row), routes.module(row)
        given = Text(name) if chosen else Text(f"none (not {name})", style="dim")
        far, threshold = routes.distances[name][row], routes.thresholds[name]
        table.add_row(Text(" ".join(prompt.split())), given, f"{far:.3f}", f"{threshold:.3f}")
    out.print(table)
