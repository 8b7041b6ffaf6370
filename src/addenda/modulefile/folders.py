"""Folders of modules on this machine: listed with what their cards say, and deleted for good."""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from addenda.core.card import Card
from addenda.core.errors import FileError, meant
from addenda.core.files import check_place, sha256_of, shown
from addenda.modulefile.hub import RUNS, unfinished
from addenda.modulefile.storage import CARD, MEMBERS, TENSORS, read_card

#: how far below a given folder modules are looked for
DEEP = 4
#: what `addenda.train` and `addenda.memorize` leave in the folder beside a module
_OF_A_RUN = re.compile(r"log\.jsonl|finished\.json|lock|step-\d{8}|\.addenda-.*\.tmp")
_OF_A_STEP = ("state.safetensors", "state.json")


@dataclass(frozen=True)
class ListedModule:
    """What a module's card says, in short; where it cannot be read, `wrong` says why and the rest is empty."""

    path: Path
    bytes: int
    name: str = ""
    kind: str = ""
    base: str = ""
    fingerprint: str = ""
    parameters: int = 0
    tokens: int = 0
    """tokens trained on, of all runs together"""
    gate: str | None = None
    gain: float | None = None
    """nats per token learned of held-out text, the mean over texts; of a memory, of the text itself while it was read"""
    forgot: float | None = None
    """nats per token forgotten of other text, the worst of the texts"""
    created: str = ""
    gain_n: int | None = None
    """documents of the text that has the least of those behind `gain`"""
    forgot_n: int | None = None
    """the same of `forgot`"""
    wrong: str | None = None
    interrupted: bool = False
    """of a run that is not finished: there is no module yet, and `wrong` says how to go on"""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self) | {"path": str(self.path)}


@dataclass(frozen=True)
class DeletedModule:
    """What was deleted: each file's bytes and, of the module's own, its sha256; and the bytes of the run beside it."""

    path: Path
    files: Mapping[str, tuple[int, str]]
    run: Path | None = None
    run_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All that was freed."""
        return sum(size for size, _ in self.files.values()) + self.run_bytes

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        files = [{"file": name, "bytes": size, "sha256": digest} for name, (size, digest) in self.files.items()]
        run = None if self.run is None else {"path": str(self.run), "bytes": self.run_bytes}
        return {"deleted": str(self.path), "bytes": self.bytes, "files": files, "run": run}


def list_modules(*folders: str | Path) -> list[ListedModule]:
    """The modules under folders, by path; without any, those under `runs/`.

    Only cards are read. A folder whose card cannot be read is listed, with the reason; so is a run that was interrupted.

    Raises:
        FileError: a given folder is not there.
    """
    listed: dict[Path, ListedModule] = {}
    for folder in (Path(folder).expanduser() for folder in folders or (RUNS,)):
        if not folder.is_dir() and folders:
            what = "is a file" if folder.exists() else "is not there"
            raise FileError(f"the folder '{folder}' {what}{meant(folder) if not folder.exists() else ''}")
        for path in _cards(folder, DEEP):
            listed.setdefault(path.resolve(), _listed(path))
        for run in _runs(folder, DEEP):
            place = run.with_name(run.name.removesuffix(".run"))
            told = ListedModule(place, _size(run), name=place.name, wrong=unfinished(place), interrupted=True)
            listed.setdefault(run.resolve(), told)
    return sorted(listed.values(), key=lambda module: module.path)


def delete(folder: str | Path) -> DeletedModule:
    """Delete a module's folder, and the run beside it (`<folder>.run`), for good.

    Raises:
        FileError: as `check_deletable`; nothing is deleted then.
    """
    gone = check_deletable(folder)
    place = gone.path.resolve()
    for left in place.parent.glob(f".{glob.escape(place.name)}.deleted*"):  # by a call that was interrupted
        shutil.rmtree(left)
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.deleted", dir=place.parent))
    # gone at once: what is half deleted would still look like a module; its run goes first, or nobody would look for it
    for part in dict.fromkeys((gone.run, place)):
        if part is not None:
            part.rename(aside / part.name)
    shutil.rmtree(aside)
    return gone


def check_deletable(folder: str | Path) -> DeletedModule:
    """What `delete` would delete.

    Raises:
        FileError: it is no module's folder, nor that of a run alone (`<folder>.run`), or is a link; or it holds, or the run
            beside it does, what is not its own; or a process trains into it.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        what = "is a file" if path.exists() else "is not there"
        raise FileError(f"'{folder}' {what}, and a module is a folder{'' if path.exists() else meant(path)}")
    if path.is_symlink():
        raise FileError(f"'{folder}' is a link to '{os.path.realpath(path)}'; name that folder itself")
    beside = path.with_name(path.name.removesuffix(".run"))
    if path.suffix == ".run" and not (path / CARD).exists() and not (beside / CARD).exists():
        run = _checked_run(path.resolve())
        return DeletedModule(path, {}, run, _size(run))
    if not (path / CARD).is_file() or not (path / TENSORS).is_file():
        raise FileError(
            f"'{folder}' is no module's folder ({CARD} and {TENSORS} are not both there) and is left as it is"
        )
    try:
        check_place(path, MEMBERS)
    except FileError as error:
        raise FileError(str(error).removesuffix("; give a new or empty folder")) from None
    place = path.resolve()
    run = place.with_name(place.name + ".run")
    run = run if run.is_dir() and not run.is_symlink() else None
    if run is not None:
        _checked_run(run)
    files = {name: (size_of(path / name), sha256_of(path / name)) for name in MEMBERS if (path / name).is_file()}
    return DeletedModule(path, files, run, 0 if run is None else _size(run))


def _checked_run(run: Path) -> Path:
    """A run's folder.

    Raises:
        FileError: it holds what is not its own, nothing that tells it is one, or a process trains into it.
    """
    foreign = sorted(_foreign(run))
    if foreign:
        names = ", ".join(map(shown, foreign[:5]))
        raise FileError(f"'{run}' holds what no run of a module left there ({names}); move it away. Nothing is deleted")
    if not any(run.iterdir()):
        raise FileError(f"'{run}' is empty: no run of a module left anything there. Nothing is deleted")
    if (run / "lock").exists():
        lock = FileLock(run / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise FileError(f"a process is training into '{run}': stop it first. Nothing is deleted") from None
        lock.release()
    return run


def _foreign(run: Path) -> Iterator[str]:
    """What is not a run's own, in its folder and in its checkpoints."""
    for entry in run.iterdir():
        if not _OF_A_RUN.fullmatch(entry.name):
            yield entry.name
        elif entry.name.startswith("step-"):
            yield from (f"{entry.name}/{inside.name}" for inside in entry.iterdir() if inside.name not in _OF_A_STEP)


def size_of(path: Path) -> int:
    """Bytes of a file."""
    return path.stat().st_size


def _cards(folder: Path, deep: int) -> Iterator[Path]:
    """Folders with a card, in and under a folder; not in runs, hidden folders or links."""
    if not folder.is_dir():
        return
    if (folder / CARD).is_file():
        yield folder
        return
    if deep:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith(".") and entry.suffix != ".run":
                yield from _cards(entry, deep - 1)


def _runs(folder: Path, deep: int) -> Iterator[Path]:
    """Folders of runs that were not finished, in and under a folder."""
    if not folder.is_dir() or folder.is_symlink() or (folder / CARD).is_file():
        return
    for entry in sorted(folder.iterdir()):
        if entry.suffix == ".run" and unfinished(entry.with_name(entry.name.removesuffix(".run"))):
            yield entry
        elif deep and entry.is_dir() and not entry.name.startswith(".") and entry.suffix != ".run":
            yield from _runs(entry, deep - 1)


def _listed(path: Path) -> ListedModule:
    size = _size(path)
    try:
        card = read_card(path)
    except FileError as error:
        return ListedModule(path, size, wrong=str(error))
    return ListedModule(
        path=path,
        bytes=size,
        name=card.name,
        kind=card.kind,
        base=card.base.name,
        fingerprint=card.base.fingerprint,
        parameters=card.parameters,
        tokens=sum(run.tokens for run in card.training),
        gate=card.gate_name,
        gain=_mean(card, "learning", "online gain"),
        forgot=max((measure.value for measure in card.measures if measure.name == "forgetting"), default=None),
        created=card.created,
        gain_n=_least(card, "learning"),
        forgot_n=_least(card, "forgetting"),
    )


def _mean(card: Card, *names: str) -> float | None:
    values = [measure.value for measure in card.measures if measure.name in names]
    return sum(values) / len(values) if values else None


def _least(card: Card, name: str) -> int | None:
    return min((m.n for m in card.measures if m.name == name and m.n is not None), default=None)


def _size(folder: Path) -> int:
    return sum(size_of(file) for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
