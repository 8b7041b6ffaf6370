"""Do what the README tells a newcomer: clone what is committed, and run every `make` command of its blocks there.

    python tools/fresh_clone.py [demo test ...]     only these targets

Nothing is reused: each clone has a virtual environment of its own. The folders of real texts and models are named to it
where they are set here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commands(text: str) -> list[list[str]]:
    """The `make` commands of a page's bash blocks, without their comments, in the page's order."""
    blocks = re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].split() for block in blocks for line in block.splitlines()]
    return [words for words in lines if words[:1] == ["make"]]


def main(targets: list[str]) -> int:
    """Clone, run, tell; 0 where every command ended well."""
    asked = [words for words in commands((ROOT / "README.md").read_text()) if not targets or words[-1] in targets]
    if not asked:
        print("the README has no such make command", file=sys.stderr)
        return 1
    # make's own variables would reach the clone, and with them the interpreter of this environment
    inherited = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    env = {name: value for name, value in os.environ.items() if name not in inherited}
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "addenda"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for words in asked:
            print("==", *words, flush=True)
            start = time.monotonic()
            done = subprocess.run(words, cwd=clone, env=env)
            print(f"== {' '.join(words)}: exit {done.returncode}, {time.monotonic() - start:.0f} s", flush=True)
            if done.returncode:
                failed.append(" ".join(words))
        left = subprocess.run(
            ["git", "status", "--short"], cwd=clone, check=True, capture_output=True, text=True
        ).stdout
    if left:
        print(f"left in the clone, not ignored:\n{left}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed or left))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
