"""The studies of trained modules: what they plan, what their pages say of records, and small runs of them."""

from __future__ import annotations

import importlib
import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("neutral_residues", "registers", "recall", "composition")


pytestmark = pytest.mark.usefixtures("recipes")


def module(name: str) -> Any:
    return importlib.import_module(f"recipes.studies.{name}")


def swept(gains: dict[float, float], subject: str, study: str, method: str) -> list[dict[str, Any]]:
    run = {"study": study, "part": "sweep", "method": method, "subject": subject, "tokens": 1, "seed": 0}
    return [{"run": run | {"lr": lr}, "gains": {subject: [gain] * 3}} for lr, gain in gains.items()]


def records_of(scale: Any, study: Any, sweeps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A made-up record of every run that a study plans."""
    found = []
    for number, run in enumerate(study.then(sweeps, scale)):
        one: dict[str, Any] = {
            "run": asdict(run),
            "parameters": 1000,
            "seconds": 2.0,
            "device": "a CPU",
            "untouched": 0.5,
        }
        one["gains"] = {name: [0.1 + number / 1000] * 3 for name in run.subjects}
        one["forgetting"] = [0.01] * 3
        share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
        one["recall"] = dict.fromkeys(("chosen_before", "chosen_after", "exact_after", "kept", "gain"), share) | {
            "told": 125
        }
        if run.study == "composition":
            one["gains"] = {name: {"alone": [0.5, 0.4, 0.6], "together": [0.4, 0.3, 0.5]} for name in run.subjects}
            one["forgetting"] = {"one": dict.fromkeys(run.subjects, [0.1] * 3), "all": [0.3, 0.2, 0.4]}
            size = len(run.subjects)
            one["beside"] = [[0.0 if a == b else 0.25 for b in range(size)] for a in range(size)]
            one["strangers"] = [[-0.5 if a == b else -0.25 for b in range(size)] for a in range(size)]
        found.append(one)
    return found


def test_a_way_takes_the_rate_that_gained_most_in_its_own_sweep() -> None:
    plan, study = module("plan"), module("neutral_residues")
    sweeps = swept({1e-3: 0.1, 3e-3: 0.3, 5e-3: 0.2}, "french", study.STUDY, "lora")
    sweeps += swept({1e-3: 0.5}, "pubmed", study.STUDY, "lora") + swept({1e-2: 0.9}, "french", "other", "lora")
    sweeps += swept({1e-3: 0.9, 3e-3: 0.3}, "french", study.STUDY, "adapter")  # one rate is not tried yet
    assert plan.rates(sweeps, study.STUDY, study.WAYS, "french", plan.Scale()) == {"lora": 3e-3}
    assert plan.edges(sweeps, study.STUDY).endswith(": adapter on french (0.001, the lowest).")
    thin = plan.rates([], study.STUDY, study.WAYS, "french", plan.QUICK)
    assert thin == {method: way.rates[1] for method, way in study.WAYS.items()}


@pytest.mark.parametrize("name", NAMES)
def test_no_two_runs_of_a_plan_are_one_and_every_kind_can_be_made(name: str) -> None:
    plan, study = module("plan"), module(name)
    from addenda.core.registry import build_kind

    full, known = plan.Scale(), all_swept(study)
    planned = list(study.then(known, full))
    assert {run.seed for run in planned} == {0, 1, 2}
    every = [*study.sweep(full), *planned, *study.then([], plan.QUICK)]
    assert len({run.id for run in every}) == len(every) > 0
    for run in every:
        if run.kind not in ("full", "LoRA"):
            build_kind(run.kind, run.options)
        assert run.held <= run.tokens * 10
        assert set(run.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789.%-")
    assert sum(run.tokens for run in study.then([], plan.QUICK)) < 2_000_000


def test_a_load_that_a_scale_does_not_afford_is_dropped() -> None:
    plan, recall = module("plan"), module("recall")
    assert recall.loads(plan.Scale(1.0)) == recall.LOADS
    assert list(recall.loads(plan.Scale())) == [5, 25]
    assert list(recall.loads(plan.Scale(0.001))) == list(recall.loads(plan.QUICK)) == [5]
    assert {run.tokens for run in recall.then([], plan.QUICK)} == {recall.LOADS[5]}


def test_a_dry_run_lists_every_run_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("recipes.studies.__main__")
    monkeypatch.setattr("sys.argv", ["studies", "--dry-run", "--docs", "nowhere"])
    monkeypatch.setattr(main.Path, "mkdir", lambda *_, **__: None)
    main.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == sum(len(list(module(name).sweep(module("plan").Scale()))) for name in NAMES)


def all_swept(study: Any) -> list[dict[str, Any]]:
    """A record of every run of a study's sweep, and of those that it takes rates from."""
    of = {study, *getattr(study, "FROM", {}).values()}
    return [
        {"run": asdict(run), "gains": {run.subject: [run.lr] * 3}, "forgetting": [0.0] * 3}
        for one in of
        for run in one.sweep(module("plan").Scale())
    ]


def test_parts_of_a_study_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main, study = importlib.import_module("recipes.studies.__main__"), module("neutral_residues")
    argv = [
        "studies",
        "--dry-run",
        "--docs",
        "nowhere",
        "--only",
        study.STUDY,
        "--parts",
        "three",
        "starts",
        "--seeds",
        "0",
    ]
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setattr(main.Path, "mkdir", lambda *_, **__: None)
    monkeypatch.setattr(main, "records_of", lambda *_: all_swept(study))
    main.main()
    lines = capsys.readouterr().out.splitlines()
    counts = {part: sum(f"part='{part}'" in line for line in lines) for part in ("sweep", "three", "starts", "methods")}
    assert counts == {"sweep": 32, "three": 4, "starts": 4, "methods": 0}


def test_hes_start_stands_beside_the_papers(tmp_path: Path) -> None:
    plan, study = module("plan"), module("neutral_residues")
    records = records_of(replace(plan.Scale(), seeds=(0,)), study, all_swept(study))
    text = study.report(records, tmp_path)
    starts = text.split("### He's start")[1].split("###")[0].splitlines()
    assert [line.split(" | ")[:3] for line in starts if "neutral" in line] == [
        [f"| {subject}", method, start]
        for subject in ("french", "pubmed")
        for method in ("neutral-context", "neutral-token")
        for start in ("small, the paper's", "He's")
    ]
    assert "He's start" not in study.report([one for one in records if one["run"]["part"] != "starts"], tmp_path)


def test_a_plan_without_sweeps_waits_for_them() -> None:
    plan = module("plan")
    assert not [run for name in NAMES for run in module(name).then([], plan.Scale())]


@pytest.mark.parametrize("name", NAMES)
def test_pages_tell_every_part_of_a_study(name: str, tmp_path: Path) -> None:
    plan, study = module("plan"), module(name)
    records = records_of(plan.QUICK, study, [])
    text = study.report(records, tmp_path)
    assert (tmp_path / f"{name}.svg").stat().st_size > 5000
    assert "where a line is one run (one seed), its own, by bootstrap" in text
    assert "Computed on: a CPU." in text
    for one in records:
        assert one["run"]["method"].split(", ")[0] in text
    assert study.report([], tmp_path) == ""


def test_a_tick_stands_with_its_number_at_every_value() -> None:
    page = module("page")
    _, (axes,) = importlib.import_module("recipes.drawing").canvas(1)
    page.at_values(axes, iter([16, 1024, 16]), 2)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "1,024"]


def test_seeds_are_one_line_with_an_interval(tmp_path: Path) -> None:
    plan, study = module("plan"), module("registers")
    records = records_of(replace(plan.QUICK, seeds=(0, 1)), study, [])
    text = study.report(records, tmp_path)
    counted = [one for one in records if one["run"]["part"] == "counts" and one["run"]["method"] == "joint"]
    joint = [one["gains"]["pubmed"][0] for one in counted]
    line = next(line for line in text.splitlines() if line.startswith("| 16 | joint | 2 |"))
    mean, half = sum(joint) / 2, 12.706 * abs(joint[0] - joint[1]) / 2
    assert f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]" in line


def test_more_seeds_do_not_make_the_same_questions_more() -> None:
    """Two runs that agree, each known to within 0.1: so is their mean. Two that differ: both add up."""
    page = module("page")
    alike = [{"x": [0.5, 0.4, 0.7]}] * 2
    assert page.over(alike, lambda one: one["x"]) == pytest.approx((0.5, 0.4, 0.7))
    apart = [{"x": [0.5, 0.4, 0.6]}, {"x": [0.6, 0.5, 0.7]}]
    half = (0.1**2 + (12.706 * 0.05) ** 2) ** 0.5
    assert page.over(apart, lambda one: one["x"]) == pytest.approx((0.55, 0.55 - half, 0.55 + half), abs=1e-3)
    assert page.told(apart, lambda one: one["x"], 2, (0.0, 1.0)) == "0.55 [0.00, 1.00]"
    assert page.bars(alike, lambda one: one["x"]) == pytest.approx((0.5, 0.1, 0.2))


def test_composition_tells_what_is_kept_and_who_disturbs_whom(tmp_path: Path) -> None:
    plan, study = module("plan"), module("composition")
    text = study.report(records_of(plan.QUICK, study, []), tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("| lora | 1 | 1,000 | 0.80 [one seed]"))
    assert "| 0.100 [one seed] | 0.300 [0.200, 0.400] | 0.250 [one seed] | -0.250 [one seed] |" in line
    assert "| lora | french | 1 | 0.500 [0.400, 0.600] | 0.400 [0.300, 0.500] |" in text


def test_work_can_be_sent_to_another_process() -> None:
    """What `python -m` calls `__main__` cannot: there it is another module."""
    main = importlib.import_module("recipes.studies.__main__")
    assert pickle.loads(pickle.dumps(main.work)).__module__ == "recipes.studies.composition"


def test_subjects_hold_out_what_they_do_not_train_on() -> None:
    subjects = module("subjects")
    people = subjects.subject("people-5")
    assert len(people.corpus) == 20
    assert len(people.choosing) + len(people.held) == 5
    assert not set(people.corpus) & {*people.choosing, *people.held}
    with pytest.raises(importlib.import_module("addenda").AddendaError, match="no subject 'cooking'"):
        subjects.subject("cooking")


@pytest.mark.slow
def test_a_run_that_fails_keeps_no_other_from_being_made_and_fails_the_command(
    capfd: pytest.CaptureFixture[str],
) -> None:
    records = importlib.import_module("recipes.records")
    with pytest.raises(importlib.import_module("addenda").AddendaError, match="1 of 2 runs failed"):
        records.in_processes(str.index, [("abc", "z"), ("abc", "c")], 1)
    told = capfd.readouterr().out
    assert "failed, ValueError: substring not found" in told
    assert "2 of 2: 2" in told


@pytest.mark.slow
def test_small_runs_leave_records_that_pages_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_, plan, work = module("run"), module("plan"), module("composition").work
    monkeypatch.setattr(run_, "ROWS", 2)
    monkeypatch.setattr(run_, "WORK", tmp_path / "work")
    monkeypatch.setattr(run_, "ALONE", 300)
    monkeypatch.setattr(run_, "LENGTH", 64)
    small = plan.Scale(1.0, (0,), 1200, thin=True)
    bases: set[str] = set()  # the base that was trained on, also where every weight of it was
    for name in ("neutral_residues", "recall"):
        study = module(name)
        runs = list(study.then([], small))
        kept = [
            replace(run, tokens=512, subject="people-5" if name == "recall" else "pubmed") for run in (runs[0], runs[4])
        ]
        (tmp_path / name).mkdir()
        for run in kept:
            assert work(run, tmp_path / name) == run.id
            record = json.loads((tmp_path / name / f"{run.id}.json").read_text())
            assert len(record["gains"][run.subject]) == 4
            assert record["forgetting"][3] > 3, "an interval is drawn over many short documents"
            assert not (tmp_path / "work" / run.id).exists(), "checkpoints are of use until there is a record"
            assert record["parameters"] > 0
            bases.add(record["base"])
            assert ("recall" in record) == (name == "recall")
    assert len(bases) == 1
    composition = module("composition")
    monkeypatch.setattr(composition, "WORK", tmp_path / "work")
    monkeypatch.setattr(composition, "LENGTH", 64)
    (tmp_path / "composition").mkdir()
    run = next(iter(composition.then([], small)))
    work(replace(run, tokens=512, subject="pubmed+people-5", held=800), tmp_path / "composition")
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "composition").glob("*.json")]
    gain, general = record["gains"]["pubmed"]["alone"], record["forgetting"]
    assert record["beside"][0][0] == 0 != record["beside"][0][1]
    assert record["strangers"][0][0] == pytest.approx(-gain[0])
    assert set(general["one"]) == {"pubmed", "people-5"}
    assert len(general["all"]) == 4


def test_subjects_learned_together_have_as_much_text_each() -> None:
    evenly = module("run").evenly_of
    assert evenly([["one", "two", "three"]]) == ["one", "two", "three"]
    long, short = ["x" * 1000] * 4, ["y" * 100] * 25
    found = evenly([long, short])
    assert found.count("x" * 1000) == 3
    assert found.count("y" * 100) == 25


@pytest.mark.slow
def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_, plan, study = module("run"), module("plan"), module("registers")
    monkeypatch.setattr(run_, "ROWS", 2)
    monkeypatch.setattr(run_, "LENGTH", 64)
    monkeypatch.setattr(run_, "WORK", tmp_path / "work")
    run = replace(next(iter(study.then([], plan.QUICK))), tokens=1024, held=400, subject="pubmed")
    seen: list[Any] = []

    def stopped(*args: Any, **more: Any) -> None:
        seen.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(run_, "triple", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_.execute(run, tmp_path)
    assert seen
    assert (tmp_path / "work" / run.id / "m.run").is_dir()
    started: list[Any] = []
    learn = run_.learn

    def watched(*args: Any) -> Any:
        report = learn(*args)
        started.append(report.resumed_from)
        return report

    monkeypatch.setattr(run_, "learn", watched)
    run_.execute(run, tmp_path)
    assert started == [8], "all eight steps were taken before"
    assert list(tmp_path.glob("*.json"))
    assert not list((tmp_path / "work").iterdir())


def test_runs_of_different_scale_are_not_averaged(tmp_path: Path) -> None:
    error = importlib.import_module("addenda").AddendaError
    plan, study = module("plan"), module("registers")
    records = records_of(plan.QUICK, study, [])
    other = [one | {"run": one["run"] | {"tokens": 10**6}} for one in records]
    with pytest.raises(error, match="differ in 'tokens'.*--docs with another folder"):
        study.report(records + other, tmp_path)
    with pytest.raises(error, match="are of different bases"):
        study.report(records + [one | {"base": "another"} for one in records], tmp_path)
    with pytest.raises(error, match="two records of one run"):
        study.report(records * 2, tmp_path)
    faster = [one | {"run": one["run"] | {"lr": 1.0, "seed": 1}} for one in records]
    with pytest.raises(error, match="differ in 'lr': .*runs that are no longer planned can go"):
        study.report(records + faster, tmp_path)
    sweeps = swept({1e-3: 0.1}, "pubmed", study.STUDY, "joint") + swept({1e-2: 0.9}, "pubmed", study.STUDY, "joint")
    sweeps[1]["run"]["tokens"] = 2
    with pytest.raises(error, match=r"records of \[1, 2\] tokens"):
        plan.rates(sweeps, study.STUDY, study.WAYS, "pubmed", plan.Scale())


def test_a_quick_study_may_lie_beside_a_full_one(tmp_path: Path) -> None:
    main, plan, study = importlib.import_module("recipes.studies.__main__"), module("plan"), module("registers")
    (tmp_path / "registers").mkdir()
    quick, full = (records_of(scale, study, all_swept(study)) for scale in (plan.QUICK, plan.Scale()))
    for number, one in enumerate(quick + full):
        (tmp_path / "registers" / f"{number}.json").write_text(json.dumps(one))
    for scale, mine in ((plan.QUICK, quick), (plan.Scale(), full)):
        assert len(main.records_of(tmp_path, scale)) == len(mine) > 0
        assert study.report(main.records_of(tmp_path, scale), tmp_path)


def test_text_that_the_corpus_has_is_not_held_out() -> None:
    subjects = module("subjects")
    clause = "This agreement shall be governed by the laws of the state in which the tenant resides today."
    own = "Nobody else ever wrote this sentence about a lighthouse that sold its lamp to pay for the winter's oil."
    assert subjects.new_ones([f"First. {clause} Last."], [f"Of note: {clause}", own]) == [own]


def test_runs_whose_subject_is_not_there_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main, subjects = importlib.import_module("recipes.studies.__main__"), module("subjects")
    monkeypatch.setenv("ADDENDA_DATA", str(tmp_path / "none"))
    assert subjects.lacking("pubmed") is subjects.lacking("people-5") is subjects.lacking("french") is None
    assert subjects.lacking("law") == "law/contracts_train.jsonl.gz"
    made: list[str] = []
    monkeypatch.setattr(main, "in_processes", lambda work, tasks, workers: made.extend(run.subject for run, _ in tasks))
    monkeypatch.setattr("sys.argv", ["studies", "--quick", "--only", "registers", "--docs", str(tmp_path)])
    main.main()
    assert set(made) == {"pubmed"}
    assert "no 'law/contracts_train.jsonl.gz' in the folder that ADDENDA_DATA names" in capsys.readouterr().out


def test_a_failure_does_not_keep_other_studies_and_pages_from_being_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    main, error = importlib.import_module("recipes.studies.__main__"), importlib.import_module("addenda").AddendaError
    asked: list[str] = []

    def fails(work: Any, tasks: Any, workers: int) -> None:
        asked.extend(run.study for run, _ in tasks)
        raise error("1 of 1 runs failed")

    monkeypatch.setattr(main, "in_processes", fails)
    monkeypatch.setattr("sys.argv", ["studies", "--quick", "--only", "registers", "recall", "--docs", str(tmp_path)])
    with pytest.raises(error, match="1 of 1 runs failed"):
        main.main()
    assert set(asked) == {"registers", "recall"}


def test_the_table_of_questions_begins_with_anatomy_and_says_when_the_base_guesses() -> None:
    from addenda.measuring.asking.accuracy import OnTask
    from addenda.telling.intervals import Interval

    def asked(subject: str, base: float, module: float) -> OnTask:
        def at(value: float, half: float = 0.06) -> Interval:
            return Interval(value, value - half, value + half, 10)

        change = at(module - base, 0.03)
        return OnTask(f"mmlu_{subject}", "acc", 10, 0.25, at(base), {"law": at(module)}, {"law": change}, 0.3)

    mmlu = importlib.import_module("recipes.mmlu_table")
    found = [asked("abstract_algebra", 0.2, 0.3), asked("anatomy", 0.3, 0.2), asked("virology", 0.25, 0.4)]
    lines = mmlu.table(found, "a base").splitlines()
    assert lines[2] == "| anatomy | 10 | 30.0% | 20.0% |"
    # over the questions within subjects, 0.06 / sqrt(3): that subjects differ from one another adds nothing
    assert lines[5] == "| mean of 3 subjects | 30 | 25.0% [21.5%, 28.5%] | 30.0% [26.5%, 33.5%] |"
    assert lines[7] == "Against the base, mean over subjects: law +5.0% [+3.3%, +6.7%]."
    assert lines[8] == "The letter that is right most often in its subject gets 30.0%."
    assert lines[9:] == ["The base's interval holds 25%, what guessing gets.", "a base"]
    assert "guessing" not in mmlu.table([asked("anatomy", 0.9, 0.9)], "a base")
