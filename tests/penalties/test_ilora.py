"""I-LoRA: the slow copy is the mean that its decay says, is what is shown and kept, and its loss is of fast against slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core.errors import AddendaError, TrainingError
from addenda.penalties.ilora import ILoRA
from addenda.penalties.penalty import Pass
from addenda.writing.step import Stepper

from .subjects import FIRST, RUN, SECOND, trained

AGAIN: dict[str, Any] = {**RUN, "corpus": SECOND, "replay": FIRST[:20], "replay_share": 0.25}


def values(base: addenda.Base) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in base.modules["m"].learning().items()}


def followed(monkeypatch: pytest.MonkeyPatch, penalty: str, **settings: Any) -> tuple[addenda.Base, list[Any], Any]:
    """A second training: the base, the fast parameters at its start and after each step, and the slow copy at its end."""
    base = trained()
    fast, last = [values(base)], {}
    update = Stepper._update

    def watched(self: Stepper, name: str, step: int) -> None:
        update(self, name, step)
        fast.append(values(base))
        last["slow"] = {k: t.clone() for k, t in ILoRA().shown(self.guards.states["m"]["ilora"]).items()}

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "_update", watched)
        addenda.train(base, "m", penalty=penalty, **{**AGAIN, **settings})
    return base, fast, last["slow"]


@pytest.mark.parametrize("decay", [0.25, 0.9])
def test_slow_is_the_running_mean_and_is_what_is_kept(monkeypatch: pytest.MonkeyPatch, decay: float) -> None:
    base, fast, slow = followed(monkeypatch, f"ilora(decay={decay})")
    mean, before = fast[0], 8  # the first training took 8 steps
    for number, each in enumerate(fast[1:], before + 1):
        weight = min(1 - 1 / number, decay)
        mean = {name: weight * tensor + (1 - weight) * each[name] for name, tensor in mean.items()}
    for name, tensor in mean.items():
        torch.testing.assert_close(slow[name], tensor, rtol=1e-5, atol=1e-6)
        every = torch.stack([each[name] for each in fast])
        assert bool((slow[name] <= every.amax(0) + 1e-6).all())  # within the hull, number by number
        assert bool((slow[name] >= every.amin(0) - 1e-6).all())
    assert all(torch.equal(tensor, slow[name]) for name, tensor in values(base).items())
    assert any(not torch.equal(tensor, fast[-1][name]) for name, tensor in values(base).items())


def test_decay_0_is_fast_and_decay_1_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    base, fast, _ = followed(monkeypatch, "ilora(decay=0.0)")
    for name, tensor in values(base).items():
        torch.testing.assert_close(tensor, fast[-1][name], rtol=0, atol=1e-7)
    base, fast, _ = followed(monkeypatch, "ilora(decay=1.0)")
    assert all(torch.equal(tensor, fast[0][name]) for name, tensor in values(base).items())


def test_without_a_weight_only_the_copy_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained()
    addenda.train(plain, "m", **AGAIN)
    _, fast, _ = followed(monkeypatch, "ilora(weight=0, decay=0.9)")
    assert all(torch.equal(tensor, fast[-1][name]) for name, tensor in values(plain).items())
    _, fast, _ = followed(monkeypatch, "ilora(weight=9, decay=0.9)")
    assert any(not torch.equal(tensor, fast[-1][name]) for name, tensor in values(plain).items())


@pytest.mark.parametrize("target", ["max", "slow"])
def test_the_loss_is_the_mean_square_over_layers_on_replay(target: Any) -> None:
    base = trained()
    module, penalty = base.modules["m"], ILoRA(weight=2.0, target=target)
    ids = torch.randint(5, 100, (2, 12), generator=torch.Generator().manual_seed(0))

    def states() -> list[Tensor]:
        with base.using("m"), base.reader.layer_outputs() as seen:
            base.model(input_ids=ids, use_cache=False)
        return seen

    seen = Pass(share=1.0, replay=0.5, states=states)
    state = penalty.fit(module, None)
    equal = penalty.loss(module, state, seen)
    assert equal is not None
    assert equal.item() == 0.0  # fast is slow
    slow = [tensor.detach() for tensor in states()]
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    kept = values(base)
    fast = states()
    off = [f - s if target == "slow" else (torch.maximum(f, s) - f) for f, s in zip(fast, slow, strict=True)]
    wanted = 0.5 * 2.0 * torch.stack([part.square().mean() for part in off]).mean()
    loss = penalty.loss(module, state, seen)
    assert loss is not None
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in values(base).items())
    assert penalty.loss(module, state, Pass(1.0, 0.0, states)) is None


def test_validation_and_the_best_are_of_the_slow_copy(tmp_path: Path) -> None:
    """With a copy that stays, nothing is learned on paper, whatever the fast one does; and the file has the copy."""
    base = trained()
    before = values(base)
    settings = AGAIN | {"validation": {"second": SECOND[:4]}, "validate_every": 2, "patience": 9}
    report = addenda.train(base, "m", penalty="ilora(decay=1.0)", out=tmp_path / "m", **settings)
    curve = [record["validation"]["m"]["second"]["value"] for record in report.history if "validation" in record]
    assert len(curve) == 4
    assert len(set(curve)) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in values(base).items())
    back = trained(tokens=128)
    module = back.plug(tmp_path / "m", name="back")
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters() for name in [_told(name)])


def _told(name: str) -> str:
    return name.removeprefix("adapters.").replace("/", ".")


def test_no_barrier_between_the_ends_of_a_path() -> None:
    """Two tasks' parameters are joined by a path whose middle costs no more than the worse end."""
    base = trained()
    ends = [values(base)]
    addenda.train(base, "m", **AGAIN)
    ends.append(values(base))
    losses = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        with torch.no_grad():
            for name, p in base.modules["m"].learning().items():
                p.copy_(torch.lerp(ends[0][name], ends[1][name], share))
        with base.using("m"):
            losses.append(float(addenda.perplexity(base, FIRST[:6] + SECOND[:6])))
    assert max(losses[1:-1]) <= max(losses[0], losses[-1]) + 0.02


def test_what_would_do_nothing_is_refused() -> None:
    base = trained(tokens=128)
    with pytest.raises(TrainingError, match="the penalty 'ilora' is taken on replay: give replay= and a replay_share"):
        addenda.train(base, "m", corpus=SECOND, penalty="ilora", **RUN)
    addenda.train(base, "m", corpus=SECOND, penalty="ilora(weight=0)", **{**RUN, "tokens": 128})
    with pytest.raises(AddendaError, match="ilora: decay is from 0 to 1; got 1.5"):
        ILoRA(decay=1.5)
    with pytest.raises(AddendaError, match="ilora: weight is not negative, and finite; got -1"):
        ILoRA(weight=-1)
