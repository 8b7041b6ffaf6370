"""Evaluation: on and off on named texts, paired, after a proof that the modules ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import addenda
from addenda import AddendaError
from addenda.cli import app
from addenda.core.errors import DataError
from addenda.core.module import KnowledgeModule
from addenda.measuring.asking.facts import biographies
from addenda.measuring.conducting.evaluate import evaluate, known_measures
from addenda.measuring.conducting.measure import Acting
from addenda.measuring.measures import settings, texts
from pico import pico, pico_tokenizer

TEXTS = {"a": ["the river ran past the mill", "an old lane"], "b": ["the patients were given insulin"]}


@pytest.fixture
def base() -> Any:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", addenda.NeutralResidues(width=8))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3)
    base.new("fresh", addenda.LoRA(rank=2))
    return base


def test_on_and_off_are_the_scores_of_perplexity(base: Any) -> None:
    base.use("fresh")
    found = evaluate(base, TEXTS, {"m": 0.5})
    assert [one.name for one in found.texts] == ["a", "b"]
    for one in found.texts:
        with base.off():
            assert one.off.nats == float(addenda.perplexity(base, TEXTS[one.name]))
        with base.using(m=0.5):
            assert one.on is not None
            assert one.on.nats == float(addenda.perplexity(base, TEXTS[one.name]))
        assert one.difference is not None
        assert one.difference.nats == pytest.approx(one.on.nats - one.off.nats)
    assert base.selection.everyone == {"fresh": 1.0}


def test_a_fresh_module_is_reported_as_such(base: Any) -> None:
    found = evaluate(base, TEXTS, ["fresh", "m"])
    assert {one.name: one.finding for one in found.canary} == {"fresh": "fresh", "m": "on"}


def test_a_module_that_did_not_run_is_an_error(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = base.model.model.layers[1].mlp
    monkeypatch.setattr(layer, "forward", type(layer).forward.__get__(layer))
    with pytest.raises(AddendaError, match=r"did not run so at layers\.1\.ffn"):
        evaluate(base, TEXTS, "m")


def test_nothing_selected_scores_the_base_alone(base: Any) -> None:
    found = evaluate(base, {"a": TEXTS["a"]}, tokens=4)
    assert found.texts[0].on is None
    assert found.texts[0].off.tokens == 4
    assert found.as_dict()["texts"][0]["difference"] is None


def test_no_text_is_refused(base: Any) -> None:
    with pytest.raises(
        AddendaError, match="evaluate needs at least one of texts, tasks, questions, facts, snapshot, .* or "
    ):
        evaluate(base, {}, tasks=[], neutrality=())
    with pytest.raises(
        AddendaError, match="no measure has an option 'neutralty'; there are .*did you mean 'neutrality'"
    ):
        evaluate(base, TEXTS, neutralty=["a text"])


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"tasks": ["nonsense"]}, DataError, "no task 'nonsense'"),
        ({"neutrality": "absent.jsonl"}, DataError, "absent.jsonl"),
        ({"neutrality": ["too short"]}, DataError, "the shortest document length"),
        ({"neutrality": (["a b " * 300], "absent.jsonl")}, DataError, "absent.jsonl"),
        ({"chats": "absent.jsonl"}, DataError, "absent.jsonl"),
        ({"chats": []}, DataError, "it holds no chat"),
        (
            {"chats": [{"messages": [{"role": "assistant", "content": "Hello"}]}]},
            DataError,
            "nothing that the user says",
        ),
        ({"spectrum": "absent.jsonl"}, DataError, "absent.jsonl"),
        ({"facts": "absent.jsonl"}, DataError, "cannot be read"),
        ({"edits": "absent.jsonl"}, DataError, "cannot be read"),
        ({"facts": biographies(2), "snapshot": "absent.jsonl"}, DataError, "cannot be read"),
        ({"snapshot": biographies(2)}, AddendaError, "name the facts of today too"),
        ({"edits": "absent.jsonl", "limit": 0}, AddendaError, "limit must be a whole number from 1; got 0"),
        ({"stride": 2.5}, AddendaError, "stride must be a whole number from 1; got 2.5"),
        ({"length": 1}, AddendaError, "length must be a whole number from 2; got 1"),
        ({"texts": TEXTS | {"late": "absent.jsonl"}}, DataError, "absent.jsonl"),
        ({"texts": TEXTS | {"late": [" "]}}, DataError, "it is empty"),
    ],
)
def test_a_mistake_is_told_before_anything_is_scored(
    base: Any, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    def scored(*_: Any, **__: Any) -> None:
        raise AssertionError("scored before all was opened")

    for measure in known_measures().values():
        monkeypatch.setattr(measure, "run", scored)
    with pytest.raises(error, match=said):
        evaluate(base, **{"texts": TEXTS, "modules": "m"} | asked)


def test_a_package_that_is_missing_is_told_before_anything_is_scored(
    base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "score", lambda *_, **__: pytest.fail("scored first"))
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(AddendaError, match="needs bm25s: pip install"):
        evaluate(base, TEXTS, "m", facts=biographies(2), snapshot=biographies(2))
    with pytest.raises(AddendaError, match="neutrality and chats: what modules do .* name those that act"):
        evaluate(base, TEXTS, neutrality=["a text"], chats="general", facts=biographies(2))
    base.tokenizer = None
    with pytest.raises(AddendaError, match="facts and chats: asked in words, and the base has no tokenizer"):
        evaluate(base, TEXTS, "m", facts=biographies(2), chats="general")


def saved(base: Any, folder: Path) -> list[Any]:
    """A base, its module and a text in a folder, and the command line that evaluates them."""
    base.model.save_pretrained(folder / "base")
    base.tokenizer.save_pretrained(folder / "base")
    base.modules["m"].save(folder / "m")
    (folder / "held.jsonl").write_text(json.dumps({"text": TEXTS["a"][0]}) + "\n")
    return [
        "evaluate", "--base", folder / "base", "--plug", folder / "m", "--on", f"held={folder / 'held.jsonl'}",
    ]  # fmt: skip


@pytest.mark.parametrize("as_json", [True, False])
def test_a_save_that_fails_loses_nothing_of_what_was_found(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    words = saved(base, tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    words += ["--save", *(["--json"] if as_json else [])]
    good = CliRunner().invoke(app, [str(word) for word in words])
    assert (good.exit_code, "Written into the card" in (good.stderr if as_json else good.stdout)) == (0, True)
    monkeypatch.setattr(KnowledgeModule, "save", full)
    said = CliRunner().invoke(app, [str(word) for word in words])
    assert (said.exit_code, "was not saved: [Errno 28] No space left" in said.stderr) == (2, True), said.output
    if as_json:
        assert json.loads(said.stdout)["texts"][0]["name"] == "held"
    else:
        assert "Held-out loss" in said.stdout
    monkeypatch.undo()
    (tmp_path / "m" / "notes.txt").write_text("mine")
    monkeypatch.setattr(texts, "score", lambda *_, **__: pytest.fail("scored first"))
    said = CliRunner().invoke(app, [str(word) for word in words])
    assert (said.exit_code, "holds what is not a module's (notes.txt)" in said.stderr) == (2, True), said.output


def test_a_certificate_is_written_beside_the_module(base: Any, tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    words = saved(base, tmp_path)
    biographies(3, unseen=2).save(tmp_path / "people.jsonl")
    words += ["--facts", tmp_path / "people.jsonl", "--snapshot", tmp_path / "people.jsonl", "--limit", "2", "--save"]
    said = CliRunner().invoke(app, [str(word) for word in words])
    assert said.exit_code == 0, said.output
    assert "m.certificate.json" in said.stdout.replace("\n", "")
    kept = json.loads((tmp_path / "m.certificate.json").read_text())
    assert kept["rollback"]["holds"] is True
    assert set(kept["regression"]) == {"loss added on held, nats per token", "untold facts answered as before"}
    assert len(kept["audit"]["sha256"]["m"]) == 64
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0  # the folder is a module's as before


def test_text_that_a_module_was_trained_on_is_told(base: Any) -> None:
    corpus = ["the river ran past the mill and an old lane " * 40] * 8
    addenda.train(base, "m", corpus=corpus, tokens=64, length=8, batch_rows=2, log=False)
    found = evaluate(base, {"own": corpus, "other": TEXTS["b"]}, "m", neutrality=corpus, tokens=300)
    assert found.trained_on == ("own", "neutrality")
    assert found.as_dict()["trained_on"] == ["own", "neutrality"]
    assert found.neutrality[0].tokens <= 300, "as many tokens as were asked for"
    assert evaluate(base, {"own": corpus}, "fresh").trained_on == ()
    base.new("gated", addenda.NeutralResidues(width=8))
    addenda.train(base, "gated", corpus=corpus, replay=TEXTS["b"], tokens=64, length=8, batch_rows=2, log=False)
    quiet = ["the children sang as they walked home along the lane " * 40] * 8
    addenda.calibrate(base, "gated", quiet, share=0.5, tokens=300)
    assert evaluate(base, {"other": corpus[:2]}, "gated", neutrality=quiet, tokens=300).trained_on == ("neutrality",)
    base.unplug("gated")


def test_a_file_that_stood_in_a_folder_of_the_corpus_is_not_held_out(
    base: addenda.Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "french"
    folder.mkdir()
    lines = [json.dumps({"text": f"the miller and cat {n} sang by the river all day. " * 6}) for n in range(8)]
    for name in ("train.jsonl", "valid.jsonl"):
        (folder / name).write_text("\n".join(line.replace("cat", name[:5]) for line in lines))
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(line.replace("cat", "dog") for line in lines))
    base.new("own", addenda.LoRA(rank=2))
    report = addenda.train(base, "own", corpus=folder, tokens=64, length=8, batch_rows=2)
    told = " ".join(capsys.readouterr().err.split())
    assert "french (2 files: train.jsonl, valid.jsonl), read in part (" in told
    assert any("trained on valid.jsonl, held-out text by name" in remark for remark in report.remarks)
    (data,) = base.modules["own"].card.training[0].data
    assert data.files is not None
    assert len(data.files) == 2
    assert data.documents == 16
    assert data.read is not None
    assert 1 <= data.read <= 8  # eight rows of eight tokens
    found = evaluate(base, {"valid": folder / "valid.jsonl", "other": other}, "own", tokens=100)
    assert found.trained_on == ("valid",)


def test_few_documents_have_no_interval_in_a_card(base: Any) -> None:
    five = [f"the river ran past mill {n}" for n in range(5)]
    found = evaluate(base, {"one": ["the patients were given insulin"], "two": TEXTS["a"], "five": five}, "m")
    kept = {(one.name, one.on): one for one in addenda.record(base, found)}
    assert kept["loss", "one"].low is kept["loss added", "one"].high is None
    assert kept["loss added", "two"].low is None
    assert (kept["loss", "two"].n, kept["loss", "five"].n) == (2, 5)
    assert kept["loss", "five"].low is not None


def test_what_is_foretold_counts_chats_questions_and_each_text(base: Any) -> None:
    from addenda.measuring.conducting.foretold import foretold

    long = ["the river ran past the mill and the children sang as they walked home. " * 20] * 3
    weights, totals, words = {"m": 1.0}, [], ""
    for asked in (
        {"neutrality": (long,)},
        {"neutrality": (long, long)},
        {"neutrality": (long, long), "chats": "general", "zero_shot": True},
    ):
        options = {"tokens": 300, "limit": 3}
        readings = []
        for name, given in asked.items():
            own = {key: value for key, value in options.items() if key in known_measures()[name].__dataclass_fields__}
            measure = known_measures()[name](**{name: given}, **own)
            readings += measure.reads(Acting(base, weights), measure.open(Acting(base, weights)))
        total, words = foretold(base, readings, weights)
        totals.append(total)
    assert totals[0] == 600  # off and on
    assert totals[1] == 1200
    assert totals[2] > 1200 + 2 * 3 * 32
    assert all(word in words for word in ("neutrality on texts", "general chats", "questions"))


def test_what_was_not_asked_for_is_empty(base: Any) -> None:
    found = evaluate(base, {"a": TEXTS["a"]})
    assert (found.tasks, found.recall, found.spectrum, found.neutrality) == ((), None, {}, ())
    plain = found.as_dict()
    assert (plain["tasks"], plain["recall"], plain["spectrum"]) == ([], None, {})
    with pytest.raises(AttributeError, match="no 'nonsense'"):
        _ = found.nonsense
