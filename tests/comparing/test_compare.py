"""Compare: every method runs, nothing is made twice, a killed run goes on, rates are chosen, and mistakes are told."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import addenda
from addenda.comparing import making, page
from addenda.comparing import work as working
from addenda.comparing.judging import share_of
from addenda.comparing.making import Maker, Sources, Task
from addenda.comparing.methods import DEFAULT, METHODS, methods_named
from addenda.comparing.settings import CompareSettings
from addenda.comparing.work import halves
from addenda.core.errors import AddendaError, DataError
from addenda.measuring.asking.judge import Judged
from addenda.plug.scoring import score
from addenda.text.texts import texts
from chat_stand_in import served
from pico import pico


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_method_is_measured_and_none_is_made_twice(ways: Any, tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    said: list[str] = []
    far: list[tuple[int, int]] = []
    found = ways.compare(tmp_path, methods=tuple(METHODS), tell=said.append, advance=lambda *at: far.append(at))
    assert far[-1][0] == far[-1][1]  # all that was planned was done
    assert [done for done, _ in far] == sorted(done for done, _ in far)
    assert [row.method for row in found.rows] == ["base", *[name for name in METHODS if name != "base"]]
    by_name = {row.method: row for row in found.rows}
    assert (by_name["base"].learned.value, by_name["base"].forgotten.value) == (0.0, 0.0)
    for row in found.rows:
        assert row.learned.low <= row.learned.value <= row.learned.high
        assert len(row.by_seed) == (2 if METHODS[row.method].rates else 1)
        assert np.mean([one for one, _ in row.by_seed]) == pytest.approx(row.learned.value)
    cards = [json.loads(path.read_text()) for path in tmp_path.rglob("card.json")]
    assert {card["name"] for card in cards} >= {"lora", "adapter", "neutral", "locas"}
    for name in ("full", "lora", "adapter", "neutral"):
        assert by_name[name].learned.value > 0.01, name
    assert not found.failed
    assert by_name["lora"].parameters == by_name["peft"].parameters
    assert by_name["context"].extra_tokens > 0
    assert by_name["rag"].bytes > 0
    assert by_name["rag"].seconds is not None
    assert by_name["lora"].kl is not None
    assert by_name["lora"].kl.low < by_name["lora"].kl.value < by_name["lora"].kl.high
    assert by_name["lora"].moved.low < by_name["lora"].moved.value < by_name["lora"].moved.high
    assert by_name["full"].parameters == sum(p.numel() for p in pico("llama").parameters())
    assert by_name["lora"].untouched is not None
    equal = next(fact for name, fact in found.facts.items() if name == "equal gain")
    gated = by_name[equal.removesuffix(" reached").rsplit(" ", 1)[-1]]
    assert METHODS[gated.method].gated
    assert gated.at_gain is not None
    assert by_name["full"].at_gain is not None or by_name["lora"].at_gain is not None
    assert len(by_name["locas"].curve) == 1
    for row in found.rows:
        changes = METHODS[row.method].how not in ("nothing", "rag", "context")
        assert ((row.kl is not None), (row.changed is not None)) == (changes, changes), row.method
        assert (row.tasks is not None) == (changes or row.method == "base"), row.method
    for name in ("full", "peft"):  # every weight moves: nothing is left as it was
        kl, untouched = by_name[name].kl, by_name[name].untouched
        assert kl is not None
        assert untouched is not None
        assert (kl.value > 0, untouched.value) == (True, 0.0)
    for name in ("comparison.json", "report.html", "frontier.svg", "frontier.png", "cost.svg"):
        assert (tmp_path / name).stat().st_size > 1000
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r'(src|href)="http', page)
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"][1]["method"] == "full"
    again: list[str] = []
    twice = ways.compare(tmp_path, methods=tuple(METHODS), tell=again.append)
    assert said
    assert not again
    assert twice.rows == found.rows
    more: list[str] = []
    ways.compare(tmp_path, methods=("lora",), seeds=(0, 1, 2), tell=more.append)
    assert "of other texts or settings: its page is replaced" in more[0]
    assert more[1:] == [
        next(line for line in said if line.startswith("lora") and "seed 0" in line).replace("seed 0", "seed 2")
    ]


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser here: chromium or google-chrome")
def test_the_page_shows_itself_in_a_browser(ways: Any, tmp_path: Path) -> None:
    """Nothing is fetched, no script fails, and the plots are drawn where they can be seen."""
    from matplotlib.image import imread

    found = ways.compare(tmp_path / "out", methods=("lora", "adapter"), seeds=(0,))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1200,1600",
    ]
    page, picture = found.page.absolute().as_uri(), tmp_path / "page.png"

    def browse(*more: str) -> str:
        command = [str(BROWSER), *flags, *more, page]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    shown = browse("--dump-dom")
    assert all(f">{row.method}<" in shown for row in found.rows)
    assert shown.count("<svg") >= 2
    browse(f"--screenshot={picture}")
    pixels = imread(picture)[..., :3]
    assert pixels.shape[:2] == (1600, 1200)
    # the plots' own colours: more than ink on paper
    colourful = np.ptp(pixels, axis=-1) > 0.2
    assert 0.0005 < colourful.mean() < 0.5
    assert (pixels.min(-1) < 0.5).mean() > 0.005  # text


CHILD = """
import sys, addenda
from addenda.writing.step import Stepper
take, taken = Stepper.take, []
def counted(self, step, passes):
    taken.append(step + 1)
    if step + 1 == 64:
        print("steps", taken[0], "to", taken[-1], flush=True)
        assert taken == list(range(taken[0], 65))
        taken.clear()
    return take(self, step, passes)
Stepper.take = counted
addenda.compare(sys.argv[1], corpus=sys.argv[2], learning=sys.argv[3], forgetting=sys.argv[3], methods=["lora", "adapter"],
    tokens=8192, seeds=(0,), rates=1, length=32, batch_rows=4, held_tokens=300, pairs=1, out=sys.argv[4],
    allow_overlap=True, tell=lambda text: print(text, flush=True))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill so")
def test_a_killed_comparison_goes_on_and_ends_the_same(ways: Any, tmp_path: Path) -> None:
    for name, words in (("corpus", ways.words), ("held", ways.plain)):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(ways.text(words, 5, 300)))

    def start(out: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            CHILD,
            ways.folder,
            *(str(tmp_path / f"{n}.txt") for n in ("corpus", "held")),
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*command, str(tmp_path / out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    whole = start("whole")
    assert whole.communicate(timeout=300)[0].count("seed 0") == 2
    child = start("killed")
    checkpoints = tmp_path / "killed" / "modules"
    end = time.monotonic() + 120
    while time.monotonic() < end and not list(checkpoints.glob("lora-*.run/step-*")):
        time.sleep(0.05)
    child.kill()
    child.communicate()
    assert not list((tmp_path / "killed" / "records").glob("lora-*"))
    (run,) = checkpoints.glob("lora-*.run")
    last = int(max(run.glob("step-*")).name[len("step-") :])
    assert 0 < last < 64
    resumed = start("killed")
    told, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err[-2000:]
    # the first step that was taken after the checkpoint, and how many: not one that was there is taken again
    assert [line for line in told.splitlines() if line.startswith("steps")] == [
        f"steps {last + 1} to 64",
        "steps 1 to 64",
    ]
    rows = [json.loads((tmp_path / one / "comparison.json").read_text())["rows"] for one in ("whole", "killed")]
    for a, b in zip(*rows, strict=True):
        assert a["learned"] == b["learned"], a["method"]
        assert a["forgotten"] == b["forgotten"]


def test_mistakes_are_told(ways: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not held out"):
        ways.compare(tmp_path, learning=ways.text(ways.words, 0, 200), allow_overlap=False)
    with pytest.raises(AddendaError, match="no method 'loar'"):
        ways.compare(tmp_path, methods=("loar",))
    with pytest.raises(AddendaError, match="named twice"):
        methods_named(["lora", "lora"])
    with pytest.raises(AddendaError, match="named twice"):
        methods_named(["lora", "LoRA"])
    with pytest.raises(AddendaError, match="'tokens' must be at least one step"):
        ways.compare(tmp_path, tokens=8)
    with pytest.raises(AddendaError, match="compare has no setting 'token'"):
        ways.compare(tmp_path, token=8)
    assert not (tmp_path / "records").exists()
    assert set(DEFAULT) < set(METHODS)
    (_, written) = methods_named(["DeltaProduct"])
    (_, method) = methods_named(["delta_product"])  # a kind that no line names
    assert (written.said, written.name) == (method.said, "deltaproduct")
    assert (method.how, method.gated, method.rates[1]) == ("module", False, 1e-3)
    with pytest.raises(AddendaError, match="no method 'delta_produkt'"):
        methods_named(["delta_produkt"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_are_timed_against_the_bare_base(ways: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also PEFT's LoRA, which changes the model that it acts in: against that, it would cost nothing."""
    timed: list[tuple[bool, bool]] = []

    def ratios(base: addenda.Base, on: Any, off: Any, ids: Any, ahead: Any, pairs: int, model: Any = None) -> Any:
        layers = [
            any("lora" in name for name, _ in one.named_parameters()) for one in (base.model, model or base.model)
        ]
        timed.append((layers[0], layers[1]))
        with off():
            assert base.selection.everyone == {}
        return [2.0], [3.0]

    monkeypatch.setattr(working, "ratios", ratios)
    found = ways.compare(tmp_path, methods=("lora", "peft"), seeds=(0,), rates=1)
    assert timed == [(False, False), (False, True)]
    # under these names earlier records are found
    records = [json.loads(file.read_text())["identity"] for file in (tmp_path / "records").iterdir()]
    known = {"method", "kind", "lr", "tokens", "seed", "final", "base", "data", "settings"}
    named = {"replay_share", "extra", "count", "rank", "length", "batch_rows", "held_tokens", "passages", "precision"}
    assert [(set(one), set(one["settings"])) for one in records] == [(known, named)] * 3
    assert [(row.prefill.value, row.decode.value) for row in found.rows] == [(1.0, 1.0), (2.0, 3.0), (2.0, 3.0)]


@pytest.mark.slow
def test_forgetting_is_told_by_answers_and_tasks_too(ways: Any, tmp_path: Path) -> None:
    """As the public measures have them, question by question; none where none is asked for, and old records are found."""
    found = ways.compare(tmp_path / "a", methods=("lora", "context"), seeds=(0,), rates=1, chats=4, zero_shot=3)
    row = found.rows[1]
    base = addenda.load_base(ways.folder, dtype=torch.float32)
    (folder,) = (tmp_path / "a" / "modules").glob("lora-*")
    base.plug(folder, name="lora")
    chats, asked = addenda.changed_answers(base, "lora", limit=4), addenda.zero_shot(base, "lora", each=3)
    assert row.changed == chats.changed
    assert asked.pooled.change is not None
    assert row.tasks == asked.pooled.change
    assert (found.rows[0].tasks.value, found.rows[0].changed) == (0.0, None)
    assert (found.rows[2].changed, found.rows[2].tasks, found.rows[2].kl) == (None, None, None)
    none = ways.compare(tmp_path / "b", methods=("lora",), seeds=(0,), rates=1, chats=0, zero_shot=0)
    assert (none.rows[1].changed, none.rows[1].tasks) == (None, None)
    # records of a version that knew neither
    ways.compare(tmp_path / "c", methods=("lora",), seeds=(0,), rates=1)
    for path in (tmp_path / "c" / "records").iterdir():
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("changed", "right")}
        path.write_text(json.dumps(kept))
    page = json.loads((tmp_path / "c" / "comparison.json").read_text())
    for name in ("chats", "zero_shot"):
        del page["settings"][name]
    (tmp_path / "c" / "comparison.json").write_text(json.dumps(page))
    said: list[str] = []
    earlier = ways.compare(tmp_path / "c", methods=("context",), seeds=(0,), rates=1, tell=said.append)
    assert [one.method for one in earlier.rows] == ["base", "context", "lora"]
    assert earlier.rows[2].tasks is None
    assert not [line for line in said if line.startswith("lora") or "replaced" in line]


@pytest.mark.slow
def test_methods_answer_questions_about_the_corpus_and_each_file_is_one_of_its_own(ways: Any, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "the cat", "answers": ["zzz"]}\n{"question": "the dog", "answers": []}\n')
    options = {"methods": ("lora", "context", "rag"), "seeds": (0,), "rates": 1, "questions": str(file)}
    found = ways.compare(tmp_path / "a", **options)
    assert [(row.answered.n, row.answered.value) for row in found.rows] == [(2, 0.0)] * 4
    assert "answered" in page.head_of(found)
    said: list[str] = []
    file.write_text('{"question": "the cat", "answers": ["zzz"]}\n')
    again = ways.compare(tmp_path / "a", **options, tell=said.append)
    assert [row.answered.n for row in again.rows] == [1] * 4, "other questions are asked anew"


@pytest.mark.slow
def test_a_judge_may_be_asked_later_and_nothing_is_trained_again(ways: Any, tmp_path: Path) -> None:
    file, said = tmp_path / "q.jsonl", list[str]()
    file.write_text('{"question": "the cat", "answers": ["zzz"]}\n{"question": "the dog", "answers": []}\n')
    options = {"methods": ("lora",), "seeds": (0, 1), "rates": 1, "questions": str(file), "tell": said.append}
    plain = ways.compare(tmp_path / "a", **options)
    assert (plain.judged, [row.judged for row in plain.rows]) == (None, [None, None])
    assert not any("judged" in head for head in page.head_of(plain))
    with served(lambda _: "yes") as there:
        options |= {"judge": there.address}
        said.clear()
        found = ways.compare(tmp_path / "a", **options)
        assert not said, "no run is made again, and the page stays this comparison's"
        assert [(row.judged.value, row.judged.n) for row in found.rows] == [(1.0, 1)] * 2
        assert "judged right by local" in page.head_of(found)
        assert all(len(cells) == len(page.head_of(found)) for cells in page.cells_of(found))
        kept = json.loads((tmp_path / "a" / "comparison.json").read_text())
        assert kept["judged"]["verdicts"] == {"base 0": [True, None], "lora 0": [True, None], "lora 1": [True, None]}
        assert "Judged right by local at 127.0.0.1." in found.page.read_text()
        count = len(there.asked)
        ways.compare(tmp_path / "a", **options)
        assert len(there.asked) == count, "verdicts are kept in the comparison's folder"
        for path in (tmp_path / "a" / "records").glob("lora-*"):  # of a version that kept no answers
            record = json.loads(path.read_text())
            del record["said"]
            path.write_text(json.dumps(record))
        old = ways.compare(tmp_path / "a", **options)
        assert [row.judged is None for row in old.rows] == [False, True]
        assert any(remark.startswith("lora was asked by an earlier version") for remark in old.remarks)
    with pytest.raises(AddendaError, match="the judge at .* cannot be reached"):
        ways.compare(tmp_path / "b", **options)
    with pytest.raises(AddendaError, match="'judge' must be given with 'questions'"):
        ways.compare(tmp_path / "b", judge="http://127.0.0.1:9/v1")


def test_a_share_is_of_questions_with_a_verdict_in_some_run() -> None:
    verdicts = {"lora 0": (True, None, None, False), "lora 1": (False, True, None, None), "lora-b 0": (True,) * 4}
    share = share_of(Judged("m", "here", 8, 3, verdicts), "lora")
    assert share is not None
    assert (share.value, share.n) == (0.5, 3)
    assert share_of(Judged("m", "here", 8, 0, {}, "away"), "lora") is None


def test_one_long_text_is_halved_too() -> None:
    one, other = halves(["abcdef"])
    assert [[record["text"] for record in part] for part in (one, other)] == [["abc"], ["def"]]


@pytest.mark.slow
def test_methods_that_were_compared_before_are_shown_again(ways: Any, tmp_path: Path) -> None:
    first = ways.compare(tmp_path, methods=("lora",), seeds=(0,), rates=1)
    said: list[str] = []
    both = ways.compare(tmp_path, methods=("context",), seeds=(0,), rates=1, tell=said.append)
    assert [row.method for row in both.rows] == ["base", "context", "lora"]
    assert both.rows[2] == first.rows[1]
    assert not [line for line in said if line.startswith("lora")], "nothing is trained again"
    alone = ways.compare(tmp_path, methods=("context",), seeds=(0,), rates=1, held_tokens=200, tell=said.append)
    assert [row.method for row in alone.rows] == ["base", "context"]
    assert any(
        "a comparison of other texts or settings: its page is replaced, its records stay" in line for line in said
    )


def test_an_empty_text_is_told_before_anything_is_measured(ways: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    said: list[str] = []
    with pytest.raises(DataError, match="'empty.jsonl' is empty"):
        ways.compare(tmp_path / "out", corpus=tmp_path / "empty.jsonl", methods=("rag",), tell=said.append)
    assert not said


def test_how_much_was_scored_is_told(ways: Any, tmp_path: Path) -> None:
    found = ways.compare(tmp_path, methods=("context",), seeds=(0,), rates=1, learning=ways.text(ways.words, 2, 6))
    assert re.search(r": 3 documents, \d+ tokens \(rates chosen on", found.facts["learning measured on"])
    assert any("measured on 3 documents: too few" in remark for remark in found.remarks)


def test_conversations_are_dealt_out_whole_and_what_has_no_end_is_refused() -> None:
    said = [{"messages": [{"role": "user", "content": f"question {n}"}]} for n in range(4)]
    one, other = halves(said)
    assert [[record["messages"][0]["content"][-1] for record in part] for part in (one, other)] == [
        ["0", "2"],
        ["1", "3"],
    ]
    with pytest.raises(DataError, match="has one record"):
        halves(said[:1])
    source = texts(["a", "b"])
    source.__class__ = type("Endless", (type(source),), {"endless": True})
    with pytest.raises(DataError, match="has no end"):
        working.records_of(source)


def test_documents_shorter_than_a_row_are_measured_in_shorter_pieces(ways: Any) -> None:
    base = addenda.load_base(ways.folder, dtype=torch.float32)
    line = ways.text(ways.plain, 1, 1)[0]
    tokens = len(base.tokenize(line))
    found = working.longest(base, texts([line] * 3), 1024)
    assert found is not None
    assert tokens / 2 < found <= tokens + 1
    assert working.longest(base, texts(["a b"]), 1024) is None


def test_text_of_other_queries_must_be_held_out_too(ways: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of the text of other queries, 'texts', stand in the replay"):
        ways.compare(tmp_path, unrelated=ways.text(ways.plain, 1, 200), methods=("lora",), allow_overlap=False)


def test_what_is_read_ahead_fits_the_window(ways: Any, tmp_path: Path) -> None:
    """Where a row takes the whole window nothing is read ahead of it; retrieval is cut to what is left, its best passage last."""
    pytest.importorskip("bm25s")
    base = addenda.load_base(ways.folder, dtype=torch.float32)
    most, corpus = base.context, ways.text(ways.words, 0, 200)
    assert most is not None
    for length in (most - 1, most // 2):
        chosen = CompareSettings(length=length, batch_rows=1, passages=50)
        source = Sources(*(texts(corpus),) * 6)
        maker = Maker(ways.folder, base, source, chosen)
        for name in ("rag", "context"):
            task = Task(METHODS[name], None, None, 0, 0, tmp_path, True)
            with maker.at_work(task) as trained:
                assert trained.ahead is not None
                ahead = trained.ahead(base.tokenize(corpus[0]).numpy())
                assert len(ahead) == max(0, most - length - 1), (name, length)


@pytest.mark.slow
def test_a_memory_reads_as_much_of_the_corpus_as_others_do(
    ways: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = making.memorize

    def memorize(base: addenda.Base, name: str, *, text: str, **more: Any) -> Any:
        read.append(len(base.tokenize(text)))
        return real(base, name, text=text, **more)

    monkeypatch.setattr(making, "memorize", memorize)
    ways.compare(tmp_path, methods=("locas",), seeds=(0,), rates=1, replay_share=0.5)
    assert read
    assert abs(read[0] - 512) < 60


def test_what_is_read_ahead_is_not_scored(ways: Any) -> None:
    base = addenda.load_base(ways.folder, dtype=torch.float32)
    held = ways.text(ways.plain, 1, 4)
    bare = score(base, held, length=16)
    same = score(base, held, length=16, before=lambda ids: np.zeros(0, np.int32))
    assert same.sums.tolist() == pytest.approx(bare.sums.tolist(), rel=1e-5)
    seen: list[int] = []

    def ahead(ids: np.ndarray) -> np.ndarray:
        seen.append(len(ids))
        return np.array([5, 6, 7])

    after = score(base, held, length=16, before=ahead)
    assert after.counts.tolist() == bare.counts.tolist()
    assert seen[0] == 0
    assert 16 in seen
    assert after.nats != bare.nats
    opener = base.tokenizer.bos_token_id if base.tokenizer.bos_token_id is not None else base.tokenizer.eos_token_id
    ids = base.tokenize(held[0])
    ids = ids if int(ids[0]) == opener else torch.cat([torch.tensor([opener]), ids])
    row = torch.cat([torch.tensor([5, 6, 7]), ids])[:20]  # what is read ahead, then 17 tokens, 16 of them predicted
    with torch.no_grad():
        logits = base.model(row[None]).logits[0].log_softmax(-1)
    first = -sum(float(logits[at - 1, int(row[at])]) for at in range(4, 20))
    (alone,) = score(base, [held[0]], length=16, tokens=16, before=ahead).sums
    assert alone == pytest.approx(first, rel=1e-4)
