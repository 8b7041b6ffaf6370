"""What every penalty keeps to: its state is tensors, it resumes to the bit, it lets learn, it acts on its own module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core import registry
from addenda.penalties.penalty import Penalty, asked_penalties
from addenda.writing.step import Stepper

from .subjects import FIRST, RUN, SECOND, make_base, trained

NAMES = sorted(registry.methods("penalty"))
#: the second subject, the first as replay and as text to fit on; short texts, for each of their rows is gone through
AGAIN: dict[str, Any] = {**RUN, "corpus": SECOND[:3], "replay": FIRST[:20], "replay_share": 0.25, "local": 0.0}


def second(name: str, **more: Any) -> dict[str, Any]:
    method: Any = registry.named("penalty", name)
    few = {"rows": 3} if "rows" in method.__dataclass_fields__ else {}
    earlier = {"earlier": FIRST[:2]} if method.fitted else {}
    return {**AGAIN, "penalty": method(**few), **earlier, **more}


def values(base: addenda.Base) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in base.modules["m"].tensors().items()}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module that has learned the first subject."""
    return trained().modules["m"].save(tmp_path_factory.mktemp("first") / "m")


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_the_second_subject_and_says_so_on_the_card(first: Path, name: str) -> None:
    base = make_base()
    module = base.plug(first, name="m")
    before, side = values(base), dict(module.side)
    with base.using("m"):
        loss = float(addenda.perplexity(base, SECOND[:8]))
    addenda.train(base, "m", **second(name))
    with base.using("m"):
        assert float(addenda.perplexity(base, SECOND[:8])) < loss - 0.05
    assert any(not torch.equal(tensor, before[key]) for key, tensor in values(base).items())
    assert module.card.training[-1].settings["penalty"] == [registry.recorded(second(name)["penalty"])]
    assert all(key in side or key.startswith((f"{name}.", "moments.")) for key in module.side)
    assert all(p.grad is None for p in base.model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_it_resumes_to_the_same_bits(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    whole = make_base()
    whole.plug(first, name="m")
    addenda.train(whole, "m", **second(name))

    class Enough(Exception):
        pass

    take = Stepper.take

    def stop(self: Stepper, step: int, passes: Any) -> Any:
        if step == 5:
            raise Enough
        return take(self, step, passes)

    broken = make_base()
    broken.plug(first, name="m")
    monkeypatch.setattr(Stepper, "take", stop)
    with pytest.raises(Enough):
        addenda.train(broken, "m", out=tmp_path / "m", **second(name, checkpoint_every=2))
    monkeypatch.undo()
    resumed = make_base()
    resumed.plug(first, name="m")
    report = addenda.train(resumed, "m", out=tmp_path / "m", resume=True, **second(name))
    assert report.resumed_from == 4
    assert all(torch.equal(tensor, values(whole)[key]) for key, tensor in values(resumed).items())
    side = resumed.modules["m"].side
    assert side.keys() == whole.modules["m"].side.keys()
    assert all(torch.equal(tensor, side[key]) for key, tensor in whole.modules["m"].side.items())


@pytest.mark.parametrize("name", NAMES)
def test_its_state_is_tensors_and_its_hooks_take_a_step_that_was_not_taken(first: Path, name: str) -> None:
    """With parameters where they were, no penalty moves them, nor what it would show."""
    base = make_base()
    module = base.plug(first, name="m").float()
    (penalty,) = asked_penalties(name)
    assert isinstance(penalty, Penalty)

    class Ones:
        name = "ones"

        def gradients(self, rows: int) -> Any:
            return ({key: torch.ones_like(p) for key, p in module.learning().items()} for _ in range(rows))

    state = penalty.fit(module, Ones())
    assert all(isinstance(tensor, Tensor) for tensor in state.values())
    before = values(base)
    penalty.after_step(module, state)
    for shown in (values(base), penalty.shown(state)):
        for key, tensor in shown.items():
            torch.testing.assert_close(tensor, before[key], rtol=1e-6, atol=1e-7)
    assert json_like(penalty.told(state))


def json_like(told: Any) -> bool:
    import json

    return json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("name", NAMES)
def test_two_modules_in_one_batch_pay_what_each_would_alone(first: Path, name: str) -> None:
    alone = make_base()
    alone.plug(first, name="m")
    addenda.train(alone, "m", **second(name, clip=None))
    both = make_base()
    for module in ("m", "n"):
        both.plug(first, name=module)
    settings: dict[str, Any] = second(name, clip=None) | {"corpus": {"m": SECOND[:3], "n": SECOND[3:6]}}
    settings |= {"earlier": {"m": FIRST[:2], "n": FIRST[:2]}} if "earlier" in settings else {}
    addenda.train(both, ["m", "n"], **settings)
    for key, tensor in values(alone).items():
        torch.testing.assert_close(both.modules["m"].tensors()[key], tensor, rtol=1e-3, atol=2e-4)


def test_a_run_without_a_penalty_keeps_its_bits(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the stage is asked: the same run with every hook broken is the same."""
    plain, broken = make_base(), make_base()
    for base in (plain, broken):
        base.plug(first, name="m")
    addenda.train(plain, "m", **AGAIN)
    monkeypatch.setattr(Stepper, "_guarded", None)
    monkeypatch.setattr(Stepper, "_by_stream", None)
    addenda.train(broken, "m", **AGAIN)
    assert all(torch.equal(tensor, values(plain)[key]) for key, tensor in values(broken).items())
