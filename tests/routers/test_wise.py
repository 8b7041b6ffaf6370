"""WISE's activation distance: the published identities, its threshold, the largest of several shards."""

from __future__ import annotations

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.routers.wise import Wise
from routed import base_with, documents, draw, learn, prompts


def distance(base: addenda.Base, text: str, router: str = "wise") -> float:
    return addenda.route(base, [text], router, "medical", at_most=1).distances["medical"][0]


def test_before_anything_was_learned_the_distance_is_zero_and_nothing_is_routed() -> None:
    base = addenda.attach(base_with().model)
    base.new("medical", addenda.LoRA(rank=2))
    learn(base, "medical", "wise")
    routes = addenda.route(base, prompts("medical"), "wise", at_most=1)
    assert set(routes.distances["medical"]) == {0.0}
    assert routes.selections == [{}] * 6


def test_it_is_the_mean_size_of_what_the_module_adds() -> None:
    base = base_with(medical=addenda.ParallelAdapter(width=8))
    learn(base, "medical", "wise")
    (text,) = prompts("medical", 1)
    ids = base.tokenize(text)
    x = base.reader.inputs(["layers.2.ffn"], ids)["layers.2.ffn"]
    added = base.modules["medical"].adapter("layers.2.ffn").delta(x).detach()
    assert distance(base, text) == pytest.approx(float(added[1:].norm(dim=-1).mean()), rel=1e-4)


def test_a_long_prompt_counts_by_its_largest_token() -> None:
    base = base_with(medical=addenda.ParallelAdapter(width=8))
    text = prompts("medical", 1)[0]
    x = base.reader.inputs(["layers.2.ffn"], base.tokenize(text))["layers.2.ffn"]
    sizes = base.modules["medical"].adapter("layers.2.ffn").delta(x).detach()[1:].norm(dim=-1)
    learn(base, "medical", Wise(long=4))
    assert distance(base, text, "wise(long=4)") == pytest.approx(float(sizes.max()), rel=1e-4)


def test_every_prompt_that_it_was_learned_from_is_routed() -> None:
    learned_from = torch.rand(40, 1, generator=torch.Generator().manual_seed(0)) + 0.1
    router = Wise()
    keys = router.learn(learned_from, torch.zeros(1, 1)) | {"general": torch.full((9,), 5.0)}
    eps = router.threshold(keys, 1.0)
    assert eps == pytest.approx(0.88 * float(learned_from.min()))
    ways = router.choose(router.distances(keys, learned_from)[:, None], torch.tensor([eps]), ["it"])
    assert ways == ["it"] * 40
    assert router.threshold(keys, 0.2) == 5.0  # general text asks for more
    assert router.threshold({**keys, "general": torch.zeros(9)}, 0.2) == pytest.approx(eps)


def test_the_shard_with_the_largest_distance_wins_among_those_that_pass() -> None:
    router = Wise()
    distances = torch.tensor([[1.0, 2.0], [3.0, 2.0], [3.0, 9.0], [0.1, 0.1]])
    assert router.choose(distances, torch.tensor([0.5, 0.5]), ["a", "b"]) == ["b", "a", "b", None]
    assert router.choose(distances, torch.tensor([0.5, 9.5]), ["a", "b"]) == ["a", "a", "a", None]
    assert router.choose(torch.tensor([[2.0, 2.0]]), torch.tensor([1.0, 1.0]), ["a", "b"]) == ["a"]


def test_shards_of_one_subject_take_the_prompts_on_which_they_add_most() -> None:
    base = base_with(medical=addenda.ParallelAdapter(width=8), second=addenda.ParallelAdapter(width=8))
    for name in ("medical", "second"):
        addenda.learn_route(base, name, documents("medical"), general=documents("general"), router="wise", prompts=64)
    texts = prompts("medical", 12)
    routes = addenda.route(base, texts, "wise", at_most=1)
    for row, chosen in enumerate(routes):
        most = max(("medical", "second"), key=lambda name: routes.distances[name][row])
        assert chosen == {most: 1.0}


def test_a_shut_gate_adds_nothing() -> None:
    base = base_with()
    module = base.new("medical", addenda.ParallelAdapter(width=8), gate="document")
    draw(module)
    learn(base, "medical", "wise")
    assert distance(base, prompts("medical", 1)[0]) > 0
    assert module.gate is not None
    module.gate.threshold.fill_(torch.inf)
    learn(base, "medical", "wise")
    assert distance(base, prompts("medical", 1)[0]) == 0.0


def test_a_module_that_changed_is_learned_again() -> None:
    base = base_with(medical=addenda.LoRA(rank=2))
    learn(base, "medical", "wise")
    addenda.route(base, prompts("medical"), "wise")
    with torch.no_grad():
        next(base.modules["medical"].parameters()).add_(1.0)
    with pytest.raises(AddendaError, match="module 'medical' changed after its keys of the router wise were learned"):
        addenda.route(base, prompts("medical"), "wise")


def test_what_cannot_be() -> None:
    base = base_with(medical=addenda.Registers(count=2), numbers=addenda.LocasGLU(rank=2, layers=(1,)))
    with pytest.raises(UnsupportedError, match="kind Registers, which adds nothing there; route to it with nearest"):
        learn(base, "medical", "wise")
    with pytest.raises(AddendaError, match="'numbers' adds nothing at layer 2; its layers are 1"):
        learn(base, "numbers", "wise(layer=2)")
    with pytest.raises(AddendaError, match="margin is above 0, at most 1"):
        Wise(margin=0.0)
