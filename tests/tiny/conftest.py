"""A pico corpus and settings for the tests of the recipe."""

import gzip
import json
import random

import pytest

PICO = {
    "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 32,
    "intermediate_size": 96,
}  # fmt: skip


@pytest.fixture(scope="session")
def pico_data(tmp_path_factory):
    """A data folder with a little made-up text under the names that the recipe knows."""
    data = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 7))) for _ in range(400)]

    def text():
        paragraphs = [" ".join(rng.choices(words, k=40)) + "." for _ in range(8)]
        return "\n\n".join(paragraphs)

    files = [f"wikipedia_en/train_{i}" for i in range(4)] + ["wikipedia_en/valid"]
    files += [f"{f}/{s}" for f in ("openstax", "novels_en") for s in ("train", "valid")]
    files += ["pubmed/abstracts_valid"]
    for number, name in enumerate(files):
        path = data / f"{name}.jsonl.gz"
        path.parent.mkdir(exist_ok=True)
        records = [{"id": f"{number}-{i}", "text": text()} for i in range(6)]
        body = "".join(json.dumps(r) + "\n" for r in records)
        path.write_bytes(gzip.compress(body.encode()))
    return data


@pytest.fixture(scope="session")
def pico_work(pico_data, tmp_path_factory):
    """The prepared corpus of that text."""
    from addenda.tiny.corpus import prepare

    work = tmp_path_factory.mktemp("work")
    prepare(pico_data, work, vocab_size=512, every=1)
    return work


@pytest.fixture
def pico_settings():
    """Makes settings of a pico run."""
    from addenda.tiny.training import Settings

    def make(**changes):
        base = {
            "tokens": 1024,
            "batch": 256,
            "micro": 128,
            "short": 64,
            "long": 128,
            "long_share": 0.25,
            "warmup": 256,
            "config": PICO,
            "vocab_size": 512,
        }
        return Settings(**{**base, **changes})

    return make
