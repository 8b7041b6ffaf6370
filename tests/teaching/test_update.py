"""Update: the documents' next version; what changed is studied, what is gone is refused, the old module stays as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import addenda
from addenda.cli import app
from addenda.core.card import TrainingRecord
from addenda.core.errors import AddendaError, DataError, FileError
from addenda.exercises.exercise import Chunk
from addenda.teaching import choice
from addenda.teaching import teach as teaching
from addenda.teaching.base_teacher import BaseTeacher
from addenda.teaching.examined import split
from addenda.teaching.study_set import load_study
from addenda.teaching.teach import plan_teach, teach
from addenda.teaching.update import GONE, OFTEN, TAKEN, WAS, Update
from addenda.teaching.versions import Changes, Fate, Versions
from addenda.telling.interrupts import Stopped
from teaching.studying import QUICK, quicken, small

TEXT = """# Quillmont Museum: handbook

## Fees

A ticket costs 12 crowns. The fee for late return is 3 crowns. Members pay 40 crowns a year.

## Keys

The code of the side door is 7719. Mira Olsen keeps the spare keys. The vault is under the north hall.

## Prices

| what | price |
|---|---|
| Boat | 5 crowns |
| Oar | 7 crowns |

## Hours

The gate opens at 9:30. The library closes at 18:00. Pietro Brandt locks the east wing.
"""
#: a price is another, the vault is told of no longer, a price in a table is another, the hours are as they were
NEXT = (
    TEXT.replace("12 crowns", "14 crowns")
    .replace(" The vault is under the north hall.", "")
    .replace("5 crowns", "6 crowns")
)
Record = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Few general prompts and chats, a short probe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "PROBE", 0.05)
        quicken(patch)
        yield


@pytest.fixture
def base() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


@pytest.fixture(scope="module")
def made(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module as if taught the first version, with its study beside it."""
    folder, base = tmp_path_factory.mktemp("taught") / "museum", addenda.load_base("tiny", dtype=torch.float32)
    addenda.study(base, {"handbook.md": TEXT}, out=folder.with_name("museum.study"), ask=False, gain=False, log=False)
    module = base.new("museum", addenda.LoRA(rank=4), gate="document(hold=True)", seed=7)
    module.card.training.append(TrainingRecord(tokens=5))
    return module.save(folder)


@pytest.fixture
def old(made: Path, tmp_path: Path) -> Path:
    """The same, where a test may change it."""
    for name in ("museum", "museum.study"):
        shutil.copytree(made.with_name(name), tmp_path / name)
    return tmp_path / "museum"


def asked(record: Mapping[str, Any]) -> str:
    return record["messages"][-2]["content"]


def said(record: Mapping[str, Any]) -> str:
    return record["messages"][-1]["content"]


def chunks(*texts: str, document: str = "h.md") -> dict[str, Chunk]:
    return {f"{document}#{at}": Chunk(f"{document}#{at}", document, ("Fees",), text) for at, text in enumerate(texts)}


# --- chunks and sentences --------------------------------------------------------------------------------------------


def test_chunks_are_compared_by_what_they_say_whatever_they_are_called() -> None:
    old, new = chunks("One.", "Two.", "Three."), chunks("Three.", "One.", "Two, changed.", document="next.md")
    changes = Changes.between(old, new)
    assert changes.same == {"h.md#0": "next.md#1", "h.md#2": "next.md#0"}
    assert (changes.new, changes.gone) == ({"next.md#2"}, {"h.md#1"})
    assert str(changes) == "1 of 3 chunks are new, 1 are gone, 2 unchanged"


@pytest.mark.parametrize(
    ("question", "answer", "fate", "now"),
    [
        ("What is the price of a ticket?", "A ticket costs 12 crowns.", Fate.CHANGED, "A ticket costs 14 crowns."),
        ("Does a ticket cost 12 crowns?", "Yes. A ticket costs 12 crowns.", Fate.CHANGED, "No. A ticket costs 14 crowns."),
        ("Does a ticket cost 14 crowns?", "No. A ticket costs 12 crowns.", Fate.UNSURE, None),
        ("What costs 12 crowns?", "A ticket costs 12 crowns.", Fate.GONE, None),
        ("What do members pay?", "Members pay 40 crowns a year.", Fate.STATED, "Members pay 40 crowns a year."),
        ("What do members pay?", "Members pay 40 crowns a year. Ask Ada.", Fate.STATED, "Members pay 40 crowns a year. Ask Ada."),
        ("Where is the vault?", "The vault is under the north hall.", Fate.GONE, None),
        ("Where is the lamp?", "The lamp is in the cellar.", Fate.UNSURE, None),
        ("Who feeds the owls?", "Ada Falk feeds the owls.", Fate.CHANGED, "Ines Rey feeds the owls."),
        ("What does Ada Falk feed?", "Ada Falk feeds the owls.", Fate.GONE, None),
        ("What does a boat cost?", "The price for boat is 5 crowns.", Fate.CHANGED, "The price for boat is 6 crowns."),
        ("Whose is it?", "Nobody knows whose it was.", Fate.UNSURE, None),
    ],
)  # fmt: skip
def test_what_became_of_an_answer(question: str, answer: str, fate: Fate, now: str | None) -> None:
    old = chunks(
        "A ticket costs 12 crowns. Members pay 40 crowns a year. The vault is under the north hall. The lamp is in the cellar. "
        "Ada Falk feeds the owls.\n| Boat | 5 crowns |"
    )
    new = chunks(
        "Members pay 40 crowns a year. A ticket costs 14 crowns. Down in a deep cellar there hangs one big old brass lamp. "
        "Ines Rey feeds the owls.\n"
        "| Boat | 6 crowns |"
    )
    found = Versions(old, new).now(question, [], answer, list(old), "costs")
    assert (found.fate, found.answer) == (fate, now)


# --- what is studied -------------------------------------------------------------------------------------------------


def test_a_plan_tells_what_changed_and_writes_nothing(base: addenda.Base, old: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    plan = plan_teach(base, {"next.md": NEXT}, update=old, **{k: v for k, v in QUICK.items() if k != "tokens"})
    assert "3 of 4 chunks are new, 3 are gone, 1 unchanged" in str(plan)
    told = plan.as_dict()["update"]
    assert (told["chunks"], told["new"], told["gone"], told["unchanged"]) == (4, 3, 3, 1)
    assert told["taken_over"] > 10 < told["studied_anew"]
    assert told["answered_otherwise"]
    assert told["answered_no_longer"]
    assert json.dumps(plan.as_dict())
    asked = {k: v for k, v in QUICK.items() if k != "tokens"}
    whole = plan_teach(base, {"next.md": NEXT}, kind="LoRA(rank=4)", **asked)
    assert plan.choice.tokens < whole.choice.tokens, "what is known is read less often"
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def edited(old: Path, changed: dict[str, str], more: tuple[Record, ...] = ()) -> list[Record]:
    """Answers of the old study changed by hand, and exercises added to it; all of it as it then is."""
    file = old.with_name("museum.study") / "study.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for one in records:
        one["messages"][-1]["content"] = changed.get(said(one), said(one))
    records += more
    file.write_text("".join(json.dumps(one) + "\n" for one in records))
    return records


def updated(base: addenda.Base, old: Path, text: str = NEXT, **more: Any) -> Update:
    plan = plan_teach(base, {"next.md": text}, update=old, **QUICK | more)
    assert plan.update is not None
    return plan.update


def own(question: str, answer: str, **more: Any) -> Record:
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "kind": "own",
        "chunk": None,
        **more,
    }


def test_exercises_are_taken_over_as_they_were_edited(base: addenda.Base, old: Path) -> None:
    keeps, closes = "Mira Olsen keeps the spare keys.", "The library closes at 18:00."
    before = edited(old, {keeps: f"{keeps} Ask at the desk.", closes: "At six."}, (own("Who are you?", "A museum."),))
    update = updated(base, old)
    there = {(asked(one), said(one)): one for one in update.records}
    hours = [one for one in before if one["chunk"] in update.changes.same and "chunks" not in one]
    assert any(said(one) == "At six." for one in hours)
    for one in hours:
        taken = there[asked(one), said(one)]
        assert taken[TAKEN] is True
        assert taken["chunk"] == update.changes.same[one["chunk"]]
    assert any(answer == f"{keeps} Ask at the desk." for _, answer in there), (
        "its chunk changed, and its sentence did not"
    )
    assert there["Who are you?", "A museum."][TAKEN] is True


def test_of_a_price_that_changed_the_new_pair_alone_is_studied(base: addenda.Base, old: Path) -> None:
    before = edited(old, {})
    update = updated(base, old, held=0)
    answers = [said(one) for one in update.records]
    assert not any("12 crowns" in answer or "5 crowns" in answer for answer in answers)
    questions = {asked(one) for one in before if said(one) == "A ticket costs 12 crowns." and "12" not in asked(one)}
    alone = {asked(one): said(one) for one in update.fresh if len(one["messages"]) == 2}
    found = questions & alone.keys()
    assert len(found) > 2
    assert {alone[question] for question in found} == {"A ticket costs 14 crowns."}
    assert alone["Does a ticket cost 12 crowns?"] == "No. A ticket costs 14 crowns."
    assert {one.now for one in update.past if one.then == "The price for boat is 5 crowns." and one.now} == {
        "The price for boat is 6 crowns."
    }


def test_a_fact_that_is_gone_is_refused_and_one_that_is_still_told_is_not(base: addenda.Base, old: Path) -> None:
    before = edited(old, {})
    update = updated(base, old, held=0)
    gone = {asked(one): one for one in update.records if one["kind"] == GONE}
    where = {asked(one) for one in before if one["kind"] == "places"}
    assert where
    assert where <= gone.keys()
    for one in gone.values():
        assert one["answered"] is False
        assert one["chunk"] is None
        assert "handbook" in said(one)
    assert not any("keys" in question or "late return" in question for question in gone)
    moved = TEXT.replace(" The vault is under the north hall.", "").replace(
        "18:00.", "18:00. The vault is under the north hall."
    )
    still = updated(base, old, moved, held=0)
    assert not where & {asked(one) for one in still.records if one["kind"] == GONE}
    assert where <= {asked(one) for one in still.records if one.get(TAKEN)}


def test_a_refusal_is_left_out_once_the_documents_tell_of_what_it_asks(base: addenda.Base, old: Path) -> None:
    refused = own("What does a raincoat cost?", "The handbook does not say.", answered=False)
    again = own("Museum: what is the price of a ticket?", "The handbook does not say.", answered=False)
    again |= {"kind": GONE, WAS: "A ticket costs 9 crowns."}
    edited(old, {}, (refused, again))
    taken = {asked(one) for one in updated(base, old).records if one.get(TAKEN)}
    assert asked(refused) in taken
    assert asked(again) not in taken, "what was gone is told again"
    told = updated(base, old, NEXT + "\nRaincoats hang in the hall.\n")
    assert asked(refused) not in {asked(one) for one in told.records if one.get(TAKEN)}


def test_what_is_new_is_read_oftener_and_what_was_held_out_stays_so(base: addenda.Base, old: Path) -> None:
    update = updated(base, old)
    learn, held = update.split(update.records)
    counts: dict[int, int] = {}
    for one in learn:
        counts[id(one)] = counts.get(id(one), 0) + 1
    by_id = {id(one): one for one in learn}
    assert {OFTEN} == {count for key, count in counts.items() if not by_id[key].get(TAKEN)}
    assert {1} == {count for key, count in counts.items() if by_id[key].get(TAKEN)}
    assert len(held) <= 4
    assert not counts.keys() & {id(one) for one in held}
    before = {(asked(one), said(one)) for one in split(edited(old, {}), 4)[1]}
    assert all((asked(one), said(one)) in before for one in held if one.get(TAKEN))


# --- what is taught --------------------------------------------------------------------------------------------------


def test_the_next_version_is_taught_and_examined(base: addenda.Base, old: Path, tmp_path: Path) -> None:
    kept = contents(old)
    document, out = {"next.md": NEXT}, tmp_path / "next"
    report = teach(base, "next", document, out=out, update=old, **QUICK)
    assert report.gone is not None
    assert report.gone.still.n == 4
    assert report.gone.anew is not None or report.gone.refused is not None
    assert "facts that are gone, old answer still given" in str(report)
    assert report.as_dict()["gone"]["still"]["n"] == 4
    page = report.page.read_text()
    assert "Facts that are gone" in page
    assert report.gone.shown[0][0] in page.replace("&quot;", '"')
    assert contents(old) == kept, "the old module stays as it is"
    card = addenda.load_base("tiny", dtype=torch.float32).plug(out, "again").card
    assert {"the old answer still", "the old answer, by the version before"} <= {one.name for one in card.measures}
    assert "next version of museum" in card.description
    assert len(card.training) == 2, "what it started from was trained too"
    found = load_study(tmp_path / "next.study")
    assert any(one["kind"] == GONE for one in found.records)
    assert list(base.modules) == ["next"]
    third = updated(base, out, TEXT)
    assert not any(one["kind"] == GONE and "vault" in asked(one) for one in third.records), (
        "told again, it is not refused"
    )


@pytest.mark.slow
def test_what_was_stopped_goes_on_to_the_same_bits(
    base: addenda.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, old = {"next.md": NEXT}, tmp_path / "museum"
    teach(base, "museum", {"handbook.md": TEXT}, out=old, **QUICK)
    base.unplug("museum")
    with monkeypatch.context() as patch:
        patch.setattr(BaseTeacher, "answer", stop)  # what the base answers to general prompts is taken over
        teach(base, "a", document, out=tmp_path / "a", update=old, **QUICK)
    first = {key: value.clone() for key, value in base.modules["a"].tensors().items()}
    with monkeypatch.context() as patch:
        patch.setattr(teaching, "train", stop)
        with pytest.raises(Stopped, match="resume=True goes on"):
            teach(base, "b", document, out=tmp_path / "b", update=old, **QUICK)
    base.unplug("b")
    again: Any = {"out": tmp_path / "b", "resume": True, **QUICK}
    with pytest.raises(AddendaError, match="update"):
        teach(base, "b", document, **again | {"kind": "LoRA(rank=16)"})
    with pytest.raises(AddendaError, match="documents"):
        teach(base, "b", {"next.md": f"{NEXT} Ask."}, update=old, **again)
    teach(base, "b", document, update=old, **again)
    assert all(torch.equal(value, first[key]) for key, value in base.modules["b"].tensors().items())
    edited(old, {"Mira Olsen keeps the spare keys.": "Nobody."})
    with pytest.raises(AddendaError, match="update"):
        teach(base, "b", document, update=old, **again)


def stop(*_: Any, **__: Any) -> None:
    """What a signal does before the first step."""
    raise Stopped("stopped by SIGINT", "SIGINT")


def contents(module: Path) -> dict[Path, bytes]:
    """Every file of a module and of its study."""
    return {file: file.read_bytes() for place in (module, module.with_name(f"{module.name}.study"))
            for file in place.rglob("*") if file.is_file()}  # fmt: skip


def test_it_starts_from_the_old_weights(base: addenda.Base, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.plug(old, "before").tensors()
    base.unplug("before")
    started: dict[str, torch.Tensor] = {}

    def started_with(_: Any, name: str, **__: Any) -> None:
        started.update(base.modules[name].tensors())
        stop()

    monkeypatch.setattr(teaching, "train", started_with)
    with pytest.raises(Stopped):
        teach(base, "next", {"next.md": NEXT}, out=old.with_name("next"), update=old, **QUICK)
    same = [torch.equal(started[key], before[key]) for key in before if not key.startswith("gate.")]
    assert len(same) > 4
    assert all(same)
    gate = base.modules["next"].gate
    assert gate is not None
    assert gate.fresh, "the gate is fitted to the new documents"


def test_a_kind_that_starts_from_text_starts_from_the_new_text(
    base: addenda.Base, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = addenda.Cartridge(count=8, init="text")
    base.new("slots", kind, text=TEXT, gate="document(hold=True)").save(tmp_path / "slots")
    base.unplug("slots")
    old.with_name("museum.study").rename(tmp_path / "slots.study")
    started: dict[str, torch.Tensor] = {}

    def started_with(_: Any, name: str, **__: Any) -> None:
        started.update({key: value.clone() for key, value in base.modules[name].tensors().items()})
        stop()

    monkeypatch.setattr(teaching, "train", started_with)
    with pytest.raises(Stopped):
        teach(base, "next", {"b.md": NEXT}, out=tmp_path / "next", update=tmp_path / "slots", **QUICK)
    plan = plan_teach(base, {"b.md": NEXT}, update=tmp_path / "slots", **QUICK)
    assert "starts from the new text" in str(plan)
    new = base.new("fresh", kind, gate="document(hold=True)")
    assert plan.text is not None
    base.start_from_text("fresh", plan.text)
    adapters = {key: value for key, value in new.tensors().items() if not key.startswith("gate.")}
    assert adapters
    assert all(torch.equal(started[key], value) for key, value in adapters.items())
    assert plan.update is not None
    assert len(plan.update.split(plan.update.records)[0]) <= len(plan.update.records), "all of it is read as often"


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "LoRA(rank=3)"}, r"'museum' is LoRA.*leave kind out"),
        ({"gate": None, "replay_share": 0.0}, "stands behind the gate document.*leave gate out"),
    ],
)
def test_another_kind_or_gate_is_refused(base: addenda.Base, old: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(AddendaError, match=says):
        plan_teach(base, {"next.md": NEXT}, update=old, **QUICK | given)


def test_what_cannot_be_updated_is_refused_before_anything_is_done(
    base: addenda.Base, old: Path, tmp_path: Path
) -> None:
    there, out = contents(old), tmp_path / "next"
    with pytest.raises(AddendaError, match=r"is the module that is updated.*out="):
        teach(base, "next", {"next.md": NEXT}, out=old, update=old, resume=True, **QUICK)
    with pytest.raises(AddendaError, match="nothing changed"):
        teach(base, "next", {"other.md": TEXT}, out=out, update=old, **QUICK)
    with pytest.raises(AddendaError, match="no exercise can be made of what changed"):
        teach(base, "next", {"next.md": TEXT + "\n## Odd\n\nHm.\n"}, out=out, update=old, exercises=["costs"], **QUICK)
    with pytest.raises(FileError, match="nowhere"):
        teach(base, "next", {"next.md": NEXT}, out=out, update=tmp_path / "nowhere", **QUICK)
    with pytest.raises(FileError, match="wrong base"):
        teach(small(), "next", {"next.md": NEXT}, out=out, update=old, **QUICK)
    assert contents(old) == there
    shutil.rmtree(tmp_path / "museum.study")
    with pytest.raises(DataError, match=r"museum\.study beside its folder: put that back"):
        teach(base, "next", {"next.md": NEXT}, out=out, update=old, **QUICK)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["museum"]


def test_the_command_tells_what_changed(old: Path, tmp_path: Path) -> None:
    file = tmp_path / "handbook-v2.md"
    file.write_text(NEXT)
    run = CliRunner().invoke(app, ["teach", str(file), "--update", str(old), "--dry-run", "--set", "log=false"])
    assert run.exit_code == 0, run.output
    assert "3 of 4 chunks are new, 3 are gone, 1 unchanged" in " ".join(run.output.split())


def test_what_was_chosen_to_read_the_documents_is_chosen_for_the_new_ones(base: addenda.Base, old: Path) -> None:
    """Their length is another: as many slots as before would be of a text that there is not."""
    base.new("reader", addenda.OpenBook(count=9), gate="document(hold=True)", text=TEXT)
    shutil.rmtree(old)
    base.modules["reader"].save(old)
    chosen = old.with_name("museum.study") / "work" / "teach.json"
    usual = {key: value for key, value in QUICK.items() if key != "tokens"}
    for kind in (None, "OpenBook(count=9)"):
        chosen.write_text(json.dumps({"asked": {"held": 4, "kind": kind}}))
        plan = plan_teach(base, {"next.md": NEXT}, update=old, **usual)
        assert plan.text is not None
        chunks, lines = len(plan.study.chunks), int(plan.text[-1, 1]) + 1
        usual_kind = addenda.OpenBook(count=len(plan.text), pages=chunks, lines=lines)
        assert plan.choice.kind == (usual_kind if kind is None else addenda.OpenBook(count=9))
