"""Killed at any moment, merge and memorize leave the old state or the new one, and can be called again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import children
import killed
from addenda.combining.manifest import read_manifest

HERE = Path(__file__).parent


#: the runs that are taken up; all others are merges
RUNS = {name: call for name, (call, _) in killed.MOMENTS.items() if call in (killed.memorize, killed.study)}
MERGES = [moment for moment in killed.MOMENTS if moment not in RUNS]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each moment in which a call was killed; an older merge stood there where it was one."""
    root = tmp_path_factory.mktemp("killed")
    for moment in killed.MOMENTS:
        (root / moment).mkdir()
        if moment in MERGES:
            killed.merge(root / moment, rank=4)
    environment = children.environment(HERE)
    command = [sys.executable, str(HERE / "killed.py"), str(root), *killed.MOMENTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def units(folder: Path) -> int:
    manifest = read_manifest(folder)
    return sum(last - first for _, first, last in manifest.units[0])


@pytest.mark.parametrize("moment", MERGES)
def test_a_killed_merge_leaves_the_old_checkpoint_or_the_new_one(root: Path, moment: str) -> None:
    out = root / moment / "out"
    rank = 40 if moment == "after the swap" else 4
    assert units(out) == rank
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    base = killed.make(rank)
    ids = base.tokenize(killed.TEXT)[None]
    with torch.no_grad(), base.using("book"):
        expected = base.model(input_ids=ids).logits
        assert float((model(input_ids=ids).logits - expected).abs().max() / expected.abs().max()) <= 1e-4
    more: dict[str, Any] = {"format": "gguf"} if "GGUF" in moment else {}
    killed.merge(root / moment, **more)
    assert units(out) == 40
    assert (out / "model.gguf").exists() == ("GGUF" in moment)


@pytest.mark.parametrize("moment", RUNS)
def test_a_killed_run_is_taken_up_bit_by_bit(root: Path, moment: str, tmp_path: Path) -> None:
    assert not (root / moment / "out").exists()
    whole, again = RUNS[moment](tmp_path), RUNS[moment](root / moment, resume=True)
    one, two = (base.modules["m"].tensors() for base in (whole, again))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    first, second = (folder / "out" / "module.safetensors" for folder in (tmp_path, root / moment))
    assert first.read_bytes() == second.read_bytes()
