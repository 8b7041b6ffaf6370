"""The application: finds the verbs, and turns every outcome into an exit code and, where asked, one line of JSON.

To add a verb is to add one file `cli/<verb>.py` with a function `<verb>`; torch and transformers are imported inside
it, so that help is quick.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from addenda.cli.answers import print_error, print_json

#: in the order of the life cycle; verbs that are not listed come last
ORDER = (
    "demo teach study train calibrate memorize edit generate chat facts evaluate compare route combine merge compress forget "
    "inspect list publish delete serve studio methods lm-eval"
).split()
# typer brings click's errors along under a name that depends on its version
_USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
# what typer makes of Ctrl-C, and of nothing else
_INTERRUPTED = 130
# torch says that the CPU's memory ran out in a plain RuntimeError
_ALLOCATOR = "DefaultCPUAllocator: "


class Verb(TyperCommand):
    """A verb's command: an option that holds one value is not given twice, for the last would win without a word.

    A verb whose file has `further_options` takes the options of the function that this gives, too: found when the verb itself is
    asked for, so that help on others stays quick. Its own function has their values in its context's `obj`.
    """

    #: gives a function whose parameters are further options
    further: Callable[[], Callable[..., Any]] | None = None

    @property
    def params(self) -> list[Any]:
        """All options: further ones first."""
        if self.further is not None and self._further is None:
            beside = typer.Typer(add_completion=False)
            beside.command()(self.further())
            self._further = typer.main.get_command(beside)
            self._params[:0] = self._further.params
        return self._params

    @params.setter
    def params(self, own: list[Any]) -> None:
        self._params = own
        self._further: Any = None

    def invoke(self, ctx: Any) -> Any:
        """As click does, the further options' values apart."""
        if self._further is not None:
            ctx.obj = self._further.callback(
                **{option.name: ctx.params.pop(option.name) for option in self._further.params}
            )
        return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click does, after a look at what is there twice."""
        before = args[: args.index("--")] if "--" in args else args
        words = [word.partition("=")[0] for word in before]
        for option in self.params:
            single = not getattr(option, "multiple", True) and not getattr(option, "is_flag", False)
            if single and sum(word in option.opts for word in words) > 1:
                raise typer.BadParameter(f"{option.opts[0]} was given more than once, and takes one value")
        try:
            return super().parse_args(ctx, args)
        except _USAGE_ERROR as error:
            if "extra argument" in str(error.message):
                several = any("--methods" in option.opts for option in self.params)
                hint = "; --methods takes several with commas between them" if several else ""
                error.message = f"{error.message}. An option takes one value{hint}"
            raise


class Verbs(TyperGroup):
    """The group of verbs. Every way to fail ends in one sentence on standard error and an exit code."""

    def main(self, args: Any = None, *rest: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run; exits 0 on success, 1 on a failed check, 2 on a user's mistake, 130 on an interrupt."""
        if not standalone_mode:
            return super().main(args, *rest, standalone_mode=False, **extra)
        words = list(sys.argv[1:] if args is None else args)
        run = super().main
        sys.exit(guarded(lambda: run(words, *rest, standalone_mode=False, **extra), words))


def guarded(run: Callable[[], Any], words: list[str]) -> int:
    """Run and return the exit code; a user's mistake is told in one sentence. Anything else is a bug and is raised."""
    from addenda.core.errors import AddendaError

    try:
        code = int(run() or 0)
        return _told(words, "interrupted", code) if code == _INTERRUPTED else code
    except _USAGE_ERROR as error:
        verb = next((word for word in words if not word.startswith("-")), "")
        page = f"addenda {verb} --help" if verb in verbs() else "addenda --help"
        return _told(words, f"{_sentence(error.format_message())} See `{page}`.", 2)  # type: ignore[attr-defined]
    except AddendaError as error:
        stopped = {"SIGINT": _INTERRUPTED, "SIGTERM": 143, "SIGHUP": 129}.get(getattr(error, "signal", ""))
        return _told(words, f"{error}{_meant(error)}", stopped or 2)
    except BrokenPipeError:
        # whoever read us has gone: nothing more can be said, not even at exit
        sys.stdout = None  # type: ignore[assignment]
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename is not None else ""
        return _told(words, f"{error.strerror or error}{where}{_meant(error)}", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _told(words, "interrupted", _INTERRUPTED)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "addenda"):
            raise
        return _told(words, f"this needs the package '{package}', which is not installed; pip installs it", 2)
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        reason = textwrap.shorten(str(error).rpartition(_ALLOCATOR)[2], 160, placeholder="…")
        return _told(words, f"not enough memory; smaller batches or rows take less: {reason or 'none is left'}", 2)


def _meant(error: BaseException) -> str:
    """What was probably meant, where a file that is not there is behind an error that does not say so yet."""
    from addenda.core.errors import meant

    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, FileNotFoundError) and cause.filename):
        cause = cause.__cause__ or cause.__context__
    named = None if cause is None else cause.filename
    return meant(named) if isinstance(named, str) and "did you mean" not in str(error) else ""


def _told(words: list[str], message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # a terminal that was closed
        print_error(message)
    if "--json" in words:
        print_json({"error": message, "exit": code})
    return code


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _ALLOCATOR in str(error)


def _sentence(message: str) -> str:
    flat = re.sub(r"\s+", " ", message).strip()
    return flat if flat.endswith((".", "?", "!")) else flat + "."


def verbs() -> list[str]:
    """The verbs that have a file, in the order of the life cycle."""
    here = Path(__file__).parent
    names = [info.name for info in pkgutil.iter_modules([str(here)])]
    own = [name.replace("_", "-") for name in names if name not in _SHARED]
    return sorted(own, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def file_of(verb: str) -> str:
    """The file of a verb in `cli/`, and the function in it: `lm_eval` for `lm-eval`."""
    return verb.replace("-", "_")


_SHARED = frozenset({"amounts", "answers", "application", "commands", "evaluated", "options", "working", "written"})


def _version(wanted: bool) -> None:
    if wanted:
        from addenda import __version__

        typer.echo(f"addenda {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Knowledge modules beside frozen language models: train, plug, measure, unplug.

    Every verb takes --base (a folder, a hub id, or tiny, the embedded one) and --help. Exit codes: 0 success, 1 a
    failed check, 2 a mistake in what was asked.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def build() -> typer.Typer:
    """The application with every verb."""
    application = typer.Typer(
        name="addenda",
        cls=Verbs,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback(invoke_without_command=True)(_root)
    for verb in verbs():
        module = importlib.import_module(f"addenda.cli.{file_of(verb)}")
        function, passes_on = getattr(module, file_of(verb)), getattr(module, "PASSES_ON", False)
        settings = {"ignore_unknown_options": True, "allow_extra_args": True} if passes_on else None
        further = {"further": staticmethod(module.further_options)} if hasattr(module, "further_options") else {}
        application.command(
            verb,
            cls=type("Verb", (Verb,), further),
            help=inspect.getdoc(function),
            context_settings=settings,
            add_help_option=not passes_on,
        )(function)
    return application


app = build()


def main() -> None:
    """The entry point `addenda`."""
    typer.main.get_command(app)(prog_name="addenda")
