"""What is kept beyond a call is the same whatever mode the caller was in, and can be trained through."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from conformance.kinds import MAIN
from conformance.world import batch, fresh, perturbed
from pico import pico, pico_tokenizer

Mode = Callable[[], AbstractContextManager[Any]]


def inference_under_autocast() -> ExitStack:
    stack = ExitStack()
    stack.enter_context(torch.inference_mode())
    stack.enter_context(torch.autocast("cpu", torch.bfloat16))
    return stack


MODES: dict[str, Mode] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "both": inference_under_autocast,
}
FOLDS = ("lora", "parallel", "locas-glu")
GATED = ("neutral", "neutral-context", "registers-neutral", "registers-context")
TEXT = "the heart and the lungs of the patient are treated with a drug, and the liver is not. " * 4


def trained(base: addenda.Base, name: str) -> dict[str, Tensor]:
    """Logits with a module on, and its gradients, in no mode of the caller's."""
    ids, mask = batch()
    with torch.no_grad(), base.using(name):
        found = {"logits": base.model(ids, attention_mask=mask).logits}
    with base.trainable(name) as trainable:
        trainable.train()(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False).loss.backward()
    gradients = {part: p.grad for part, p in base.modules[name].named_parameters()}
    return found | {part: grad for part, grad in gradients.items() if grad is not None}


def used(base: addenda.Base, name: str) -> None:
    ids, mask = batch()
    with base.using(name):
        base.model(ids, attention_mask=mask)
    with base.rows([{name: 1.0}, {}, {name: 0.5}, {}]):
        base.model(ids, attention_mask=mask)


def life(case: str, mode: Mode, folder: Path) -> dict[str, Tensor]:
    """A base that meets everything in a mode first, and is trained after it."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    with mode():
        module = perturbed(base, "m", case)
        plugged = base.plug(folder, name="p")
        fresh(base, "n", case)
        for name in ("m", "p", "n"):
            used(base, name)
        if case in FOLDS:
            with base.fused("m"):
                base.model(batch()[0])
    if case in FOLDS:
        with base.fused("m"), torch.no_grad():
            fused = base.model(batch()[0]).logits
    else:
        fused = torch.zeros(1)
    assert not any(t.is_inference() for one in (module, plugged) for t in one.state_dict().values())
    found = {f"{name}.{part}": value for name in ("m", "p", "n") for part, value in trained(base, name).items()}
    return found | {"fused": fused}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, Tensor]]]:
    made: dict[str, tuple[Path, dict[str, Tensor]]] = {}

    def of(case: str) -> tuple[Path, dict[str, Tensor]]:
        if case not in made:
            base = addenda.attach(pico("llama"), pico_tokenizer())
            folder = perturbed(base, "p", case, seed=1).save(tmp_path_factory.mktemp("modules") / case)
            made[case] = folder, life(case, nullcontext, folder)
        return made[case]

    return of


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", MAIN)
def test_what_was_met_in_a_mode_is_trained_as_if_there_were_none(
    case: str, mode: str, expected: Callable[[str], tuple[Path, dict[str, Tensor]]]
) -> None:
    folder, wanted = expected(case)
    assert all(any(bool(wanted[part].any()) for part in wanted if part.startswith(f"{name}.")) for name in ("m", "p"))
    found = life(case, MODES[mode], folder)
    assert found.keys() == wanted.keys()
    different = [name for name, value in wanted.items() if not torch.equal(found[name], value)]
    assert not different, f"the caller's mode stayed in {different[:4]}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", GATED)
def test_a_threshold_calibrated_in_a_mode_can_be_calibrated_and_trained_after(case: str, mode: str) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    perturbed(base, "m", case)
    settings: dict[str, Any] = {"share": 0.5, "lengths": [32], "tokens": 64}
    with MODES[mode]():
        addenda.calibrate(base, "m", [TEXT] * 4, **settings)
    trained(base, "m")
    again = addenda.calibrate(base, "m", [TEXT] * 4, **settings)
    assert not any(buffer.is_inference() for buffer in base.modules["m"].buffers())
    assert again.thresholds


@pytest.mark.parametrize("mode", MODES)
def test_a_memory_written_and_a_text_started_in_a_mode(mode: str) -> None:
    found = []
    for caller in (nullcontext, MODES[mode]):
        base = addenda.attach(pico("llama"), pico_tokenizer())
        with caller():
            base.new("c", addenda.Cartridge(count=4, init="text"), text=TEXT)
            base.new("m", addenda.LocasGLU(rank=4))
            if "autocast" not in mode and mode != "both":
                addenda.memorize(base, "m", text=[TEXT], window=64, chunk=32, log=False)
        with base.using("m", c=1.0), torch.no_grad():
            found.append(base.model(batch()[0]).logits)
        trained(base, "c")
        trained(base, "m")
    assert torch.equal(*found)


def test_a_base_loaded_in_inference_mode_can_be_trained_through() -> None:
    with torch.inference_mode():
        base = addenda.load_base("tiny")
        base.new("m", addenda.Registers(count=2))
        assert isinstance(base.fingerprint, str)
    ids = base.tokenize("the heart")[None]
    with base.trainable("m") as trainable:
        trainable(input_ids=ids, labels=ids).loss.backward()
    assert any(p.grad is not None for p in base.modules["m"].parameters())
