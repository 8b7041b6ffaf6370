"""Routing: prompts to selections that `base.rows` takes, with why; and everything that can be wrong with keys."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, SelectionError
from pico import pico, pico_tokenizer
from routed import base_with, learn, learned, prompts

TEXTS = [*prompts("medical", 2), *prompts("numbers", 2), *prompts("general", 2)]


@pytest.fixture(scope="module")
def base() -> Any:
    return learned("nearest", "medical", "numbers")


def test_routes_are_a_selection_for_each_prompt(base: Any) -> None:
    routes = addenda.route(base, TEXTS)
    assert list(routes) == routes.selections == [{"medical": 1.0}] * 2 + [{"numbers": 1.0}] * 2 + [{}] * 2
    assert routes[1:3] == [{"medical": 1.0}, {"numbers": 1.0}]
    assert (routes.module(0), routes.module(5)) == ("medical", None)
    batch = base.prompts(TEXTS, raw=True)
    with torch.no_grad():
        with base.rows(routes):
            mixed = base.model(**batch).logits
        for name, rows in (("medical", [0, 1]), ("numbers", [2, 3])):
            with base.using(name):
                alone = base.model(**batch).logits
            assert torch.allclose(mixed[rows], alone[rows], atol=1e-4)
        with base.off():
            bare = base.model(**batch).logits
    assert torch.equal(mixed[4:], bare[4:])
    assert not torch.equal(mixed[:4], bare[:4])


def test_it_says_why(base: Any) -> None:
    routes = addenda.route(base, TEXTS)
    far, threshold = routes.distances["medical"][0], routes.thresholds["medical"]
    assert routes.why(0) == f"medical: distance {far:.3f} is below {threshold:.3f}"
    assert routes.why(5).startswith(f"no module: of the nearest, {routes.candidate(5)}, distance ")
    assert " is above " in routes.why(5)
    told = json.loads(json.dumps(routes.as_dict()))
    assert told["prompts"][2]["modules"] == {"numbers": 1.0}
    assert told["prompts"][2]["distances"].keys() == told["thresholds"].keys() == {"medical", "numbers"}
    assert len(str(routes).splitlines()) == 6


def test_among_restricts_and_weighs(base: Any) -> None:
    assert addenda.route(base, TEXTS, among="numbers").selections[:3] == [{}, {}, {"numbers": 1.0}]
    weighed = addenda.route(base, TEXTS, among={"medical": 0.5, "numbers": 1.0}).selections
    assert weighed[0] == {"medical": 0.5}
    with pytest.raises(SelectionError, match="no module 'law' is plugged; plugged are medical, numbers"):
        addenda.route(base, TEXTS, among="law")


def test_at_most_one_leaves_nothing_to_the_base(base: Any) -> None:
    assert all(addenda.route(base, TEXTS, at_most=1.0))


def test_prompts_longer_than_the_context_are_read_from_their_end(base: Any) -> None:
    long = " ".join([prompts("general")[0]] * 40 + [" ".join(prompts("medical", 6))] * 30)
    assert len(base.tokenize(long)) > base.context
    assert addenda.route(base, [long]).selections == [{"medical": 1.0}]


@pytest.mark.parametrize("wrong", [[], "the patients", ["the patients", "  "], ["a", 3]])
def test_prompts_that_are_none(base: Any, wrong: Any) -> None:
    with pytest.raises(AddendaError, match="list of prompts|prompt 2 is empty|a prompt is a text"):
        addenda.route(base, wrong)


def test_a_module_without_keys_is_told_with_the_command() -> None:
    base = learned("nearest", "medical")
    base.new("law", addenda.LoRA(rank=2))
    command = "addenda route --learn LAW_FOLDER --corpus FILE --router nearest"
    with pytest.raises(
        AddendaError, match=f"module 'law' has no keys of the router nearest; learn them with {command}"
    ):
        addenda.route(base, TEXTS)
    with pytest.raises(AddendaError, match="module 'medical' has no keys of the router wise"):
        addenda.route(base, TEXTS, "wise", "medical")
    base.unplug("law")
    assert addenda.route(base, TEXTS)[0] == {"medical": 1.0}
    base.unplug("medical")
    with pytest.raises(AddendaError, match="no module is plugged that a prompt could be given to"):
        addenda.route(base, TEXTS)


def test_keys_of_another_base_are_refused(tmp_path: Path) -> None:
    learned("nearest", "medical").modules["medical"].save(tmp_path / "m")
    other = addenda.attach(pico("llama", seed=1), pico_tokenizer())
    with pytest.warns(UserWarning, match="made for"):
        other.plug(tmp_path / "m", check="warn")
    with pytest.raises(AddendaError, match="keys of module 'medical' were learned on another base than 'llama'; learn"):
        addenda.route(other, TEXTS)
    learn(other, "medical", "nearest")
    assert addenda.route(other, TEXTS)[0] == {"medical": 1.0}


@pytest.mark.parametrize("how", ["record", "general", "key", "whiten", "no record", "words", "router"])
def test_damaged_keys_are_told(how: str) -> None:
    base = learned("nearest", "medical")
    module = base.modules["medical"]
    keys = dict(module.side_of("router.nearest"))
    if how == "no record":
        del keys["record"]
    else:
        words = {"words": b"[1]", "router": b'{"router": "nearest", "base": ""}'}
        replaced = {name: torch.tensor(list(said), dtype=torch.uint8) for name, said in words.items()}
        replaced["general"] = torch.zeros(0)
        keys["record" if how in words else how] = replaced.get(how, keys[how if how in keys else "record"][..., :1])
    module.keep_beside("router.nearest", keys)
    with pytest.raises(
        AddendaError, match="keys of module 'medical' for the router nearest are damaged; learn them anew"
    ):
        addenda.route(base, TEXTS)


def test_keys_hold_after_more_training_and_on_another_dtype_of_the_base(tmp_path: Path) -> None:
    base = learned("nearest", "medical")
    with torch.no_grad():
        next(base.modules["medical"].parameters()).add_(1.0)
    assert addenda.route(base, TEXTS)[0] == {"medical": 1.0}
    base.modules["medical"].save(tmp_path / "m")
    half = addenda.attach(pico("llama", dtype=torch.bfloat16), pico_tokenizer())
    half.plug(tmp_path / "m")
    assert addenda.route(half, TEXTS).selections == addenda.route(base, TEXTS).selections


def test_another_thread_may_route_while_modules_are_selected_here(base: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    here = addenda.route(base, TEXTS)
    with base.using("medical"), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: addenda.route(base, TEXTS).selections, range(4))) == [here.selections] * 4


def test_two_routers_of_one_module_stand_side_by_side() -> None:
    base = base_with(medical=addenda.LoRA(rank=2))
    for router in ("nearest", "wise"):
        learn(base, "medical", router)
    assert addenda.route(base, TEXTS, "nearest").nearer
    assert not addenda.route(base, TEXTS, "wise").nearer


#: subject -> file of the data, first documents to skip where one file holds all there is
DATA = {
    "pubmed": "pubmed/abstracts_train.jsonl.gz",
    "french": "french/novels_train.jsonl.gz",
    "french-python": "french/python_docs_train.jsonl.gz",
    "contracts": "law/contracts_train.jsonl.gz",
    "statutes": "law/statutes_train.jsonl.gz",
    "dialogue": "dialogue/train.jsonl.gz",
    "novels": "novels_en/train.jsonl.gz",
    "openstax": "openstax/train.jsonl.gz",
    "questions": "squad/squad_v2_dev_answerable.jsonl.gz",
    "facts": "known_facts/facts.jsonl.gz",
}


def pieces(file: str, count: int) -> list[str]:
    """Documents of the data: texts, questions, or prompts, by whatever name the file has them."""
    path = Path(os.environ["ADDENDA_DATA"]) / file
    found: list[str] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            said = next((record[name] for name in ("text", "question", "prompt") if record.get(name)), "")
            found += [said] if isinstance(said, str) and said else []
            if len(found) == count:
                break
    return found


@pytest.mark.slow
@pytest.mark.skipif("ADDENDA_DATA" not in os.environ, reason="needs the data")
def test_ten_subjects_are_told_apart_on_prompts_of_the_data() -> None:
    base = addenda.load_base("tiny")
    general = pieces("wikipedia_en/train_3.jsonl.gz", 600)
    held: dict[str, list[str]] = {}
    for name, file in DATA.items():
        documents = pieces(file, 400)
        base.new(name, addenda.LoRA(rank=1))
        addenda.learn_route(base, name, documents[::2], general=general[::2], prompts=512)
        held[name] = [text[len(text) // 3 :][:200] for text in documents[1::2]][:60]
    right = {name: [row == {name: 1.0} for row in addenda.route(base, texts)] for name, texts in held.items()}
    shares = {name: sum(rows) / len(rows) for name, rows in right.items()}
    assert sum(shares.values()) / len(shares) > 0.5, shares  # a guess has a tenth
    others = addenda.route(base, [text[len(text) // 3 :][:200] for text in general[1::2]])
    assert sum(map(bool, others)) / len(others) < 0.12  # 5% asked for; these prompts are longer than learned ones
