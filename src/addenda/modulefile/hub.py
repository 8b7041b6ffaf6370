"""The hub: modules found, fetched and published through huggingface_hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.card import Card
from addenda.core.errors import AddendaError, FileError, meant, near
from addenda.core.files import shown, write_text
from addenda.modulefile.modelcard import render
from addenda.modulefile.storage import CARD, MEMBERS, README, load_folder, save_module

if TYPE_CHECKING:
    from addenda.core.module import KnowledgeModule

# all that is ever fetched: a module's folder, or a PEFT one; never a pickle
_WANTED = (*MEMBERS, "adapter_model.safetensors", "adapter_config.json")
_CLIENTS = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2")
#: where the commands put what they make unless told otherwise
RUNS = Path("runs")
_OWN = frozenset(MEMBERS) | {".gitattributes"}


def resolve(folder_or_repo: str | Path, revision: str | None = None) -> Path:
    """The folder of a module: a local folder if there is one, else a snapshot of the hub repository of that name.

    Of a repository only the module's own files are fetched.

    Raises:
        FileError: there is neither; says what was tried and what to do.
    """
    local = Path(folder_or_repo).expanduser()
    if local.is_dir():
        if revision is not None:
            raise FileError(
                f"'{folder_or_repo}' is a folder here, and revision={revision!r} belongs to a hub repository"
            )
        _check_is_module(local, str(folder_or_repo))
        return local
    if local.exists():
        raise FileError(f"'{folder_or_repo}' is a file; a module is a folder with card.json and module.safetensors")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    name = str(folder_or_repo)
    stopped = unfinished(local)
    if stopped is not None:
        raise FileError(f"there is no module in '{name}' yet: {stopped}")
    close = _near(local)
    if close is not None:
        raise FileError(f"there is no folder '{name}'; did you mean '{close}'?")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise FileError(f"there is no folder '{folder_or_repo}', and it is not a hub id (owner/name) either") from None
    with _telling(f"there is no folder '{name}' here, and from the hub it cannot be had", revision):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(_WANTED)))
    if not any((folder / wanted).exists() for wanted in ("card.json", "adapter_config.json")):
        raise FileError(f"the hub repository '{name}' holds no module: neither card.json nor adapter_config.json")
    return folder


def _check_is_module(folder: Path, name: str) -> None:
    """Say what a folder is that is plainly something else than a module's; what is wrong inside one is told later."""
    if any((folder / file).exists() for file in ("card.json", "module.safetensors", "adapter_config.json")):
        return
    stopped = unfinished(folder.with_name(folder.name.removesuffix(".run"))) if folder.suffix == ".run" else None
    if stopped is not None:
        raise FileError(f"'{name}' holds a run's checkpoints, not a module: {stopped}")
    if (folder / "config.json").exists():
        raise FileError(f"'{name}' holds a model, not a module; load it as the base (--base)")
    inside = sorted(card.parent.name for card in folder.glob("*/card.json"))
    if inside:
        raise FileError(
            f"'{name}' is no module's folder; in it are {', '.join(str(Path(name, child)) for child in inside[:8])}"
        )


def unfinished(place: Path) -> str | None:
    """What is to be done about the run beside a module's folder that was not finished; None where there is none."""
    run = place.with_name(f"{place.name}.run") if place.name else place
    steps = sorted(int(entry.name[5:]) for entry in run.glob("step-*") if entry.name[5:].isdigit())
    if not steps or (run / "finished.json").exists() or (place / CARD).exists():
        return None
    return (
        f"{run} was interrupted after step {steps[-1]:,}: the same command with --resume goes on, with --finish keeps the "
        f"module as it was then; addenda delete {run} removes it"
    )


def _near(local: Path) -> Path | None:
    """A module's folder with nearly the name of one that is not there: beside it, or among the runs made here."""
    places = (local,) if local.is_absolute() else (local, RUNS / local)
    return next((close for place in places if (close := near(place)) and (close / "card.json").exists()), None)


def push_to_hub(
    module: KnowledgeModule,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    message: str | None = None,
) -> str:
    """Publish a module's folder as a hub repository, made if it does not exist; returns the address of the commit.

    Args:
        module: as `base.modules[name]` gives it.
        repo_id: `owner/name`.
        private: whether a new repository is private; None leaves it to the owner's setting.
        revision: the branch to write to; default: main.
        token: as huggingface_hub takes it; None uses the stored login.
        message: of the commit.

    Raises:
        FileError: the repository holds something else than a module, or the hub refuses; says what to do.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_module(module, Path(temporary) / "module", source=repo_id)
        return _upload(folder, module.name, repo_id, private=private, revision=revision, token=token, message=message)


@dataclass(frozen=True)
class Publication:
    """What goes to the hub, and once it is there, the address of the commit."""

    folder: Path
    repo_id: str
    private: bool
    card: Card
    files: Mapping[str, int]
    url: str | None = None

    def __str__(self) -> str:
        seen = "private" if self.private else "for everyone to see"
        files = ", ".join(f"{name} ({size:,} bytes)" for name, size in self.files.items())
        lines = [
            f"'{self.folder}' goes to {self.repo_id}, {seen} if the repository is new: {files}",
            f"module {self.card.name}, {self.card.kind}, {self.card.parameters:,} parameters, "
            f"for the base {self.card.base.name}; licence: {self.card.licence or 'not stated'}",
        ]
        texts = list(dict.fromkeys(text.name for run in self.card.training for text in run.data))
        return "\n".join(lines + ([f"its card names the texts {', '.join(texts)}"] if texts else []))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = {"folder": str(self.folder), "repository": self.repo_id, "private": self.private, "url": self.url}
        return plain | {"module": self.card.name, "licence": self.card.licence, "files": dict(self.files)}


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    token: str | bool | None = None,
    message: str | None = None,
    tell: Callable[[Publication], object] | None = None,
) -> Publication:
    """Publish a saved module as a hub repository, made if it does not exist.

    Its tensors and card go as they stand; the README is written anew, for it says what to plug.

    Args:
        folder: a module's folder on this machine.
        repo_id: `owner/name`.
        private: whether a new repository is private; one that is there stays as it is.
        revision: the branch to write to; default: main.
        token: as huggingface_hub takes it; None uses the stored login.
        message: of the commit.
        tell: is told what will be published, before anything is sent; what it raises stops it.

    Raises:
        FileError: it is no module's folder, or malformed; the repository holds something else than a module, or the hub
            refuses; says what to do.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileError(f"there is no folder '{folder}'{meant(place)}")
    card = load_folder(place).card  # whole, and what its card says
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        held = [name for name in MEMBERS if name != README and (place / name).exists()]
        for name in held:
            shutil.copyfile(place / name, made / name)
        write_text(made / README, render(card, repo_id))
        files = {name: (made / name).stat().st_size for name in (*held, README)}
        plan = Publication(place, repo_id, private, card, files)
        if tell is not None:
            tell(plan)
        url = _upload(made, card.name, repo_id, private=private, revision=revision, token=token, message=message)
    return replace(plan, url=url)


def _upload(
    folder: Path,
    name: str,
    repo_id: str,
    *,
    private: bool | None,
    revision: str | None,
    token: str | bool | None,
    message: str | None,
) -> str:
    """Send a module's files; returns the address of the commit."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="addenda", token=token)
    with _telling(f"cannot publish '{name}' as '{repo_id}'", revision):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        foreign = sorted(set(api.list_repo_files(repo_id, revision=revision)) - _OWN)
        if foreign:
            names = ", ".join(map(shown, foreign[:5]))
            raise FileError(
                f"the hub repository '{repo_id}' holds what is not a module's ({names}) and is left as it is; "
                "choose another name"
            )
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=list(MEMBERS),
            revision=revision,
            commit_message=message or f"Module {name}",
        )
    return str(commit.commit_url)


@contextmanager
def _telling(what: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's many errors into a FileError with the remedy; any other error passes as it is."""
    try:
        yield
    except AddendaError:
        raise
    except Exception as error:
        reason = _reason(error, revision)
        if reason is None:
            raise
        raise FileError(f"{what}: {reason}") from error


def _reason(error: Exception, revision: str | None) -> str | None:
    """What went wrong and what to do about it; None where it is no error of the hub or the network."""
    from huggingface_hub import constants, errors

    chain: list[BaseException] = []  # the client wraps what the server or the network said
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    remedies: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, "access is restricted: ask for it on the repository's page, then `hf auth login`"),
        (errors.RevisionNotFoundError, f"the repository has no revision {revision!r}"),
        (errors.RepositoryNotFoundError, "no such repository, or a private one: check the name, or `hf auth login`"),
        (errors.LocalTokenNotFoundError, "log in first: `hf auth login`"),
        (errors.HFValidationError, f"'owner/name' is the form of a hub id ({first})"),
    )
    for kind, remedy in remedies:
        if any(isinstance(link, kind) for link in chain):
            return remedy
    if constants.is_offline_mode() and isinstance(error, OSError):
        return (
            "the hub is switched off by HF_HUB_OFFLINE and nothing of that name is in its cache; "
            "unset HF_HUB_OFFLINE, or give a folder"
        )
    for link in chain:
        status = getattr(getattr(link, "response", None), "status_code", None)
        if status in (401, 403):
            return f"the hub refuses access ({status}): `hf auth login` with a token that may do this"
    if any(isinstance(link, OSError) or type(link).__module__.partition(".")[0] in _CLIENTS for link in chain):
        return f"{constants.ENDPOINT} cannot be reached or does not answer as it should ({first})"
    return None
