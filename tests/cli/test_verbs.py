"""The verbs on a pico base: each does its work, says it in a table, and in one line of JSON."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from addenda.writing import loop


def train_words(place: Any, out: Path, *more: str) -> list[str]:
    """A short run."""
    words = f"train m --base {place.base} --corpus {place.corpus} --replay {place.replay} --tokens 1024 --length 32"
    return [*words.split(), "--batch-rows", "4", "--set", "width=8", "--out", str(out), *more]


def test_train_writes_a_module(trained: Path) -> None:
    card = json.loads((trained / "card.json").read_text())
    assert card["kind"] == "NeutralResidues"
    assert card["config"]["width"] == 8
    assert card["training"][0]["seed"] == 1
    assert [m["name"] for m in card["measures"]] == ["learning"]


def test_train_takes_any_kind_and_setting(call: Any, place: Any, tmp_path: Path) -> None:
    out = tmp_path / "m"
    words = train_words(
        place, out, "--kind", "lora", "--set", "rank=2", "--set", 'targets=["q_proj"]', "--set", "clip=0.5"
    )
    words = [w for n, w in enumerate(words) if w != "width=8" and not (w == "--set" and words[n + 1] == "width=8")]
    said = call(*words, "--forgetting", f"general={place.replay}", "--licence", "cc0-1.0", "--json")
    assert said.code == 0, said.err
    assert said.json["settings"]["clip"] == 0.5
    assert list(said.json["forgetting"]["m"]) == ["forgetting-general"]
    card = json.loads((out / "card.json").read_text())
    assert (card["kind"], card["config"]["rank"], card["config"]["targets"]) == ("LoRA", 2, ["q_proj"])
    assert card["licence"] == "cc0-1.0"
    assert said.json["remarks"] == []


def test_a_gate_without_replay_is_remarked_upon(call: Any, place: Any, tmp_path: Path) -> None:
    words = [w for w in train_words(place, tmp_path / "m") if w not in ("--replay", place.replay)]
    said = call(*words)
    assert said.code == 0, said.err
    told = "no replay: the gate was never asked to shut; give general text as replay (--replay)"
    assert told in " ".join(said.out.split())


def test_an_interrupted_run_says_how_to_go_on_and_does(
    call: Any, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(*train_words(place, whole)).code == 0
    after = loop.Run._after

    def interrupting(self: Any, speed: float) -> None:
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)
        after(self, speed)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "_after", interrupting)
        said = call(*train_words(place, parts), "--json")
    assert said.code == 130
    assert "stopped by SIGINT after step 3 of 8" in said.json["error"]
    assert "the same command with --resume goes on" in said.err
    assert not (parts / "card.json").exists()
    refused = call(*train_words(place, parts))
    assert refused.code == 2
    assert "--resume goes on with it" in refused.err
    assert call(*train_words(place, parts, "--resume")).code == 0
    assert (parts / "module.safetensors").read_bytes() == (whole / "module.safetensors").read_bytes()


@pytest.mark.parametrize(("then", "now"), [("document", "context"), ("context", "document")])
def test_a_run_is_not_resumed_under_another_gate(call: Any, place: Any, tmp_path: Path, then: str, now: str) -> None:
    words = train_words(place, tmp_path / "m", "--kind", "ParallelAdapter")
    assert call(*words, "--gate", then).code == 0
    refused = call(*words, "--gate", now, "--resume", "--json")
    assert refused.code == 2
    assert f"gate: {{'m': {{'name': '{then}', 'read_at': 'early'" in refused.json["error"]
    assert call(*words, "--gate", then, "--resume").code == 0


def test_a_plugged_module_is_trained_on(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    words = [
        w for w in train_words(place, tmp_path / "more", "--plug", f"m={trained}") if w not in ("--set", "width=8")
    ]
    assert call(*words).code == 0
    card = json.loads((tmp_path / "more" / "card.json").read_text())
    assert len(card["training"]) == 2
    shown = call("inspect", tmp_path / "more").out
    assert [run["tokens"] for run in card["training"]] == [2048, 1024]
    assert all(words in shown for words in ("2,048 tokens, 16 steps, seed 1", "1,024 tokens, 8 steps, seed 0"))
    refused = call(*train_words(place, tmp_path / "other", "--plug", f"m={trained}"))
    assert (refused.code, "options of its own" in refused.err) == (2, True)


@pytest.fixture
def memory(call: Any, place: Any, tmp_path: Path) -> Path:
    """The folder of a memory written by the command line."""
    words = (
        f"memorize book --base {place.base} --text {place.corpus} --window 64 --chunk 32 --set rank=4 --set scale=16"
    )
    said = call(*words.split(), "--out", tmp_path / "book", "--json")
    assert said.code == 0, said.err
    online = said.json["texts"]["book"]
    assert online["on"] == "medical.txt"
    assert online["nats"] < online["bare"]
    assert online["curve"][-1]["tokens"] == online["tokens"] == said.json["tokens"]
    return tmp_path / "book"


def test_memorize_writes_a_memory_that_can_be_plugged(call: Any, place: Any, memory: Path) -> None:
    card = json.loads((memory / "card.json").read_text())
    assert (card["kind"], card["config"]["rank"], card["training"][0]["objective"]) == ("LocasGLU", 4, "memorize")
    said = call("evaluate", "--base", place.base, "--plug", memory, "--on", f"held={place.held_out}", "--json")
    assert said.code == 0, said.err
    assert said.json["texts"][0]["difference"]["nats"] < 0
    shown = call("inspect", memory).out
    assert "online gain" in shown


@pytest.mark.slow
def test_memorize_takes_any_kind_and_quiet_settings(call: Any, place: Any, tmp_path: Path) -> None:
    words = f"memorize t --base {place.base} --text {place.corpus} --kind lora --set rank=2 --window 64 --chunk 32 --lr 1e-3"
    more = f"--replay {place.replay} --local 0.5 --set replay_tokens=16 --no-baseline --passes 2 --out {tmp_path / 't'}"
    said = call(*words.split(), *more.split(), "--licence", "cc0-1.0")
    assert said.code == 0, said.err
    assert "nats per token while it was read" in said.out
    assert "without it" not in said.out
    card = json.loads((tmp_path / "t" / "card.json").read_text())
    training = card["training"][0]
    assert card["licence"] == "cc0-1.0"
    assert training["settings"]["local"] == 0.5
    assert [one["role"] for one in training["data"]] == ["corpus", "replay"]


def test_merge_folds_a_memory_into_a_base_that_loads_by_itself(
    call: Any, place: Any, memory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    said = call("merge", "--base", place.base, "--plug", memory, "--out", out, "--json")
    assert said.code == 0, said.err
    assert said.json["width"] == [96, 128]
    assert said.json["proof"]["holds"]
    words = ["generate", "the patients", "--max-tokens", "12", "--json"]
    plugged = call(*words, "--base", place.base, "--plug", memory).json["prompts"][0]["continuations"]
    alone = call(*words, "--base", out).json["prompts"][0]["continuations"]
    assert alone[0]["text"] == plugged[-1]["text"]
    bare = call(*words, "--base", place.base).json["prompts"][0]["continuations"]
    assert alone[0]["text"] != bare[0]["text"]
    shown = call("merge", "--base", place.base, "--modules", f"{memory}=0.5", "--out", out, "--save-dtype", "bfloat16")
    assert shown.code == 0, shown.err
    taken = call("merge", "--base", out, "--subtract", "book", "--out", tmp_path / "back", "--json")
    assert (taken.code, taken.json["restored"], taken.json["width"]) == (0, True, [128, 96])
    told = " ".join(shown.out.split())
    assert "bfloat16; FFN 96 -> 128 units" in told
    assert "largest difference" in told


def test_alongside_takes_plugged_modules(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    said = call(*train_words(place, tmp_path / "m", "--plug", trained, "--alongside", "med=0.5"))
    assert said.code == 0, said.err
    data = json.loads((tmp_path / "m" / "card.json").read_text())["training"][0]["data"]
    assert {"name": "med", "role": "alongside"}.items() <= data[-1].items()


def test_generate_continues_each_prompt(call: Any, place: Any, trained: Path) -> None:
    words = [
        "generate",
        "the patients",
        "the river",
        "--raw",
        "--base",
        place.base,
        "--plug",
        trained,
        "--max-tokens",
        "6",
    ]
    said = call(*words, "--side-by-side", "--json")
    assert said.code == 0, said.err
    assert said.json["modules"] == {"med": 1.0}
    first, second = said.json["prompts"]
    assert (first["prompt"], second["prompt"]) == ("the patients", "the river")
    assert [one["by"] for one in first["continuations"]] == ["base", "med"]
    assert first["continuations"][0]["tokens"] <= 6
    bare = call("generate", "the patients", "--raw", "--base", place.base, "--max-tokens", "6", "--json")
    assert bare.json["prompts"][0]["continuations"] == [first["continuations"][0]]
    shown = call(*words)
    assert shown.code == 0
    assert "the patients" + first["continuations"][1]["text"] in shown.out


def test_a_gate_that_stays_shut_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from addenda.cli.generate import show

    def shown(other: str, gated: list[str]) -> str:
        written = [{"by": "base", "text": "and so on", "ended": False}, {"by": "med", "text": other, "ended": False}]
        hints = {"med": "addenda inspect runs/med --text hi"}
        show(Console(width=200), [{"prompt": "hi", "continuations": written}], gated, hints)
        return capsys.readouterr().out

    told = shown("and so on", ["med"])
    assert "Nothing changed: the gate of med opens some tokens after" in told
    assert "addenda inspect runs/med --text hi" in told
    assert "Nothing changed" not in shown("and so forth", ["med"])
    assert "Nothing changed" not in shown("and so on", [])


@pytest.mark.parametrize(("chat", "other"), [(True, "--raw"), (False, "--chat")])
def test_an_answer_that_ended_at_once_is_no_empty_cell(
    chat: bool, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from addenda.cli.generate import show

    empty, full = {"by": "a", "text": " ", "ended": True}, {"by": "b", "text": "and so on", "ended": False}
    for written in ([empty], [empty, full]):
        show(Console(width=100), [{"prompt": "hi", "continuations": written}], chat=chat)
        told = capsys.readouterr().out
        assert "(ended at once)" in told
        assert f"The first token ended the text, so nothing was written. {other} asks the other way." in told
    show(Console(width=100), [{"prompt": "hi", "continuations": [full]}], chat=chat)
    assert "ended" not in capsys.readouterr().out


def test_generate_asks_in_the_chats_form_unless_told_otherwise(call: Any, place: Any) -> None:
    words = ["generate", "the patients", "--base", place.base, "--max-tokens", "6", "--json"]
    asked, raw, told = call(*words), call(*words, "--raw"), call(*words, "--system", "be kind")
    assert (asked.json["chat"], raw.json["chat"]) == (True, False)
    assert told.json["system"] == "be kind"
    texts = [said.json["prompts"][0]["continuations"][0]["text"] for said in (asked, raw, told)]
    assert len(set(texts)) == 3
    assert call(*words, "--chat").json["prompts"] == asked.json["prompts"]
    refused = call(*words, "--raw", "--system", "be kind")
    assert (refused.code, "no place for a system text" in refused.err) == (2, True)


def test_generate_reads_weights_folders_files_and_standard_input(
    call: Any, place: Any, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\n")
    words = ["generate", "-", "--file", tmp_path / "prompts.txt", "--base", place.base, "--max-tokens", "2", "--json"]
    said = call(*words, "--modules", f"{trained}=0.5", stdin="zero\n")
    assert said.code == 0, said.err
    assert said.json["modules"] == {"med": 0.5}
    assert [row["prompt"] for row in said.json["prompts"]] == ["zero", "one", "two"]
    renamed = call(*words, "--plug", f"other={trained}", "--modules", "other=0.25", stdin="zero")
    assert renamed.json["modules"] == {"other": 0.25}


def test_drawn_text_follows_the_seed(call: Any, place: Any) -> None:
    words = ["generate", "the", "--base", place.base, "--max-tokens", "12", "--temperature", "1", "--json", "--seed"]
    texts = [call(*words, seed).json["prompts"] for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


def test_evaluate_pairs_on_and_off(call: Any, place: Any, trained: Path) -> None:
    words = [
        "evaluate",
        "--base",
        place.base,
        "--plug",
        trained,
        "--on",
        f"held={place.held_out}",
        "--on",
        place.replay,
    ]
    said = call(*words, "--json")
    assert said.code == 0, said.err
    held, general = said.json["texts"]
    assert (held["name"], general["name"]) == ("held", "general")
    assert held["on"]["nats"] - held["off"]["nats"] == pytest.approx(held["difference"]["nats"])
    assert held["difference"]["low"] <= held["difference"]["nats"] <= held["difference"]["high"] < 0
    assert [one["finding"] for one in said.json["canary"]] == ["on"]
    shown = call(*words)
    assert all(word in shown.out for word in ("held", "general", "with med", "change", "documents"))


def test_calibrate_leaves_a_share_alone_and_saves(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated"
    words = ["calibrate", trained, "--base", place.base, "--on", place.replay, "--tokens", "500", "--share", "0.95"]
    said = call(*words, "--out", out, "--json")
    assert said.code == 0, said.err
    assert said.json["share"] >= 0.95
    assert said.json["thresholds"].keys() == {"gate"}
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    (measure,) = [m for m in card["measures"] if m["name"] == "left alone on the calibration text"]
    assert measure["value"] == said.json["share"]
    shown = call(*words)
    assert (shown.code, f"saved in {trained}" in shown.out.replace("\n", "")) == (0, True)
    assert "before," in shown.out
    assert "thresholds: gate" in shown.out or "thresholds: as they were" in shown.out
    assert said.json["before"]["thresholds"].keys() == {"gate"}
    assert 0 <= said.json["before"]["share"] <= said.json["share"] + 0.05
    again = call("calibrate", trained, "--base", "./nowhere", "--on", place.replay, "--share", "90")
    assert again.code == 2  # before any base is loaded
    assert "up to, not including, 1; got 90; 90 percent are 0.9" in again.err


def test_evaluate_scores_a_base_alone(call: Any, place: Any) -> None:
    said = call("evaluate", "--base", place.base, "--on", place.held_out, "--tokens", "50", "--json")
    assert said.json["texts"][0]["on"] is None
    assert said.json["texts"][0]["off"]["tokens"] == 50


def test_inspect_shows_a_module(call: Any, place: Any, trained: Path) -> None:
    said = call("inspect", trained, "--json")
    assert said.code == 0, said.err
    assert said.json["card"]["name"] == "med"
    assert [part["at"] for part in said.json["parts"]] == ["layer 1", "layer 2", "gate"]
    assert sum(part["numbers"] for part in said.json["parts"]) >= said.json["card"]["parameters"]
    shown = call("inspect", trained)
    assert all(word in shown.out for word in ("NeutralResidues", "layers 1-2", "2 x ffn.down 64x8, ffn.up", "learning"))


def test_inspect_shows_where_a_gate_fires(call: Any, place: Any, trained: Path) -> None:
    said = call("inspect", trained, "--base", place.base, "--text", "the patients sang", "--json")
    assert said.code == 0, said.err
    seen = said.json["activity"]
    assert "".join(seen["tokens"]) == "the patients sang"
    assert [row["at"] for row in seen["rows"]] == ["whole module"]  # the default gate is one for all layers
    assert all(len(row["values"]) == len(seen["tokens"]) for row in seen["rows"])
    assert "live tokens" in call("inspect", trained, "--base", place.base, "--text", "the patients sang").out


def test_a_context_that_is_full_is_told(call: Any, place: Any) -> None:
    words = ["generate", "--base", place.base, "--raw", "--max-tokens", "60"]
    assert "The base's context was full before 60 tokens were written" in call(*words, "x" * 250).err
    assert call(*words, "x" * 250, "--json").json["prompts"][0]["continuations"][0]["full"] is True
    assert "full" not in call(*words, "x").err


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a base costs, by a short probe."""
    from addenda.measuring.looking import inspection

    monkeypatch.setattr(inspection, "cost_of", partial(inspection.cost_of, seconds=0.2))


@pytest.mark.usefixtures("quickly")
def test_inspect_shows_a_base(call: Any, place: Any) -> None:
    said = call("inspect", place.base, "--json").json
    assert said["anatomy"]["model_type"] == "llama"
    assert said["sites"]["ffn"] == ["layers.0.ffn", "layers.1.ffn", "layers.2.ffn"]
    cost, again = said.pop("cost"), call("inspect", "--base", place.base, "--json").json
    assert (again.pop("cost")["weight_bytes"], again) == (cost["weight_bytes"], said)
    assert cost["reading"] > 0
    assert cost["training_bytes"] > cost["weight_bytes"]
    shown = call("inspect", place.base).out
    assert "layers.0.ffn" in shown
    assert "tokens a second: 100,000 tokens in about" in shown


def test_chat_answers_and_obeys(call: Any, place: Any, trained: Path) -> None:
    lines = [
        "hello",
        "/modules",
        "/use med=0.5",
        "/modules",
        "/off",
        "/modules",
        "/use law",
        "/use",
        "/nonsense",
        "/help",
    ]
    words = ["chat", "--base", place.base, "--plug", trained, "--max-tokens", "4"]
    said = call(*words, stdin="\n".join([*lines, "/reset", "hello", "/quit", "never read"]))
    assert said.code == 0, said.err
    states = [line for line in said.out.splitlines() if line.startswith("med: ")]
    assert [line.rsplit(", ", 1)[1] for line in states] == ["acts at weight 1", "acts at weight 0.5", "off"]
    assert "no module 'law' is plugged" in said.err
    assert "/use takes names: /use pubmed,law=0.5, or a folder to plug; there are: med." in said.err
    assert "/reset forgets that" in said.err
    assert "there is no command /nonsense" in said.err
    assert "/reset" in said.out
    assert call(*words, stdin="hello").code == 0  # the end of input ends it


def test_chat_remembers_until_it_is_told_to_forget(call: Any, place: Any, tmp_path: Path) -> None:
    words = ["chat", "--base", place.base, "--remember", tmp_path / "mine", "--max-tokens", "4"]
    said = call(*words, stdin="hello there\nhow are you\n/modules\n/off\n/modules")
    assert said.code == 0, said.err
    assert "0 turns so far" in said.err
    states = [line.rsplit(", ", 1)[1] for line in said.out.splitlines() if line.startswith("mine: ")]
    assert states == ["acts at weight 1", "off"]
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert [run["objective"] for run in card["training"]] == ["memorize", "memorize"]
    again = call(*words, stdin="/forget")
    assert "2 turns so far" in again.err
    assert "is deleted" in again.err
    assert not (tmp_path / "mine").exists()
    assert "--remember FOLDER" in call("chat", "--base", place.base, stdin="/forget").err


@pytest.mark.slow
def test_demo_quick(call: Any, place: Any, tmp_path: Path) -> None:
    words = [
        "demo",
        "--quick",
        "--tokens",
        "3072",
        "--base",
        place.base,
        "--out",
        tmp_path / "demo",
        "--picture",
        tmp_path / "p" / "demo.png",
    ]
    said = call(*words, "--json")
    assert said.code == 0, said.err
    assert [row["label"] for row in said.json["columns"]][-2:] == ["module on", "module off"]
    assert all(check["passed"] for check in said.json["checks"])
    assert (tmp_path / "demo" / "report.html").is_file()
    assert (tmp_path / "p" / "demo.png").stat().st_size > 10_000
    assert (tmp_path / "demo" / "pubmed" / "card.json").is_file()


@pytest.mark.slow
def test_standard_output_is_one_line_of_json_in_a_process_of_its_own(place: Any, trained: Path) -> None:
    words = ["generate", "the", "--base", place.base, "--plug", str(trained), "--max-tokens", "2", "--json"]
    done = subprocess.run([sys.executable, "-m", "addenda", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["modules"] == {"med": 1.0}


def test_evaluate_measures_all_that_is_asked(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    for name, share in (("then", "0"), ("now", "0.5")):
        words = ["facts", tmp_path / f"{name}.jsonl", "--people", "3", "--unseen", "2", "--phrasings", "1"]
        said = call(*words, "--revise", share, "--json")
        assert (said.json["texts"], said.json["facts"], said.json["unseen"]) == (3, 15, 10)
    edits = {"subject": "the mill", "prompt": "the mill stood by the", "target_true": "river", "target_new": "lane"}
    (tmp_path / "edits.jsonl").write_text(json.dumps(edits) + "\n")
    words = ["evaluate", "--base", place.base, "--plug", trained, "--facts", tmp_path / "now.jsonl", "--limit", "4"]
    words += ["--snapshot", tmp_path / "then.jsonl", "--edits", tmp_path / "edits.jsonl", "--neutrality", place.replay]
    words += ["--spectrum", place.replay, "--neutrality", place.corpus, "--chats", "general", "--zero-shot"]
    said = call(*words, "--json")
    assert said.code == 0, said.err
    found = said.json
    assert found["recall"]["facts"] == 4
    assert found["recall"]["gain"]["low"] <= found["recall"]["gain"]["value"] <= found["recall"]["gain"]["high"]
    assert set(found["settings"]["shares"]) == {"closed", "offline", "online", "oracle"}
    assert found["edits"]["edits"] == 1
    assert len(found["neutrality"]) == 2
    assert found["neutrality"][0]["kl"]["value"] >= found["neutrality"][1]["kl"]["value"], "the worst comes first"
    for one in found["neutrality"]:
        assert 0 <= one["untouched"]["value"] <= 1
        assert len(one["by_layer"]) == 3
    assert found["chats"]["changed"]["n"] == len(found["chats"]["answers"]) == 4
    assert 0 < found["zero_shot"]["pooled"]["questions"] <= 16
    assert {one["site"] for one in found["spectrum"]["med"]} == {"layers.1.ffn", "layers.2.ffn"}
    shown = call(*words)
    wanted = ("Closed-book recall", "in three settings", "reliability", "left bit-equal", "Directions that 'med' uses")
    wanted += ("Answers to general chats", "Zero-shot questions")
    assert all(word in shown.out for word in wanted), shown.out


def test_evaluate_writes_what_it_found_into_the_card(call: Any, place: Any, trained: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(trained, mine)
    words = ["evaluate", "--base", place.base, "--on", f"held={place.held_out}", "--save"]
    said = call(*words, "--plug", mine)
    assert (said.code, "Written into the card of" in said.out) == (0, True), said.err
    assert "held" in call("inspect", mine, "--base", place.base).out
    assert "model-index" in (mine / "README.md").read_text()
    for wrong in (["--plug", f"other={mine}"], [], ["--plug", mine, "--modules", "med=0.5"]):
        said = call(*words, *wrong)
        assert (said.code, "--save is for one module" in said.err) == (2, True), said.err


def test_evaluate_says_what_it_needs(call: Any, place: Any, tmp_path: Path) -> None:
    said = call("evaluate", "--base", place.base)
    assert (said.code, "evaluate needs at least one of texts" in said.err) == (2, True)
    for of_modules in (["--neutrality", place.replay], ["--chats", "general"]):
        said = call("evaluate", "--base", place.base, *of_modules)
        assert (said.code, "name those that act" in said.err) == (2, True)
    said = call("evaluate", "--base", place.base, "--facts", tmp_path / "absent.jsonl")
    assert (said.code, "cannot be read" in said.err) == (2, True)
    said = call("evaluate", "--base", place.base, "--task", "nonsense")
    assert (said.code, "no task 'nonsense'" in said.err) == (2, True)


@pytest.mark.slow
def test_compare_tells_its_table_and_its_page(call: Any, place: Any, tmp_path: Path) -> None:
    lines = Path(place.corpus).read_text(encoding="utf-8").split(". ")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines for _ in range(4)))
    words = ["compare", "--base", place.base, "--corpus", corpus, "--replay", place.replay]
    words += ["--learning", place.held_out, "--forgetting", place.replay, "--methods", "lora", "--tokens", "256"]
    words += ["--seeds", "1", "--rates", "1", "--length", "16", "--batch-rows", "4", "--held-tokens", "100"]
    words += ["--compose", "2", "--allow-overlap", "--out", tmp_path / "out"]
    said = call(*words, "--json")
    assert said.code == 0, said.err
    assert [row["method"] for row in said.json["rows"]] == ["base", "lora"]
    assert len(said.json["composed"][0]["alone"]) == 2
    assert "lora, rate 0.001, 256 tokens, seed 0" in said.err
    shown = call(*words)
    assert "lora" in shown.out
    assert "report.html" in shown.out.replace("\n", "")
    assert "Share of its own gain" in " ".join(shown.out.split())
    assert "seed 0" not in shown.err
    assert (tmp_path / "out" / "report.html").exists()
    said = call(*("loar" if word == "lora" else word for word in words))
    assert (said.code, "no method 'loar'" in said.err) == (2, True)


def test_what_is_shown_fits_a_screen(call: Any, place: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.parent)
    based = ["--base", place.base]
    for words in (
        ["inspect", *based],
        ["inspect", "med", *based, "--text", "the patients were given insulin and sang"],
        ["evaluate", "--plug", "med", *based, "--on", f"held={place.held_out}", "--on", f"general={place.replay}"],
        ["evaluate", "--plug", "med", *based, "--neutrality", place.replay, "--spectrum", place.replay],
        ["generate", "the patients", "a", "--side-by-side", "--plug", "med", *based, "--max-tokens", "80"],
        ["list", "."],
    ):
        said = call(*words)
        assert said.code == 0, said.err
        lines = [line for line in said.out.splitlines() if "addenda inspect" not in line]  # a command is never broken
        assert max(map(len, lines)) <= 100, said.out
        assert len(lines) <= 40, said.out


def deep(layers: int) -> Any:
    """What inspection finds in a module of many layers."""
    from addenda.core.card import BaseRecord, Card, Measure
    from addenda.measuring.looking.inspection import ModuleInspection, PartSize

    base = BaseRecord(name="b", model_type="llama", fingerprint="0" * 64, parameters=1)
    measures = [Measure(name="acc", value=0.5, on=f"task {n}") for n in range(50)]
    card = Card(name="m", kind="LoRA", base=base, measures=measures)
    shapes = {"ffn.down": (576, 144), "ffn.up": (288, 576)}
    parts = [PartSize(f"layer {n}", 1, 1000, 4000, shapes) for n in range(30)]
    parts[12] = PartSize("layer 12", 1, 999, 3996, shapes | {"ffn.up": (287, 576)})
    return ModuleInspection(card, (*parts, PartSize("gate", 1, 3, 12, {"threshold": ()})), "float32")


def test_like_layers_stand_together(capsys: pytest.CaptureFixture[str]) -> None:
    from addenda.cli.answers import console
    from addenda.cli.inspect import grouped, show_module

    found = deep(30)
    assert [at for at, _ in grouped(found.parts)] == ["layers 0-11", "layer 12", "layers 13-29", "gate"]
    assert len(grouped(found.parts, apart=True)) == 31
    show_module(console(), found)
    told = capsys.readouterr().out
    assert "12 x ffn.down 576x144, ffn.up 288x576" in told
    assert "12,000" in told
    assert "and 38 more measures: --verbose shows them all" in told
    show_module(console(), found, verbose=True)
    told = capsys.readouterr().out
    assert "layer 29" in told
    assert "task 49" in told


def test_of_many_layers_activity_shows_the_mean_and_the_ends(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from addenda.cli.answers import console
    from addenda.cli.inspect import _activity
    from addenda.measuring.looking.activity import Activity

    values = np.full((30, 4), 0.5)
    values[7], values[3] = 0.9, 0.1
    seen = Activity("m", "LoRA", "gate", ("a", "b", "c", "d"), tuple(f"layer {n}" for n in range(30)), values, 0)
    _activity(console(), seen, verbose=False)
    told = capsys.readouterr().out
    assert all(
        words in told for words in ("mean of 30", "layer 7, the most", "layer 3, the least", "and 28 more layers")
    )
    _activity(console(), seen, verbose=True)
    assert "layer 29" in capsys.readouterr().out


def test_of_many_sites_the_spectrum_shows_three() -> None:
    from addenda.measuring.looking.spectrum import Health, Spectrum
    from addenda.measuring.measures.spectrum import Spectra

    def site(number: int) -> Health:
        of = Spectrum(participation=float(number), entropy=0.5, early=0.5, shift=None, dimensions=64)
        return Health(site=f"layers.{number}.ffn", host=None, module=None, added=of)

    few, many = Spectra().rows({"m": [site(n) for n in range(12)], "n": [site(n) for n in range(30)]}, "tiny", "m, n")
    assert (len(few.rows), few.caption) == (12, None)
    assert [row[0] for row in many.rows] == ["layers.0.ffn", "layers.15.ffn", "layers.29.ffn"]
    assert "of 30 sites" in str(many.caption)


def test_train_says_how_to_measure_what_was_learned(call: Any, place: Any, tmp_path: Path) -> None:
    said = call(*train_words(place, tmp_path / "m"))
    assert said.code == 0, said.err
    assert "tokens of its corpus: learned" in said.out
    (measure,) = [line for line in said.out.splitlines() if line.startswith("next: addenda evaluate")]
    assert f"--plug {tmp_path / 'm'} --neutrality general_valid --base {place.base}" in measure
    held = call(*train_words(place, tmp_path / "n", "--learning", f"held={place.held_out}", "--json")).json
    assert f"--on held={place.held_out}" in held["next_measure"]
    assert held["on_corpus"] == {}


def test_merging_a_gated_module_is_refused_before_a_base_is_loaded(call: Any, trained: Path, tmp_path: Path) -> None:
    said = call("merge", "--plug", trained, "--out", tmp_path / "out", "--base", "./nowhere")
    assert said.code == 2
    assert "stands behind the document gate" in said.err
    assert "--drop-gate SUBJECT_TEXT" in said.err
    assert "--approximate SUBJECT_TEXT" in said.err


def test_merging_reads_as_many_tokens_as_are_asked_and_remarks_on_one_text(
    call: Any, place: Any, trained: Path, tmp_path: Path
) -> None:
    words = ["merge", "--plug", trained, "--base", place.base, "--drop-gate", place.corpus, "--tokens", "2k"]
    said = call(*words, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    told = " ".join(said.out.split())
    assert "on 2,0" in told
    assert "remark: one text alone tells half" in told
    assert "next: addenda generate 'the patients were given" in told
    refused = call("merge", "--plug", trained, "--base", place.base, "--tokens", "2k", "--out", tmp_path / "no")
    assert refused.code == 2


def test_a_module_of_another_named_base_is_refused_before_that_is_loaded(
    call: Any, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "med")
    card = json.loads((tmp_path / "med" / "card.json").read_text())
    card["base"]["name"] = "smollm2"
    (tmp_path / "med" / "card.json").write_text(json.dumps(card))
    said = call("generate", "hi", "--plug", tmp_path / "med")
    assert said.code == 2
    assert "it was made for smollm2, and this is tiny: add --base smollm2" in said.err


def test_an_earlier_run_is_found_before_the_base_is_loaded(call: Any, place: Any, trained: Path) -> None:
    words = ["train", "med", "--corpus", place.corpus, "--tokens", "1024", "--out", trained, "--base", "./nowhere"]
    said = call(*words)
    assert said.code == 2
    assert "is there and finished" in said.err


def test_resuming_says_where_it_goes_on(call: Any, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = loop.Run._after

    def interrupting(self: Any, speed: float) -> None:
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)
        after(self, speed)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "_after", interrupting)
        assert call(*train_words(place, tmp_path / "m")).code == 130
    listed = call("list", tmp_path)
    assert "interrupted after step 3" in listed.out.replace("\n", " ")
    again = call(*train_words(place, tmp_path / "m", "--resume"))
    assert again.code == 0
    assert "going on at step 4 of 8, from the checkpoint in" in again.err


def test_a_list_breaks_no_name_on_a_narrow_screen(call: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("addenda.cli.answers.WIDTH", 80)
    said = call("list", trained.parent)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith("1 module under")
    assert str(trained) in lines
    assert any("NeutralResidues, document gate, for" in line for line in lines)
    assert all(len(line) <= 80 for line in lines if str(trained.parent) not in line)
