"""Disturbance: nothing where nothing acts, the measured change where something does, gates that are left alone."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError
from addenda.measuring.looking.disturbance import disturbance, divergence
from addenda.measuring.looking.pieces import documents_of
from addenda.text.texts import texts


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


def loud(module: addenda.KnowledgeModule, size: float = 0.05) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=size)


def test_a_fresh_module_disturbs_nothing(base: addenda.Base) -> None:
    base.new("fresh", addenda.LoRA(2))
    found = disturbance(base, "fresh", "general_valid", tokens=1024)
    base.unplug("fresh")
    assert (found.untouched.value, found.agree.value) == (1.0, 1.0)
    assert (found.largest, found.mean, found.kl.value) == (0.0, 0.0, 0.0)
    assert found.by_layer == (0.0,) * 6
    assert found.canary[0].finding == "fresh"


def test_a_loud_one_by_hand(base: addenda.Base) -> None:
    loud(base.new("m", addenda.LoRA(2)))
    found = disturbance(base, {"m": 1.0}, "general_valid", tokens=256)
    ((_, ids),) = documents_of(base, texts("general_valid"), [256], 256)
    with torch.no_grad():
        a = base.model(ids).logits
        with base.using("m"):
            b = base.model(ids).logits
    base.unplug("m")
    assert found.tokens == 256
    assert found.untouched.value == 0.0
    assert found.largest == pytest.approx(float((a - b).abs().max()), rel=1e-4)
    assert found.mean == pytest.approx(float((a - b).abs().mean()), rel=1e-4)
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    assert found.kl.value == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)
    assert found.agree.value == pytest.approx(float((a.argmax(-1) == b.argmax(-1)).float().mean()))
    assert all(one > 0 and math.isfinite(one) for one in found.by_layer)


def test_the_document_that_is_moved_most_is_told(base: addenda.Base) -> None:
    loud(base.new("m", addenda.LoRA(2)))
    sources = [["The river ran past the old mill. " * 40], ["Patients were given insulin. " * 40], ["zq xv jk " * 90]]
    alone = [disturbance(base, "m", one, length=64, tokens=128).kl.value for one in sources]
    together = disturbance(base, "m", [one[0] for one in sources], length=64, tokens=3 * 128)
    base.unplug("m")
    assert together.worst == pytest.approx(max(alone), rel=1e-4)
    assert together.worst > together.kl.value


def test_divergence_of_a_selection_and_of_another_model(base: addenda.Base) -> None:
    """Of a module as `disturbance` has it; of a model whose own weights moved by hand; of the base itself nothing."""
    loud(base.new("m", addenda.LoRA(2)))
    seen = disturbance(base, "m", "general_valid", tokens=512)
    kl, untouched = divergence(base, base, lambda: base.using("m"), "general_valid", tokens=512)
    assert (kl, untouched) == (seen.kl, seen.untouched)
    base.unplug("m")
    assert divergence(base, base, base.off, "general_valid", tokens=512)[0].value == 0.0
    other = addenda.load_base("tiny", dtype=torch.float32)
    assert divergence(base, other, nullcontext, "general_valid", tokens=512)[1].value == 1.0
    with torch.no_grad():
        other.model.model.layers[0].mlp.up_proj.weight.mul_(1.2)
    kl, untouched = divergence(base, other, nullcontext, "general_valid", tokens=256)
    ((_, ids),) = documents_of(base, texts("general_valid"), [256], 256)
    with torch.no_grad():
        p, q = (one.model(ids).logits.log_softmax(-1) for one in (base, other))
    assert kl.value == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)
    assert kl.value > 0
    assert untouched.value == 0.0


def test_layers_below_a_memory_are_left_alone(base: addenda.Base) -> None:
    loud(base.new("m", addenda.LocasGLU(4, init="gaussian", layers=(4,), scale=16.0)))
    found = disturbance(base, "m", "general_valid", tokens=512)
    base.unplug("m")
    assert found.by_layer[:4] == (0.0,) * 4
    assert min(found.by_layer[4:]) > 0


def test_a_selection_is_needed(base: addenda.Base) -> None:
    with pytest.raises(AddendaError, match="name the modules"):
        disturbance(base, (), "general_valid")


def test_intervals_are_over_documents_however_many_pieces_each_has(base: addenda.Base) -> None:
    """Pieces that are all alike say nothing that the first of them has not said: as much is known from one of each."""
    loud(base.new("m", addenda.LoRA(2)), 0.02)
    sentences = ["The river ran past the old mill. ", "Patients were given insulin. ", "A court may order costs. "]
    one, many = ([sentence * times for sentence in sentences] for times in (40, 400))
    short = disturbance(base, "m", one, length=64, tokens=3 * 64)
    long = disturbance(base, "m", many, length=64, tokens=30 * 64)
    alone = disturbance(base, "m", many[:1], length=64, tokens=10 * 64)
    base.unplug("m")
    assert (short.tokens, long.tokens, alone.tokens) == (3 * 64, 30 * 64, 10 * 64)
    assert (short.kl.n, long.kl.n, alone.kl.n) == (3, 3, 1)
    assert long.kl.high - long.kl.low > 0.8 * (short.kl.high - short.kl.low) > 0
    assert alone.kl.low == alone.kl.value == alone.kl.high
    assert 0 <= long.untouched.low <= long.untouched.high <= 1


def test_every_piece_knows_its_document(base: addenda.Base) -> None:
    from addenda.measuring.looking.pieces import documents_of, pieces_of
    from addenda.text.texts import texts

    source = texts(["the river " * 40, "short", "an old lane " * 90])
    found = list(pieces_of(base, source, [16], 16 * 8))
    assert [number for _, _, numbers in found for number in numbers] == [0, 0, 0, 0, 2, 2, 2, 2]
    for (_, ids, _), (_, plain) in zip(found, documents_of(base, source, [16], 16 * 8), strict=True):
        assert torch.equal(ids, plain)
