"""Combine: what a mean computes, gates of one fit and of two, what the card tells, and every refusal in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.combining import common_gate
from addenda.core.errors import AddendaError, FileError, UnsupportedError
from addenda.core.files import sha256_of
from addenda.gates import document
from addenda.plug.scoring import score
from conformance.kinds import CASES, TEXT, home
from pico import pico, pico_tokenizer, random_ids

MEDICAL = [f"the heart and the liver of patient {n} is treated with drug {n % 7}. " * 6 for n in range(30)]
GENERAL = [f"A river runs in the town {n} and on to the sea; {n % 5} boats! " * 6 for n in range(30)]
IDS = random_ids(2, 24, seed=3)


@pytest.fixture
def base() -> addenda.Base:
    return addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())


def two(base: addenda.Base, kind: Any, *names: str, **more: Any) -> list[addenda.KnowledgeModule]:
    """Modules of one kind whose numbers are drawn, each its own."""
    modules = []
    for number, name in enumerate(names or ("a", "b")):
        module = base.new(name, kind, seed=number, **more)
        random = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
        modules.append(module)
    return modules


def with_moments(base: addenda.Base, kind: Any) -> None:
    """Two modules that were trained, so that moments stand beside them."""
    for name, corpus in (("a", MEDICAL), ("b", GENERAL)):
        base.new(name, kind, seed=1)
        addenda.train(base, name, corpus=corpus, tokens=512, length=32, batch_rows=4, lr=1e-2, log=False)


def logits(base: addenda.Base, *names: Any) -> Tensor:
    with torch.no_grad(), base.using(*names):
        return base.model(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (addenda.LoRA(rank=2), 2.0),
        (addenda.LoRA(rank=4, rslora=True, targets=("up_proj",)), 2.0),
        (addenda.FFALoRA(rank=2), 1.0),
        (addenda.ParallelAdapter(width=8), 2.0),
        (addenda.ParallelAdapter(extra=0.1), 2.0),
        (addenda.NeutralResidues(width=8), 2.0),
    ],
)
def test_a_mean_is_what_its_modules_compute_together(base: addenda.Base, kind: Any, size: float) -> None:
    a, b = two(base, kind)
    together = logits(base, {"a": 0.25, "b": 0.75})
    made = addenda.combine(base, {"a": 1.0, "b": 3.0}, name="ab")
    assert made is base.modules["ab"]
    assert made.size() == size * a.size()
    assert float((together - logits(base)).abs().max()) > 0.05
    torch.testing.assert_close(logits(base, "ab"), together, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(base, "a"), logits(base, "ab"), atol=0.01)
    assert b.size() == a.size()


def perturbed(base: addenda.Base, case: str, name: str, seed: int) -> addenda.KnowledgeModule:
    """A module of a case of the laws whose adapters are drawn from a seed, behind a gate that is open."""
    made = CASES[case]
    module = base.new(name, made.make(base.anatomy), gate=made.behind, text=TEXT if made.text else None)
    module.awaits_text = False
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.adapters.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    module.constrain()
    return module


@pytest.mark.parametrize("case", [case for case in CASES if home(case) == "llama"])
def test_every_kind_adds_up_exactly_or_says_that_it_does_not(base: addenda.Base, case: str) -> None:
    first = perturbed(base, case, "a", 0)
    perturbed(base, case, "b", 1)
    perturbed(base, case, "c", 0)
    try:
        addenda.combine(base, ["a", "b"], name="ab")
    except UnsupportedError as error:
        assert str(error).startswith(f"{type(first.kind).__name__} modules cannot be combined: ")
        return
    finally:
        assert set(base.modules) - {"ab"} == {"a", "b", "c"}
    together = logits(base, {"a": 0.5, "b": 0.5})
    torch.testing.assert_close(logits(base, "ab"), together, rtol=1e-4, atol=1e-4)
    assert not torch.equal(together, logits(base))
    try:  # of two copies every method by number makes the module itself
        addenda.combine(base, ["a", "c"], "ties(density=1.0)", name="ac")
    except UnsupportedError as error:
        assert "Give start= (--start)" in str(error)
        return
    torch.testing.assert_close(logits(base, "ac"), logits(base, "a"), rtol=1e-4, atol=1e-4)


def test_modules_are_added_and_taken_away_again(base: addenda.Base) -> None:
    two(base, addenda.FFALoRA(rank=2))
    addenda.combine(base, ["a", "b"], "mean(normalise=False)", name="sum")
    back = addenda.combine(base, {"sum": 1.0, "b": -1.0}, "mean(normalise=False)", name="back")
    for name, tensor in back.tensors().items():
        torch.testing.assert_close(tensor, base.modules["a"].tensors()[name], rtol=1e-5, atol=1e-6)


def test_ffa_averages_exactly_and_refuses_what_differs_or_grows(base: addenda.Base) -> None:
    a, b = two(base, addenda.FFALoRA(rank=2))
    made = addenda.combine(base, ["a", "b"], "ffa", name="ab")
    for name, tensor in made.tensors().items():
        assert torch.equal(tensor, (a.tensors()[name] + b.tensors()[name]) / 2)
    b.adapter("layers.1.mlp.up_proj").a.add_(1e-3)  # type: ignore[operator]
    for method in ("ffa", "mean", "ties"):
        with pytest.raises(AddendaError, match=r"layers.1.mlp.up_proj.a of 'a' and 'b' differ.*one seed"):
            addenda.combine(base, ["a", "b"], method, name="no")
    two(base, addenda.LoRA(rank=2), "c", "d")
    with pytest.raises(AddendaError, match="ffa gives modules of the same size.*train FFALoRA modules of one seed, or"):
        addenda.combine(base, ["c", "d"], "ffa", name="no")
    assert "no" not in base.modules


@pytest.mark.parametrize("kind", [addenda.LoRA(rank=2, targets=("up_proj", "q_proj")), addenda.FFALoRA(rank=2)])
@pytest.mark.parametrize("method", ["ties(density=0.5)", "ota", "ota(density=1.0)"])
def test_methods_by_number_work_on_the_product(base: addenda.Base, kind: Any, method: str) -> None:
    with_moments(base, kind)
    made = addenda.combine(base, ["a", "b"], method, name="ab")
    record = made.card.combined
    assert record is not None
    assert 0 <= record.lost < 0.6
    assert (record.lost < 1e-9) == isinstance(kind, addenda.FFALoRA)
    assert bool(torch.isfinite(logits(base, "ab")).all())
    assert not torch.equal(logits(base, "ab"), logits(base))
    # where the result is of their size its moments are theirs, and it can be combined again
    assert bool(made.side_of("moments")) == isinstance(kind, addenda.FFALoRA)
    if isinstance(kind, addenda.FFALoRA):
        addenda.combine(base, ["ab", "b"], method, name="abb")


def test_ota_of_one_loras_copies_is_that_lora(base: addenda.Base, tmp_path: Path) -> None:
    with_moments(base, addenda.LoRA(rank=2))
    base.modules["a"].save(tmp_path / "a")
    base.plug(tmp_path / "a", name="c")
    addenda.combine(base, ["a", "c"], "ota(density=1.0)", name="aa")
    torch.testing.assert_close(logits(base, "aa"), logits(base, "a"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["mean", "ties(density=1.0)", "ota(density=1.0)", "ffa"])
def test_from_one_start_any_kind_is_combined_at_its_own_size(base: addenda.Base, tmp_path: Path, method: str) -> None:
    (start,) = two(base, addenda.Registers(count=3, gate="neutral"), "start")
    start.save(tmp_path / "start")
    for name, corpus in (("a", MEDICAL), ("b", GENERAL)):
        base.plug(tmp_path / "start", name=name)
        addenda.train(base, name, corpus=corpus, tokens=512, length=32, batch_rows=4, lr=1e-2, log=False)
    made = addenda.combine(base, ["a", "b"], method, name="ab", start="start")
    assert made.size() == start.size()
    assert made.card.combined is not None
    assert made.card.combined.start == "start"
    a, b, s = (base.modules[name].tensors() for name in ("a", "b", "start"))
    for name, tensor in made.tensors().items():
        between = torch.minimum(a[name], b[name]) - 1e-5 <= tensor
        assert bool((between & (tensor <= torch.maximum(a[name], b[name]) + 1e-5)).all())
        if method in ("mean", "ffa"):
            torch.testing.assert_close(tensor, (a[name] + b[name]) / 2)
    assert any(not torch.equal(tensor, s[name]) for name, tensor in made.tensors().items())


# -- gates ----------------------------------------------------------------------------------------------------------


def gated(base: addenda.Base, *names: str, seeds: tuple[int, ...] = (0, 1)) -> None:
    """LoRAs behind gates that were fitted, in as far as their numbers are no longer fresh: each drawn from its seed."""
    for module, seed in zip(two(base, addenda.LoRA(rank=2), *names, gate="document"), seeds, strict=True):
        assert module.gate is not None
        random = torch.Generator().manual_seed(seed)
        for name in ("up", "down"):
            part = module.gate.get_buffer(name)
            part.copy_(torch.randn(part.shape, generator=random))


def test_gates_of_different_fits_make_way_for_a_fresh_one(base: addenda.Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "STEPS", (60, 60))
    monkeypatch.setattr(common_gate, "ROWS", 24)
    gated(base)
    with pytest.raises(AddendaError, match=r"'a' and 'b' stand behind gates of different fits.*--subject, --replay"):
        addenda.combine(base, ["a", "b"], name="ab")
    with pytest.raises(AddendaError, match="different fits"):
        addenda.combine(base, ["a", "b"], name="ab", subject=MEDICAL)
    assert set(base.modules) == {"a", "b"}
    other = [f"{n} + {n} = {2 * n}; {n} * {n} = {n * n}. " * 20 for n in range(100, 130)]
    made = addenda.combine(base, ["a", "b"], name="ab", subject=[*MEDICAL, *GENERAL], replay=other)
    assert made.gate is not None
    assert not made.gate.fresh
    assert not torch.equal(made.gate.state_dict()["up"], base.modules["a"].gate.state_dict()["up"])  # type: ignore[union-attr]
    assert made.card.combined is not None
    assert [source.role for source in made.card.combined.gate] == ["corpus", "replay"]
    left = addenda.neutral_share(base, "ab", other, lengths=[64], tokens=1000)
    assert float(left) > 0.8
    for text in (MEDICAL, GENERAL):
        assert float(addenda.neutral_share(base, "ab", text, lengths=[64], tokens=1000)) < 0.5


def test_units_of_a_share_of_the_base_stand_side_by_side_behind_a_gate() -> None:
    base = addenda.attach(
        pico("llama", num_hidden_layers=6), pico_tokenizer()
    )  # the gate leaves the first two layers out
    a, _ = two(base, addenda.NeutralResidues(extra=0.2))
    assert list(a.sites()) == [f"layers.{layer}.ffn" for layer in range(2, 6)]
    assert addenda.combine(base, ["a", "b"], name="ab").size() == 2 * a.size()


def test_one_gate_is_kept(base: addenda.Base) -> None:
    gated(base, "a", "c", seeds=(3, 3))
    together = logits(base, {"a": 0.5, "c": 0.5})
    assert not torch.equal(together, logits(base))
    made = addenda.combine(base, ["a", "c"], name="ac")
    torch.testing.assert_close(logits(base, "ac"), together, rtol=1e-4, atol=1e-4)
    assert made.card.gate == base.modules["a"].card.gate
    with pytest.raises(AddendaError, match=r"one and the same gate: leave subject and replay out"):
        addenda.combine(base, ["a", "c"], name="no", subject=MEDICAL, replay=GENERAL)


def test_behind_a_gate_and_without_one_are_told_apart(base: addenda.Base) -> None:
    base.new("a", addenda.LoRA(rank=2), gate="document")
    base.new("b", addenda.LoRA(rank=2))
    with pytest.raises(AddendaError, match="'a' stands behind a DocumentGate at layers.0.ffn and 'b' behind no gate"):
        addenda.combine(base, ["a", "b"], name="ab")


# -- the card -------------------------------------------------------------------------------------------------------


def test_the_card_tells_parents_method_training_and_measures(base: addenda.Base, tmp_path: Path) -> None:
    with_moments(base, addenda.LoRA(rank=2))
    base.modules["a"].card.licence = "cc0-1.0"
    made = addenda.combine(
        base, {"a": 0.5, "b": 0.5}, "ties(density=0.5)", name="ab", text={"med": MEDICAL[:4], "gen": GENERAL[:4]}
    )
    folder = made.save(tmp_path / "ab")
    base.modules["a"].save(tmp_path / "a")
    card = json.loads((folder / "card.json").read_text())
    told = card["combined"]
    assert told["method"] == {"name": "ties", "density": 0.5}
    assert [(part["name"], part["weight"]) for part in told["modules"]] == [("a", 0.5), ("b", 0.5)]
    assert told["modules"][0]["sha256"] == sha256_of(tmp_path / "a" / "module.safetensors")
    assert [run["objective"] for run in card["training"]] == ["lm", "lm"]
    assert card["licence"] == "cc0-1.0; some not stated"
    assert [measure["on"] for measure in card["measures"]] == ["med", "gen"]
    with base.off():
        bare = score(base, MEDICAL[:4])
    for name, measures in (("a", told["modules"][0]["measures"]), ("ab", card["measures"])):
        with base.using(name):
            assert measures[0]["value"] == pytest.approx(bare.minus(score(base, MEDICAL[:4])).nats)
    assert card["probe"] == base.modules["a"].probe
    page = (folder / "README.md").read_text()
    assert "## Combined from" in page
    assert f"| a | 0.5 | {told['modules'][0]['sha256'][:12]} |" in page
    before = logits(base, "ab")
    back = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    back.plug(folder)
    assert torch.equal(logits(back, "ab"), before)
    assert back.modules["ab"].card.combined == made.card.combined


def test_a_card_without_parents_says_nothing_of_them(base: addenda.Base, tmp_path: Path) -> None:
    folder = base.new("a", addenda.LoRA(rank=2)).save(tmp_path / "a")
    assert "combined" not in json.loads((folder / "card.json").read_text())


# -- refusals -------------------------------------------------------------------------------------------------------


def refused(base: addenda.Base, match: str, *given: Any, **more: Any) -> None:
    before = set(base.modules)
    with pytest.raises(AddendaError, match=match) as found:
        addenda.combine(base, *given, **{"name": "no", **more})
    assert not isinstance(found.value, FileError)
    assert "\n" not in str(found.value)
    assert set(base.modules) == before


def test_what_does_not_belong_together_is_refused(base: addenda.Base) -> None:
    two(base, addenda.LoRA(rank=2))
    base.new("r4", addenda.LoRA(rank=4))
    base.new("ffn", addenda.ParallelAdapter(width=8))
    refused(base, "two modules or more; got a", ["a"])
    refused(base, "two modules or more; got none", {})
    refused(base, "no module 'c' is plugged; plugged are a, b", ["a", "c"])
    refused(base, "'a' is a LoRA, 'ffn' is a ParallelAdapter", ["a", "ffn"])
    refused(base, r"different options \(rank 2 and 4; alpha 4.0 and 8.0\)", ["a", "r4"])
    refused(base, "the weight of 'b' must be a finite number; got nan", {"a": 1.0, "b": float("nan")})
    refused(base, "mean takes positive weights; that of 'b' is 0", {"a": 1.0, "b": 0.0})
    refused(base, "no combiner is called 'tiess'; .*did you mean 'ties'", ["a", "b"], "tiess")
    refused(base, "ties has no option 'rank'", ["a", "b"], "ties(rank=2)")
    refused(base, "'a' has no second moments beside it, which ota needs: train it again", ["a", "b"], "ota")
    refused(base, "a module 'b' is plugged already", ["a", "b"], name="b")
    refused(base, "'texts' holds no token to score", ["a", "b"], text={"good": MEDICAL, "none": []})
    refused(base, "stand behind no gate: leave subject and replay out", ["a", "b"], subject=MEDICAL)
    base.modules["b"].card.base.fingerprint = "0" * 64
    refused(base, "'a' was made for .* and 'b' for another base", ["a", "b"])
    with torch.no_grad():
        base.modules["r4"].adapter("layers.0.mlp.up_proj").b.fill_(torch.inf)  # type: ignore[operator]
    base.new("r4b", addenda.LoRA(rank=4))
    refused(base, r"'r4' has numbers that are not finite \(layers.0.mlp.up_proj.b\)", ["r4", "r4b"])


def test_kinds_that_cannot_are_refused_with_what_to_do(base: addenda.Base) -> None:
    two(base, addenda.Cartridge(count=4))
    refused(base, "Cartridge modules cannot be combined: .*Give start=", ["a", "b"])
    two(base, addenda.NeutralResidues(width=8, gate="token"), "c", "d")
    refused(base, "gate='token' is one for all units of a layer", ["c", "d"])
    two(base, addenda.ParallelAdapter(width=8), "e", "f")
    refused(base, "ties cannot combine ParallelAdapter modules: .*Give start=.*or choose mean", ["e", "f"], "ties")
    two(base, addenda.Cartridge(count=4, init="text"), "g", "h")
    refused(base, "'h' has not been started from its text|Cartridge modules cannot", ["g", "h"])
