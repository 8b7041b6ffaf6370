"""lm-evaluation-harness: the same numbers as its own class gives, modules seen and paired, the command line finds the model."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.tasks import data_folder, local_tasks, task_names, tasks_named, write_tasks

pytest.importorskip("lm_eval")
needs_data = pytest.mark.skipif(not (data_folder() / "mmlu").is_dir(), reason="no question sets: ADDENDA_DATA")
# lm-eval's own remarks on a model that is built already, and what its dependencies call old
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two small sets: one whose true answers the base finds likelier, one the other way round."""
    folder = tmp_path / "data"
    (folder / "multiple_choice").mkdir(parents=True)
    (folder / "mmlu" / "test").mkdir(parents=True)
    rows = [{"query": "The river flows into the", "choices": ["sea.", "purple the of."], "gold": 0}] * 6
    for name, gold in (("copa", 0), ("openbook_qa", 1)):
        with gzip.open(folder / "multiple_choice" / f"{name}.jsonl.gz", "wt") as out:
            out.writelines(json.dumps(row | {"gold": gold}) + "\n" for row in rows)
    (folder / "mmlu" / "test" / "anatomy_test.csv").write_text('"What, is it?",1,None,3,NA,B\n"Which?",a,b,c,d,D\n')
    return folder


def test_tasks_are_those_whose_files_are_there_each_with_its_chance(data: Path) -> None:
    assert task_names(data) == ["openbook_qa", "copa", "mmlu_anatomy"]
    assert [(task.chance, task.questions) for task in tasks_named(["copa", "mmlu"], data)] == [(0.5, 6), (0.25, 2)]
    with pytest.raises(DataError, match=r"no task 'coppa'.*there are: openbook_qa, copa, mmlu"):
        tasks_named(["coppa"], data)
    with pytest.raises(DataError, match="no task was named"):
        tasks_named([], data)
    with pytest.raises(DataError, match="holds no question sets"):
        write_tasks(data / "out", data / "nowhere")


def test_an_oracle_gets_all_and_its_opposite_nothing(base: addenda.Base, data: Path) -> None:
    from addenda.measuring.harness import evaluate_tasks

    right, wrong = evaluate_tasks(base, ["copa", "openbook_qa"], data=data)
    assert (right.base.value, right.base.n) == (1.0, 6)
    assert wrong.base.value == 0.0
    (short,) = evaluate_tasks(base, ["mmlu_anatomy"], data=data, limit=1)
    assert short.questions == 1
    with pytest.raises(AddendaError, match="limit"):
        evaluate_tasks(base, ["copa"], data=data, limit=0)


def test_modules_are_seen_and_compared_question_by_question(base: addenda.Base, data: Path) -> None:
    from addenda.measuring.harness import evaluate_tasks

    base.new("same", addenda.LoRA(2))
    module = base.new("loud", addenda.LoRA(8))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    (found,) = evaluate_tasks(base, ["copa"], {"same": "same", "loud": {"loud": 1.0}}, data=data)
    assert base.selection.everyone == {}
    base.unplug("same")
    base.unplug("loud")
    assert (found.difference["same"].low, found.difference["same"].value, found.difference["same"].high) == (0, 0, 0)
    assert set(found.on) == {"same", "loud"}
    assert found.difference["loud"].value == found.on["loud"].value - found.base.value


@needs_data
@pytest.mark.slow
def test_numbers_are_those_of_lm_evals_own_class_on_every_task(base: addenda.Base) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from addenda.measuring.harness import AddendaLM

    tasks = tasks_named(task_names())
    assert len(tasks) == 57 + 10
    kept: list[dict[str, Any]] = []
    for model in (
        AddendaLM(base=base, batch_size=8),
        HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=8, device="cpu"),
    ):
        found: Any = simple_evaluate(
            model=model, tasks=[task.config for task in tasks], task_manager=TaskManager(include_defaults=False), limit=3,
            bootstrap_iters=0, log_samples=True,
        )  # fmt: skip
        kept.append({name: [sample["resps"] for sample in samples] for name, samples in found["samples"].items()})
    assert len(kept[0]) == len(tasks)
    assert kept[0] == kept[1]


@pytest.mark.slow
def test_its_command_line_finds_the_model(data: Path, tmp_path: Path, base: addenda.Base) -> None:
    names = write_tasks(tmp_path / "tasks", data)
    assert names == ["addenda_openbook_qa", "addenda_copa", "addenda_mmlu_anatomy"]
    module = base.new("m", addenda.LoRA(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.3)
    module.save(tmp_path / "m")
    base.unplug("m")
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "addenda", "--tasks", "addenda_copa"]
    command += [
        "--model_args",
        f"base=tiny,plug={tmp_path / 'm'},modules=m@0.5",
        "--include_path",
        str(tmp_path / "tasks"),
    ]
    command += ["--device", "cpu", "--output_path", str(tmp_path / "out.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "addenda_copa" in done.stdout
    assert "|acc" in done.stdout


def test_the_plugin_registers_once_and_only_when_asked() -> None:
    code = (
        "import sys, addenda_lm_eval as p; loaded = {'addenda', 'torch'} & set(sys.modules); assert not loaded;"
        "import lm_eval.models; from lm_eval.api.registry import model_registry as r; assert 'addenda' in r; p.register();"
        "assert not any(type(one).__name__ == 'Watcher' for one in sys.meta_path)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_local_tasks_are_read_once(data: Path) -> None:
    assert local_tasks(str(data)) is local_tasks(str(data))
