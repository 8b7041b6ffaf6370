"""`addenda chat`: talk with a base, and switch modules on and off as you go."""

# budget: the signature of `chat` is its command line
from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addenda.cli import options as o
from addenda.cli.answers import answering, note

if TYPE_CHECKING:
    from addenda.showing.conversation import Conversation
    from addenda.showing.remembering import Memory

HELP = """/modules          what is plugged and what acts
/use NAMES        which modules act: /use pubmed,law=0.5 (a folder is plugged)
/off              none: the bare base
/reset            forget the conversation
/forget           delete what --remember has kept, on disk too
/help             this
/quit             leave (so does the end of input)"""


def chat(
    modules: o.Modules = None,
    plug: o.Plug = None,
    base: o.BaseName = "tiny",
    system: o.System = None,
    remember: Annotated[
        Path | None,
        typer.Option("--remember", help="Keep what is said in this memory, a module's folder: an old one goes on."),
    ] = None,
    memory_kind: Annotated[
        str | None,
        typer.Option(
            "--memory-kind",
            help="What a new memory is: HEMA keeps text, of which what fits is put in the window; default: Locas.",
        ),
    ] = None,
    raw: Annotated[
        bool | None,
        typer.Option(
            "--raw/--chat",
            "--plain",
            help="What you write is text that the base goes on writing, or a turn in the chat's form; default: the chat's form "
            "where the base has learned one.",
            show_default=False,
        ),
    ] = None,
    max_tokens: o.MaxTokens = 200,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            min=0.0,
            help="0: the likeliest token each time; above: drawn. Default: as the model's generation_config says, else 0.",
        ),
    ] = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    repetition_penalty: o.Penalty = 1.0,
    seed: o.Seed = 0,
    dtype: o.DtypeName = o.Dtype.AUTO,
    device: o.Device = None,
) -> None:
    """Talk with the base; /modules, /use, /off, /reset, /forget, /help and /quit work at the prompt.

    History goes through the tokenizer's chat template; where the base has learned none, and with --raw, the base goes on writing
    what you wrote. Tokens are chosen as the model's own settings say; where these say nothing, the likeliest is taken.

    With --remember every turn is written into a memory that outlives the process. It is a module like any other: /off turns it
    off, /forget deletes it, `addenda inspect` shows it.

    Example: `addenda chat --plug runs/pubmed --raw`
    """
    with answering(False):
        from addenda.core.errors import AddendaError
        from addenda.showing.conversation import Conversation
        from addenda.telling.changes import counted

        if memory_kind is not None and remember is None:
            raise AddendaError(
                "--memory-kind says what a memory is, and there is none: give its folder with --remember"
            )
        loaded = o.load(base, dtype, device, plug, modules)
        chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        talk = Conversation(
            loaded.base,
            system,
            raw=raw,
            max_tokens=max_tokens,
            repetition_penalty=repetition_penalty,
            seed=seed,
            **{name: value for name, value in chosen.items() if value is not None},
        )
        memory = None
        if remember is not None:
            from addenda.core.registry import build
            from addenda.showing.remembering import Memory

            new = None if memory_kind is None else build("text memory", memory_kind, {})
            memory = Memory(loaded.base, remember, new)
            note(f"remembering in {remember} ({counted(memory.turns, 'turn')} so far)")
        how = "chat template" if talk.templated else "plain text, which the base goes on writing"
        note(
            f"{loaded.base.name}, {o.selection_text(loaded.base.selection.everyone)} ({how}; {talk.sampling}). "
            "/help lists the commands."
        )
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - input() then has a history
        loop(talk, input if sys.stdin.isatty() else _piped, memory)


def loop(talk: Conversation, ask: Callable[[str], str], memory: Memory | None = None) -> None:
    """Ask and answer until the end of input; a mistake is told and the conversation goes on."""
    from addenda.core.errors import AddendaError

    commands = {"/modules": _modules, "/use": _use, "/off": _off, "/reset": _reset, "/help": _help}
    commands["/forget"] = partial(_forget, memory)
    while True:
        try:
            line = ask("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            return
        try:
            if word.startswith("/"):
                commands.get(word, _unknown)(talk, rest.strip() if word in commands else word)
            elif line:
                answer = talk.say(line, _write)
                typer.echo()
                if not answer.strip():
                    note("(ended at once: the first token ended the turn)")
                if memory is not None:
                    memory.take(f"{line}\n{answer}")
                if talk.forgotten:
                    note(f"(the oldest {talk.forgotten} messages no longer fit the base's context)")
        except AddendaError as error:
            note(str(error))
        except KeyboardInterrupt:
            note("\n(stopped; the turn is forgotten)")


def _write(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _piped(prompt: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _modules(talk: Conversation, rest: str) -> None:
    base = talk.base
    acting = base.selection.everyone
    for name, module in base.modules.items():
        state = f"acts at weight {acting[name]:g}" if name in acting else "off"
        typer.echo(f"{name}: {type(module.kind).__name__}, {module.size():,} parameters, {state}")
    if not base.modules:
        typer.echo("nothing is plugged; /use FOLDER plugs a module")


def _use(talk: Conversation, rest: str) -> None:
    if not rest:
        there = ", ".join(talk.base.modules) or "none is plugged"
        note(f"/use takes names: /use pubmed,law=0.5, or a folder to plug; there are: {there}. /off turns all off")
        return
    talk.base.use(o.choose(talk.base, rest))
    note(f"now: {o.selection_text(talk.base.selection.everyone)}")


def _off(talk: Conversation, rest: str) -> None:
    talk.base.use()
    note("now: the bare base; what was said so far still stands before it: /reset forgets that")


def _reset(talk: Conversation, rest: str) -> None:
    talk.reset()
    note("forgotten")


def _forget(memory: Memory | None, talk: Conversation, rest: str) -> None:
    if memory is None:
        note("nothing is remembered; start with --remember FOLDER")
        return
    memory.forget()
    talk.reset()
    note(f"forgotten, and {memory.folder} is deleted")


def _help(talk: Conversation, rest: str) -> None:
    typer.echo(HELP)


def _unknown(talk: Conversation, word: str) -> None:
    note(f"there is no command {word}; /help lists them")
