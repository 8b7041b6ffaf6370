"""Publishing and fetching modules, over real HTTP, against a hub of one machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from typer.testing import CliRunner

import addenda
from addenda.cli import app
from addenda.core.errors import FileError
from addenda.kinds.lora import LoRA
from addenda.modulefile.hub import Publication, publish, push_to_hub, resolve
from addenda.modulefile.storage import load_module, save_module
from addenda.remembering.hema import HEMA
from hostile.forge import anatomy, module_of, paper_base, sound
from hub_stand_in import HubStandIn

# the hub's own client still uploads in a way that its HTTP library has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT would do, had it been set before huggingface_hub was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    disable_progress_bars()
    with HubStandIn() as running:
        point_at(running.address, monkeypatch)
        yield running
    enable_progress_bars()


def test_a_module_goes_to_the_hub_and_comes_back(hub: HubStandIn) -> None:
    module = module_of(LoRA(rank=2), anatomy())
    address = push_to_hub(module, "me/note", token="hf_secret", message="first")
    assert address.startswith(f"{hub.address}/me/note/commit/")
    stored = hub.repos["me/note"]["main"]
    assert set(stored) == {".gitattributes", "module.safetensors", "card.json", "README.md"}
    assert list(hub.large.values()) == [stored["module.safetensors"]]
    assert hub.messages == ["first"]
    assert "Bearer hf_secret" in hub.tokens
    assert yaml.safe_load(stored["README.md"].decode().split("---\n")[1])["library_name"] == "addenda"
    assert 'base.plug("me/note", name="note")' in stored["README.md"].decode()

    folder = resolve("me/note")
    assert {file.name for file in folder.iterdir()} == {"module.safetensors", "card.json", "README.md"}
    back = load_module(folder, paper_base())
    assert all(torch.equal(tensor, back.tensors()[name]) for name, tensor in module.tensors().items())


def test_publishing_again_makes_a_second_commit(hub: HubStandIn) -> None:
    first = push_to_hub(module_of(LoRA(rank=2), anatomy()), "me/note", token="t")
    old = dict(hub.repos["me/note"]["main"])
    second = push_to_hub(module_of(LoRA(rank=3), anatomy()), "me/note", token="t")
    assert first != second
    assert hub.messages == ["Module note"] * 2
    hub.repos["me/note"]["old"] = old
    assert load_module(resolve("me/note"), paper_base()).kind.rank == 3
    assert load_module(resolve("me/note", revision="old"), paper_base()).kind.rank == 2
    assert load_module(resolve("me/note", revision=first.rsplit("/")[-1]), paper_base()).kind.rank == 2


def test_only_a_modules_files_are_fetched(hub: HubStandIn, tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in sound(tmp_path / "m").iterdir()}
    hub.repos["me/note"] = {
        "main": files | {"pytorch_model.bin": b"\x80\x02", "run.py": b"evil", "sub/card.json": b"{}"}
    }
    assert {file.name for file in resolve("me/note").iterdir()} == set(files)
    assert not any("pytorch_model" in line or "run.py" in line for line in hub.log)


def test_a_folder_comes_before_the_hub(hub: HubStandIn, tmp_path: Path) -> None:
    sound(tmp_path / "me" / "note")
    assert resolve("me/note") == Path("me/note")
    assert hub.log == []
    with pytest.raises(FileError, match="'me/note' is a folder here, and revision='v1' belongs to a hub repository"):
        resolve("me/note", revision="v1")
    with pytest.raises(FileError, match="is a file; a module is a folder"):
        resolve(tmp_path / "me" / "note" / "card.json")


def test_once_fetched_it_is_found_without_the_hub(hub: HubStandIn, tmp_path: Path, monkeypatch) -> None:
    hub.repos["me/note"] = {"main": {file.name: file.read_bytes() for file in sound(tmp_path / "m").iterdir()}}
    folder = resolve("me/note")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve("me/note") == folder


def test_the_default_name_of_the_cache_is_no_surprise(hub: HubStandIn, tmp_path: Path) -> None:
    """The cache holds links to blobs beside; the loader follows them, and only them."""
    hub.repos["me/note"] = {"main": {file.name: file.read_bytes() for file in sound(tmp_path / "m").iterdir()}}
    folder = resolve("me/note")
    assert any(file.is_symlink() for file in folder.iterdir())
    load_module(folder, paper_base())


@pytest.mark.parametrize(
    ("repo", "answer", "said"),
    [
        ("me/nothing", None, "no such repository, or a private one: check the name, or `hf auth login`"),
        ("me/closed", (401, "RepoNotFound"), "no such repository, or a private one"),
        ("me/gated", (403, "GatedRepo"), "access is restricted: ask for it on the repository's page"),
        ("me/forbidden", (403, "Forbidden"), r"the hub refuses access \(403\)"),
        ("me/broken", (500, "Internal"), "cannot be reached or does not answer as it should"),
    ],
)
def test_what_the_hub_refuses_is_told_with_the_remedy(repo: str, answer, said: str, hub: HubStandIn) -> None:
    if answer is not None:
        hub.denied[repo] = answer
    with pytest.raises(
        FileError, match=f"there is no folder '{repo}' here, and from the hub it cannot be had: .*{said}"
    ):
        resolve(repo)


def test_a_revision_that_is_not_there(hub: HubStandIn) -> None:
    hub.repos["me/note"] = {"main": {"card.json": b"{}"}}
    with pytest.raises(FileError, match="the repository has no revision 'v9'"):
        resolve("me/note", revision="v9")


def test_a_repository_without_a_module(hub: HubStandIn) -> None:
    hub.repos["me/model"] = {"main": {"README.md": b"a model", "model.safetensors": b""}}
    with pytest.raises(FileError, match=r"'me/model' holds no module: neither card\.json nor adapter_config\.json"):
        resolve("me/model")
    hub.repos["me/other"] = {"main": {"model.safetensors": b""}}
    with pytest.raises(FileError, match="'me/other' holds no module"):
        resolve("me/other")


def test_no_network_is_told_as_such(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    point_at(address, monkeypatch)
    with pytest.raises(FileError, match=f"{address} cannot be reached or does not answer"):
        resolve("me/note")
    with pytest.raises(FileError, match=r"cannot publish 'note' as 'me/note': .*cannot be reached"):
        push_to_hub(module_of(LoRA(rank=2), anatomy()), "me/note", token="t")


def test_offline_is_told_with_the_remedy(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for call in (lambda: resolve("me/note"), lambda: push_to_hub(module_of(LoRA(rank=2), anatomy()), "me/note")):
        with pytest.raises(FileError, match=r"HF_HUB_OFFLINE"):
            call()
    assert hub.log == []


@pytest.mark.parametrize("name", ["runs/deep/nothing", "/no/where", "../x", "a b", "x--y/z"])
def test_what_is_neither_folder_nor_id_never_reaches_the_hub(name: str, hub: HubStandIn) -> None:
    with pytest.raises(FileError, match=r"there is no folder '.*', and it is not a hub id \(owner/name\) either"):
        resolve(name)
    assert hub.log == []


def test_publishing_over_something_else_is_refused(hub: HubStandIn) -> None:
    hub.repos["me/model"] = {"main": {"model.safetensors": b"weights", "README.md": b"mine"}}
    with pytest.raises(FileError, match=r"holds what is not a module's \('model.safetensors'\) and is left as it is"):
        push_to_hub(module_of(LoRA(rank=2), anatomy()), "me/model", token="t")
    assert hub.repos["me/model"]["main"] == {"model.safetensors": b"weights", "README.md": b"mine"}


def test_publishing_without_the_right_is_refused(hub: HubStandIn) -> None:
    hub.denied["you/note"] = (403, "Forbidden")
    with pytest.raises(FileError, match=r"cannot publish 'note' as 'you/note': the hub refuses access \(403\)"):
        push_to_hub(module_of(LoRA(rank=2), anatomy()), "you/note", token="t")
    with pytest.raises(FileError, match="'owner/name' is the form of a hub id"):
        push_to_hub(module_of(LoRA(rank=2), anatomy()), "a b", token="t")


def test_a_branch_that_is_not_there_is_made(hub: HubStandIn) -> None:
    for rank in (2, 3):
        push_to_hub(module_of(LoRA(rank=rank), anatomy()), "me/note", revision="trial", token="t")
        assert load_module(resolve("me/note", revision="trial"), paper_base()).kind.rank == rank
    assert set(hub.repos["me/note"]["main"]) == {".gitattributes"}


def test_a_folder_is_published_as_it_stands_and_privately(hub: HubStandIn, tmp_path: Path) -> None:
    module = module_of(LoRA(rank=2), anatomy())
    folder = save_module(module, tmp_path / "mine")
    told: list[Publication] = []
    made = publish(folder, "me/note", token="t", tell=lambda plan: told.append(plan) or hub.log.append("told"))
    assert hub.log.index("told") == 0
    stored = hub.repos["me/note"]["main"]
    assert {name: len(raw) for name, raw in stored.items() if name != ".gitattributes"} == made.files == told[0].files
    for name in ("module.safetensors", "card.json"):
        assert stored[name] == (folder / name).read_bytes()
    assert 'base.plug("me/note", name="note")' in stored["README.md"].decode()
    assert (made.url or "").startswith(f"{hub.address}/me/note/commit/")
    assert told[0].url is None
    said = str(told[0])
    assert "goes to me/note, private if the repository is new: card.json" in said
    assert "module note, LoRA, " in said
    assert "licence: not stated" in said
    publish(folder, "me/open", private=False, token="t")
    # older clients of the hub say `private`, newer ones `visibility`
    assert [asked.get("visibility") == "private" or asked.get("private") is True for asked in hub.created] == [
        True,
        False,
    ]
    assert addenda.publish is publish


def test_a_text_memory_is_published_with_what_it_remembers(hub: HubStandIn, tmp_path: Path) -> None:
    module = module_of(HEMA(), anatomy())
    module.memory = module.kind.take(module.memory, "Ann brings the maps.")
    module.keep_beside("router.nearest", {"keys": torch.ones(3)})
    folder = save_module(module, tmp_path / "mine")
    made = publish(folder, "me/note", token="t")
    assert set(made.files) == {"card.json", "module.safetensors", "side.safetensors", "memory.json", "README.md"}
    back = load_module(resolve("me/note"), paper_base())
    assert back.memory == module.memory
    assert back.side_of("router.nearest")["keys"].tolist() == [1, 1, 1]
    (folder / "memory.json").unlink()
    with pytest.raises(FileError, match=r"memory\.json is missing"):
        publish(folder, "me/half", token="t")


def test_nothing_is_sent_where_it_is_stopped_or_the_folder_is_no_module(hub: HubStandIn, tmp_path: Path) -> None:
    folder = save_module(module_of(LoRA(rank=2), anatomy()), tmp_path / "mine")

    def stop(plan: Publication) -> None:
        raise FileError(f"not {plan.repo_id}")

    with pytest.raises(FileError, match="not me/note"):
        publish(folder, "me/note", token="t", tell=stop)
    raw = (folder / "module.safetensors").read_bytes()
    (folder / "module.safetensors").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(FileError, match="sha256"):
        publish(folder, "me/note", token="t")
    with pytest.raises(FileError, match=r"there is no folder '.*mone'; did you mean '.*mine'"):
        publish(tmp_path / "mone", "me/note", token="t")
    assert hub.log == []


def test_the_command_tells_asks_and_publishes(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(save_module(module_of(LoRA(rank=2), anatomy()), tmp_path / "mine"))
    monkeypatch.setenv("HF_TOKEN", "t")
    ask = CliRunner().invoke(app, ["publish", folder, "me/note"])
    assert (ask.exit_code, "--yes" in ask.stderr, "goes to me/note, private" in ask.stderr) == (2, True, True)
    assert hub.log == []
    done = CliRunner().invoke(app, ["publish", folder, "me/note", "--yes", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["url"].startswith(f"{hub.address}/me/note/commit/")
    assert "goes to me/note" in done.stderr
    shown = CliRunner().invoke(app, ["publish", folder, "me/open", "--yes", "--public", "--message", "for all"])
    assert shown.stdout.startswith(f"published: {hub.address}/me/open/commit/")
    assert hub.messages == ["Module note", "for all"]


def test_a_hostile_repository_is_refused_by_the_loader(hub: HubStandIn, tmp_path: Path) -> None:
    folder = save_module(module_of(LoRA(rank=2), anatomy()), tmp_path / "m")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    hub.repos["me/evil"] = {"main": files | {"module.safetensors": b"\x80\x02cos\nsystem\n."}}
    with pytest.raises(FileError, match=r"module\.safetensors: the header claims"):
        load_module(resolve("me/evil"), paper_base())


def test_a_name_without_its_folder_is_looked_for_among_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pubmed", "study/law"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "card.json").touch()
    for asked, meant in (("pubmed", "pubmed"), ("pubmde", "pubmed"), ("study/law", "study/law")):
        with pytest.raises(FileError, match=f"no folder '{asked}'; did you mean 'runs/{meant}'"):
            resolve(asked)


def test_a_folder_that_is_something_else_is_told(tmp_path: Path) -> None:
    for name in ("pubmed", "law"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "card.json").touch()
    with pytest.raises(FileError, match=r"no module's folder; in it are .*runs/law, .*runs/pubmed"):
        resolve(tmp_path / "runs")
    with pytest.raises(FileError, match=r"no folder '.*runs/pubmedd'; did you mean '.*runs/pubmed'"):
        resolve(tmp_path / "runs" / "pubmedd")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "config.json").touch()
    with pytest.raises(FileError, match="holds a model, not a module; load it as the base"):
        resolve(tmp_path / "merged")
