"""What cannot be trained through is refused before anything is done; what can only be read is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import TrainingError
from pico import pico, pico_tokenizer

TEXT = ["the heart and the liver of the patient are treated with a drug. " * 3] * 3


def all_of_it() -> Any:
    with torch.inference_mode():
        return pico("llama", num_hidden_layers=2)


def one_buffer() -> Any:
    model = pico("llama", num_hidden_layers=2)
    with torch.inference_mode():
        model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq.clone()
    return model


def one_weight() -> Any:
    model = pico("gpt2", num_hidden_layers=2)
    with torch.inference_mode():
        weight = torch.nn.Parameter(model.transformer.ln_f.weight.clone())
    model.transformer.ln_f.weight = weight
    return model


@pytest.mark.parametrize("make", [all_of_it, one_buffer, one_weight])
def test_a_model_made_in_inference_mode_is_not_trained_through(make: Any) -> None:
    base = addenda.attach(make(), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=2))
    said = r"'.*' was made inside torch.inference_mode, .*: load the model outside of it"
    with pytest.raises(TrainingError, match=said):
        addenda.train(base, "m", corpus=TEXT, tokens=128, length=32, batch_rows=2, log=False)
    with pytest.raises(TrainingError, match=said):
        addenda.memorize(base, "m", text=TEXT, window=64, chunk=32, log=False)
    with pytest.raises(TrainingError, match=said):
        base.trainable("m")
    with base.using("m"):
        assert float(addenda.perplexity(base, TEXT, length=32)) > 0
