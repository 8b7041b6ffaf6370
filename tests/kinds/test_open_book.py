"""Open book: a fresh one is the text in the window, training moves the LoRA alone, and no plain weights hold it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.kinds.cartridge import Cartridge
from addenda.kinds.open_book import OpenBook
from pico import pico, pico_tokenizer

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way. "


def test_a_fresh_one_is_the_text_in_the_window() -> None:
    """Of rotary bases alone distances count: the text before zero is the text before the question."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    text, question = base.tokenize(TEXT), base.tokenize("The air that it needs")
    base.new("m", OpenBook(count=len(text)), text=TEXT)
    with torch.no_grad():
        read = base.model(torch.cat([text, question])[None]).logits[:, len(text) :]
        with base.using("m"):
            found = base.model(question[None]).logits
    torch.testing.assert_close(found, read, atol=1e-5, rtol=1e-5)


def test_a_fresh_one_is_the_cartridge_of_its_text() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    ids = base.tokenize("The air that it needs")[None]
    base.new("open", OpenBook(count=6), text=TEXT)
    base.new("cartridge", Cartridge(count=6, init="text"), text=TEXT)
    found = []
    for name in ("open", "cartridge"):
        with torch.no_grad(), base.using(name):
            found.append(base.model(ids).logits)
    assert torch.equal(*found)


def test_training_moves_the_lora_and_leaves_the_text(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", OpenBook(count=6, rank=2), text=TEXT)
    before = {key: tensor.clone() for key, tensor in module.tensors().items()}
    addenda.train(
        base, "m", corpus=[TEXT] * 20, tokens=512, length=32, batch_rows=2, lr=1e-2, out=tmp_path / "m", log=False
    )
    moved = {key for key, tensor in module.tensors().items() if not torch.equal(tensor, before[key])}
    assert moved == {key for key in before if not key.endswith(".text")}


def test_a_text_that_is_too_short_is_told_and_nothing_is_left() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    with pytest.raises(AddendaError, match=r"needs at least 9999 tokens of text; got \d+"):
        base.new("m", OpenBook(count=9999), text=TEXT)
    assert not base.modules


def test_it_cannot_be_folded_into_plain_weights(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", OpenBook(count=4), text=TEXT)
    with pytest.raises(UnsupportedError, match="keys and values to attention, for which plain weights"):
        addenda.merge(base, "m", out=tmp_path / "merged")


def test_it_is_written_with_the_options_that_were_given() -> None:
    from addenda.core.registry import written

    assert written(OpenBook(count=40, rank=4)) == "OpenBook(rank=4, count=40)"
    assert written(OpenBook(alpha=3.0)) == "OpenBook(alpha=3.0)"


def test_it_learns_as_a_lora_does_beside_a_frozen_cartridge(tmp_path: Path) -> None:
    losses = []
    for apart in (True, False):
        base = addenda.attach(pico("llama"), pico_tokenizer())
        if apart:
            base.new("text", Cartridge(count=6, init="text"), text=TEXT)
            base.new("m", addenda.LoRA(rank=2), seed=3)
        else:
            base.new("m", OpenBook(count=6, rank=2), text=TEXT, seed=3)
            lora = addenda.attach(pico("llama"), pico_tokenizer()).new("m", addenda.LoRA(rank=2), seed=3)
            kept = lora.tensors()
            base.modules["m"].load_tensors({**base.modules["m"].tensors(), **kept})
        report = addenda.train(
            base, "m", corpus=[TEXT] * 20, tokens=512, length=32, batch_rows=2, lr=1e-2, out=tmp_path / str(apart),
            alongside=["text"] if apart else [], log=False,
        )  # fmt: skip
        losses.append(report.loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
