"""The study of memories: its plan, its comparisons at equal forgetting, and a small reading of every method."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import addenda
from addenda.text.texts import texts

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_data(recipes: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADDENDA_DATA", str(tmp_path / "absent"))


def module(name: str) -> Any:
    return importlib.import_module(f"recipes.{name}")


def record(method: str, gain: float, forgetting: float, **more: Any) -> dict[str, Any]:
    run = {
        "part": "study",
        "method": method,
        "book": "b",
        "seed": 0,
        "options": {},
        "settings": {},
        "kind": "LoRA",
    } | more
    return {"run": run, "gain": gain, "forgetting": forgetting, "parameters": 100, "time": 1.5}


def test_gain_is_compared_at_equal_forgetting() -> None:
    report = module("memory_frontier")
    ours = report.curve_of([record("locas", 0.2, 0.1), record("locas", 0.4, 0.2), record("locas", 0.3, 0.5)])
    theirs = report.curve_of([record("templora", 0.1, 0.1), record("templora", 0.2, 0.2)])
    assert report.at_equal_forgetting(ours, theirs) == pytest.approx(2.0)
    assert report.at_equal_forgetting(theirs, ours) == pytest.approx(0.5)
    far = report.curve_of([record("templora", 0.9, 0.6)])
    assert report.at_equal_forgetting(ours, far) is None  # below its one point nothing is known of it
    useless = report.curve_of([record("templora", -0.1, 0.1)])
    assert report.at_equal_forgetting(ours, useless) is None


def test_only_settings_that_none_betters_go_on() -> None:
    study = module("memory_plan")
    found = [(0.1, 0.01), (0.2, 0.05), (0.15, 0.06), (0.3, 0.2), (-0.1, 0.0), (0.4, 0.3), (0.5, 0.4), (0.6, 0.9)]
    sweep = [record("locas", *point, part="sweep", settings={"lr": n}) for n, point in enumerate(found)]
    kept = [run["settings"]["lr"] for run in study.best(sweep, "locas")]
    assert kept[0] == 0
    assert kept[-1] == 7
    assert len(kept) == 3
    assert not {2, 4} & set(kept)
    runs = study.study(sweep, 1000, [0, 1], ["Dickens_Bleak", "Eliot_Daniel"])
    assert len(runs) == 3 * 2 * 2
    assert len({run.id for run in runs}) == len(runs)


def test_a_quiet_memory_has_its_twin_and_all_are_read_in_every_form() -> None:
    plan = module("memory_plan")
    quiet = {"lr": 4e-3, "local": 0.1, "replay": True}
    sweep = [
        record("locas", 0.3, 0.2, part="sweep", kind="LocasGLU", options={"rank": 32, "scale": 16.0}, settings={"lr": 1e-3}),
        record("locas-quiet", 0.2, 0.1, part="sweep", kind="LocasGLU", options={"rank": 32, "scale": 16.0}, settings=quiet),
        record("templora", 0.2, 0.1, part="sweep", options={"rank": 4}, settings={"lr": 1e-3}),
    ]  # fmt: skip
    runs = plan.study(sweep, 1000, [0], ["b"])
    assert [(run.method, run.settings) for run in runs] == [
        ("locas", {"lr": 1e-3}), ("locas", {"lr": 4e-3}), ("locas-quiet", quiet), ("locas-quiet", plan.DEFAULT[1]),
        ("locas-quiet", plan.DEFAULT[1] | {"replay_tokens": 128}), ("locas-quiet", plan.DEFAULT[1] | plan.WHOLE_GRADIENT),
        ("templora", {"lr": 1e-3}),
    ]  # fmt: skip
    ablations = list(plan.ablations(sweep, 1000, [0], ["b"]))
    assert {run.options["init"] for run in ablations if run.part == "starts"} == {
        "top", "bottom", "random", "activation", "gaussian",
    }  # fmt: skip
    assert [run.options["rank"] for run in ablations if run.part == "widths"] == list(plan.WIDTHS)
    assert [run.options["layers"] for run in ablations if run.part == "layers"] == [
        one["layers"] for one in plan.LAYERS
    ]
    whole = [run for run in plan.whole(sweep) if run.book == plan.WHOLE[0]]
    assert sum(run.method.startswith("locas rank") for run in whole) == 3  # it draws nothing
    assert sum(run.method.startswith("templora") for run in whole) == 3
    assert [run.settings for run in whole if run.method.startswith("locas-quiet")] == [plan.DEFAULT[1]]
    assert [run.window for run in whole if not run.kind] == list(plan.WINDOWS)
    assert not list(plan.ablations([], 1000, [0], ["b"]))


@pytest.mark.slow
def test_every_method_reads_a_little_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, report, plan = module("locas"), module("memory_frontier"), module("memory_plan")
    monkeypatch.setattr(study, "GENERAL", 1000)
    with pytest.raises(addenda.AddendaError, match="no book 'Dickens_Bleak'"):
        study.text_of("Dickens_Bleak")
    monkeypatch.setattr(study, "text_of", lambda _: "\n".join(record["text"] for record in texts("pubmed_train")))
    records = tmp_path / "locas"
    records.mkdir()
    for method, (kind, grid) in plan.grids().items():
        options, settings = list(grid)[-1]
        run = plan.Run("sweep", method, "Dickens_Bleak", kind, options, settings, 1500, seed=1)
        study.execute(run, records)
        written = json.loads((records / f"{run.id}.json").read_text())
        assert 1400 < written["tokens"] <= 1500
        assert written["time"] > 0
        assert abs(written["gain"]) < 1
    for window in (512, 1024):
        run = plan.Run("whole", f"{plan.PLAIN} {window}", "Dickens_Bleak", tokens=1500, window=window)
        study.execute(run, records)
        written = json.loads((records / f"{run.id}.json").read_text())
        assert written["parameters"] == written["forgetting"] == 0
        assert written["gain"] == 0 if window == 512 else written["gain"] > 0
    report.draw_positions(module("records").read_records(records), tmp_path)
    assert not (tmp_path / "locas_positions.svg").exists(), "wider windows alone are no memory to draw"
    kind, grid = plan.grids()["locas"]
    options, settings = list(grid)[-1]
    study.execute(plan.Run("whole", "locas", "Dickens_Bleak", kind, options, settings, 1500), records)
    with pytest.raises(addenda.AddendaError, match="no stretch number 5000 of 1000 tokens"):
        study.stretch("Dickens_Bleak", 1000, 5000)
    text = report.report(module("records").read_records(records), tmp_path)
    assert (tmp_path / "locas.svg").exists()
    assert (tmp_path / "locas_positions.svg").exists()
    assert "| sweep: method" in text
    assert "| whole book | method |" in text


def test_the_report_compares_with_the_rival_and_with_the_twin(tmp_path: Path) -> None:
    report = module("memory_frontier")
    lr = {"settings": {"lr": 0.01}}
    found = [
        record("locas", 0.2, 0.1, settings={"lr": 0.1}), record("locas", 0.4, 0.3, **lr),
        record("templora", 0.3, 0.2, **lr), record("locas-quiet", 0.3, 0.03, settings={"lr": 0.01, "local": 0.1}),
        record("init top", 0.3, 0.2, part="starts", **lr), record("init random", 0.2, 0.2, part="starts", **lr),
    ]  # fmt: skip
    shown = report.report(found, tmp_path)
    assert "| locas | templora |" in shown
    assert "| lr 0.01, local 0.1 | 0.75 [one seed] | 0.10 [one seed] | 1 |" in shown
    assert shown.index("| init top | 1 | 0.300 |") < shown.index("| init random | 1 | 0.200 |")


SAMPLE: dict[str, Any] = {
    "sample_id": "conv-0",
    "conversation": {
        "session_1_date_time": "8 May",
        "session_1": [{"speaker": "Ann", "text": f"I have {n} hens."} for n in range(20)],
        "session_2_date_time": "9 May",
        "session_2": [{"speaker": "Bob", "text": "I have none."}],
    },
    "qa": [{"question": f"How many on day {n}?", "answer": n, "category": 1 + n % 4} for n in range(24)]
    + [{"question": "Never said?", "adversarial_answer": "x", "category": 5}],
}


def test_questions_have_nine_other_answers_of_their_kind() -> None:
    recall = module("locas_recall")
    text = recall.text_of(SAMPLE)
    assert text.startswith("8 May\n\nAnn: I have 0 hens.")
    assert text.endswith("9 May\n\nBob: I have none.\n")
    questions = recall.questions_of(SAMPLE, 100)
    assert len(questions) == 24
    for one in questions:
        assert len({one.answer, *one.others}) == recall.OPTIONS
        alike = [other for other in one.others if int(other) % 4 == int(one.answer) % 4]
        assert len(alike) == 5  # six answers are of its kind
    assert questions == recall.questions_of(SAMPLE, 100)
    assert [one.answer for one in recall.questions_of(SAMPLE, 6)] == ["0", "4", "8", "12", "16", "20"]


def test_recall_is_reported_against_no_memory() -> None:
    recall = module("locas_recall")

    def told(method: str, right: list[int]) -> dict[str, Any]:
        answers = [{"chosen": one, "chosen_by_mean": one, "f1": one / 2, "category": 1} for one in right]
        return {"run": {"method": method, "conversation": "conv-0"}, "answers": answers}

    def recall_report(records: list[dict[str, Any]]) -> str:
        return recall.report(records, Path())

    text = recall_report([told(recall.NOBODY, [0, 0, 1, 0]), told("locas", [1, 1, 1, 0])])
    assert "| no memory | 1 | 4 | 25.0% |  |" in text
    assert "| locas | 1 | 4 | 75.0% | +50.0% [" in text
    twice = recall_report([told(recall.NOBODY, [0, 1, 0, 0]), *[told("locas", [1, 1, 0, 0])] * 3])
    once = recall_report([told(recall.NOBODY, [0, 1, 0, 0]), told("locas", [1, 1, 0, 0])])
    assert (
        twice.splitlines()[-1].split("|")[5] == once.splitlines()[-1].split("|")[5]
    )  # more seeds are not more questions
    same = recall_report([told(recall.NOBODY, [0, 1]), told("locas", [0, 1])])
    assert "+0.0% [+0.0%, +0.0%]" in same


def test_an_oracle_is_right_and_a_constant_answer_at_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    recall, options = module("locas_recall"), importlib.import_module("addenda.measuring.asking.options")
    base = addenda.load_base("tiny")
    questions = recall.questions_of(SAMPLE, 8)
    truth = {one.prompt: one.answer for one in questions}
    monkeypatch.setattr(recall, "written", lambda base, prompts, **_: [truth[prompt] for prompt in prompts])

    def scored(right: bool) -> Any:
        return lambda base, asked: [
            [options.Option(a, -1.0 if right and a == truth[prompt] else -2.0, 1) for a in answers]
            for prompt, answers in asked
        ]

    monkeypatch.setattr(recall, "all_likelihoods", scored(True))
    assert all(one["chosen"] == one["chosen_by_mean"] == one["f1"] == 1.0 for one in recall.ask(base, questions, {}))
    monkeypatch.setattr(recall, "all_likelihoods", scored(False))
    assert all(one["chosen"] == pytest.approx(1 / recall.OPTIONS) for one in recall.ask(base, questions, {}))


@pytest.mark.slow
def test_a_conversation_is_read_and_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recall = module("locas_recall")
    with pytest.raises(addenda.AddendaError, match=r"no '.*locomo7"):
        recall.conversations()
    monkeypatch.setattr(recall, "conversations", lambda: {"conv-0": SAMPLE})
    sweep = [record("locas", 0.1, 0.0, part="sweep", kind="LocasGLU", options={"rank": 4}, settings={"lr": 4e-3})]
    runs = recall.plan(sweep, ["conv-0"], [0], 3)
    assert [run.method for run in runs] == [recall.NOBODY, "locas"]
    for run in runs:
        recall.execute(run, tmp_path)
    found = module("records").read_records(tmp_path)
    assert [len(one["answers"]) for one in found] == [3, 3]
    assert "| locas | 1 | 3 |" in recall.report(found, tmp_path)


def test_compressions_are_compared_at_their_best_with_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mlp = module("locas_mlp")
    runs = list(mlp.sweep(1000))
    assert len({run.id for run in runs}) == len(runs)
    sweep = [
        record(run.method, run.options.get("scale", 1.0) * (0.02 if "refit" in run.method else 0.01), 0.1, part="sweep",
               kind=run.kind, options=run.options, settings=run.settings)
        for run in runs
    ]  # fmt: skip
    chosen = mlp.study(sweep, 1000, [0, 1], ["b", "c"])
    assert len(chosen) == 8 * 4
    assert {run.options["scale"] for run in chosen if run.kind == "LocasMLP"} == {64.0}
    done = [
        record(run.method, (0.4 if "refit" in run.method else 0.3) + 0.01 * run.seed, 0.1, book=run.book, seed=run.seed,
               options=run.options, settings=run.settings)
        for run in chosen
    ]  # fmt: skip
    text = mlp.report(sweep + done, Path())
    assert "| refit, rank 64 | 0.100 [0.100, 0.100] | 4 |" in text
    assert "| oriented, rank 256 | 0.000 [" in text


@pytest.mark.slow
def test_a_base_with_plain_ffns_is_made_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, mlp, study = module("plain_tiny"), module("locas_mlp"), module("locas")
    monkeypatch.setattr(plain, "STEPS", 30)
    monkeypatch.setattr(plain, "TOKENS", 2000)
    monkeypatch.setattr(sys, "argv", ["plain_tiny", "--out", str(tmp_path / "plain"), "--tokens", "4096"])
    plain.main()
    monkeypatch.setattr(study, "GENERAL", 1000)
    monkeypatch.setattr(study, "text_of", lambda _: "\n".join(record["text"] for record in texts("pubmed_train")))
    run = next(one for one in mlp.sweep(1500) if one.options["scale"] == 16)
    mlp.execute(run, tmp_path, str(tmp_path / "plain"))
    (written,) = module("records").read_records(tmp_path)
    assert written["base"] != addenda.load_base("tiny").fingerprint
    assert written["parameters"] == 2 * 64 * 384 * 6
    assert written["forgetting"] != 0
