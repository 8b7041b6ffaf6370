"""A real trained model of 260 thousand parameters speaks as its author printed."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("ADDENDA_DATA", ROOT.parent / "shared" / "data"))
FOLDER = Path(os.environ.get("ADDENDA_MODELS", DATA.parent / "models")) / "stories260k"
SAMPLE = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but it was too high."
)

pytestmark = pytest.mark.skipif(
    not (FOLDER / "stories260K.bin").exists(), reason="no stories260k in ADDENDA_MODELS, nor beside ADDENDA_DATA"
)


@pytest.fixture(scope="module")
def llama2c():
    spec = importlib.util.spec_from_file_location("llama2c", Path(__file__).with_name("llama2c.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(llama2c):
    return llama2c.load_model(FOLDER / "stories260K.bin")


@pytest.fixture(scope="module")
def tokenizer(llama2c):
    return llama2c.Llama2cTokenizer(FOLDER / "tok512.bin")


def test_greedy_text_is_the_authors(model, tokenizer):
    ids = model.generate(torch.tensor([[tokenizer.bos]]), max_new_tokens=90, do_sample=False, pad_token_id=0)
    assert tokenizer.decode(ids[0].tolist()).startswith(SAMPLE)


@pytest.mark.parametrize("text", [SAMPLE, "", "naïve 漢字", "  two spaces\n"])
def test_tokenizer_gives_text_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids[0] == tokenizer.bos
    assert tokenizer.decode(ids) == text


def test_the_story_is_likely(model, tokenizer):
    ids = torch.tensor([tokenizer.encode(SAMPLE)])
    assert len(ids[0]) < len(SAMPLE) / 2  # merges were made
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    assert loss < 1.0
