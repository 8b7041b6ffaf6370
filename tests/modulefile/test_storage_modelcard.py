"""The README of a module's folder: what the hub reads in it, and what readers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from addenda.core.card import BaseRecord, Card, DataRecord, Measure, TrainingRecord
from addenda.modulefile.modelcard import render


def card(**more: Any) -> Card:
    record = BaseRecord(name="org/base", model_type="llama", fingerprint="0" * 64, parameters=1_234_567)
    return Card(name="pubmed", kind="LoRA", base=record, **more)


def front_matter(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_model_card_names_what_the_hub_reads() -> None:
    head = front_matter(render(card(licence="Apache-2.0")))
    assert head == {
        "library_name": "addenda",
        "base_model": "org/base",
        "base_model_relation": "adapter",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["addenda", "knowledge-module", "lora"],
    }


@pytest.mark.parametrize("name", ["tiny", "/home/someone/base", "..", "a/b/c", "x: y"])
def test_a_base_that_is_no_hub_id_is_not_claimed_to_be_one(name: str) -> None:
    mine = card()
    mine.base.name = name
    assert "base_model" not in front_matter(render(mine))


@pytest.mark.parametrize("licence", ["CC BY 4.0 and others", "x\n---\nlicense: mit", '"; evil: true'])
def test_a_licence_the_hub_does_not_know_stands_as_text(licence: str) -> None:
    head = front_matter(render(card(licence=licence)))
    assert (head["license"], head["license_name"]) == ("other", licence)
    assert "evil" not in head


def test_the_model_card_shows_measures_data_and_use() -> None:
    run = TrainingRecord(
        tokens=2_000_000, steps=40, seed=3, lr=0.003, data=[DataRecord(name="a|b<script>", licence="CC0", documents=7)]
    )
    measured = Measure(name="learning", value=-0.123456, low=-0.2, high=-0.05, n=100, on="held-out\nmedical")
    text = render(card(measures=[measured, Measure(name="forgetting", value=0.01)], training=[run]), "me/pubmed")
    assert "| learning | -0.1235 | -0.2 to -0.05 |  | nats per token | 100 | held-out medical |" in text
    assert "| forgetting | 0.01 |  |  | nats per token |  |  |" in text
    assert "| a\\|b&lt;script> | corpus | 7 | CC0 |  |" in text
    assert "2,000,000 tokens in 40 steps, seed 3, learning rate 0.003" in text
    assert 'base = addenda.load_base("org/base")\nbase.plug("me/pubmed", name="pubmed")\n' in text
    assert "Nothing has been measured yet" in render(card())


@pytest.mark.parametrize(
    ("base", "loads"),
    [
        ("tiny", "tiny"),
        ("smollm2", "smollm2"),
        ("org/base", "org/base"),
        ("SmolLM2-135M-Instruct", "path/to/SmolLM2-135M-Instruct"),
        ("model.Q4_1.gguf", "path/to/model.Q4_1.gguf"),
        ("/home/someone/base", "path/to/base"),
    ],
)
def test_the_page_loads_the_base_by_what_load_base_takes(base: str, loads: str) -> None:
    mine = card()
    mine.base.name = base
    text = render(mine)
    assert f'addenda.load_base("{loads}")' in text
    assert ("stands for where you keep the base, fingerprint `0000000000000000`" in text) == (base != loads)


@pytest.mark.parametrize(("gate", "noted"), [("context", True), ("document", True), ("token", False), (None, False)])
def test_the_page_says_that_a_gate_reads_on(gate: str | None, noted: bool) -> None:
    assert ("The gate reads the document so far" in render(card(config={"gate": gate}))) == noted


@pytest.mark.parametrize("probed", [False, True])
def test_the_code_of_the_page_runs(
    probed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import addenda

    monkeypatch.chdir(tmp_path)
    base = addenda.load_base("tiny")
    module = base.new("note", addenda.LoRA(rank=1))
    if probed:
        module.probe = base.tokenizer("The patients were given insulin.")["input_ids"]
    module.save("runs/note")
    code = (tmp_path / "runs" / "note" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    assert ("The patients were given" if probed else "The") in capsys.readouterr().out


def test_what_was_measured_is_in_the_hub_s_index() -> None:
    found = [
        Measure(name="acc", value=0.31, low=0.25, high=0.4, unit="share", n=135, on="mmlu_anatomy", reference=0.25),
        Measure(name="loss", value=3.5, on='held-out: "medical"', reference=3.7),
        Measure(name="loss", value=float("nan"), on="empty"),
        Measure(name="of nothing", value=1.0),
    ]
    (index,) = front_matter(render(card(measures=found)))["model-index"]
    assert index["name"] == "pubmed"
    assert [one["dataset"]["name"] for one in index["results"]] == ["mmlu_anatomy", 'held-out: "medical"']
    assert index["results"][0]["metrics"] == [{"type": "acc", "name": "acc, share", "value": 0.31}]


def test_questions_by_subject_begin_with_anatomy_and_end_with_the_mean() -> None:
    def asked(subject: str, value: float, n: int) -> Measure:
        return Measure(
            name="acc", value=value, low=0.1, high=0.5, unit="share", n=n, on=f"mmlu_{subject}", reference=0.25
        )

    text = render(card(measures=[asked("abstract_algebra", 0.2, 100), asked("anatomy", 0.4, 135)]))
    table = [line for line in text.splitlines() if "%" in line and line.startswith("|")]
    assert table == [
        "| subject | base | with the module | 95% interval | questions |",
        "| anatomy | 25.0% | 40.0% | 10.0% to 50.0% | 135 |",
        "| abstract algebra | 25.0% | 20.0% | 10.0% to 50.0% | 100 |",
        "| mean of 2 subjects | 25.0% | 30.0% |  | 235 |",
    ]
    assert "acc" not in text.split("## Measured")[1].split("## MMLU")[0]
