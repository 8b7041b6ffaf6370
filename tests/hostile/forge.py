"""Tools of a forger: a small sound module folder, and ways to take its files apart and put them together wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from addenda.core.card import BaseRecord, Card
from addenda.core.contracts import Kind
from addenda.core.module import KnowledgeModule
from addenda.core.registry import options_of
from addenda.core.site import Anatomy, FFNShape, Seam, Site
from addenda.core.standing import adapters_of, gate_for
from addenda.kinds.lora import LoRA
from addenda.modulefile.storage import save_module

FINGERPRINT = "ab" * 32
TENSORS, CARD = "module.safetensors", "card.json"


def _site(key: str, seam: Seam, layer: int, path: str, d_in: int, d_out: int) -> Site:
    return Site(key, seam, layer, path, path, d_in, d_out)


def anatomy(layers: int = 1, width: int = 4, *, gated: bool = True) -> Anatomy:
    """The anatomy of a base that exists on paper alone."""
    sites = []
    for n in range(layers):
        here = f"model.layers.{n}"
        sites += [
            _site(f"layers.{n}.attention", Seam.ATTENTION, n, f"{here}.self_attn", width, width),
            _site(f"layers.{n}.ffn", Seam.FFN, n, f"{here}.mlp", width, width),
            _site(f"layers.{n}.self_attn.q_proj", Seam.LINEAR, n, f"{here}.self_attn.q_proj", width, width),
            _site(f"layers.{n}.mlp.up_proj", Seam.LINEAR, n, f"{here}.mlp.up_proj", width, 2 * width),
        ]
    sites.append(_site("head", Seam.HEAD, layers, "lm_head", width, width))
    shape = FFNShape(64 * width, gated, "silu" if gated else "gelu")
    return Anatomy("llama", layers, width, 2, 1, width // 2, 1000, tuple(sites), shape)


def paper_base(layers: int = 1, width: int = 4, fingerprint: str = FINGERPRINT, *, gated: bool = True) -> Any:
    """What `load_module` asks of a base."""
    made = SimpleNamespace(
        anatomy=anatomy(layers, width, gated=gated), fingerprint=fingerprint, name="paper", refusal=lambda seam: None
    )
    made.record = lambda: BaseRecord(
        name=made.name, model_type="llama", fingerprint=made.fingerprint, parameters=made.anatomy.parameters
    )
    return made


def module_of(kind: Kind, on: Anatomy, name: str = "note") -> KnowledgeModule:
    """A module of a kind with every parameter and buffer drawn, so that a lost one is seen."""
    record = BaseRecord(name="paper", model_type="llama", fingerprint=FINGERPRINT, parameters=1000)
    card = Card(name=name, kind=type(kind).__name__, config=options_of(kind), base=record)
    adapters, gate = adapters_of(kind, on, gate_for(kind))
    module = KnowledgeModule(name, kind, adapters, card, gate)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.normal_() if tensor.is_floating_point() else tensor.random_(0, 127)
    return module


def sound(folder: Path) -> Path:
    """A sound folder: LoRA of rank 2 on the two linear layers of the paper base."""
    return save_module(module_of(LoRA(rank=2, alpha=4), anatomy()), folder)


def take_apart(file: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def put_together(file: Path, header: dict[str, Any] | str | bytes, data: bytes) -> None:
    """Write a safetensors file whatever its header says."""
    raw = json.dumps(header) if isinstance(header, dict) else header
    raw = raw.encode() if isinstance(raw, str) else raw
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + data)


def edit_header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """A forgery: the header changed in place."""

    def forge(folder: Path) -> None:
        header, data = take_apart(folder / TENSORS)
        change(header)
        put_together(folder / TENSORS, header, data)
        sign(folder)

    return forge


def edit_card(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A forgery: the card changed in place."""

    def forge(folder: Path) -> None:
        card = json.loads((folder / CARD).read_text())
        change(card)
        (folder / CARD).write_text(json.dumps(card))

    return forge


def sign(folder: Path) -> None:
    """Make the card's hash that of the forged file, as a forger would."""
    digest = hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest()
    edit_card(lambda card: card.update(sha256=digest))(folder)
