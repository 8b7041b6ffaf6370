"""The demo in seconds: its table, its checks (each shown to fail), its page, and the base given back."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda.showing import demo as module
from addenda.showing.demo import DemoReport, demo
from addenda.showing.page import write_page
from addenda.showing.texts import held_out, mixed
from pico import pico, pico_tokenizer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=2000""".split()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoReport, Any]:
    """A quick demo on a pico base, and that base."""
    base = addenda.attach(pico("llama"), pico_tokenizer(), name="pico")
    before = base.model.state_dict()
    copies = {key: tensor.clone() for key, tensor in before.items()}
    report = demo(tmp_path_factory.mktemp("demo") / "out", tokens=3072, quick=True, base=base)
    assert all(torch.equal(tensor, copies[key]) for key, tensor in base.model.state_dict().items())
    return report, base


def test_the_table_says_what_it_should(shown: tuple[DemoReport, Any]) -> None:
    report, base = shown
    bare, lora, on, off = report.rows
    assert [row.label.split(",")[0] for row in report.rows] == ["base", "LoRA", "module on", "module off"]
    for row in (lora, on):
        assert row.learned is not None
        assert row.forgotten is not None
        assert row.learned.nats == pytest.approx(bare.medical.nats - row.medical.nats)
        assert row.forgotten.nats == pytest.approx(row.general.nats - bare.general.nats)
        assert row.learned.low <= row.learned.nats <= row.learned.high
    assert np.array_equal(off.medical.sums, bare.medical.sums)
    sizes = [card.parameters for card in report.cards.values()]
    assert abs(sizes[0] - sizes[1]) < 0.1 * sizes[0]
    assert report.failed == []
    assert list(base.modules) == []


def test_both_modules_are_saved_and_plug_again(shown: tuple[DemoReport, Any]) -> None:
    report, base = shown
    for name, folder in report.modules.items():
        base.plug(folder)
        assert base.modules[name].card.training[0].data[0].name == "pubmed_train.jsonl.gz"
        base.unplug(name)


def test_the_last_validation_is_the_table(shown: tuple[DemoReport, Any]) -> None:
    report, _ = shown
    for row, run in zip((report.rows[2], report.rows[1]), report.runs.values(), strict=True):
        last = [record["validation"] for record in run.history if "validation" in record][-1]
        (texts,) = last.values()
        assert row.learned is not None
        assert texts["medical"]["value"] == row.learned.nats


def test_json_holds_it_all(shown: tuple[DemoReport, Any]) -> None:
    report, _ = shown
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["rows"][2]["learned"]["low"] <= plain["rows"][2]["learned"]["nats"]
    assert plain["facts"]["command"].startswith("addenda demo --tokens 3072 --seed 0 --quick")
    assert sorted(plain["samples"][0]["texts"]) == ["LoRA", "base", "module on"]


@pytest.mark.slow
def test_a_base_that_does_not_come_back_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    original = module.train

    def careless(base: Any, name: str, **settings: Any) -> Any:
        report = original(base, name, **settings)
        with torch.no_grad():
            next(base.model.parameters()).add_(1e-2)
        return report

    monkeypatch.setattr(module, "train", careless)
    report = demo(tmp_path / "out", tokens=768, quick=True, base=base)
    for word in ("torch.equal", "held-out document's loss", "unplugged", "fingerprint"):
        assert any(word in text for text in report.failed)
    assert "class=bad" in report.page.read_text()


def test_a_module_that_learned_nothing_fails_the_check(shown: tuple[DemoReport, Any]) -> None:
    row = shown[0].rows[2]
    assert row.learned is not None
    nothing = dataclasses.replace(row, learned=dataclasses.replace(row.learned, nats=-0.1, low=-0.2, high=0.1))
    assert module._learned(row, quick=False).passed
    assert not module._learned(nothing, quick=True).passed


def test_a_folder_that_cannot_be_made_stops_it_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        demo(tmp_path / "file" / "out", quick=True, base=addenda.attach(pico("llama"), pico_tokenizer()))


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
    assert re.search(r"^\d+ s; open ", done.stdout, re.MULTILINE), done.stdout[-2000:]


# --- texts -----------------------------------------------------------------------------------------------------------


def test_held_out_pieces_are_even_and_seeded() -> None:
    texts = [record["text"] for record in held_out("pubmed_valid", 300, 10, 0)]
    assert len(texts) == 10
    assert all(200 < len(text) <= 300 for text in texts)
    assert texts == [record["text"] for record in held_out("pubmed_valid", 300, 10, 0)]
    assert texts != [record["text"] for record in held_out("pubmed_valid", 300, 10, 1)]


def test_the_mixed_passage_goes_to_and_fro() -> None:
    text, bounds = mixed()
    assert [subject for subject, _ in bounds] == ["general", "medical"] * 2
    assert bounds[-1][1] == len(text)
    assert all(text[end : end + 2] == "\n\n" for _, end in bounds[:-1])


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
    for words in ("Learning against forgetting", "Where the gate fires", "Three prompts", "What this does not show"):
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
