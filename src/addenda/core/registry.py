"""Finds methods by stage and name: one file in a stage's folder is one method, and no list names it.

A method is a frozen dataclass of options, below its stage's contract, in a file of its own: in `addenda/kinds`,
`addenda/objectives` and so on, or in a package of somebody else's that names its module in the entry point group
`addenda.methods`. What such a package breaks is left out with a warning, and an error only where it is asked for.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from addenda.core.brought import brought
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, known
from addenda.core.method import Method

M = TypeVar("M", bound=Method)


@dataclass(frozen=True)
class Stage:
    """Where methods may stand: the folder of the package's own, what one of them decides, and how it is asked for."""

    folder: str
    decides: str
    asked: str


STAGES = {
    "kind": Stage("kinds", "what stands beside the base", "`--kind LoRA`, `base.new(name, addenda.LoRA(rank=8))`"),
    "gate": Stage(
        "gates", "for which tokens the whole module acts", '`--gate document`, `base.new(name, kind, gate="document")`'
    ),
    "objective": Stage("objectives", "what a predicted token costs in training", "`--objective distill`"),
    "penalty": Stage(
        "penalties",
        "what training pays for changing what was there before",
        '`--set penalty=ewc`, `train(..., penalty="ewc(weight=10)")`',
    ),
    "optimizer": Stage(
        "optimizers",
        "how parameters follow their gradients",
        '`--set optimizer=galore`, `train(..., optimizer="galore(rank=16)")`',
    ),
    "write": Stage(
        "writes",
        "how a text that is read once gets into a module",
        '`--set write=gradient`, `memorize(..., write="closed")`',
    ),
    "router": Stage(
        "routers",
        "which modules a prompt is answered with",
        '`addenda route`, `addenda.route(base, prompts, "nearest")`',
    ),
    "combiner": Stage(
        "combiners",
        "how several modules become one",
        '`addenda combine`, `addenda.combine(base, names, "ties", name=...)`',
    ),
    "compressor": Stage(
        "compressors",
        "how a module becomes smaller",
        '`addenda compress`, `addenda.compress(base, name, "svd", text=...)`',
    ),
    "forgetter": Stage(
        "forgetters",
        "how a module loses what it should not know",
        "`addenda forget`, `addenda.forget(base, name, ...)`",
    ),
    "text memory": Stage(
        "remembering",
        "which text is put in the window before a prompt",
        "`base.new(name, addenda.HEMA())`, `base.remember(name, text)`, `addenda chat --remember FOLDER --memory-kind HEMA`",
    ),
    "exercise": Stage("exercises", "what a study set asks of a document", "`addenda study`, `addenda teach`"),
    "measure": Stage(
        "measuring/measures",
        "what is found out of a base and what its modules do",
        "`addenda evaluate`, `addenda.evaluate(base, texts, modules, ...)`, by its first option",
    ),
}


class Methods(dict[str, type[Method]]):
    """Methods by name; and in words what other packages failed to bring, and which names they brought a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[str] = []
        self.twice: dict[str, str] = {}


@cache
def methods(stage: str) -> Methods:
    """Every method of a stage by its name, sorted; without what other packages bring wrongly, or under a name that is taken.

    Raises:
        AddendaError: there is no such stage.
    """
    if stage not in STAGES:
        raise AddendaError(f"there is no stage '{stage}'; stages are {known(stage, STAGES)}")
    found, all_of = Methods(), {method.called(): method for method in _own(stage)}
    for one in brought(STAGES):
        found.broken += [f"{one.whose}: {wrong}; it is left out" for wrong in one.wrong]
        for method in (method for method in one.methods if method.stage == stage):
            other = all_of.setdefault(method.called(), method)
            if other is not method:
                places = f"{other.__module__} and {method.__module__}"
                said = f"two methods of the stage '{stage}' are called '{method.called()}': in {places}"
                found.twice[method.called()] = f"{said}, by {one.whose}"
                warnings.warn(f"{found.twice[method.called()]}; the second is left out", UserWarning, stacklevel=2)
    found.update(sorted(all_of.items()))
    return found


def _own(stage: str) -> Iterator[type[Method]]:
    """This package's own methods of a stage: no contract, and nothing that a file imports."""
    package = importlib.import_module(f"addenda.{STAGES[stage].folder.replace('/', '.')}")
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__ and not inspect.isabstract(value)
            if own and issubclass(value, Method) and is_dataclass(value) and value.stage == stage:
                yield value


def brought_by(method: type[Method]) -> str | None:
    """The package, with its version, that brings a method; None for this one's own, and where no entry point names it."""
    return next((one.package for one in brought(STAGES) if method in one.methods), None)


def named(stage: str, name: str) -> type[Method]:
    """The method of a stage under a name, however it is spelled: `NeutralResidues`, `neutral_residues`, `neutral-residues`.

    Raises:
        AddendaError: no such method, or two; the message lists those there are, and what packages failed to bring.
    """
    plain, found = re.sub(r"[-_]", "", name).lower(), methods(stage)
    for called, method in found.items():
        if re.sub(r"[-_]", "", called).lower() == plain:
            if called in found.twice:
                raise AddendaError(f"{found.twice[called]}; remove one of them")
            return method
    broken = "".join(f"; {said}" for said in found.broken)
    hint = _option_of_another(stage, name)
    if stage == "kind" and methods("text memory"):  # these are modules too, and asked for in the same places
        hint += f"; text memories are {', '.join(methods('text memory'))}"
    raise AddendaError(f"no {stage} is called '{name}'; there are {known(name, found)}{hint}{broken}")


def _option_of_another(stage: str, name: str) -> str:
    """Whose option a name is, where a method of another stage has an option called as the stage: a kind's own gate."""
    whose: list[str] = []
    for other in STAGES if stage in STAGES else ():
        for called, method in methods(other).items() if other != stage else ():
            if stage not in {field.name for field in fields(cast("Any", method))}:
                continue
            with suppress(NameError, TypeError):  # annotations of another package's that cannot be read
                if name in get_args(get_type_hints(method).get(stage)):
                    whose.append(called)
    if not whose:
        return ""
    first = f"{whose[0]}({stage}={name!r})"
    return f"; '{name}' is an option of {' and '.join(whose)} itself: {first}, or --set {stage}={name}"


def build(stage: str, name: str, options: Mapping[str, Any]) -> Method:
    """The method of a stage with options, checked.

    Raises:
        AddendaError: no such method, an unknown option, or a value of the wrong type.
    """
    method = named(stage, name)
    allowed = {field.name for field in fields(cast("Any", method))}
    for option in options:
        if option not in allowed:
            raise AddendaError(f"{method.called()} has no option '{option}'; its options are {known(option, allowed)}")
    try:
        made = TypeAdapter(method).validate_python(dict(options))
    except ValidationError as error:
        wrong, whose = "; ".join(map(_told, error.errors())), f"{method.called()}: "
        raise AddendaError(wrong if wrong.startswith(whose) else whose + wrong) from None
    check_flags(made, options, lambda option: f"{method.called()}: {option}")
    return made


def _told(error: Any) -> str:
    """What pydantic found wrong, in words; what a method says of itself, as it says it."""
    said = error["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, error['loc']))}: {said}" if error["loc"] else said


def check_flags(made: Any, given: Mapping[str, Any], called: Callable[[str], str]) -> None:
    """Refuse True or False where it was read as a number, as `rank=True` for a rank of 1.

    Raises:
        AddendaError: names the field, as `called` calls it.
    """
    for name, value in given.items():
        if isinstance(value, bool) and not isinstance(getattr(made, name), bool):
            raise AddendaError(f"{called(name)} is a number, and not {value}")


def asked_for(contract: type[M], words: Any) -> M:
    """A stage's method from how people write it: itself, a name, or a name with options in Python's form: `galore(rank=16)`.

    Raises:
        AddendaError: it is neither; no such method, an unknown option or one given twice, or a value of the wrong type.
    """
    stage = contract.stage
    if isinstance(words, contract):
        return words
    if not isinstance(words, str):
        there = ", ".join(methods(stage))
        raise AddendaError(f"{stage} is a name ({there}), with options if need be, such as x(rank=16); got {words!r}")
    name, options = options_from(stage, words)
    return cast("M", build(stage, name, options))


def options_from(whose: str, words: str) -> tuple[str, dict[str, Any]]:
    """The name, and the options after it in Python's form, of what people write: `galore(rank=16)`.

    Raises:
        AddendaError: the options are not plain ones, each once; says `whose` they are.
    """
    name, paren, rest = words.partition("(")
    options = _options_in(f"f({rest}") if paren else {}
    if options is None:
        raise AddendaError(f"options of {whose} are written as in x(rank=16, by='text'), each once; got '{words}'")
    return name.strip(), options


def names_in(words: str) -> list[str]:
    """Names joined by commas, each with its options: commas between these part nothing."""
    names, depth = [""], 0
    for sign in words:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth <= 0:
            names.append("")
        else:
            names[-1] += sign
    return [name.strip() for name in names if name.strip()]


def _options_in(call: str) -> dict[str, Any] | None:
    """The keywords of one plain call, written in Python; None where it is anything else, so that nothing is passed over."""
    try:
        told = ast.parse(call.strip(), mode="eval").body
        if not isinstance(told, ast.Call) or not isinstance(told.func, ast.Name) or told.args:
            return None
        if ast.get_source_segment(call, told) != call.strip():  # a comment after it
            return None
        options = {word.arg: ast.literal_eval(word.value) for word in told.keywords if word.arg is not None}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return options if len(options) == len(told.keywords) else None


def kinds() -> dict[str, type[Kind]]:
    """Every kind by its class name."""
    return cast("dict[str, type[Kind]]", methods("kind"))


def kind_named(name: str) -> type[Kind]:
    """The kind class for `NeutralResidues`, `neutral_residues` or `neutral-residues`.

    Raises:
        AddendaError: no such kind; the message lists those there are.
    """
    return cast("type[Kind]", named(_stage_of(name), name))


def _stage_of(kind: str) -> str:
    """The stage that a card's kind is of: a text memory is a module too."""
    plain = re.sub(r"[-_]", "", kind).lower()
    return "text memory" if plain in {called.lower() for called in methods("text memory")} else "kind"


def build_kind(name: str, options: Mapping[str, Any]) -> Kind:
    """The kind `name` with `options`, checked.

    Raises:
        AddendaError: no such kind, an unknown option, or a value of the wrong type.
    """
    return cast("Kind", build(_stage_of(name), name, options))


def plain_options(method: Method) -> dict[str, Any]:
    """The options of a method as JSON gives them back: lists for tuples."""
    options = options_of(method)
    return options | {
        name: list(cast("tuple[Any, ...]", value)) for name, value in options.items() if isinstance(value, tuple)
    }


def options_of(method: Method) -> dict[str, Any]:
    """The options of a method as plain data, for a card."""
    return {field.name: getattr(method, field.name) for field in fields(cast("Any", method))}


def recorded(method: Method) -> dict[str, Any]:
    """A method as a card has it: its name and its options, as JSON gives them back."""
    return {"name": method.called(), **plain_options(method)}


def written(method: Method) -> str:
    """A method as people write it: its name, with the options that are not their defaults, nor follow from others."""
    chosen = {field.name: field.default for field in fields(cast("Any", method))}
    given = {name: getattr(method, name) for name, default in chosen.items() if getattr(method, name) != default}
    for name in [name for name, default in chosen.items() if name in given and default is None]:
        others = {other: value for other, value in given.items() if other != name}
        if type(method)(**others) == method:
            given = others
    return method.called() + (f"({', '.join(f'{name}={value!r}' for name, value in given.items())})" if given else "")
