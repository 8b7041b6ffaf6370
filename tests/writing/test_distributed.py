"""Two processes train what one trains, through torchrun and gloo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

import addenda
import children
from addenda.bases.devices import own_device
from addenda.core.errors import TrainingError
from addenda.writing.distributed import Processes

from . import child

HERE = Path(__file__).parent
SCRIPT = """
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, {here!r})
import child
import addenda

out, what = Path(sys.argv[1]), sys.argv[2]
child.quick_gates()
base = child.make()
run = child.RUN | {{"out": out}}
if what == "sharded":
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    torch.distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    base.unplug("a")
    for layer in base.model.model.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    base = addenda.attach(base.model, base.tokenizer)
    base.new("a", addenda.NeutralResidues(width=8))
if what == "resume":
    run["resume"] = True
report = addenda.train(base, "a", **run)
rank = int(__import__("os").environ.get("RANK", 0))
total = float(sum(p.detach().double().sum() for p in base.modules["a"].parameters()))
Path(f"{{out}}.{{rank}}.json").write_text(json.dumps({{"crc": report.data_crc, "loss": report.loss, "total": total}}))
"""


def run(folder: Path, out: Path, what: str, processes: int = 2) -> list[dict[str, Any]]:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(here=str(HERE)))
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = children.environment(HERE.parent)
    done = subprocess.run(
        [sys.executable, *launch, str(script), str(out), what],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(Path(f"{out}.{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["plain", "sharded"])
def test_two_processes_learn_what_one_learns(tmp_path: Path, what: str) -> None:
    alone = addenda.train(child.make(), "a", out=tmp_path / "one", **child.RUN)
    both = run(tmp_path, tmp_path / "two", what)
    assert both[0]["total"] == both[1]["total"]
    assert {one["crc"] for one in both} == {alone.data_crc}
    assert both[0]["loss"] == pytest.approx(alone.loss, rel=1e-4)
    one, two = (load_file(tmp_path / name / "module.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_processes_resume(tmp_path: Path) -> None:
    first = run(tmp_path, tmp_path / "two", "plain")
    again = run(tmp_path, tmp_path / "two", "resume")
    assert [one["total"] for one in again] == [one["total"] for one in first]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two GPUs that only seem to be there; what was made the current one."""
    current: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


def test_each_process_of_torchrun_has_a_gpu_of_its_own(gpus: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_device("cuda") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device("cpu") == torch.device("cpu")
    assert own_device("cuda:0") == torch.device("cuda:0")  # a number is meant
    assert gpus == []
    assert own_device("cuda") == torch.device("cuda:1")
    assert gpus == [1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(TrainingError, match="process 2 has no GPU of its own, 2 can be seen; start no more processes"):
        own_device("cuda")


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda:1", "nccl")])
def test_the_base_s_device_decides_how_processes_talk(
    device: str, backend: str, gpus: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(dist, "init_process_group", chosen.append)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with Processes(torch.device(device)):
        pass
    assert chosen == [backend]
    assert gpus == ([torch.device(device)] if backend == "nccl" else [])


def test_a_single_process_needs_no_group() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    with Processes() as processes:
        processes.add_gradients([parameter])
        processes.share([parameter])
        processes.wait()
        assert processes.first
        assert processes.size == 1
        assert processes.any(True)
        assert not processes.any(False)
    assert torch.equal(parameter.grad, torch.ones(2))
