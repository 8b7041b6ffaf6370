"""PEFT's methods by name: each learns in a fresh base on the same tokens, the base stays as it was, and mistakes are told."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.comparing.making import Maker, Sources, Task
from addenda.comparing.methods import METHODS, methods_named
from addenda.comparing.page import write_page
from addenda.comparing.peft_methods import nearest, ours, rival_named
from addenda.comparing.settings import CompareSettings
from addenda.core.errors import AddendaError, TrainingError
from addenda.core.registry import names_in
from addenda.text.texts import texts

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

VERSION = f"peft {importlib.metadata.version('peft')}"
WORDS = "insulin was given to every patient of the trial and the outcome was measured at the end of the week"
#: options with which each is small and quick; a rate that suits it
CASES = {
    "LORA": ("r=4", 3e-3),
    "IA3": ("", 1e-2),
    "VERA": ("r=16", 1e-2),
    "OFT": ("", 1e-3),
    "PROMPT_TUNING": ("num_virtual_tokens=8", 3e-2),
    "PREFIX_TUNING": ("num_virtual_tokens=8", 1e-2),
    "P_TUNING": ("num_virtual_tokens=8", 1e-3),
    "CARTRIDGE": ("num_virtual_tokens=8", 1e-2),
    "OSF": ("target_modules=['q_proj']", 1e-3),
}


def _has(name: str) -> None:
    if name not in {kind.value for kind in peft.PEFT_TYPE_TO_CONFIG_MAPPING}:
        pytest.skip(f"{VERSION} has no {name}")


@pytest.fixture(scope="module")
def maker() -> Maker:
    sources = Sources(
        *(texts([f"{number} {WORDS}." for number in range(one, one + 40)]) for one in (0, 100, 200, 300, 400, 500))
    )
    chosen = CompareSettings(tokens=512, length=32, batch_rows=4, held_tokens=64, count=8, pairs=1)
    return Maker("tiny", addenda.load_base("tiny"), sources, chosen)


def _state(base: addenda.Base) -> dict[str, Any]:
    """What a method could leave behind on a base: weights, modules, hooks."""
    model: Any = base.model
    found: dict[str, Any] = {name: value.clone() for name, value in model.state_dict().items()}
    for name, part in model.named_modules():
        found[f"{name} is"] = (type(part), len(part._forward_hooks), len(part._forward_pre_hooks))
        found[f"{name} wants"] = [parameter.requires_grad for parameter in part.parameters(recurse=False)]
    return found


def _task(words: str, lr: float, folder: Path, final: bool = True) -> Task:
    return Task(METHODS[f"peft:{words}"], None, lr, 512, 0, folder, final)


@pytest.mark.parametrize("name", CASES)
def test_a_method_learns_and_the_base_stays(name: str, maker: Maker, tmp_path: Path) -> None:
    """On the same tokens: the same documents are scored; virtual tokens are never among them. And it writes as it reads."""
    _has(name)
    options, lr = CASES[name]
    words, before = f"{name}({options})" if options else name, _state(maker.base)
    with maker.at_work(_task(words, lr, tmp_path)) as made:
        learned = maker.scores.of(made, maker.sources.learning)
        bare = maker.scores.bare(maker.sources.learning)
        assert bare.minus(learned).nats > 0.02  # counts of every document are checked there
        assert made.parameters > 0
        assert made.size == 4 * made.parameters
        assert len(made.curve) == 4
        assert made.rival is not None
        assert made.rival.plain()["package"] == VERSION
        _writes_as_it_reads(made.base)
    after = _state(maker.base)
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key]) if isinstance(value, torch.Tensor) else value == after[key], key


@torch.no_grad()
def _writes_as_it_reads(base: addenda.Base) -> None:
    """What is written with a cache is the likeliest where all is read at once; padding on the left changes nothing."""
    ids = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 13, 14]])
    padded, mask = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1), torch.ones(2, 8, dtype=torch.long)
    mask[:, :3] = 0
    model, how = base.model, {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    model.eval()
    written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
    logits = model(input_ids=written, use_cache=False).logits
    assert logits.shape[1] == written.shape[1] == 11
    logits[..., model.generation_config.eos_token_id] = -torch.inf
    assert torch.equal(logits[:, 4:-1].argmax(-1), written[:, 5:])
    assert torch.equal(model.generate(input_ids=padded, attention_mask=mask, **how)[:, 8:], written[:, 5:])


@pytest.mark.parametrize("name", ["PROMPT_TUNING", "PREFIX_TUNING", "CARTRIDGE"])
def test_virtual_tokens_act_as_peft_has_them(name: str, maker: Maker) -> None:
    """The logits of the tokens that were given are those of PEFT's own forward."""
    _has(name)
    torch.manual_seed(0)
    theirs = addenda.load_base("tiny").model
    config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(name)](task_type="CAUSAL_LM", num_virtual_tokens=8)
    wrapped = peft.get_peft_model(theirs, config).eval()
    torch.manual_seed(0)
    model = addenda.load_base("tiny").model.eval()
    rival_named(f"{name}(num_virtual_tokens=8)").put(model)
    ids = torch.arange(5, 25).reshape(2, 10)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    with torch.no_grad():
        for marks in ({}, {"attention_mask": mask}):
            expected = wrapped(input_ids=ids, **marks).logits[:, -10:]
            assert torch.allclose(model(input_ids=ids, **marks).logits[mask > 0], expected[mask > 0], atol=1e-4)


def test_keys_and_values_begin_as_the_corpus(maker: Maker) -> None:
    """Where PEFT can: the start then is the corpus in the window, and not noise."""
    _has("CARTRIDGE")
    fresh = addenda.load_base("tiny").model.eval()
    start, ids = torch.arange(5, 13), torch.arange(20, 26)[None]
    with torch.no_grad():
        expected = fresh(input_ids=torch.cat([start[None], ids], 1)).logits[:, 8:]
        rival_named("CARTRIDGE(num_virtual_tokens=8)").put(fresh, start.numpy())
        assert torch.allclose(fresh(input_ids=ids).logits, expected, atol=1e-4)


def test_sizes_are_those_of_the_comparison(maker: Maker) -> None:
    """A rank is chosen by its parameters, a scale follows, virtual tokens are as many as slots, and what is asked for stays."""
    wanted = round(maker.size.extra * maker.base.anatomy.parameters)
    rival = maker._rival(METHODS["peft:lora"])
    assert rival.options["target_modules"] == "all-linear"
    assert rival.options["lora_alpha"] == rival.options["r"]  # PEFT's default scale is 1
    assert rival.options["r"] == ours(maker._rival(METHODS["peft"]).options["r"]).options["r"]
    assert abs(rival._count(lambda: None, maker.base.model) / wanted - 1) < 0.02
    assert maker._rival(METHODS["peft:VERA"]).options["r"] == 384  # no wider than the base
    assert maker._rival(METHODS["peft:prompt-tuning"]).options == {"num_virtual_tokens": 8}
    assert maker._rival(METHODS["peft:IA3"]).options == {}
    assert maker._rival(METHODS["peft:CPT"]).options == {}
    own = "cpt_token_ids=[5, 6, 7], cpt_mask=[1, 1, 1], cpt_tokens_type_mask=[1, 2, 3]"  # as many as its own text
    assert "num_virtual_tokens" not in maker._rival(METHODS[f"peft:CPT({own})"]).options
    asked = {"r": 2, "target_modules": ["q_proj"]}
    assert maker._rival(METHODS["peft:LORA(r=2, target_modules=['q_proj'])"]).options == asked


def test_the_nearest_number_is_found() -> None:
    assert nearest(lambda rank: 100 * rank + 7, 8, 1000, 6000) == 60
    assert nearest(lambda rank: 100 * rank if rank % 8 == 0 else None, 32, 1000, 6100) == 64
    assert nearest(lambda rank: 100 * rank, 8, 50, 6000) == 50
    assert nearest(lambda rank: 100 * rank if rank <= 40 else None, 8, 1000, 6000) in range(33, 41)
    assert nearest(lambda rank: 4800 // rank, 32, 384, 2400) == 2
    assert nearest(lambda rank: 5, 8, 50, 6000) == 8
    assert nearest(lambda rank: None, 8, 50, 6000) is None


def test_names_with_options_are_told_apart() -> None:
    words = "base, lora,peft:VERA(r=64, target_modules=['q_proj','v_proj']) ,peft:OFT"
    assert names_in(words) == ["base", "lora", "peft:VERA(r=64, target_modules=['q_proj','v_proj'])", "peft:OFT"]
    named = methods_named(["peft:vera( r = 64 )", "peft:prompt_tuning"])
    assert [method.name for method in named] == ["base", "peft:VERA(r=64)", "peft:PROMPT_TUNING"]
    assert named[1].rates == METHODS["peft"].rates


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("VERRA", f"{VERSION} has no method 'VERRA'; it has .*; did you mean 'VERA'"),
        ("VERA(rang=2)", "PEFT's VERA has no option 'rang'; its options are .*"),
        ("VERA(2)", "options of PEFT's methods are written as in"),
        ("VERA(r={1})", "options of PEFT's methods are numbers, texts, and lists of these"),
    ],
)
def test_mistakes_in_names_are_told_at_once(words: str, told: str) -> None:
    with pytest.raises(AddendaError, match=told):
        methods_named(["lora", f"peft:{words}"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ADALORA", "is told of every step of its training"),
        ("ADAPTION_PROMPT", "may need one of its options: .*adapter_len, adapter_layers"),
        ("C3A(block_size=7)", "cannot be trained on this base: The block size should be a factor"),
        ("TRAINABLE_TOKENS", "has nothing to train here"),
        ("SHADOW", "does not act in the decoder alone"),
        ("POLY", "task_ids should not be None"),
        ("VERA(r='many')", "cannot be trained on this base"),
        ("PROMPT_TUNING(num_virtual_tokens=4096)", "4096 virtual tokens are asked for, and a window of 2048 has"),
    ],
)
def test_what_cannot_be_trained_is_told_in_a_sentence(words: str, told: str, maker: Maker, tmp_path: Path) -> None:
    _has(words.partition("(")[0])
    with pytest.raises(TrainingError, match=told) as caught, maker.at_work(_task(words, 1e-3, tmp_path)):
        pass
    assert "\n" not in str(caught.value)


def test_without_peft_it_is_named(monkeypatch: pytest.MonkeyPatch, ways: Any, tmp_path: Path) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "peft" else real(name, *more))
    with pytest.raises(AddendaError, match=r"peft:VERA\(r=8\) needs peft, .* pip install peft, .* --methods base,lora"):
        ways.compare(tmp_path, methods=("lora", "peft:vera(r=8)"))


@pytest.fixture
def questions(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "questions.jsonl"
    asked = {"question": "What was given?", "answers": ["insulin"]}
    path.write_text("".join(json.dumps(asked | {"question": f"{at}: what was given?"}) + "\n" for at in range(3)))
    return path


@pytest.mark.slow
def test_a_comparison_with_them_is_whole(ways: Any, tmp_path: Path, questions: Path) -> None:
    """Every column that `full` has, questions too; the package stands in rows and page; nothing is made twice; failures go by."""
    _has("CARTRIDGE")
    names = ("full", "peft:IA3", "peft:PROMPT_TUNING(num_virtual_tokens=4)", "peft:CARTRIDGE", "peft:POLY")
    more: dict[str, Any] = {"methods": names, "seeds": (0,), "questions": str(questions), "chats": 2, "zero_shot": 1}
    found = ways.compare(tmp_path / "out", **more)
    rows = {row.method: row for row in found.rows}
    assert list(rows) == ["base", *names[:-1]]
    assert [(failed.method, "task_ids" in failed.reason) for failed in found.failed] == [("peft:POLY", True)]
    full = rows["full"]
    for name in names[1:-1]:
        row = rows[name]
        for column in ("kl", "untouched", "changed", "tasks", "answered"):
            assert (getattr(row, column) is None) == (getattr(full, column) is None), (name, column)
        assert row.answered is not None
        assert len(found.sweeps[name]) == 2
        assert row.curve
        assert row.prefill.value > 0
        assert row.rival is not None
        assert row.rival["package"] == VERSION
    assert found.as_dict()["rows"][3]["rival"]["options"] == {"num_virtual_tokens": 4}
    write_page(found)
    assert f"num_virtual_tokens=4, {VERSION}" in found.page.read_text().replace("&#x27;", "'")
    again: list[str] = []
    assert ways.compare(tmp_path / "out", **more, tell=again.append).rows == found.rows
    assert all("peft:POLY" in line for line in again)
