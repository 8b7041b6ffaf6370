"""The bytes of a module's folder, literally: what changes here changes the format, and old folders must keep loading.

A field added to the card is added here too; anything else that turns this red breaks the files that people have.
`schema1/` was written when schema 1 was new, and `first/` holds the least that a card of schema 1 may hold. They are
never written again. A change of schema adds a folder and leaves these.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from addenda.core.card import Card, DataRecord, Measure, TrainingRecord
from addenda.core.module import KnowledgeModule
from addenda.kinds.lora import LoRA
from addenda.modulefile import storage
from addenda.modulefile.storage import load_folder, load_module, save_module
from hostile.forge import anatomy, module_of, paper_base

HERE = Path(__file__).parent
KIND = LoRA(rank=1, alpha=2.0, targets=("q_proj",))

TENSOR_FILE = (
    b"\xd8\x00\x00\x00\x00\x00\x00\x00"
    b'{"__metadata__":{"format":"addenda","schema":"1"},'
    b'"layers.0.self_attn.q_proj.a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
    b'"layers.0.self_attn.q_proj.b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]}}'
    b"  "
    b"\x00\x00\x80\x3f\x00\x00\x00\xc0"  # 1, -2 in float32, little endian
    b"\x00\x3f\x80\xbf"  # 0.5, -1 in bfloat16
)

CARD_FILE = """\
{
  "schema_version": 1,
  "name": "note",
  "kind": "LoRA",
  "config": {
    "rank": 1,
    "alpha": 2.0,
    "targets": [
      "q_proj"
    ],
    "rslora": false
  },
  "base": {
    "name": "paper",
    "model_type": "llama",
    "fingerprint": "abababababababababababababababababababababababababababababababab",
    "parameters": 1000
  },
  "licence": "CC0-1.0",
  "description": "Zwölf Wörter.",
  "created": "2026-01-02T03:04:05+00:00",
  "parameters": 4,
  "training": [
    {
      "objective": "lm",
      "tokens": 100,
      "steps": 10,
      "seed": 7,
      "lr": 0.001,
      "settings": {
        "clip": "Infinity"
      },
      "data": [
        {
          "name": "a.txt",
          "role": "corpus",
          "sha256": null,
          "documents": 3,
          "licence": null
        }
      ]
    }
  ],
  "measures": [
    {
      "name": "learning",
      "value": -0.5,
      "unit": "nats per token",
      "low": null,
      "high": null,
      "n": 20,
      "on": "held out",
      "reference": null
    }
  ],
  "probe": [
    4,
    5
  ],
  "awaits_text": false,
  "versions": {
    "addenda": "0.1.0",
    "safetensors": "0.1.0",
    "torch": "0.1.0",
    "transformers": "0.1.0"
  },
  "sha256": "SHA256"
}
"""


def golden_module() -> KnowledgeModule:
    module = module_of(KIND, anatomy(width=2))
    module.adopt(
        {
            "layers.0.self_attn.q_proj.a": torch.tensor([[1.0, -2.0]]),
            "layers.0.self_attn.q_proj.b": torch.tensor([[0.5], [-1.0]], dtype=torch.bfloat16),
        }
    )
    run = TrainingRecord(tokens=100, steps=10, seed=7, lr=1e-3, settings={"clip": float("inf")})
    run.data.append(DataRecord(name="a.txt", documents=3))
    module.card = module.card.model_copy(
        update={
            "created": "2026-01-02T03:04:05+00:00",
            "licence": "CC0-1.0",
            "description": "Zwölf Wörter.",
            "training": [run],
            "measures": [Measure(name="learning", value=-0.5, n=20, on="held out")],
        }
    )
    module.probe = [4, 5]
    return module


def test_the_bytes_are_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_version", lambda package: "0.1.0")
    folder = save_module(golden_module(), tmp_path / "m")
    assert (folder / "module.safetensors").read_bytes() == TENSOR_FILE
    digest = load_folder(folder).card.sha256 or ""
    assert (folder / "card.json").read_text(encoding="utf-8") == CARD_FILE.replace("SHA256", digest)


def test_schema_1_keeps_loading() -> None:
    module = load_module(HERE / "schema1", paper_base(width=2))
    assert module.kind == KIND
    assert (module.name, module.probe, module.awaits_text) == ("note", [4, 5], False)
    for name, tensor in golden_module().tensors().items():
        assert torch.equal(module.tensors()[name], tensor)
        assert module.tensors()[name].dtype == tensor.dtype
    assert module.card.measures[0].value == -0.5
    assert module.card.training[0].settings == {"clip": "Infinity"}


def test_the_least_of_schema_1_keeps_loading() -> None:
    raw = json.loads((HERE / "first" / "card.json").read_text())
    assert set(raw) == {"schema_version", "name", "kind", "config", "base"}
    assert set(raw) == {name for name, field in Card.model_fields.items() if field.is_required()} | {
        "schema_version",
        "config",
    }
    module = load_module(HERE / "first", paper_base(width=2))
    assert module.kind == LoRA(rank=1, targets=("q_proj",))
    assert module.card.sha256 is None
