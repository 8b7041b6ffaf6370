"""What was asked is checked and resolved before the first token is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import addenda
from addenda.core.errors import AddendaError, DataError, TrainingError
from addenda.writing.asked import folder_of
from addenda.writing.plan import Plan, make_plan
from addenda.writing.settings import compare, settings_from

#: as long as the rows that a text alone decides nothing of
LONG, OTHER = "a long corpus. " * 400, "the others. " * 500


def plan(base: addenda.Base, names: Any = "a", **asked: Any) -> Plan:
    given: dict[str, Any] = {
        "corpus": [LONG],
        "replay": None,
        "replay_share": 0.1,
        "tokens": 100_000,
        "lr": None,
        "seed": 0,
        "alongside": (),
    }
    settings = {name: asked.pop(name) for name in list(asked) if name not in given}
    return make_plan(base, names, **(given | asked), settings=settings_from(settings))


@pytest.fixture
def plugged(base: addenda.Base) -> addenda.Base:
    base.new("a", addenda.NeutralResidues(width=8, gate="context"))
    base.new("b", addenda.LoRA(rank=2))
    return base


def test_defaults_come_from_the_kind_and_the_base(plugged: addenda.Base) -> None:
    found = plan(plugged, ["a", "b"], corpus={"a": [LONG], "b": [LONG + "b"]}, replay=[OTHER])
    assert found.lr == {"a": addenda.NeutralResidues.default_lr, "b": addenda.LoRA.default_lr}
    assert found.local == {name: plugged.modules[name].kind.default_local for name in ("a", "b")}
    assert found.length == 256  # the base's context
    assert found.tokens_per_step == 8 * 256
    assert found.steps == 100_000 // (8 * 256)
    assert found.replay_share == 0.1


def test_without_replay_there_is_no_local_loss(plugged: addenda.Base) -> None:
    found = plan(plugged)
    assert (found.local, found.replay_share) == ({"a": 0.0}, 0.0)
    assert plan(plugged, replay=["z"], replay_share=0.0).replay is None
    assert plan(plugged, replay_share=0.0).replay_share == 0.0  # no share of nothing is no mistake


def test_distillation_leaves_room_for_its_context(plugged: addenda.Base) -> None:
    found = plan(plugged, objective="distill")
    assert (found.context, found.length) == (128, 128)
    assert plan(plugged, objective="distill", context=0).length == 256


def test_an_identity_tells_runs_apart(plugged: addenda.Base) -> None:
    first = plan(plugged, replay=["z"]).identity(plugged, 1)
    assert plan(plugged, replay=["z"]).identity(plugged, 1) == first
    for other in (
        {"corpus": ["other"]},
        {"replay": ["other"]},
        {"seed": 1},
        {"lr": 1.0},
        {"batch_rows": 2},
        {"local": 3.0},
        {"validation": {"x": ["v"]}},
    ):
        assert plan(plugged, **({"replay": ["z"]} | other)).identity(plugged, 1) != first


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"names": "pub"}, TrainingError, r"module 'pub' is not plugged; .*plugged are a, b"),
        ({"names": []}, TrainingError, "takes one module, or several different ones"),
        ({"names": ["a", "a"]}, TrainingError, "several different ones"),
        (
            {"tokens": 100},
            TrainingError,
            r"100 tokens do not make one step of 128 \(batch_rows 2 x accumulate 1 x length 64",
        ),
        (
            {"tokens": 100, "batch_rows": 8, "length": 256},
            TrainingError,
            r"one step of 2,048 \(batch_rows 8 x accumulate 1 x",
        ),
        ({"corpus": [""]}, DataError, "is empty: it holds no text"),
        ({"tokens": 1e6}, TrainingError, "tokens is a whole number"),
        ({"corpus": ["same"], "replay": ["same"]}, DataError, "corpus and replay are the same text"),
        ({"names": ["a", "b"]}, DataError, "several modules take one corpus each"),
        ({"corpus": {"a": ["x"]}, "names": ["a", "b"]}, DataError, "several modules take one corpus each"),
        ({"replay": ["z"], "replay_share": 1.0}, TrainingError, "replay_share is a share from 0 up to"),
        ({"replay": ["z"], "replay_share": "much"}, TrainingError, "replay_share is a share .*got 'much'"),
        ({"replay": ["z"], "replay_share": math.nan}, TrainingError, "replay_share is a share"),
        ({"replay_share": 0.5}, TrainingError, "a replay share of 0.5 has no replay .*: give replay too"),
        ({"validate_every": 1}, TrainingError, "validate_every=1 has nothing to validate on: give validation texts"),
        (
            {"top_k": 9},
            TrainingError,
            "top_k=9 is for the objective 'distill', and this is 'lm': choose that, or leave",
        ),
        ({"context": 64}, TrainingError, "context=64 is for the objective 'distill', and this is 'lm'"),
        (
            {"names": "b", "gate_weight": 5.0},
            TrainingError,
            r"gate_weight=5.0 is for a gate that 'b' \(LoRA\) lacks",
        ),
        ({"names": "b", "gate_fit": False}, TrainingError, "gate_fit=False is for a gate that 'b'"),
        ({"names": "b", "gate_lr": 1.0}, TrainingError, "gate_lr=1.0 is for a gate that 'b'"),
        ({"names": "b", "gate_lr": 1.0, "top_k": 9}, TrainingError, "top_k=9 .*; gate_lr=1.0"),
        ({"lr": -1.0}, TrainingError, "lr is a positive number; got -1.0"),
        ({"lr": 0}, TrainingError, "lr is a positive number"),
        ({"lr": math.nan}, TrainingError, "lr is a positive number.*nan"),
        ({"lr": math.inf}, TrainingError, "lr is a positive number.*inf"),
        ({"lr": "fast"}, TrainingError, "lr is a positive number.*'fast'"),
        ({"lr": {"a": "fast"}}, TrainingError, "lr is a positive number.*'fast'"),
        ({"lr": {"b": 1e-3}}, TrainingError, r"one rate for each module that is trained \(a\); got rates for b"),
        ({"lr": {}}, TrainingError, "got rates for none"),
        ({"seed": -1}, TrainingError, r"seed is a whole number from 0 to 2\*\*63 - 1; got -1"),
        ({"seed": 2**63}, TrainingError, "seed is a whole number"),
        ({"seed": 1.0}, TrainingError, "seed is a whole number"),
        ({"seed": True}, TrainingError, "seed is a whole number"),
        ({"local": 1.0}, TrainingError, "is taken on replay tokens: give replay="),
        ({"length": 300}, AddendaError, "rows of 300 tokens do not fit the base's context of 256"),
        ({"objective": "distill", "length": 200, "context": 100}, AddendaError, "the teacher's 100 before them"),
        ({"alongside": "a"}, TrainingError, "cannot train alongside 'a': it is what is being trained"),
        ({"alongside": "c"}, TrainingError, "cannot train alongside 'c': plugged are a, b"),
        ({"corpus": "missing.jsonl"}, DataError, "no file, folder or data set is called 'missing.jsonl'"),
    ],
)
def test_what_cannot_be_done(plugged: addenda.Base, asked: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        plan(plugged, **asked)


def test_what_is_used_may_be_asked(plugged: addenda.Base) -> None:
    assert plan(plugged, validation={"x": ["v"]}, validate_every=1).validate_every == 1
    assert plan(plugged, objective="distill", context=64, top_k=9).context == 64
    assert plan(plugged, gate_weight=5.0, gate_fit=False, gate_lr=1.0).settings.gate_lr == 1.0
    corpora = {"a": ["x"], "b": ["y"]}  # one of several has such a gate
    assert plan(plugged, ["b", "a"], corpus=corpora, gate_weight=5.0).settings.gate_weight == 5.0
    plugged.new("c", addenda.NeutralResidues(width=8, gate="sigmoid"))
    assert plan(plugged, "c", gate_weight=5.0).settings.gate_weight == 5.0
    with pytest.raises(TrainingError, match="^gate_fit=False is for a gate that"):
        plan(plugged, "c", gate_weight=5.0, gate_fit=False)
    assert plan(plugged, "b", gate_weight=1.0, top_k=64).settings.top_k == 64  # the defaults ask for nothing


def test_another_text_of_the_same_name_is_another_run(plugged: addenda.Base) -> None:
    first = plan(plugged, validation={"x": ["v"]}).identity(plugged, 1)
    assert plan(plugged, validation={"x": ["v"]}).identity(plugged, 1) == first
    with pytest.raises(TrainingError, match="cannot be resumed with other settings.*: validation: {'x': "):
        compare(first, plan(plugged, validation={"x": ["w"]}).identity(plugged, 1))


def test_data_sets_are_told_apart(plugged: addenda.Base) -> None:
    import datasets

    one, two = (datasets.Dataset.from_list([{"text": text}]) for text in ("one", "two"))
    for form in (lambda data: data, lambda data: data.to_iterable_dataset()):
        first = plan(plugged, corpus=form(one)).identity(plugged, 1)
        assert plan(plugged, corpus=form(one)).identity(plugged, 1) == first
        with pytest.raises(TrainingError, match="cannot be resumed with other settings.*: corpus: "):
            compare(first, plan(plugged, corpus=form(two)).identity(plugged, 1))
        same = form(one)
        with pytest.raises(DataError, match="corpus and replay are the same text"):
            plan(plugged, corpus=same, replay=same)
        assert plan(plugged, corpus=same, replay=form(two)).replay_share == 0.1
    copy = datasets.Dataset.from_list([{"text": "one"}])
    with pytest.raises(DataError, match="corpus and replay are the same text"):
        plan(plugged, corpus=one, replay=copy)


def test_out_is_a_path(tmp_path: Path) -> None:
    assert folder_of(None) is None
    assert folder_of(str(tmp_path)) == folder_of(tmp_path) == tmp_path
    with pytest.raises(TrainingError, match="out is the path of the module's folder, or None to write nothing; got 5"):
        folder_of(5)


def test_a_rate_for_each_name(plugged: addenda.Base) -> None:
    corpora = {"a": ["x"], "b": ["y"]}
    assert plan(plugged, ["a", "b"], corpus=corpora, lr=1).lr == {"a": 1.0, "b": 1.0}
    assert plan(plugged, ["a", "b"], corpus=corpora, lr={"b": 1e-3, "a": 2e-3}).lr == {"a": 2e-3, "b": 1e-3}
    with pytest.raises(TrainingError, match=r"\(a, b\); got rates for a"):
        plan(plugged, ["a", "b"], corpus=corpora, lr={"a": 1e-3})


def test_a_frozen_module(plugged: addenda.Base) -> None:
    plugged.modules["a"].requires_grad_(False)
    with pytest.raises(TrainingError, match=r"module 'a' is frozen: .*requires_grad_\(True\) thaws it"):
        plan(plugged)
