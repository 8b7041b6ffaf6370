"""FFN-Skip: what is left out, when, and that it is really not computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.bases import around
from addenda.core.errors import AddendaError, SelectionError, UnsupportedError
from addenda.kinds.ffn_skip import ALL, NEVER, FFNSkip, SkippingFFN, skipped
from pico import pico, pico_tokenizer, random_ids

TEXT = "The heart pumps the blood, and the lungs take in the air that it needs on its way." * 3
IDS = random_ids(3, 24, seed=5)


def base_of(arch: str = "llama", layers: int = 6) -> addenda.Base:
    torch.manual_seed(0)
    return addenda.attach(pico(arch, num_hidden_layers=layers), pico_tokenizer())


def logits(base: addenda.Base, ids: Tensor = IDS, **more: Any) -> Tensor:
    with torch.no_grad():
        return base.model(ids, **more).logits


def cut(base: addenda.Base, name: str, least: float) -> None:
    for key in base.modules[name].sites():
        base.modules[name].adapter(key).least.fill_(least)  # type: ignore[operator, union-attr]


@contextmanager
def counted(base: addenda.Base) -> Iterator[list[int]]:
    """How many tokens each layer's FFN is run on."""
    found = [0] * len(base.host.layers)
    handles = []
    for number, layer in enumerate(base.host.layers):

        def note(_: Any, args: Any, number: int = number) -> None:
            found[number] += args[0][..., 0].numel()

        handles.append(layer.mlp.down_proj.register_forward_pre_hook(note))  # type: ignore[union-attr]
    yield found
    for handle in handles:
        handle.remove()


def left_out(base: addenda.Base, least: float, ids: Tensor = IDS) -> float:
    """The share of FFNs of the middle layers that are not run."""
    cut(base, "m", least)
    with counted(base) as found, base.using("m"):
        logits(base, ids)
    middle = found[1:-1]
    return 1 - sum(middle) / (len(middle) * ids.numel())


def test_a_threshold_over_one_is_the_base() -> None:
    base = base_of()
    bare = logits(base)
    base.new("m", FFNSkip(first=1, last=1, span=None))
    with base.using("m"):
        assert torch.equal(logits(base), bare)
    assert left_out(base, 1.01) == 0


@pytest.mark.parametrize("span", [None, 1, 2])
def test_more_is_left_out_the_lower_the_threshold(span: int | None) -> None:
    base = base_of()
    base.new("m", FFNSkip(first=1, last=1, span=span))
    shares = [left_out(base, least) for least in (1.01, 0.95, 0.9, 0.85, 0.8, 0.7, -1.0)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert len(set(shares)) > 3
    most = {None: 20 / 24, 1: 20 / 24 / 2, 2: 20 / 24 * 3 / 4}[span]  # four tokens are spared
    assert shares[-1] == pytest.approx(most)


def test_the_first_and_last_layers_and_first_tokens_are_always_run() -> None:
    base = base_of()
    base.new("m", FFNSkip(first=2, last=1, spare=5, span=None))
    cut(base, "m", -1.0)
    with counted(base) as found, base.using("m"):
        logits(base)
    assert found == [72, 72, 15, 15, 15, 72]
    assert sorted(base.modules["m"].sites()) == [f"layers.{n}.ffn" for n in (1, 2, 3, 4)]


def test_an_ffn_that_adds_nothing_is_left_out_and_nothing_changes() -> None:
    base = base_of()
    with torch.no_grad():
        for layer in base.host.layers[1:5]:
            layer.mlp.down_proj.weight.zero_()  # type: ignore[union-attr, operator]
    bare = logits(base)
    base.new("m", FFNSkip(first=2, last=1, spare=0, span=None))
    cut(base, "m", 1.0 - 1e-6)
    with counted(base) as found, base.using("m"):
        assert torch.equal(logits(base), bare)
    assert found[2:5] == [0, 0, 0]


def test_keys_and_values_are_those_of_every_token() -> None:
    base = base_of()
    base.new("m", FFNSkip(first=1, last=1, span=None))
    cut(base, "m", 0.8)
    with torch.no_grad(), base.off():
        whole = base.model(IDS, use_cache=True).past_key_values
    with torch.no_grad(), base.using("m"):
        found = base.model(IDS, use_cache=True).past_key_values
        more = base.model(IDS[:, :1], past_key_values=found).past_key_values
    for one, other in zip(whole.layers, more.layers, strict=False):
        assert other.keys.shape[2] == one.keys.shape[2] + 1
        assert other.keys.shape[:2] == one.keys.shape[:2]


def test_a_decoded_token_runs_nothing_that_it_may_do_without() -> None:
    base = base_of()
    base.new("m", FFNSkip(first=1, last=1, spare=3, span=None))
    cut(base, "m", -1.0)
    with torch.no_grad(), base.using("m"):
        cache = base.model(IDS[:1, :2], use_cache=True).past_key_values
        for expected in ([1] * 6, [1, 0, 0, 0, 0, 1]):  # the third token is spared, the fourth not
            with counted(base) as found:
                base.model(IDS[:1, :1], past_key_values=cache)
            assert found == expected


def test_what_is_masked_is_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_of()
    base.new("m", FFNSkip(first=1, last=1, skip=0.4), text=TEXT)
    for parameter in base.modules["m"].parameters():
        parameter.data.normal_(std=0.1)
    bare = logits(base)
    with base.using("m"):
        gathered = logits(base)
        monkeypatch.setattr(around, "readable", lambda _: False)
        with counted(base) as found:
            masked = logits(base)
    assert found == [72] * 6
    assert (gathered - bare).abs().max() > 1e-2
    torch.testing.assert_close(masked, gathered, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("skip", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("span", [None, 1])
def test_text_says_where(skip: float, span: int | None) -> None:
    base = base_of()
    module = base.new("m", FFNSkip(first=1, last=1, spare=0, skip=skip, span=span), text=TEXT)
    least = {float(module.adapter(key).least) for key in module.sites()}  # type: ignore[arg-type]
    assert len(least) == 1
    share = left_out(base, least.pop(), base.tokenize(TEXT)[None])
    expected = min(skip, 0.5) if span else skip
    assert share == pytest.approx(expected, abs=0.08)  # what is left out turns what comes after a little


def test_what_is_left_out_of_a_table() -> None:
    cosines = torch.tensor([[0.9, 0.5, 0.9], [0.1, 0.9, 0.9], [0.1, 0.1, 0.9], [0.1, 0.1, 0.9]])
    assert skipped(cosines, 0.8, ALL).int().tolist() == [[0, 0, 0], [1, 0, 1], [1, 1, 1], [1, 1, 1]]
    assert skipped(cosines, 0.8, 1).int().tolist() == [[0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert not skipped(cosines, NEVER, ALL).any()


def test_tokens_count_from_their_documents_beginning() -> None:
    adapter, x = SkippingFFN(4, measures=True, span=ALL, spare=2), torch.zeros(2, 6, 4)
    own = around.BaseOutput(lambda part: part, x, None, None)
    starts = torch.zeros(2, 6, dtype=torch.bool)
    starts[0, [0, 3]] = True
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, :2] = False  # pads
    _, note, count = adapter.around(x, x, own, starts=starts, mask=mask, state=torch.tensor([[9], [1]]))
    assert note is not None
    assert count is not None
    assert (note < 0).int().tolist() == [[1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
    assert count.tolist() == [[3], [5]]


def test_a_packed_document_is_itself_alone() -> None:
    base = base_of()
    base.new("m", FFNSkip(first=1, last=1, spare=3, span=None))
    cut(base, "m", 0.8)
    rows = torch.cat([IDS[:1, :9], IDS[1:2, :7]], 1)
    positions = torch.cat([torch.arange(9), torch.arange(7)])[None]
    with base.using("m"):
        packed = logits(base, rows, position_ids=positions)
        first = logits(base, IDS[:1, :9])
        with counted(base) as found:
            logits(base, IDS[1:2, :7])
        with counted(base) as both:
            logits(base, rows, position_ids=positions)
    torch.testing.assert_close(packed[:, :9], first, rtol=1e-4, atol=1e-4)
    assert both[1:5] != [16] * 4
    assert found[1:5] != [7] * 4


def test_one_alone_may_stand_around_a_site() -> None:
    base = base_of()
    base.new("m", FFNSkip(first=1, last=1, span=None))
    base.new("n", FFNSkip(first=3, last=1))
    base.new("side", addenda.ParallelAdapter(width=4))
    for select in (
        lambda: base.use("m", "n"),
        lambda: base.using("n", "m", "side"),
        lambda: base.rows([{"m": 1.0}, {"m": 1.0, "n": 0.5}, {}]),
        lambda: base.rows(torch.tensor([0, 0, 1]), table=[{"m": 1.0, "n": 0.5}, {}]),
    ):
        with pytest.raises(SelectionError, match="'m' and 'n' both stand around layers.2.ffn"):
            select()
    base.use("m", "side")
    with base.rows([{"m": 1.0}, {"n": 1.0}, {}]):
        logits(base)
    with base.rows(torch.tensor([0, 1, 1]), table=[{"m": 1.0}, {"n": 1.0}]):
        logits(base)


def test_training_learns_what_stands_in() -> None:
    base = base_of(layers=4)
    base.new("m", FFNSkip(first=1, last=1, skip=0.5, spare=0, span=None))
    texts = [TEXT, TEXT[::-1], TEXT.upper()] * 4
    addenda.train(base, "m", corpus=texts, tokens=1500, log=False, length=64, batch_rows=2)
    module = base.modules["m"]
    assert float(module.adapter("layers.0.ffn").least) < 1  # type: ignore[arg-type]
    assert all(bool(p.any()) for p in module.parameters())


def test_it_cannot_be_merged(tmp_path: Any) -> None:
    base = base_of()
    base.new("m", FFNSkip(first=1, last=1), text=TEXT)
    with pytest.raises(UnsupportedError, match="decides for each token what the base computes"):
        addenda.merge(base, ["m"], out=tmp_path / "merged")


@pytest.mark.parametrize(
    "options", [{"skip": 0.0}, {"skip": 1.0}, {"first": 0}, {"last": -1}, {"spare": -1}, {"span": 0}]
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(AddendaError, match="FFNSkip"):
        FFNSkip(**options)


def test_a_base_without_middle_layers_is_refused() -> None:
    base = base_of(layers=4)
    with pytest.raises(AddendaError, match="no FFN is left that may be left out"):
        base.new("m", FFNSkip())
    with pytest.raises(AddendaError, match="tokens of text"):
        base.new("m", FFNSkip(first=1, last=1), text="a")
