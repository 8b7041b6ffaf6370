"""The document gate: Page's sums whole, in pieces and token by token; where it opens and shuts; what a fit learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import addenda
from addenda.core.gate import GateRows, starts_of
from addenda.core.site import Seam, Site
from addenda.gates.document import DRIFT, LIMIT, ROOM, DocumentGate, page
from pico import pico, pico_tokenizer

SITE = Site("layers.1.ffn", Seam.FFN, 1, "", "", 6, 6)
INFINITE = torch.tensor(torch.inf)


def one_by_one(step: torch.Tensor, cap: float, mask: Any = None, starts: Any = None) -> torch.Tensor:
    """The definition, a token at a time, in double precision."""
    rows = []
    for row in range(len(step)):
        total, sums = 0.0, []
        for at, value in enumerate(step[row].double().tolist()):
            if starts is not None and bool(starts[row, at]):
                total = 0.0
            if mask is None or bool(mask[row, at]):
                total = min(cap, max(0.0, total) + value)
            sums.append(total)
        rows.append(sums)
    return torch.tensor(rows)


@given(st.integers(1, 70), st.integers(0, 10_000), st.sampled_from([3.5, 8.0, 1e9]))
def test_the_scan_is_the_definition(length: int, seed: int, cap: float) -> None:
    random = torch.Generator().manual_seed(seed)
    step = torch.randn(3, length, generator=random) * 2
    step = step.clamp(-3.2, 3.2)
    starts = torch.rand(3, length, generator=random) < 0.1
    mask = torch.rand(3, length, generator=random) < 0.8
    found = page(step, torch.tensor(cap), None, mask, starts)
    expected = one_by_one(step, cap, mask, starts)
    torch.testing.assert_close(found[mask], expected[mask].float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("pieces", [1, 7, 64, 4096])
def test_sixteen_thousand_tokens_in_pieces_are_as_whole(pieces: int) -> None:
    random = torch.Generator().manual_seed(0)
    length = 16_000 if pieces > 1 else 2_000
    step = (torch.randn(2, length, generator=random) * 3 - 0.2).clamp(-LIMIT, LIMIT) - DRIFT
    cap = torch.tensor(25.0)
    whole = page(step, cap, None)
    state, parts = None, []
    for part in step.split(pieces, 1):
        parts.append(page(part, cap, state))
        state = parts[-1][:, -1]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(whole, one_by_one(step, 25.0).float(), atol=1e-4, rtol=0)


def told(evidence: list[float], threshold: float = 5.0) -> tuple[DocumentGate, torch.Tensor]:
    """A gate whose evidence is the first number of its input, and an input with this evidence [1, T, 6]."""
    gate = DocumentGate(SITE)
    # silu(v + 40) is v + 40 to the last bit for what is tested here
    gate.up[0, 0], gate.shift[0], gate.down[0] = 1.0, 40.0, 1.0
    gate.bias.fill_(-40.0)
    gate.threshold.fill_(threshold)
    x = torch.zeros(1, len(evidence), 6)
    x[0, :, 0] = torch.tensor(evidence)
    return gate, x


def opened(gate: DocumentGate, x: torch.Tensor, **more: Any) -> list[bool]:
    return (gate.amplitude(gate(x, **more)[0])[0] > 0).tolist()


@pytest.mark.parametrize("lasted", [128, 512, 2048, 16_384])
def test_it_opens_and_shuts_as_fast_however_long_the_subject_lasted(lasted: int) -> None:
    gate, x = told([-3.0] * lasted + [3.0] * lasted + [-3.0] * 100, threshold=8.0)
    at = opened(gate, x)
    assert not any(at[:lasted])
    assert at.index(True) - lasted <= 4  # 8 / (3 - drift)
    shut = at[2 * lasted :].index(False)
    assert shut <= ROOM / (3.0 + DRIFT) + 1


def test_the_amplitude_saturates() -> None:
    gate, x = told([4.0] * 30)
    amplitude = gate.amplitude(gate(x)[0])[0]
    assert float(amplitude[-1]) == 1.0
    assert float(amplitude.max()) == 1.0
    assert float(amplitude[0]) == 0.0


def test_a_fresh_gate_is_wide_open_at_once() -> None:
    gate = DocumentGate(SITE)
    assert gate.fresh
    amplitude = gate.amplitude(gate(torch.randn(2, 9, 6))[0])
    assert torch.equal(amplitude, torch.ones(2, 9))


def test_a_document_forgets_the_one_before_and_a_pad_counts_nothing() -> None:
    gate, x = told([3.0] * 10 + [-1.0] * 3)
    alone = opened(*told([-1.0] * 3))
    starts = torch.zeros(1, 13, dtype=torch.bool)
    starts[0, 10] = True
    assert opened(gate, x)[10:] == [True] * 3
    assert opened(gate, x, starts=starts)[10:] == alone == [False] * 3
    mask = torch.ones(1, 13, dtype=torch.bool)
    mask[0, :10] = False
    assert opened(gate, x, mask=mask)[10:] == alone


def rows(seed: int, subject: bool, shift: float) -> GateRows:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 32, 6, generator=random)
    x[..., 0] += shift if subject else -shift
    documents = (torch.arange(40)[:, None] * 2 + (torch.arange(32) > 15)).long()
    return GateRows(x, documents, subject, starts_of(documents))


def test_a_fit_tells_the_two_apart_and_is_the_same_each_time() -> None:
    gates = [DocumentGate(SITE), DocumentGate(SITE)]
    for gate in gates:
        gate.fit([rows(0, True, 0.7), rows(1, False, 0.7)], seed=3)
        assert not gate.fresh
    assert all(torch.equal(a, b) for a, b in zip(*(gate.buffers() for gate in gates), strict=True))
    gate = gates[0]
    live = {}
    for subject in (True, False):
        new = rows(2 + subject, subject, 0.7)
        live[subject] = gate.amplitude(gate(new.x, starts=starts_of(new.documents))[0])[:, [15, 31]] > 0
    assert float(live[True].float().mean()) > 0.6
    assert float(live[False].float().mean()) < 0.15
    assert float(gate.threshold) > 0


def test_a_fit_that_can_tell_nothing_leaves_nine_tenths_alone() -> None:
    gate = DocumentGate(SITE)
    gate.fit([rows(0, True, 0.0), rows(1, False, 0.0)], seed=0)
    new = rows(5, False, 0.0)
    live = gate.amplitude(gate(new.x, starts=starts_of(new.documents))[0]) > 0
    assert float(live.float().mean()) < 0.2


# --- on a base ---------------------------------------------------------------------------------------------------


def on_pico(kind: Any = None) -> tuple[addenda.Base, Any]:
    """A pico with a perturbed module whose gate opens within some documents and not in others."""
    from conformance.world import perturbed

    base = addenda.attach(pico("llama"), pico_tokenizer())
    return base, perturbed(base, "m", kind or "neutral-document")


@pytest.mark.parametrize("case", ["neutral-document", "neutral-context", "registers-document"])
@pytest.mark.parametrize("how", ["positions", "flash"])
def test_documents_packed_by_position_are_each_as_alone(case: str, how: str) -> None:
    """Padding-free rows: no mask, positions that start anew, as a collator without padding makes them."""
    from pico import random_ids

    base, _ = on_pico(case)
    ids = random_ids(1, 24, seed=4)
    position_ids = torch.cat([torch.arange(10), torch.arange(14)])[None]
    more: dict[str, Any] = {"position_ids": position_ids}
    if how == "flash":
        more["cu_seq_lens_q"] = torch.tensor([0, 10, 24])
        more["position_ids"] = position_ids
    with torch.no_grad(), base.using("m"):
        packed = base.model(input_ids=ids, use_cache=False, **more).logits[:, 10:]
        alone = base.model(input_ids=ids[:, 10:]).logits
        first = base.model(input_ids=ids[:, :10]).logits
        both = base.model(input_ids=ids, use_cache=False, **more).logits[:, :10]
    with torch.no_grad(), base.off():
        rough = (
            base.model(input_ids=ids, position_ids=position_ids, use_cache=False).logits[:, 10:]
            - base.model(input_ids=ids[:, 10:]).logits
        )
    assert float(rough.abs().max()) < 1e-5
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(both, first, atol=1e-5, rtol=0)


def test_three_documents_over_two_calls_with_a_cache() -> None:
    """A document that goes on in the next call keeps its state; one that begins there has none."""
    from pico import random_ids

    base, _ = on_pico()
    ids = random_ids(1, 20, seed=9)
    with torch.no_grad(), base.using("m"):
        first = base.model(input_ids=ids[:, :8], use_cache=True)
        rest = base.model(
            input_ids=ids[:, 8:], past_key_values=first.past_key_values, position_ids=torch.arange(8, 20)[None]
        )
        whole = base.model(input_ids=ids).logits
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), whole, atol=1e-5, rtol=0)


def test_training_fits_it_and_leaves_it_as_it_was_fitted() -> None:
    medical = [f"the heart and lung of patient {n} were treated with insulin and measured " * 4 for n in range(20)]
    general = [f"the river {n} ran past the mill and the children sang as they walked home " * 4 for n in range(20)]
    base = addenda.attach(pico("llama"), pico_tokenizer())
    gate: Any = base.new("a", addenda.NeutralResidues(width=8, gate="document", read_at=1)).gate
    given_: dict[str, Any] = {"corpus": medical, "replay": general, "tokens": 2048, "length": 32, "log": False}
    addenda.train(base, "a", lr=1e-2, **given_)
    assert not gate.fresh
    fitted = {name: tensor.clone() for name, tensor in gate.state_dict().items()}
    addenda.train(base, "a", lr=1e-2, **given_)
    assert all(torch.equal(tensor, fitted[name]) for name, tensor in gate.state_dict().items())
    share = {}
    for name, texts in (("medical", medical), ("general", general)):
        share[name] = float(addenda.neutral_share(base, "a", texts, lengths=[24], tokens=400))
    assert share["general"] > 0.85
    assert share["medical"] < 0.5
    without: Any = base.new("b", addenda.NeutralResidues(width=8, gate="document")).gate
    addenda.train(base, "b", **{**given_, "replay": None})
    assert without.fresh


def test_a_stream_fits_it_to_its_beginning() -> None:
    medical = "the heart and lung of patient were treated with insulin and measured again by the doctor " * 40
    base = addenda.attach(pico("llama"), pico_tokenizer())
    kind = addenda.NeutralResidues(width=8, gate="document", read_at=1)
    report = addenda.memorize(
        base, "m", text=medical, kind=kind, window=64, chunk=32, replay=["the river ran past the mill " * 30] * 6,
        log=False,
    )  # fmt: skip
    assert report.parameters["m"] > 0
    gate: Any = base.modules["m"].gate
    assert not gate.fresh


def test_calibration_reaches_above_where_the_sum_is_capped() -> None:
    """The threshold is read from sums that nothing caps, and may well exceed the room above today's."""
    base, module = on_pico()
    gate: Any = module.gate
    gate.up.zero_()
    gate.down.zero_()
    gate.bias.fill_(2.0)
    gate.drift.fill_(0.1)
    addenda.calibrate(
        base, "m", ["a river ran past the mill and on and on " * 20] * 4, share=0.5, lengths=[60], tokens=240
    )
    assert float(gate.threshold) == pytest.approx(1.9 * 30, abs=2.0)
