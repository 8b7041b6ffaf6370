"""Build the sdist, and from it the wheel; then use the wheel where there is no checkout.

    python tools/check_wheel.py

The wheel must hold every file of `src/addenda` and the licence. It is installed, without an index, into a new virtual
environment in a temporary folder. That environment sees the packages of this one, so that torch need not be installed
again, but not its editable Addenda. There the command line must start, lm-evaluation-harness must know the model class,
and `addenda demo --quick` must pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "addenda"
#: seconds of work that `addenda --help` may take
HELP = 0.5
#: what of the repository must be in the sdist, so that it can be built and tested from
SDIST = ("pyproject.toml", "Makefile", "constraints.txt", "LICENSE", "README.md", "tests/conftest.py")
#: prints what the wheel asks for and this environment does not have
ASKED = """
from importlib.metadata import requires, version
from packaging.requirements import Requirement
for asked in map(Requirement, requires("addenda")):
    if asked.marker is None and not asked.specifier.contains(version(asked.name)):
        print(asked, "but it is", version(asked.name))
"""
HARNESS = (
    "import addenda.measuring.conducting.harness; from lm_eval.api.registry import get_model; get_model('addenda')"
)


def expected() -> set[str]:
    """What the wheel must hold of the package, as paths from its root."""
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"addenda/{path.relative_to(SOURCE).as_posix()}" for path in files}


def lacking(names: Iterable[str]) -> list[str]:
    """What is wrong with the names in a wheel, a line each."""
    have = {name for name in names if not name.endswith("/")}
    told = {name.partition(".dist-info/")[2] for name in have}
    left_out = expected() - have | {"licenses/LICENSE", "entry_points.txt"} - told
    strange = {name for name in have - expected() if ".dist-info/" not in name}
    return [f"lacks {name}" for name in sorted(left_out)] + [f"should not hold {name}" for name in sorted(strange)]


def build(folder: Path) -> tuple[Path, Path]:
    """Make sdist and wheel, the second from the first: their paths."""
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, stdout=subprocess.DEVNULL
    )
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def environment(folder: Path, wheel: Path) -> Path:
    """A new virtual environment with the wheel and, for all else, the packages of this one: the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True,
                          capture_output=True, text=True).stdout.strip()  # fmt: skip
    # A path line adds a folder; the .pth files inside, the editable Addenda's among them, are not read.
    Path(site, "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--ignore-installed"]
    subprocess.run([python, "-m", "pip", *install, str(wheel)], check=True)
    return programs


def work_of(command: list[str], place: Path, env: dict[str, str]) -> float:
    """Seconds of processor time of a command that must succeed: unlike the clock, it does not count what others do."""
    before = os.times()
    subprocess.run(command, cwd=place, env=env, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    """Build, look, install, run; 0 where all is well."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        sdist, wheel = build(place / "dist")
        with tarfile.open(sdist) as archive:
            inside = {name.partition("/")[2] for name in archive.getnames()}
        wrong = [f"the sdist lacks {name}" for name in SDIST if name not in inside]
        with zipfile.ZipFile(wheel) as archive:
            wrong += [f"the wheel {line}" for line in lacking(archive.namelist())]
        if wrong:
            print("\n".join(wrong), file=sys.stderr)
            return 1
        programs = environment(place / "venv", wheel)
        python, addenda = str(programs / "python"), str(programs / "addenda")
        elsewhere = place / "elsewhere"
        elsewhere.mkdir()
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

        def said(*command: str) -> str:
            return subprocess.run(
                command, cwd=elsewhere, env=env, check=True, capture_output=True, text=True
            ).stdout.strip()

        where = Path(said(python, "-c", "import addenda; print(addenda.__file__)"))
        if not where.is_relative_to(place / "venv"):
            print(f"what ran is not the wheel's package but {where}", file=sys.stderr)
            return 1
        if unmet := said(python, "-c", ASKED):
            print(f"the wheel asks for {unmet}", file=sys.stderr)
            return 1
        seconds = min(work_of([addenda, "--help"], elsewhere, env) for _ in range(5))
        if seconds >= HELP:
            print(f"`addenda --help` works for {seconds:.2f} s; it may for {HELP} s", file=sys.stderr)
            return 1
        said(python, "-c", HARNESS)
        subprocess.run(
            [addenda, "demo", "--quick", "--out", "demo"], cwd=elsewhere, env=env, check=True, stdout=subprocess.DEVNULL
        )
        size = wheel.stat().st_size / 1e6
        print(
            f"{wheel.name}, {size:.1f} MB, from {sdist.name}: complete, installed and run; --help takes {seconds:.2f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
