"""The shape of the code: import floors, who may know transformers' insides, budgets, purposes, fresh pages, no pickle.

Every rule is a function from the repository's root to the list of its breaches. The second half of the file plants one
breach after another in a small copy and asserts that its rule, and no other, sees it.

The rule of the floors: a file may import from lower floors and from its own folder; two folders on one floor do not
know each other; no files form a circle. Relative, function-level and type-checking
imports count, and so does `import_module` with a constant name, but for the registry, whose work is to find methods by
name. `tiny` is a leaf: its files that import nothing above core may be used from floor 1 up, its others (the recipe)
only by the command line. `addenda/__init__.py` is lazy: it imports nothing at run time but the standard library, and is
itself imported by the command line and the recipe only.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import architecture
from addenda.core.registry import STAGES
from architecture import FLOORS, PACKAGE, ROOT, ROOT_FILE, TINY

LINES_A_FILE = 400
LINES_A_FUNCTION = 60
#: median length of a method's file, by stage
LINES_A_METHOD = {"kind": 130}
LINES_ANY_METHOD = 110
EXEMPTION = re.compile(r"^# budget: \S.{9,}$", re.MULTILINE)
BUDGETED = (PACKAGE, "tools", "benchmarks", "engines", "recipes")

CLI_FLOOR = 8
CORE_MAY_IMPORT = {"torch", "safetensors", "pydantic", "typing_extensions"}
INSIDES = ("models", "cache_utils", "masking_utils", "modeling_utils", "integrations", "pytorch_utils")
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
TORCH_PICKLES = {"torch.load", "torch.save", "torch.serialization"}
FINDS_BY_NAME = "core/registry.py"


# --- reading imports -------------------------------------------------------------------------------------------------


def sources(root: Path) -> list[Path]:
    """The package's Python files."""
    return sorted((root / PACKAGE).rglob("*.py"))


def imports(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything a file imports; `from a import b` gives `a.b`."""
    here = ("addenda", *file.relative_to(package).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (start, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            if file == package / FINDS_BY_NAME:
                continue
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                name = first.value
                yield node.lineno, f"{'.'.join(here)}{name}" if name.startswith(".") else name


def target(name: str, package: Path) -> str | None:
    """The file of the package that a dotted name stands for, relative to the package; None for other packages."""
    head, *parts = name.split(".")
    if head != "addenda":
        return None
    for end in range(len(parts), -1, -1):
        path = package.joinpath(*parts[:end])
        if end and path.with_suffix(".py").is_file():
            return path.with_suffix(".py").relative_to(package).as_posix()
        if path.is_dir() and (end == 0 or any(path.glob("*.py"))):
            return (path / "__init__.py").relative_to(package).as_posix()
    return ROOT_FILE


def internal(file: Path, package: Path) -> list[tuple[int, str, str]]:
    """Line, dotted name and file of every import from the package itself."""
    found = ((line, name, target(name, package)) for line, name in imports(file, package))
    return [(line, name, to) for line, name, to in found if to is not None]


def is_leaf(relative: str, package: Path, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a file of tiny imports, itself and through tiny, nothing above core."""
    if relative in seen or not (package / relative).exists():
        return True
    for _, _, to in internal(package / relative, package):
        top = to.split("/")[0]
        if top != "core" and (top != TINY or not is_leaf(to, package, seen | {relative})):
            return False
    return True


# --- reading methods -------------------------------------------------------------------------------------------------


def classes(file: Path) -> Iterator[tuple[ast.ClassDef, set[str]]]:
    """Every class of a file, with the names that its definition calls its bases."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield node, {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}


def methods(root: Path) -> dict[str, tuple[str, list[str]]]:
    """Files, relative to the package, in which a method stands: its stage, and the names of all classes of the file.

    A method is a dataclass in a stage's folder that is, through however many files, a `Method`.
    """
    package = root / PACKAGE
    bases: dict[str, set[str]] = {}
    for file in sources(root):
        for node, names in classes(file):
            bases.setdefault(node.name, set()).update(names)

    def is_method(name: str, seen: frozenset[str] = frozenset()) -> bool:
        return name == "Method" or any(is_method(base, seen | {name}) for base in bases.get(name, set()) - seen)

    found: dict[str, tuple[str, list[str]]] = {}
    for stage, told in STAGES.items():
        folders = [package.joinpath(*folder.split(".")) for folder in told.folder.split()]
        for file in sorted(file for folder in folders for file in folder.glob("*.py")):
            defined = [node for node, _ in classes(file)]
            decorated = [n for n in defined if any("dataclass" in ast.unparse(d) for d in n.decorator_list)]
            if any(is_method(node.name) for node in decorated):
                found[file.relative_to(package).as_posix()] = stage, [node.name for node in defined]
    return found


# --- the rules -------------------------------------------------------------------------------------------------------


def undeclared(root: Path) -> list[str]:
    """Files and folders that stand on no floor."""
    package = root / PACKAGE
    tops = {file.relative_to(package).parts[0] for file in sources(root)} - {TINY, ROOT_FILE}
    return [f"{top} stands on no floor; declare it in tools/architecture.py" for top in sorted(tops - set(FLOORS))]


def allowed(source: str, to: str, name: str, package: Path) -> bool:
    """Whether one file of the package may import another."""
    here, there = source.split("/")[0], to.split("/")[0]
    if here == ROOT_FILE or name == "addenda.__version__":
        return True
    if here == TINY:
        return source != f"{TINY}/__init__.py" or there == "core" or is_leaf(to, package)
    floor = FLOORS.get(here, -1)
    if there == ROOT_FILE:
        return floor == CLI_FLOOR
    if there == TINY:
        return floor == CLI_FLOOR or (floor >= 1 and is_leaf(to, package))
    if here == there:
        return True
    above = FLOORS.get(there, -1)
    return above < floor


def floors(root: Path) -> list[str]:
    """Imports that go up, or sideways into another folder."""
    package = root / PACKAGE
    breaches = []
    for file in sources(root):
        source = file.relative_to(package).as_posix()
        for line, name, to in internal(file, package):
            if not allowed(source, to, name, package):
                breaches.append(f"{source}:{line} imports {name}: imports go down only")
    return breaches


def circles(root: Path) -> list[str]:
    """Files that import one another, straight or through others; imports for type checkers count."""
    package = root / PACKAGE
    known = {file.relative_to(package).as_posix(): internal(file, package) for file in sources(root)}
    ways = {source: {to for _, _, to in found if to != source} for source, found in known.items()}
    del ways[ROOT_FILE]  # lazy: what it names is imported when it is asked for
    while free := {source for source, to in ways.items() if not to & ways.keys()}:
        ways = {source: to for source, to in ways.items() if source not in free}
    entered = {to for found in ways.values() for to in found}
    told = {source: ", ".join(sorted(to & ways.keys())) for source, to in sorted(ways.items()) if source in entered}
    return [f"{source} stands in a circle with {others}" for source, others in told.items()]


def core_is_small(root: Path) -> list[str]:
    """Packages that core imports beside the few it is meant to need."""
    package = root / PACKAGE
    known = CORE_MAY_IMPORT | set(sys.stdlib_module_names) | {"addenda"}
    return [
        f"{file.relative_to(package)}:{line} imports {name}: core knows {', '.join(sorted(CORE_MAY_IMPORT))} only"
        for file in sources(root)
        if file.relative_to(package).parts[0] == "core"
        for line, name in imports(file, package)
        if name.split(".")[0] not in known
    ]


def insides(root: Path) -> list[str]:
    """Imports of transformers' insides outside bases/."""
    package = root / PACKAGE
    return [
        f"{file.relative_to(package)}:{line} imports {name}: only bases/ knows transformers' insides"
        for file in sources(root)
        if file.relative_to(package).parts[0] != "bases"
        for line, name in imports(file, package)
        if name.split(".")[0] == "transformers" and any(part in INSIDES for part in name.split(".")[1:2])
    ]


def lazy_root(root: Path) -> list[str]:
    """Imports that `import addenda` would run, other than the standard library's."""
    file = root / PACKAGE / ROOT_FILE
    if not file.exists():
        return []
    at_run_time: list[ast.AST] = []

    def walk(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                walk(node.orelse)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                at_run_time.append(node)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for field in ("body", "orelse", "finalbody", "handlers"):
                    walk(getattr(node, field, []))

    walk(ast.parse(file.read_text(encoding="utf-8")).body)
    breaches = []
    for node in at_run_time:
        relative = isinstance(node, ast.ImportFrom) and node.level > 0
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        if relative or any(name.split(".")[0] not in sys.stdlib_module_names for name in names):
            breaches.append(f"{ROOT_FILE}:{node.lineno} `{ast.unparse(node)}` runs at import; make it lazy")
    return breaches


def budgets(root: Path) -> list[str]:
    """Files and functions above their budget that give no reason (`# budget: <reason>`, on a line of its own)."""
    breaches = []
    for file in sorted(f for folder in BUDGETED for f in (root / folder).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if EXEMPTION.search(text):
            continue
        where = file.relative_to(root).as_posix()
        if (count := len(text.splitlines())) > LINES_A_FILE:
            breaches.append(f"{where} has {count} lines; the budget is {LINES_A_FILE}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > LINES_A_FUNCTION:
                    long = f"{where}:{node.lineno} {node.name} has {count} lines"
                    breaches.append(f"{long}; the budget is {LINES_A_FUNCTION}")
    return breaches


def purposes(root: Path) -> list[str]:
    """Files without a first docstring line that says what they are for."""
    return [
        f"{file.relative_to(root)} does not begin with its purpose"
        for file in sources(root)
        if len(architecture.purpose(file).split()) < 2
    ]


def unsafe(root: Path) -> list[str]:
    """Ways to run code that a file names: pickle and its kin, torch.load and torch.save, eval, exec."""
    package = root / PACKAGE
    breaches = []
    for file in sources(root):
        where = file.relative_to(package)
        for line, name in imports(file, package):
            if name.split(".")[0] in PICKLERS or name in TORCH_PICKLES:
                breaches.append(f"{where}:{line} imports {name}")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in TORCH_PICKLES:
                breaches.append(f"{where}:{node.lineno} uses {ast.unparse(node)}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                breaches.append(f"{where}:{node.lineno} calls {node.func.id}(")
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
                breaches.append(f"{where}:{node.value.lineno} allows pickle")
    return breaches


def fresh(root: Path) -> list[str]:
    """Generated pages that no longer say what the code says."""
    return [f"{name} is stale; run `make generated`" for name in architecture.stale(root)]


def strangers(root: Path) -> list[str]:
    """Files that import from a method's file or ask whether something is of a class of it: methods are found by name."""
    package, found = root / PACKAGE, methods(root)
    owner = {name: file for file, (_, names) in found.items() for name in names}
    breaches = []
    for file in sources(root):
        source = file.relative_to(package).as_posix()
        if source == ROOT_FILE:  # the names that users have
            continue
        breaches += [
            f"{source}:{line} imports {name}: only its own file and tests know a method"
            for line, name, to in internal(file, package)
            if to in found and to != source
        ]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"isinstance", "issubclass"}:
                asked = {part.split(".")[-1] for part in re.findall(r"[\w.]+", ast.unparse(node.args[-1]))}
                breaches += [
                    f"{source}:{node.lineno} asks for {name}: only its own file and tests know a method"
                    for name in sorted(asked & owner.keys())
                    if owner[name] != source
                ]
    return breaches


def median_lengths(root: Path) -> list[str]:
    """Stages whose methods take more lines than a method should, half of them at least."""
    lengths: dict[int, list[int]] = {}
    for file, (stage, _) in methods(root).items():
        count = len((root / PACKAGE / file).read_text(encoding="utf-8").splitlines())
        lengths.setdefault(LINES_A_METHOD.get(stage, LINES_ANY_METHOD), []).append(count)
    return [
        f"the median of methods' files is {statistics.median(counts):g} lines; it is under {most}"
        for most, counts in lengths.items()
        if statistics.median(counts) >= most
    ]


RULES: tuple[Callable[[Path], list[str]], ...] = (
    undeclared,
    floors,
    circles,
    core_is_small,
    insides,
    lazy_root,
    strangers,
    budgets,
    median_lengths,
    purposes,
    unsafe,
    fresh,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    breaches = rule(ROOT)
    assert not breaches, "\n" + "\n".join(breaches)


# --- each rule can fail ----------------------------------------------------------------------------------------------

SOUND = {
    "__init__.py": '"""Public names, lazily imported."""\nimport importlib\n'
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .bases.base import Base\n"
    "def __getattr__(name):\n    from .plug.base import plug\n    return plug\n",
    "core/__init__.py": '"""The contracts of all."""\n',
    "core/site.py": '"""Where a module may touch."""\nimport torch\nfrom addenda import __version__\n',
    "bases/__init__.py": '"""The frozen models and their tables."""\n',
    "bases/base.py": '"""A frozen model and its sites."""\nfrom transformers.models.llama import modeling_llama\n'
    "from ..core.site import torch\nfrom addenda.tiny import FOLDER\nfrom . import llama\n",
    "bases/llama.py": '"""The table of Llama."""\nfrom ..core import site\n',
    "core/method.py": '"""What every method is."""\nclass Method: pass\nclass Kind(Method): pass\n',
    "kinds/lora.py": '"""Low-rank updates of linears."""\nfrom dataclasses import dataclass\nfrom addenda.core import site\n'
    "import transformers\nfrom addenda.core.method import Kind\nclass Thin: pass\n@dataclass\nclass LoRA(Kind): pass\n",
    "kinds/linear.py": '"""Products beside linear layers."""\nx = 1\n',
    "plug/base.py": '"""Plug and unplug modules."""\nfrom ..modulefile import storage\nfrom ..bases.base import torch\n',
    "modulefile/storage.py": '"""Module folders on disk."""\nfrom ..core import site\n',
    "writing/train.py": '"""Train a module on text."""\nfrom addenda.plug.base import storage\nfrom .data import x\n',
    "writing/data.py": '"""Texts and packed batches."""\nx = 1\n',
    "measuring/perplexity.py": '"""Loss on held-out text."""\nfrom ..plug import base\n',
    "cli/main.py": '"""The command line\'s entry."""\nimport addenda\nfrom addenda.tiny import recipe\n',
    "tiny/__init__.py": '"""The embedded base, its files."""\nFOLDER = 1\n',
    "tiny/recipe.py": '"""How the base was trained."""\nimport addenda\nfrom addenda.writing import train\n',
}

BREACHES: dict[str, tuple[Callable[[Path], list[str]], str, str]] = {
    "a folder without a floor": (undeclared, "helpers/odd.py", '"""Odds and ends, misc."""\n'),
    "a file without a floor": (undeclared, "utils.py", '"""Odds and ends, misc."""\n'),
    "core imports a kind": (floors, "core/state.py", "import addenda.kinds.linear\n"),
    "a relative import goes up": (floors, "kinds/more.py", "from ..plug.base import plug\n"),
    "a function's import goes up": (floors, "kinds/lora.py", "def f():\n    from ..writing import train\n"),
    "a type-checking import goes up": (
        floors,
        "core/state.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..bases.base import Base\n",
    ),
    "a constant import_module goes up": (
        floors,
        "core/state.py",
        "import importlib\nimportlib.import_module('addenda.kinds.linear')\n",
    ),
    "a submodule through the package": (floors, "core/state.py", "from addenda import kinds\n"),
    "sideways on floor 1": (floors, "kinds/more.py", "from addenda.bases import base\n"),
    "sideways on one floor": (floors, "measuring/more.py", "from ..writing.data import x\n"),
    "the public package from below": (floors, "writing/more.py", "import addenda\n"),
    "core imports tiny": (floors, "core/state.py", "from ..tiny import FOLDER\n"),
    "floor 1 imports the recipe": (floors, "bases/more.py", "from ..tiny import recipe\n"),
    "tiny is no leaf": (floors, "tiny/__init__.py", "from ..kinds import linear\n"),
    "a circle": (circles, "writing/data.py", "from . import train\n"),
    "a circle for type checkers": (
        circles,
        "bases/llama.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import base\n",
    ),
    "core imports transformers": (core_is_small, "core/state.py", "from transformers import AutoConfig\n"),
    "insides by from": (insides, "kinds/more.py", "from transformers.cache_utils import DynamicCache\n"),
    "insides by import": (insides, "modulefile/storage.py", "import transformers.models.llama\n"),
    "insides by name": (insides, "writing/more.py", "def f():\n    from transformers import masking_utils\n"),
    "the root imports torch": (lazy_root, "__init__.py", "import torch\n"),
    "the root imports its own": (lazy_root, "__init__.py", "try:\n    from .plug import base\nfinally:\n    pass\n"),
    "a method is imported": (strangers, "plug/more.py", "from ..kinds.lora import LoRA\n"),
    "a method's adapter is imported": (
        strangers,
        "plug/more.py",
        "def f():\n    from addenda.kinds.lora import Thin\n",
    ),
    "a method's file is imported": (strangers, "plug/more.py", "from addenda.kinds import lora\n"),
    "a method imports another": (strangers, "kinds/more.py", "from addenda.kinds.lora import LoRA\n"),
    "a method is asked for": (
        strangers,
        "cli/more.py",
        "import addenda\ndef f(x): return isinstance(x, addenda.LoRA)\n",
    ),
    "a method of another stage": (
        strangers,
        "gates/shut.py",
        "from dataclasses import dataclass\nfrom addenda.core.method import Kind as GateMethod\n"
        "from addenda.core import method\n@dataclass\nclass Shut(method.Method): pass\n"
        "def f(x): return issubclass(x, (int, LoRA))\n",
    ),
    "long methods": (median_lengths, "kinds/lora.py", "x = 1\n" * 130),
    "a long file": (budgets, "writing/more.py", "x = 1\n" * LINES_A_FILE),
    "a long function": (budgets, "writing/more.py", "def f():\n" + "    x = 1\n" * LINES_A_FUNCTION),
    "a long method": (budgets, "writing/more.py", "class A:\n  def f(self):\n" + "    x = 1\n" * LINES_A_FUNCTION),
    "an exemption without a reason": (budgets, "writing/more.py", "# budget: \n" + "x = 1\n" * LINES_A_FILE),
    "no docstring": (purposes, "writing/more.py", None),
    "an empty purpose": (purposes, "writing/more.py", '"""Utils."""\n'),
    "pickle": (unsafe, "writing/more.py", "def f():\n    import pickle\n"),
    "torch.load": (unsafe, "writing/more.py", "import torch\ndef f(p): return torch.load(p, weights_only=True)\n"),
    "torch.load by name": (unsafe, "writing/more.py", "from torch import load\n"),
    "torch.save": (unsafe, "writing/more.py", "import torch\nsave = torch.save\n"),
    "eval": (unsafe, "writing/more.py", "eval('1')\n"),
    "numpy's pickle": (unsafe, "writing/more.py", "import numpy\nnumpy.load('x', allow_pickle=True)\n"),
    "a new file": (fresh, "writing/more.py", "x = 1\n"),
    "a new purpose": (fresh, "kinds/__init__.py", '"""One file for each kind."""\n'),
}


def renew(root: Path) -> None:
    """Write the generated pages of a planted tree."""
    (root / "docs" / "architecture.md").write_text(architecture.page(root), encoding="utf-8")
    (root / "README.md").write_text(architecture.readme(root), encoding="utf-8")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A small sound repository."""
    for name, text in SOUND.items():
        file = tmp_path / PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    marks = f"# X\n\n{architecture.MARK_OPEN}\n{architecture.MARK_CLOSE}\n"
    (tmp_path / "README.md").write_text(marks, encoding="utf-8")
    renew(tmp_path)
    return tmp_path


def test_a_sound_tree_keeps_every_rule(planted: Path) -> None:
    assert {rule.__name__: rule(planted) for rule in RULES} == {rule.__name__: [] for rule in RULES}


def test_a_reason_lifts_the_budget(planted: Path) -> None:
    long = '"""One long table of numbers."""\n# budget: one table, better read whole\n' + "x = 1\n" * LINES_A_FILE
    (planted / PACKAGE / "writing/more.py").write_text(long, encoding="utf-8")
    assert budgets(planted) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_a_planted_breach_is_seen_by_its_rule_alone(breach: str, planted: Path) -> None:
    rule, name, text = BREACHES[breach]
    file = planted / PACKAGE / name
    file.parent.mkdir(exist_ok=True)
    speaks = rule is purposes or (text or "").startswith('"""')
    sound = SOUND.get(name, "" if speaks else '"""What this file is for."""\n')
    file.write_text(sound + (text if text is not None else "x = 1\n"), encoding="utf-8")
    if rule is not fresh:
        renew(planted)
    assert rule(planted)
    assert [other.__name__ for other in RULES if other is not rule and other(planted)] == []
