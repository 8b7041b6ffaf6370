"""What every write rule keeps: it learns the text, it goes on from a checkpoint to the same bits, it says whom it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError
from addenda.core.registry import methods
from addenda.writes.write_rule import EditRule
from addenda.writing.writer import Writer
from pico import pico, pico_tokenizer

TEXT = "the heart and the liver of patient 3 is treated with drug 5. " * 6
#: a base and a kind that a rule writes; of other rules these
SUBJECTS: dict[str, tuple[str, Any]] = {"closed": ("gpt2", addenda.LocasMLP(24, scale=32.0))}
TEXT_RULES = [name for name, method in methods("write").items() if not issubclass(method, EditRule)]
OTHERS = ("llama", addenda.LoRA(rank=2))


def written(rule: str, **more: Any) -> tuple[addenda.Base, addenda.MemorizeReport]:
    arch, kind = SUBJECTS.get(rule, OTHERS)
    base = addenda.attach(pico(arch), pico_tokenizer())
    options: dict[str, Any] = {"kind": kind, "write": rule, "window": 64, "chunk": 16, "lr": 1e-2, "log": False}
    return base, addenda.memorize(base, "m", text=TEXT, **options | more)


@pytest.mark.parametrize("rule", TEXT_RULES)
def test_a_text_is_learned_and_the_base_is_left_alone(rule: str) -> None:
    base, report = written(rule)
    assert report.texts["m"].gain() > 0.01  # type: ignore[operator]
    assert base.modules["m"].card.training[0].settings["write"] == rule
    arch, _ = SUBJECTS.get(rule, OTHERS)
    assert addenda.fingerprint(base.model) == addenda.fingerprint(pico(arch))
    assert all(p.grad is None for p in [*base.model.parameters(), *base.modules["m"].parameters()])


@pytest.mark.parametrize("rule", TEXT_RULES)
def test_an_interrupted_writing_goes_on_to_the_same_bits(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = written(rule, out=tmp_path / "whole")
    original, taken = Writer.take, []

    def take(self: Writer, *given: Any, **more: Any) -> Any:
        taken.append(1)
        if len(taken) == 8:
            raise KeyboardInterrupt
        return original(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "take", take)
        with pytest.raises(KeyboardInterrupt):
            written(rule, out=tmp_path / "m", checkpoint_every=3)
    base, report = written(rule, out=tmp_path / "m", checkpoint_every=3, resume=True)
    assert report.resumed_from == 6
    other = whole.modules["m"].tensors()
    assert all(torch.equal(tensor, other[name]) for name, tensor in base.modules["m"].tensors().items())


@pytest.mark.parametrize(
    ("write", "told"),
    [
        ("closd", "no write is called 'closd'; there are .*did you mean 'closed'"),
        ("gradient(lr=1)", "gradient has no option 'lr'"),
        ("closed", "write='closed' is for .* slots .LocasMLP.; LoRA takes gradient steps"),
    ],
)
def test_a_wrong_rule_is_told(write: str, told: str) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    with pytest.raises(AddendaError, match=told):
        addenda.memorize(base, "m", text=TEXT, kind=addenda.LoRA(rank=2), write=write, window=64, chunk=16, log=False)
    assert not base.modules
