"""What a measure promises: inputs opened before anything runs, what is read, what was found, tables, lines on a card."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from addenda.core import card
from addenda.core.errors import AddendaError
from addenda.core.method import Method
from addenda.telling.intervals import Interval
from addenda.text.texts import Texts

if TYPE_CHECKING:
    from addenda.plug.base import Base


@dataclass(frozen=True)
class Flag:
    """How an option is given to `addenda evaluate`: its flag, its help, what it takes, and at least how much of it.

    `takes`: a `text`; a `file`; `texts`, repeated; `named` ones, NAME=FILE; nothing, a `switch`; a `number`; or one of `tokens`.
    """

    help: str
    takes: Literal["text", "file", "texts", "named", "switch", "number", "tokens"] = "text"
    name: str | None = None
    least: int = 1
    default: Any = None


def option(help: str, takes: Any = "text", name: str | None = None, *, least: int = 1, default: Any = None) -> Any:
    """An option of a measure, with its flag; measures that have one of the same name share it."""
    default = False if takes == "switch" else default
    return field(default=default, metadata={"flag": Flag(help, takes, name, least, default)})


def limit() -> Any:
    """The option by which fewer questions are asked."""
    return option("Ask so many questions of each set.", "number")


@dataclass(frozen=True)
class Acting:
    """A base, the modules that act in it with their weights (none: the base alone), and what measures before found `moved`.

    The base's own selection is put back after; each module was seen to run before anything is measured.
    """

    base: Base
    weights: dict[str, float]
    moved: dict[str, Interval] = field(default_factory=dict[str, Interval])


@dataclass(frozen=True)
class Opened:
    """What a measure will read: `inputs` as it likes, `texts` by what they are for, and what files are called (`sources`).

    Of texts it is told where a module was trained on them.
    """

    inputs: Any
    texts: Mapping[str, Texts] = field(default_factory=dict[str, Texts])
    sources: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Reading:
    """About so many tokens are read, off and on counted; each costs so many times a token that is scored."""

    what: str
    tokens: int
    each: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table of what was found: numbers stand to the right of a first column of words; or words alone (`prose`)."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str | None = None
    prose: bool = False


class Measure(Method):
    """Options of one measure; a subclass is a frozen dataclass in a file of its own, in `measures/`.

    It is asked for where its first option is given, in Python or on the command line, by the same name. All that is asked for is
    opened first. `name` is where it stands in the JSON.
    """

    stage = "measure"

    #: where it stands among the others, in running and in telling
    place: ClassVar[int] = 100
    #: whether it says what modules do, so that there is none of the base alone
    of_modules: ClassVar[bool] = False
    #: whether it asks in words, for which a base needs a tokenizer
    in_words: ClassVar[bool] = False
    #: what was found where it was not asked for
    nothing: ClassVar[Any] = None

    @property
    def asked(self) -> bool:
        """Whether its first option was given: no None, no False, no tuple or mapping of nothing."""
        given = getattr(self, leading(self))
        return given is not None and given is not False and (bool(given) or not isinstance(given, tuple | Mapping))

    @abstractmethod
    def open(self, acting: Acting) -> Opened:
        """Read or look at all that is needed, so that no mistake is found after an hour; nothing is scored.

        Raises:
            AddendaError: options do not fit together or the base, or a package is missing.
            DataError: an input cannot be read, is not of its form, or is too short.
        """

    @abstractmethod
    def reads(self, acting: Acting, opened: Opened) -> Iterable[Reading]:
        """What will be read, for a plan; rough, and quick to tell."""

    @abstractmethod
    def run(self, acting: Acting, opened: Opened) -> Any:
        """Measure what `open` gave; what is found says of itself what it is (`as_dict`), or is a tuple or mapping of such."""

    @abstractmethod
    def rows(self, found: Any, base: str, label: str) -> Iterable[Table]:
        """Tables of what was found, of a base and of modules by what they are called."""

    def record(self, found: Any, sources: Mapping[str, str]) -> Iterable[card.Measure]:
        """What goes into a module's card; `sources` has what files are called. Default: nothing."""
        return ()

    def moved(self, found: Any) -> Mapping[str, Interval]:
        """What it found that modules move besides what they are for, in words and unit, for a certificate."""
        return {}

    def files(self, found: Any) -> Mapping[str, Callable[[Path], None]]:
        """What is written beside the folder of a module that is saved: what writes it, by how its name ends."""
        return {}


def offered(measures: Mapping[str, type[Measure]]) -> dict[str, Flag]:
    """The flags of measures by their options' names; those that give an input first. What several say of one is put together."""
    found: dict[str, Flag] = {}
    first = {leading(measure) for measure in measures.values()}
    for measure in measures.values():
        for one in fields(cast("Any", measure)):
            flag = one.metadata.get("flag")
            if flag is None:
                continue
            before = found.setdefault(one.name, flag)
            if flag.help not in before.help:
                found[one.name] = replace(before, help=f"{before.help} {flag.help}")
    return dict(sorted(found.items(), key=lambda item: item[0] not in first))


def leading(measure: Measure | type[Measure]) -> str:
    """The option that asks for a measure: its first."""
    return fields(cast("Any", measure))[0].name


def check_sizes(measure: Measure) -> None:
    """Refuse numbers that are too small.

    Raises:
        AddendaError: one is; says which.
    """
    for one in fields(cast("Any", measure)):
        flag, value = one.metadata.get("flag"), getattr(measure, one.name)
        if flag is None or flag.takes not in ("number", "tokens") or value is None:
            continue
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < flag.least:
            raise AddendaError(f"{one.name} must be a whole number from {flag.least}; got {value!r}")
