"""core, kinds, gates and modulefile import and compute where there is no transformers: another engine may run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import importlib, pkgutil, sys
from pathlib import Path

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("transformers", "tokenizers", "accelerate", "datasets", "peft"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

import torch
for room in ("core", "kinds", "gates", "modulefile"):
    package = importlib.import_module(f"addenda.{room}")
    for info in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"addenda.{room}.{info.name}")

from addenda.core.contracts import AddingAdapter, ReplacingAdapter
from addenda.core.registry import build_kind, kinds
from addenda.core.standing import gate_named
from addenda.modulefile.storage import load_module, save_module
from hostile.forge import anatomy, module_of, paper_base

on, base = anatomy(layers=2, width=8), paper_base(layers=2, width=8)
x, computed = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), 0
for name, options in {"NeutralResidues": {"width": 4}, "ParallelAdapter": {"width": 4}, "LoRA": {"rank": 2},
                      "LocasGLU": {"rank": 2}, "DeltaProduct": {"width": 4}, "Registers": {"count": 2}}.items():
    module = module_of(build_kind(name, options), on)
    save_module(module, Path(sys.argv[1]) / name.lower())
    back = load_module(Path(sys.argv[1]) / name.lower(), base)
    for key in module.sites():
        one, two = module.adapter(key), back.adapter(key)
        if isinstance(one, AddingAdapter):
            assert torch.equal(one.delta(x), two.delta(x)) and one.delta(x).any(), name
            computed += 1
        elif isinstance(one, ReplacingAdapter):
            assert torch.equal(one(x, x)[0], two(x, x)[0]), name
            computed += 1
assert computed >= 8, computed
gate = gate_named("document").module(on.sites[1])
statistic, state = gate(x)
assert statistic.shape == (2, 5) and state.shape[0] == 2
assert len(kinds()) > 8
assert not [name for name in sys.modules if name.split(".")[0] in ("transformers", "tokenizers", "accelerate")]
"""


def test_they_import_and_compute(tmp_path: Path) -> None:
    path = f"{ROOT / 'src'}:{ROOT / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path, "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
