"""A module's folder: saved whole or not at all, loaded without trust, every mistake in one error."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from pydantic import ValidationError
from torch import Tensor, nn

from addenda.core.card import SCHEMA, BaseRecord, Card
from addenda.core.errors import AddendaError, FileError, UnsupportedError
from addenda.core.files import MAX_JSON, read_json, refuse, replace_folder, several, sha256_of, shown, write_text
from addenda.core.module import KnowledgeModule, check_name
from addenda.core.registry import brought_by, options_of
from addenda.core.site import Anatomy, Seam
from addenda.modulefile.building import compare_specs, filled, kind_of, skeleton, specs_of
from addenda.modulefile.modelcard import NAMED, render
from addenda.modulefile.other_base import difference
from addenda.modulefile.remembered import MEMORY, read_memory, write_memory
from addenda.modulefile.side import SIDE, read_side, write_side
from addenda.modulefile.tensorfile import Header, finite, pieces, read_header, read_tensors, write_tensors

TENSORS, CARD, README = "module.safetensors", "card.json", "README.md"
MEMBERS = (CARD, TENSORS, SIDE, MEMORY, README)
#: the values of a file that is wrong already are looked at only up to this size
_LOOK_ANYWAY = 256 << 20
#: what a module's tensor file says of itself
_MARKS = {"format": "addenda", "schema": str(SCHEMA)}
#: hashes of modules as they were at a version of theirs
_DIGESTS: WeakKeyDictionary[KnowledgeModule, tuple[Any, str]] = WeakKeyDictionary()

__all__ = [
    "CARD",
    "MEMBERS",
    "README",
    "TENSORS",
    "check_base",
    "described",
    "digest_of",
    "load_folder",
    "load_module",
    "read_card",
    "save_module",
]


class Place(Protocol):
    """What a folder's reader asks of the base that its module is for."""

    name: str

    @property
    def anatomy(self) -> Anatomy:
        """Sizes and sites."""
        ...

    @property
    def fingerprint(self) -> str:
        """As cards have it."""
        ...

    def record(self) -> BaseRecord:
        """What a card says of it."""
        ...

    def submodules(self) -> Mapping[str, nn.Module]:
        """The model's submodules by path."""
        ...

    def refusal(self, seam: Seam) -> str | None:
        """Why it cannot host what stands at a seam; None where it can."""
        ...


# --- saving ----------------------------------------------------------------------------------------------------------


def save_module(module: KnowledgeModule, folder: str | Path, source: str | None = None) -> Path:
    """Write a module's folder, whole or not at all: `module.safetensors`, `card.json`, `README.md`, and side tensors.

    Replaces an existing module folder, accepts an empty one. `source` is what the README tells readers to plug.

    Raises:
        FileError: the folder holds something else, there is no space, or a tensor holds NaN; nothing is changed then.
    """
    folder = Path(folder)
    tensors = module.tensors()
    broken = [name for name, tensor in [*tensors.items(), *module.side.items()] if not finite(tensor)]
    if broken:
        raise FileError(f"module '{module.name}' is not written: NaN or infinite values in {several(broken)}")
    size = sum(tensor.numel() * tensor.itemsize for tensor in [*tensors.values(), *module.side.values()])

    def fill(new: Path) -> None:
        digest = write_tensors(new / TENSORS, tensors, _MARKS)
        side, memory = write_side(new, module.side, SCHEMA), write_memory(new, module.memory)
        card = described(module, sha256=digest, side_sha256=side, memory_sha256=memory)
        write_text(new / CARD, _card_text(card))
        write_text(new / README, render(card, source or _told_path(folder)))

    replace_folder(folder, MEMBERS, fill, size + (1 << 20))
    return folder


def digest_of(module: KnowledgeModule) -> str:
    """The hash that `module.safetensors` would have, were the module saved as it is; computed once for each state of it."""
    state, known = module.version(), _DIGESTS.get(module)
    if known is None or known[0] != state:
        sha = hashlib.sha256()
        for piece in pieces(module.tensors(), _MARKS):
            sha.update(piece)
        known = _DIGESTS[module] = state, sha.hexdigest()
    return known[1]


def _told_path(folder: Path) -> str | None:
    """A folder as its README may tell it: under the working folder, for any other path is nobody else's business."""
    return folder.as_posix() if not folder.is_absolute() and ".." not in folder.parts else None


def described(module: KnowledgeModule, **more: Any) -> Card:
    """The module's card with what the module itself knows better: kind, options, size, probe, versions."""
    versions = {name: _version(name) for name in ("addenda", "safetensors", "torch", "transformers")}
    package = brought_by(type(module.kind))
    return module.card.model_copy(
        update={
            "schema_version": SCHEMA,
            "name": module.name,
            "kind": type(module.kind).__name__,
            "config": options_of(module.kind),
            "parameters": module.size(),
            "probe": module.probe,
            "awaits_text": module.awaits_text,
            "versions": versions if package is None else versions | {"kind": package},
            **more,
        }
    )


def _card_text(card: Card) -> str:
    try:
        text = card.model_dump_json(indent=2) + "\n"
    except ValueError as error:
        raise FileError(f"the card of '{card.name}' cannot be written as JSON: {error}") from error
    size = len(text.encode())
    if size > MAX_JSON:
        raise FileError(f"the card of '{card.name}' has {size:,} bytes; the limit is {MAX_JSON:,}")
    return text


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from its source
        return "unknown"


# --- loading ---------------------------------------------------------------------------------------------------------


def load_module(folder: Path, base: Place, *, name: str | None = None, check: str = "error") -> KnowledgeModule:
    """The module in a folder, built for `base`, on the CPU and in the dtype of the file.

    Nothing is allocated before names, shapes and dtypes are known to be those of the card's kind on this base.

    Args:
        folder: a module's folder.
        base: the base it is to be plugged into.
        name: what it is called; default: the card's name.
        check: what to do where the card's base is another: "error", "warn" or "off".

    Raises:
        FileError: lists everything wrong: the folder, the header, the card, the base, tensors missing, extra or
            mis-shaped, values that are not finite.
        UnsupportedError: the base cannot host the kind.
    """
    if name is not None:
        check_name(name)
    problems: list[str] = []
    card = _read_card(folder, problems)
    header = _read_header(folder, problems)
    module = kind = None
    if card is not None:
        other = check != "off" and _check_base(card, base.fingerprint, check, problems, base.record)
        kind = kind_of(card, problems)
        if other and check == "error":
            header = None  # on a base of another shape nothing can fit: that is one thing wrong, not seventy
        elif kind is not None:
            refusal = base.refusal(kind.seam)
            if refusal is None:
                module = skeleton(kind, card, base.anatomy, name, problems)
            elif problems:
                problems.append(f"{card.kind} on {base.name}: {refusal}")
            else:
                raise UnsupportedError(f"{card.kind} on {base.name}: {refusal}")
    wanted = list(header.specs) if header is not None else []
    if module is not None and header is not None:
        expected = specs_of(module.tensors())
        compare_specs(header.specs, expected, problems)
        wanted = [
            key for key in wanted if expected.get(key) is not None and header.specs[key].shape == expected[key].shape
        ]
    tensors = _read_values(folder, card, wanted, problems) if header is not None else {}
    side = read_side(folder, card.side_sha256 if card is not None else None, problems)
    memory = read_memory(folder, card.memory_sha256 if card is not None else None, kind, problems)
    if problems:
        refuse(f"cannot load '{folder}'", problems)
    assert module is not None
    module.side, module.memory, module.writer = side, memory, save_module
    return filled(module, tensors)


def read_card(folder: Path) -> Card:
    """The card in a module's folder, and nothing else of it.

    Raises:
        FileError: lists everything wrong with it.
    """
    problems: list[str] = []
    card = _read_card(folder, problems)
    if problems or card is None:
        refuse(f"cannot read the card of '{folder}'", problems)
    return card


@dataclass(frozen=True)
class Saved:
    """What a module's folder holds: card, tensors, those that stand beside it, and what a text memory remembers."""

    card: Card
    tensors: dict[str, Tensor]
    side: dict[str, Tensor]
    memory: dict[str, Any] | None


def load_folder(folder: Path) -> Saved:
    """What a module's folder holds, checked as far as it can be without a base.

    Raises:
        FileError: lists everything wrong.
    """
    problems: list[str] = []
    card = _read_card(folder, problems)
    header = _read_header(folder, problems)
    kind = None if card is None else kind_of(card, problems)
    tensors = _read_values(folder, card, list(header.specs), problems) if header is not None else {}
    side = read_side(folder, None if card is None else card.side_sha256, problems)
    memory = read_memory(folder, None if card is None else card.memory_sha256, kind, problems)
    if problems or card is None:
        refuse(f"cannot load '{folder}'", problems)
    return Saved(card, tensors, side, memory)


def check_base(card: Card, fingerprint: str, how: str = "error") -> None:
    """Compare the base a card was made for with the one at hand; `how` is "error", "warn" or "off".

    Raises:
        FileError: it is another, and `how` is "error".
    """
    problems: list[str] = []
    _check_base(card, fingerprint, how, problems)
    if problems:
        refuse(f"module '{card.name}'", problems)


def _check_base(
    card: Card, fingerprint: str, how: str, problems: list[str], here: Callable[[], BaseRecord] | None = None
) -> bool:
    """Note, or warn, that the base is another; whether it is one of another shape. `here` describes the one at hand."""
    if how not in ("error", "warn", "off"):
        raise AddendaError(f"check is 'error', 'warn' or 'off'; got {how!r}")
    if how == "off" or card.base.fingerprint == fingerprint:
        return False
    # without a record of its own: as if nothing but the weights were known to differ
    ours = here() if here is not None else card.base.model_copy(update={"fingerprint": fingerprint, "body": None})
    differing = difference(card.base, ours)
    problem = (
        f"wrong base: it was made for {shown(card.base.name)} (fingerprint {_short(card.base.fingerprint)}), and this "
        f"is {shown(ours.name)} ({_short(fingerprint)}): {differing.words}"
    )
    if card.base.name in NAMED and ours.name != card.base.name:
        problem += f"; load the base it was made for: --base {card.base.name} (addenda.load_base({card.base.name!r}))"
    if how == "error":
        problems.append(problem)
    else:
        warnings.warn(f"module '{card.name}': {problem}", UserWarning, stacklevel=4)
    return differing.architecture


def _short(fingerprint: str) -> str:
    return ascii(fingerprint)[1:-1][:16] + "..."


def _read_card(folder: Path, problems: list[str]) -> Card | None:
    raw = read_json(folder, CARD, problems)
    if raw is None:
        return None
    schema = raw.get("schema_version")
    if type(schema) is not int or schema < 1:
        problems.append(f"{CARD}: schema_version is {shown(schema)}; it is a whole number from 1")
        raw["schema_version"] = SCHEMA
    elif schema > SCHEMA:
        problems.append(f"{CARD} has schema {schema}, and this version reads schemas up to {SCHEMA}; upgrade addenda")
    try:
        return Card.model_validate(raw)
    except ValidationError as error:
        for wrong in error.errors(include_url=False, include_input=False)[:20]:
            where = ".".join(shown(part)[1:-1] if isinstance(part, str) else str(part) for part in wrong["loc"])
            problems.append(f"{CARD}: {where}: {wrong['msg']}")
        return None


def _read_header(folder: Path, problems: list[str]) -> Header | None:
    header = read_header(folder, TENSORS, problems)
    if header is None:
        return None
    written, schema = header.metadata.get("format"), header.metadata.get("schema", "")
    if written != "addenda":
        problems.append(f"{TENSORS} is not a module's: its metadata says format {shown(written)}, not 'addenda'")
    elif not schema.isdecimal() or len(schema) > 9:
        problems.append(f"{TENSORS}: its metadata says schema {shown(schema)}; it is a whole number")
    elif int(schema) > SCHEMA:
        problems.append(f"{TENSORS} has schema {int(schema)}, and this version reads up to {SCHEMA}; upgrade addenda")
    return header


def _read_values(folder: Path, card: Card | None, wanted: list[str], problems: list[str]) -> dict[str, Tensor]:
    """Tensors whose spec is sound; compares the file's hash with the card's."""
    path = folder / TENSORS
    if problems and path.stat().st_size > _LOOK_ANYWAY:
        return {}
    if card is not None and card.sha256 is not None:
        digest = sha256_of(path)
        if digest != card.sha256:
            problems.append(
                f"{TENSORS} is not the file that {CARD} describes: its sha256 is {_short(digest)}, "
                f"the card says {_short(card.sha256)}"
            )
    return read_tensors(folder, TENSORS, wanted, problems)
