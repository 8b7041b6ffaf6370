"""Files and folders: what a killed process left half written goes with the next write, what others write stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from addenda.core import files
from addenda.core.errors import FileError


@pytest.mark.skipif(os.name != "posix", reason="whether a process lives is asked of POSIX")
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f"{files._mine()}{dead.pid}-abc.tmp"
    kept = [
        tmp_path / f"{files._mine()}{os.getpid()}-abc.tmp",  # it lives
        tmp_path / f".addenda-aaaaaaaaaaaa-{dead.pid}-abc.tmp",  # of another machine
        tmp_path / f"{files._mine()}x-abc.tmp",
        tmp_path / "mine.tmp",
    ]
    for folder in (left, *kept):
        folder.mkdir()
        (folder / "weights").write_text("half")
    files.replace_folder(tmp_path / "new", {"a"}, lambda place: files.write_text(place / "a", "whole"))
    assert (tmp_path / "new" / "a").read_text() == "whole"
    assert not left.exists()
    assert all((folder / "weights").exists() for folder in kept)


@pytest.mark.parametrize("place", ["loop", "loop/inside", "one"])
def test_a_link_that_leads_back_to_itself_is_found_beforehand(tmp_path: Path, place: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    with pytest.raises(FileError, match="cannot write '.*': '.*' is a link that leads back to itself"):
        files.check_place(tmp_path / place, ["a"])
    (tmp_path / "to come").symlink_to("there")  # leads to nothing yet
    assert files.check_place(tmp_path / "to come", ["a"]) == tmp_path / "there"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a place where nobody may write is asked of Linux")
def test_a_place_where_nothing_can_be_written_is_found_beforehand(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot write '/proc/new/module': .*; what stood there is untouched"):
        files.check_place(Path("/proc/new/module"), ["a"])
    files.check_place(tmp_path / "new" / "module", ["a"])
    assert not list(tmp_path.iterdir())
