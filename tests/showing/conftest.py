"""A pico base with a module that really does something."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import addenda
from pico import pico, pico_tokenizer


@pytest.fixture
def base() -> Any:
    """A base with a loud module `med`; nothing is selected."""
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("med", addenda.NeutralResidues(width=8, gate="token"))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5)
    return base
