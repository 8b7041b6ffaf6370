"""Open book: a fresh one is the text in the window, training moves the LoRA alone, and no plain weights hold it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

import addenda
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.module import KnowledgeModule
from addenda.kinds.cartridge import Cartridge
from addenda.kinds.open_book import Contents, OpenBook
from addenda.text.pages import laid_out
from addenda.text.prompting import templated
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


# --- pages ------------------------------------------------------------------------------------------------------------

PAGES = ("The heart pumps the blood. ", "A year costs 87 euros for adults. ", "Sails dry in the long shed. ")


def paged(base: addenda.Base, name: str = "m", *, rank: int = 2, pages: Sequence[str] = PAGES) -> KnowledgeModule:
    """A module with these pages."""
    ids = laid_out(base.tokenizer, pages)
    lines = int(ids[-1, 1]) + 1
    module = base.new(name, OpenBook(count=len(ids), rank=rank, pages=len(pages), lines=lines))
    base.start_from_text(name, ids)
    return module


def chat_ids(base: addenda.Base, asked: str) -> torch.Tensor:
    """The ids of a question in the chat's form."""
    return torch.tensor(templated(base.tokenizer, [{"role": "user", "content": asked}])[0])


def chosen(base: addenda.Base, ids: torch.Tensor, cache: Any = None) -> torch.Tensor:
    """What is added to the scores of each slot at each token [T, S]."""
    found: list[torch.Tensor] = []

    def see(share: Any, site: str, **facts: Any) -> None:
        if "chosen" in facts:
            found.append(facts["chosen"][0])

    with torch.no_grad(), base.using("m"), base.watching(observer=see):
        base.model(ids[None], past_key_values=cache, use_cache=cache is not None)
    return found[0]


def best(base: addenda.Base, bias: torch.Tensor) -> tuple[int, int]:
    """The page and the line of the slot that a token sees most."""
    contents = next(a for a in base.modules["m"].adapters.values() if isinstance(a, Contents))
    line = int(contents.line_of[bias.argmax()])
    return int(contents.page_of[line]), line


def test_a_page_is_chosen_by_the_words_of_the_question() -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=3), pico_tokenizer())
    paged(base)
    for number, page in enumerate(PAGES):
        bias = chosen(base, base.tokenize(page))
        assert best(base, bias[-1])[0] == number
        assert -0.1 < float(bias[-1].max()) <= 0.0


def test_a_turn_begins_anew_and_a_cache_goes_on() -> None:
    base = addenda.load_base("tiny")
    paged(base)
    ids = torch.cat([chat_ids(base, PAGES[1]), chat_ids(base, PAGES[2])])
    whole, first = chosen(base, ids), chosen(base, ids[: len(chat_ids(base, PAGES[1]))])
    assert best(base, first[-1])[0] == 1
    assert best(base, whole[-1])[0] == 2
    alone = chosen(base, chat_ids(base, PAGES[2]))
    assert best(base, alone[-1]) == best(base, whole[-1])
    for cut in (3, len(first), len(ids) - 2):
        cache = DynamicCache()
        parts = [chosen(base, ids[:cut], cache), chosen(base, ids[cut:], cache)]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-3, rtol=1e-3)


def test_one_page_is_the_book_above_its_contents() -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=3), pico_tokenizer())
    ids = base.tokenize(PAGES[0])
    module = paged(base, pages=PAGES[:1])
    whole = base.new("whole", OpenBook(count=len(ids), rank=2), text=PAGES[0])
    mine = {key for key in module.tensors() if key.endswith(".text")}
    assert mine == {key for key in whole.tensors() if key.endswith(".text") and not key.startswith("layers.0.")}
    for key in mine:
        torch.testing.assert_close(module.tensors()[key], whole.tensors()[key])
    assert not chosen(base, ids).any(), "its one line has all the attention that there is"


def test_attention_is_a_softmax_with_the_share_of_each_slot_on_it() -> None:
    """At the first layer with pages, written out."""
    base = addenda.attach(pico("llama", num_hidden_layers=2), pico_tokenizer())
    module = paged(base)
    ids, caught = base.tokenize("What does a year cost?"), dict[str, Any]()
    layer = base.model.model.layers[1].self_attn
    handles = [
        layer.register_forward_pre_hook(lambda _, __, kwargs: caught.update(kwargs), with_kwargs=True),
        layer.o_proj.register_forward_pre_hook(lambda _, args: caught.update(out=args[0])),
    ]
    bias = chosen(base, ids)
    for handle in handles:
        handle.remove()
    x, (cos, sin) = caught["hidden_states"], caught["position_embeddings"]
    with torch.no_grad():
        q, k, v = (
            getattr(layer, name)(x).view(*x.shape[:2], -1, 16).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        text = module.tensors()["layers.1.attention.text"]
        groups = q.shape[1] // k.shape[1]
        k, v = (torch.cat([s[None], t], 2).repeat_interleave(groups, 1) for s, t in zip(text, (k, v), strict=True))
        scores = q @ k.transpose(2, 3) / 4.0
        scores[..., : bias.shape[1]] += bias
        scores[..., bias.shape[1] :] += torch.full((x.shape[1],) * 2, -torch.inf).triu(1)
        expected = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(caught["out"], expected, atol=1e-5, rtol=1e-5)


def test_its_text_is_read_with_what_its_lora_has_learned() -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=3), pico_tokenizer())
    bare = paged(base, "bare").tensors()["layers.2.attention.text"]
    module = base.new("m", bare_kind := base.modules["bare"].kind)
    torch.manual_seed(0)
    module.load_tensors({k: torch.randn_like(t) * 0.1 if k.endswith(".b") else t for k, t in module.tensors().items()})
    ids = laid_out(base.tokenizer, PAGES)
    base.start_from_text("m", ids)
    found = module.tensors()["layers.2.attention.text"]
    assert not torch.allclose(found, bare)
    assert isinstance(bare_kind, OpenBook)
    products = addenda.LoRA(
        rank=2, targets=tuple(key for key in module.sites() if "attention" not in key and "ffn" not in key)
    )
    lora = base.new("lora", products)
    lora.load_tensors({key: module.tensors()[key] for key in lora.tensors()})
    first, cache = len(base.tokenize(PAGES[0])), DynamicCache()
    with torch.no_grad(), base.using("lora"):
        base.model(
            ids[None, :first, 0], position_ids=torch.arange(-first, 0)[None], past_key_values=cache, use_cache=True
        )
    torch.testing.assert_close(found[0, :, :first], cache.layers[2].keys[0], atol=1e-5, rtol=1e-5)


def test_of_a_page_the_line_that_is_asked_for_is_seen_most_and_its_heading_always() -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=3), pico_tokenizer())
    text = (
        "Fees\n\nA year costs 87 euros. Late fees are 4 euros a day.",
        "The house\n\nSails dry in the long shed. The key hangs behind the door.",
    )
    module = paged(base, pages=text)
    assert (module.kind.pages, module.kind.lines) == (2, 6)  # type: ignore[attr-defined]
    contents = next(a for a in module.adapters.values() if isinstance(a, Contents))
    for asked, page, line in (
        ("A year costs 87", 0, 1),
        ("Late fees are 4", 0, 2),
        ("Sails dry in the long", 1, 4),
        ("The key hangs behind", 1, 5),
    ):
        bias = chosen(base, base.tokenize(asked))[-1]
        by_line = torch.stack([bias[contents.line_of == number].max() for number in range(6)])
        assert int(by_line[3 * page + 1 : 3 * page + 3].argmax()) == line - 3 * page - 1
        assert by_line[3 * page] == by_line[line] == by_line.max()
        assert len(set(by_line.tolist())) >= 3, "the page's other line less, and other pages less again"


@pytest.mark.parametrize("given", [{"pages": -1}, {"lines": 2}, {"pages": 3, "lines": 2}, {"pages": 2, "lines": 5}])
def test_pages_that_cannot_be_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(AddendaError, match="no pages, or one at least"):
        OpenBook(count=4, **given)


def test_a_text_of_other_pages_is_refused() -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=3), pico_tokenizer())
    base.new("m", OpenBook(count=8, pages=2, lines=4))
    with pytest.raises(AddendaError, match="the text has 1 pages of 1 lines in all, and it was made for 2 and 4"):
        base.start_from_text("m", laid_out(base.tokenizer, PAGES))


def test_pages_that_are_not_told_are_about_equal() -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=3), pico_tokenizer())
    module = base.new("m", OpenBook(count=7, pages=2), text=TEXT)
    contents = next(a for a in module.adapters.values() if isinstance(a, Contents))
    assert contents.line_of.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert contents.page_of.tolist() == [0, 1]
    assert module.kind == OpenBook(count=7, pages=2, lines=2)


def test_a_paged_module_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama", num_hidden_layers=3), pico_tokenizer())
    paged(base).save(tmp_path / "m")
    ids = base.tokenize("What does a year cost?")
    before = chosen(base, ids)
    base.unplug("m")
    base.plug(tmp_path / "m")
    assert torch.equal(chosen(base, ids), before)
