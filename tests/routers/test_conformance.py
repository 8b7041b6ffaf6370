"""What every router promises, whatever it reads: kept keys, prompts alone, few general ones, an untouched base."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import addenda
from addenda.core import registry
from addenda.core.errors import AddendaError
from addenda.routers.router import Router
from addenda.routing.route import route as choose
from pico import pico, pico_tokenizer
from routed import documents, learn, learned, prompts

ROUTERS = tuple(registry.methods("router"))
SUBJECTS = ("medical", "numbers")


@pytest.fixture(scope="module", params=ROUTERS)
def router(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def base(router: str) -> Any:
    return learned(router, *SUBJECTS)


def every() -> list[str]:
    return [prompt for name in (*SUBJECTS, "general") for prompt in prompts(name)]


def test_some_prompts_are_given_to_a_module_and_some_to_none(base: Any, router: str) -> None:
    wide, narrow = (choose(base, every(), router, at_most=share) for share in (1.0, 0.05))
    assert all(wide.selections[: len(prompts("medical"))])
    assert {} in narrow.selections
    assert wide.distances == narrow.distances
    assert all(list(row.values()) in ([], [1.0]) for row in wide)


def test_a_prompt_is_alone_in_its_batch(base: Any, router: str) -> None:
    texts = [*every(), "the", " ".join(documents("medical")[0].split()[:40])]
    whole = choose(base, texts, router)
    for row, text in enumerate(texts):
        single = choose(base, [text], router)
        assert single.selections[0] == whole[row]
        for name in SUBJECTS:
            assert single.distances[name][0] == pytest.approx(whole.distances[name][row], rel=1e-4, abs=1e-5)
    turned = choose(base, texts[::-1], router)
    assert turned.selections == whole.selections[::-1]


def test_it_does_not_depend_on_what_is_selected(base: Any, router: str) -> None:
    bare = choose(base, every(), router)
    with base.using(*SUBJECTS):
        assert choose(base, every(), router) == bare


def test_at_most_the_share_of_held_back_general_prompts_is_within_the_threshold(base: Any, router: str) -> None:
    method = cast("Router", registry.build("router", router, {}))
    for name in SUBJECTS:
        keys = base.modules[name].side_of(f"router.{router}")
        general = keys["general"]
        for share in (0.02, 0.05, 0.3, 0.6):
            if share * (len(general) + 1) < 1:
                with pytest.raises(AddendaError, match="general prompts cannot tell a share of"):
                    method.threshold(keys, share)
                continue
            threshold = torch.tensor([method.threshold(keys, share)])
            given = sum(way is not None for way in method.choose(general[:, None], threshold, ["it"]))
            assert given <= share * (len(general) + 1)
            # each held-back prompt left out in turn: the others' threshold lets it through no more often than the share says
            left_out = 0
            for at in range(len(general)):
                others = dict(keys) | {"general": torch.cat([general[:at], general[at + 1 :]])}
                if share * len(general) < 1:
                    break
                alone = torch.tensor([method.threshold(others, share)])
                left_out += method.choose(general[at].view(1, 1), alone, ["it"])[0] is not None
            assert left_out <= share * len(general) + 1


def test_more_modules_share_what_general_text_allows(router: str) -> None:
    base = learned(router, *SUBJECTS, "shouted")
    alone, together = choose(base, every(), router, "medical"), choose(base, every(), router)
    assert alone.distances["medical"] == together.distances["medical"]
    tighter = together.thresholds["medical"] <= alone.thresholds["medical"]
    assert tighter if alone.nearer else together.thresholds["medical"] >= alone.thresholds["medical"]


def test_keys_come_back_with_the_module(base: Any, router: str, tmp_path: Path) -> None:
    before = choose(base, every(), router)
    for name in SUBJECTS:
        base.modules[name].save(tmp_path / name)
    other = addenda.attach(pico("llama"), pico_tokenizer())
    for name in SUBJECTS:
        other.plug(tmp_path / name)
    assert choose(other, every(), router) == before


def test_another_modules_keys_change_nothing_of_the_first(router: str) -> None:
    base = learned(router, "medical")
    side = dict(base.modules["medical"].side)
    tensors = {name: tensor.clone() for name, tensor in base.modules["medical"].tensors().items()}
    far = choose(base, every(), router).distances["medical"]
    base.new("numbers", addenda.LoRA(rank=2))
    learn(base, "numbers", router)
    assert base.modules["medical"].side.keys() == side.keys()
    assert all(torch.equal(base.modules["medical"].side[name], tensor) for name, tensor in side.items())
    assert all(torch.equal(base.modules["medical"].tensors()[name], tensor) for name, tensor in tensors.items())
    assert choose(base, every(), router).distances["medical"] == far


def test_prompts_that_no_module_is_given_are_the_bare_bases_bit_for_bit(base: Any, router: str) -> None:
    texts = [*prompts("medical", 3), *prompts("general", 3)]
    routes = choose(base, texts, router, at_most=0.05)
    routes.selections[0] = {"medical": 1.0}  # whatever was chosen, one row is another's
    batch = base.prompts(texts, raw=True)
    with torch.no_grad():
        with base.off():
            bare = base.model(**batch).logits
        with base.rows(routes):
            mixed = base.model(**batch).logits
    assert not torch.equal(bare[0], mixed[0])
    abstained = [row for row, chosen in enumerate(routes) if not chosen]
    assert abstained
    assert all(torch.equal(bare[row], mixed[row]) for row in abstained)


def test_options_that_shape_keys_are_asked_for_by_name(base: Any, router: str) -> None:
    if "layer" not in {field.name for field in fields(cast("Any", registry.named("router", router)))}:
        return
    with pytest.raises(
        addenda.AddendaError, match=rf"learned by {router}\(.*\), and {router}\(layer=1.*\) is asked for"
    ):
        choose(base, every(), f"{router}(layer=1)")


def test_learning_twice_gives_the_same_bits(router: str) -> None:
    first, second = (learned(router, "medical").modules["medical"].side for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
