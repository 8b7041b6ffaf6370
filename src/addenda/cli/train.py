"""`addenda train`: write a corpus into a module beside the frozen base."""

# budget: the signature of `train` is its command line
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addenda.cli import options as o
from addenda.cli import written as w
from addenda.cli.amounts import tokens as tokens_option
from addenda.cli.answers import answering
from addenda.cli.commands import command, look

if TYPE_CHECKING:
    from addenda.plug.base import Base
    from addenda.writing.report import TrainReport


Name = Annotated[str, typer.Argument(help="The module's name: a new one, or one that --plug brought.")]
RECORDS = "A record has text, or chat: messages, or prompt with completion (docs/training-data.md)"
Corpus = Annotated[str, typer.Option("--corpus", help=f"Text to learn: {o.TEXTS}. {RECORDS}.")]
Tokens = Annotated[int, tokens_option("--tokens", "Tokens to train on, both streams counted.")]
Replay = Annotated[str | None, typer.Option("--replay", help="Text that stands for what the base knew before.")]
Share = Annotated[
    float, typer.Option("--replay-share", help="Share of the tokens that are replay, where there is replay.")
]
KindName = Annotated[str, typer.Option("--kind", help="What kind of module; `addenda methods kind` lists them.")]
Learning = Annotated[
    list[str] | None,
    typer.Option("--learning", help="Held-out text to measure learning on. Repeatable.", metavar="NAME=FILE"),
]
Forgetting = Annotated[
    list[str] | None,
    typer.Option("--forgetting", help="Held-out text to measure forgetting on. Repeatable.", metavar="NAME=FILE"),
]
Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate; default: the kind's own.")]
Length = Annotated[
    int | None, tokens_option("--length", "Tokens of a row; default: up to 512, as tokens and texts allow.", 2)
]
Rows = Annotated[
    int | None, typer.Option("--batch-rows", min=1, help="Rows of one forward pass; default: 8, of few tokens 4 or 2.")
]
Accumulate = Annotated[int, typer.Option("--accumulate", min=1, help="Forward passes of one step.")]
Local = Annotated[
    float | None, typer.Option("--local", help="Weight of the local neutrality loss; default: the kind's own.")
]
Goal = Annotated[
    str,
    typer.Option(
        "--objective",
        help="lm: learn the tokens; distill, reverse_kl, on_policy: what the base says once it has read more (`reads`).",
    ),
]
Checkpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Recompute each layer: slower, far less memory.")
]
ValidationTokens = Annotated[
    int | None,
    tokens_option("--validation-tokens", "Tokens scored of each held-out text; default: as that allows."),
]
ValidateEvery = Annotated[
    int | None,
    typer.Option(
        "--validate-every",
        min=1,
        help="Steps between validations; default: so many validations as cost a tenth of the training.",
    ),
]
CheckpointEvery = Annotated[int | None, typer.Option("--checkpoint-every", min=1, help="Steps between checkpoints.")]
Alongside = Annotated[
    str | None, typer.Option("--alongside", help="Plugged modules that are on as distractors.", metavar="NAMES")
]
Tracker = Annotated[str | None, typer.Option("--tracker", help="One of accelerate's, e.g. tensorboard.")]


def train(
    name: Name,
    corpus: Corpus,
    tokens: Tokens,
    replay: Replay = None,
    replay_share: Share = 0.1,
    kind: KindName = "NeutralResidues",
    set_: w.Pairs = None,
    gate: w.Gate = None,
    out: w.Out = None,
    resume: w.Resume = False,
    finish: w.Finish = False,
    keep_run: w.KeepRun = False,
    learning: Learning = None,
    forgetting: Forgetting = None,
    lr: Rate = None,
    seed: o.Seed = 0,
    length: Length = None,
    batch_rows: Rows = None,
    accumulate: Accumulate = 1,
    local: Local = None,
    objective: Goal = "lm",
    precision: w.Arithmetic = w.Precision.FP32,
    gradient_checkpointing: Checkpointing = False,
    validate_every: ValidateEvery = None,
    validation_tokens: ValidationTokens = None,
    checkpoint_every: CheckpointEvery = None,
    alongside: Alongside = None,
    tracker: Tracker = None,
    licence: o.Licence = None,
    plug: o.Plug = None,
    base: o.BaseName = "tiny",
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
    json: o.Json = False,
) -> None:
    """Train a module on a corpus; the base is frozen and only the module changes.

    Before the first step it says what it will do and how long that takes. Ctrl-C ends the run after its step, with a
    checkpoint: the same command with --resume goes on to the same bits, with --finish it saves the module as it is then.

    Example: `addenda train pubmed --corpus pubmed_train --replay general_train --tokens 200000`
    """
    given = dict(locals())
    with answering(json) as answer:
        from dataclasses import fields

        from addenda.core.registry import kind_named
        from addenda.writing.settings import Settings

        options, settings = w.split(kind_named(kind), set_, "train", [field.name for field in fields(Settings)], TYPED)
        settings |= {key: getattr(given[key], "value", given[key]) for key in TYPED - {"validation"}}
        settings["validation"] = validation(learning, forgetting) or None
        w.check_text(corpus)
        settings["validation_tokens"] = settings["validation_tokens"] or "auto"
        w.check_place(given["out"] or Path("runs") / name, resume or finish)
        loaded = o.load(base, dtype, device, plug, "").base
        w.fresh(loaded, name, kind, options, seed, gate)
        report = write(loaded, given, settings)
        place = given["out"] or Path("runs") / name
        then, measure = look(place, corpus, given), measuring(place, given)
        answer.give(
            report.as_dict() | {"next": then, "next_measure": measure},
            lambda console: w.show(console, str(report), report.out, then, measure),
        )


def write(base: Base, given: Mapping[str, Any], settings: dict[str, Any]) -> TrainReport:
    """Call `addenda.train`.

    Raises:
        AddendaError: what it raises, in the words of the command line.
    """
    import addenda

    alongside, out = given["alongside"], given["out"]
    same = ("corpus", "replay", "replay_share", "tokens", "lr", "seed", "resume", "finish")
    settings = {name: given[name] for name in same} | settings
    settings["out"] = Path("runs") / given["name"] if out is None else out
    try:
        return addenda.train(
            base, given["name"], alongside=() if alongside is None else o.choose(base, alongside), **settings
        )
    except addenda.AddendaError as error:
        raise w.spoken(error) from None


def measuring(folder: Path, given: Mapping[str, Any]) -> str:
    """The command that measures the module on what was held out, and on general text that it was not trained on.

    Held out is what the run was validated on; else, of a sample of the package, the part that belongs to it.
    """
    from addenda.tiny import SAMPLES

    beside = str(given["corpus"]).replace("_train", "_valid")
    held_out = [*(given["learning"] or ()), *(given["forgetting"] or ())]
    if not held_out and beside in SAMPLES and beside != given["corpus"]:
        held_out = [beside]
    other = "general_train" if "general_valid" in (given["corpus"], given["replay"]) else "general_valid"
    words = [word for text in held_out for word in ("--on", text)]
    where = {name: given[name] for name in ("base", "dtype", "device")}
    return command("evaluate", "--plug", folder, *words, "--neutrality", other, **where)


#: settings of `train` that have an option of their own
TYPED = frozenset(
    """length batch_rows accumulate local objective precision gradient_checkpointing validate_every
    validation_tokens checkpoint_every keep_run tracker licence validation""".split()
)


def validation(learning: list[str] | None, forgetting: list[str] | None) -> dict[str, Any]:
    """Held-out texts by name, as `train` takes them.

    Raises:
        AddendaError: two texts have one name, or one to learn is called forgetting.
    """
    from addenda.core.errors import AddendaError

    texts = o.named_texts(learning)
    for name in texts:
        if name.startswith("forgetting"):
            raise AddendaError(f"--learning: a text cannot be called '{name}'; give it with --forgetting, or rename it")
    return texts | {f"forgetting-{name}": text for name, text in o.named_texts(forgetting).items()}
