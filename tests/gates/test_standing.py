"""Standing behind a gate: any kind that adds may, at the sites that run once the gate is known; what cannot is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.bases import attention
from addenda.core.errors import AddendaError
from addenda.core.gate import behind
from addenda.core.registry import methods
from addenda.core.site import Seam
from addenda.core.standing import gate_for, gate_named
from addenda.gates.document import Document, DocumentGate
from conformance.world import batch, close, logits
from pico import ARCHS, pico, pico_tokenizer

KINDS: dict[str, Any] = {
    "lora": addenda.LoRA(2),
    "parallel": addenda.ParallelAdapter(width=8),
    "locas": addenda.LocasGLU(4),
}


def attached(arch: str = "llama", **more: Any) -> addenda.Base:
    return addenda.attach(pico(arch, **more), pico_tokenizer())


@pytest.mark.parametrize(
    ("kind", "read_at"), [(kind, at) for kind in KINDS for at in (0, 1, 2) if (kind, at) != ("lora", 2)]
)
def test_what_runs_before_the_gate_is_known_is_left_out(kind: str, read_at: int) -> None:
    base = attached()
    module = base.new("m", KINDS[kind], gate=Document(read_at=read_at))
    assert isinstance(module.gate, DocumentGate)
    assert module.gate.site == f"layers.{read_at}.ffn"
    linear = KINDS[kind].seam is Seam.LINEAR
    layers = {int(key.split(".")[1]) for key in module.sites()}
    assert layers == set(range(read_at + linear, 3))


#: kinds whose slots share the tokens' softmax
JOINT: dict[str, Any] = {
    "registers": addenda.Registers(4, mode="avg"),
    "cartridge": addenda.Cartridge(4),
    "soft tokens": addenda.SoftTokens(4, init="random"),
}


def looked_at(monkeypatch: pytest.MonkeyPatch, values: bool) -> None:
    """As on a CPU, or as on a GPU, where values decide nothing."""
    if not values:
        monkeypatch.setattr(attention, "readable", lambda _: False)


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", JOINT)
def test_slots_take_part_where_the_gate_is_open_and_nowhere_else(
    kind: str, implementation: str, values: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = attached(attn_implementation=implementation)
    bare = logits(base.model, *batch())
    module = base.new("m", JOINT[kind], gate=Document(read_at=0))
    ungated = base.new("n", JOINT[kind])
    for parameter, other in zip(module.adapters.parameters(), ungated.adapters.parameters(), strict=True):
        other.data.copy_(parameter.data.normal_(generator=torch.Generator().manual_seed(1)))
    looked_at(monkeypatch, values)
    with base.using("n"):
        on = logits(base.model, *batch())
    assert (on - bare).abs().max() > 1e-2
    with base.using("m"):  # a fresh gate is open
        close(logits(base.model, *batch()), on)
    assert isinstance(module.gate, DocumentGate)
    with monkeypatch.context() as patch, base.using("m"):
        at = torch.arange(11) >= 5
        patch.setattr(DocumentGate, "amplitude", lambda _, statistic: at.float().expand_as(statistic))
        found = logits(base.model, *batch())
        patch.setattr(DocumentGate, "amplitude", lambda _, statistic: torch.zeros_like(statistic))
        shut = logits(base.model, *batch())
    assert torch.equal(shut, bare)
    assert torch.equal(found[:, :5], bare[:, :5])
    assert ((found - bare)[:, 5:].abs().amax((0, 2)) > 1e-3).all()


@pytest.mark.parametrize("kind", JOINT)
def test_a_gate_half_open_is_a_weight_of_a_half(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = attached()
    base.new("m", JOINT[kind], gate=Document(read_at=0))
    base.new("other", addenda.Cartridge(3))
    with base.using(m=0.5, other=1.0):
        expected = logits(base.model, *batch())
    monkeypatch.setattr(DocumentGate, "amplitude", lambda _, statistic: torch.full_like(statistic, 0.5))
    for selection in (
        base.using("m", "other"),
        base.rows([{"m": 1.0, "other": 1.0}] * 4),
        base.rows(torch.zeros(4, dtype=torch.long), table=[{"m": 1.0, "other": 1.0}]),
    ):
        with selection:
            close(logits(base.model, *batch()), expected)


def test_soft_tokens_behind_a_gate_enter_above_it() -> None:
    base = attached()
    text = "the patients were given insulin and their blood was taken"
    module = base.new("m", addenda.SoftTokens(2), gate=Document(read_at=1), text=text)
    assert list(module.sites()) == ["layers.1.attention", "layers.2.attention"]
    states = base.reader.hidden_states(base.tokenize(text))[1]
    means = torch.stack([part.mean(0) for part in states.tensor_split(2)])
    cosines = torch.cosine_similarity(
        dict(module.named_parameters())["adapters.layers/1/attention.tokens"], means, dim=-1
    )
    assert (cosines > 0.999).all()


def test_a_gate_without_a_layer_above_it_says_so() -> None:
    with pytest.raises(AddendaError, match="read_at is a layer from 0 to 2; got 3"):
        attached().new("m", addenda.LoRA(2), gate=Document(read_at=3))


def test_a_gate_below_which_nothing_is_left_says_so(tmp_path: Path) -> None:
    base = attached()
    told = r"a gate that reads layer 2 leaves LoRA no place: of 3 layers none .*\(read_at=1\)"
    for kind in (addenda.LoRA(2), addenda.FFALoRA(2), addenda.LoRA(2, targets=("q_proj",))):
        with pytest.raises(AddendaError, match=told.replace("LoRA", type(kind).__name__)):
            base.new("m", kind, gate=Document(read_at=2))
    assert not base.modules
    folder = base.new("m", addenda.LoRA(2), gate=Document(read_at=1)).save(tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"gate": {"name": "document", "read_at": 2}}))
    with pytest.raises(AddendaError, match=told):
        attached().plug(folder)


@pytest.mark.parametrize(
    ("layers", "read_at", "layer"), [(30, "early", 3), (30, None, 10), (6, "early", 2), (6, None, 2)]
)
def test_where_a_gate_reads(layers: int, read_at: Any, layer: int) -> None:
    anatomy = attached(num_hidden_layers=layers).anatomy
    assert Document(read_at=read_at).site(anatomy, Seam.LINEAR).layer == layer


@pytest.mark.parametrize("arch", ARCHS)
def test_nothing_that_is_kept_runs_before_the_gate(arch: str) -> None:
    """In the order in which the base calls its submodules, every site that is kept ends after the gate's input is there."""
    base = attached(arch)
    gate = Document(read_at=1).site(base.anatomy, Seam.LINEAR)
    kept, order = behind(base.anatomy, gate).sites, list[tuple[str, str]]()
    for site in (gate, *kept):
        for path, what in ((site.entry, "in"), (site.path, "out")):
            module = base.host.submodule(path)
            if what == "in":
                module.register_forward_pre_hook(lambda *_, key=site.key: order.append((key, "in")))
            else:
                module.register_forward_hook(lambda *_, key=site.key: order.append((key, "out")))
    logits(base.model, *batch())
    known = order.index((gate.key, "in"))
    assert all(order.index((site.key, "in")) >= known for site in kept)
    assert kept


def test_the_card_says_what_a_module_stands_behind(tmp_path: Path) -> None:
    base = attached()
    module = base.new("m", addenda.LoRA(2), gate=Document(read_at=1))
    folder = module.save(tmp_path / "m")
    told = {"name": "document", "read_at": 1, "hold": False, "by_turn": False}
    assert json.loads((folder / "card.json").read_text())["gate"] == told
    back = attached().plug(folder)
    assert isinstance(back.gate, DocumentGate)
    assert all(torch.equal(tensor, back.tensors()[name]) for name, tensor in module.tensors().items())
    (listed,) = addenda.list_modules(tmp_path)
    assert listed.gate == "document"
    assert "The gate reads the document so far" in (folder / "README.md").read_text()
    other = base.new("n", addenda.NeutralResidues(width=8)).save(tmp_path / "n")
    assert "gate" not in json.loads((other / "card.json").read_text())  # its options say it


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"name": "documents"}, "no gate is called 'documents'.*did you mean 'document'"),
        ({"name": "document", "limits": 3}, "document has no option 'limits'"),
        ({"name": "document", "read_at": "late"}, "document: read_at"),
        ({"read_at": 1}, "the gate has no name"),
        ({"name": "document", "read_at": 0}, "missing "),
    ],
)
def test_a_card_with_a_wrong_gate_is_refused(told: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = attached().new("m", addenda.LoRA(2), gate=Document(read_at=1)).save(tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"gate": told}))
    with pytest.raises(AddendaError, match=said):
        attached().plug(folder)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "two gates": (addenda.NeutralResidues(width=8, gate="context"), "document", "two different gates"),
    "two layers": (addenda.NeutralResidues(width=8, read_at=1), Document(read_at=0), "two different gates"),
    "a gate for each token": (addenda.NeutralResidues(width=8, gate="token"), "document", "for each token by itself"),
    "registers with token gates": (addenda.Registers(2, gate="neutral"), "document", "for each token by itself"),
    "no gate of that name": (addenda.LoRA(2), "documents", "did you mean 'document'"),
    "no gate": (addenda.LoRA(2), 3, "gate is a name .context, document."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_stand_behind_a_gate_is_refused(case: str) -> None:
    kind, gate, said = REFUSED[case]
    base = attached()
    with pytest.raises(AddendaError, match=said):
        base.new("m", kind, gate=gate)
    assert not base.modules


def test_a_kind_that_asks_for_a_gate_may_be_asked_for_it_again() -> None:
    kind = addenda.NeutralResidues(width=8)
    assert gate_for(kind) == gate_for(kind, "document") == gate_for(kind, Document())
    assert gate_for(addenda.LoRA(2)) is None
    assert set(methods("gate")) == {"context", "document"}
    assert gate_named("Document") == Document()


def test_a_gated_lora_is_no_plain_weight_and_no_peft_adapter(tmp_path: Path) -> None:
    base = attached()
    base.new("m", addenda.LoRA(2), gate="document")
    with pytest.raises(AddendaError, match="cannot be folded into plain weights: it has a gate"):
        addenda.merge(base, "m", out=tmp_path / "out", probe=["the patients were given insulin"])
    with pytest.raises(AddendaError, match="PEFT's format holds no gate"):
        addenda.save_peft(base.modules["m"], tmp_path / "peft", base)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("layers", "early", "fifth", "third"), [(3, 1, 1, 1), (12, 3, 3, 4), (30, 3, 6, 10), (80, 3, 16, 26)]
)
def test_where_a_gate_reads_by_a_word(layers: int, early: int, fifth: int, third: int) -> None:
    anatomy = addenda.attach(pico("llama"), pico_tokenizer()).anatomy
    site = anatomy.at(Seam.ATTENTION)[0]
    deep = replace(anatomy, layers=layers, sites=tuple(replace(site, layer=layer) for layer in range(layers)))
    found = [Document(read_at=word).site(deep, Seam.ATTENTION).layer for word in ("early", "fifth", None)]
    assert found == [early, fifth, third]
