"""Commands in processes of their own, for tests that send them signals.

    python stopped.py FOLDER [WORDS ...] -- [WORDS ...] ...

One process imports everything and forks one for each command, whose standard error goes to FOLDER/N.err; a line of it is
written every tenth of a second, so that a test sees where it is. Its process id is in FOLDER/N.pid, how it ended in N.code.
"""

from __future__ import annotations

import os
import sys
from itertools import groupby
from pathlib import Path

import torch

import addenda.writing.train  # noqa: F401 - what is imported late is imported once
from addenda.cli import application
from addenda.telling.progress import Progress


def run(words: list[str], err: Path) -> int:
    torch.set_num_threads(1)
    assert Progress.__init__.__kwdefaults__ is not None
    Progress.__init__.__kwdefaults__["every"] = 0.1
    file = os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 2)
    sys.argv = ["addenda", *words]
    try:
        application.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def main(folder: Path, words: list[str]) -> None:
    runs: dict[int, int] = {}
    commands = [list(part) for mark, part in groupby(words, lambda word: word == "--") if not mark]
    for number, command in enumerate(commands):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = run(command, folder / f"{number}.err")
            finally:
                os._exit(code)
        (folder / f"{number}.pid").write_text(str(pid))
        runs[pid] = number
    while runs:
        pid, status = os.wait()
        draft = folder / "draft"
        draft.write_text(str(os.waitstatus_to_exitcode(status)))
        draft.rename(folder / f"{runs.pop(pid)}.code")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
