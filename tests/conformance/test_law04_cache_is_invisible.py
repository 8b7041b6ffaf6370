"""Law 4, cache is invisible: cached = uncached generation in every mode, and a left-padded batch = its rows alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from addenda.bases import cache as caches
from addenda.bases import joining
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.gates.context import ContextGate
from addenda.plug.machinery import Machinery
from conformance.kinds import CASES, MAIN, pairs, spread
from conformance.world import (
    LENGTHS,
    TIES,
    TOKENS,
    Subject,
    assert_alive,
    batch,
    close,
    generate,
    logits,
    same_tokens,
    subject_of,
    throwaway,
)
from pico import random_ids

MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_k": 20, "temperature": 0.8},
    "beams": {"num_beams": 3},
    "several": {"do_sample": True, "num_return_sequences": 2, "top_k": 0},
    "several beams": {"num_beams": 4, "num_return_sequences": 2},
}


def check_generation(subject: Subject, modes: dict[str, dict[str, Any]] = MODES) -> None:
    """Cached, uncached and static-cache generation agree on a left-padded batch in which rows differ."""
    ids, mask = batch(padded=True)
    base, model = subject.base, subject.model
    selections = [base.using("m"), base.rows([{"m": 1.0}, {}, {"m": 0.5}, {"m": 1.0}])]
    for number, selection in enumerate(selections):
        with selection:
            for name, mode in modes.items():
                if number == 1 and name not in ("greedy", "beams"):
                    continue
                cached = generate(model, ids, mask, **mode)
                uncached = generate(model, ids, mask, use_cache=False, **mode)
                if "num_beams" in mode:  # logits of beams come in the order of the moment
                    assert_same_beams(cached, uncached, name)
                else:
                    same_tokens(cached, uncached, TOKENS)
            if number == 0:
                same_tokens(
                    generate(model, ids, mask, cache_implementation="static"), generate(model, ids, mask), TOKENS
                )


def assert_same_beams(a: Any, b: Any, name: str) -> None:
    """The same beams with the same scores; scores that tie within the tolerance may swap, and are counted."""
    close(a.sequences_scores, b.sequences_scores, 1e-4)
    TIES.compared += a.sequences.numel()
    if not torch.equal(a.sequences, b.sequences):
        scores = b.sequences_scores
        gap = float((scores[:, None] - scores[None]).abs().fill_diagonal_(1.0).min()) if len(scores) > 1 else 1.0
        assert gap < 1e-4, f"{name}: cached and uncached beams differ"
        TIES.stopped += 1


def check_padding(subject: Subject) -> None:
    """A left-padded batch is its rows alone: logits at real positions, and generated tokens."""
    ids, mask = batch(padded=True)
    with subject.base.using("m"):
        together = logits(subject.model, ids, mask)
        generated = generate(subject.model, ids, mask)
        for row, length in enumerate(LENGTHS):
            alone = ids[row : row + 1, -length:]
            close(together[row, -length:], logits(subject.model, alone, torch.ones_like(alone))[0])
            single = generate(subject.model, alone)
            count = single.sequences.shape[1] - length
            found = generated.sequences[row, TOKENS : TOKENS + count]
            for step in range(count):
                close(generated.logits[step][row].float(), single.logits[step][0].float())
            assert torch.equal(found, single.sequences[0, length:]), f"row {row} of a padded batch generates otherwise"


@torch.no_grad()
def check_continuation(subject: Subject) -> None:
    """Text read in pieces is text read at once; a deep-copied cache goes on by itself."""
    model, ids, _ = subject.model, *batch()
    other = random_ids(4, 4, seed=5)
    with subject.base.using("m"):
        whole = logits(model, ids)
        first = model(ids[:, :5], use_cache=True)
        kept = copy.deepcopy(first.past_key_values)
        rest = [model(ids[:, t : t + 1], past_key_values=first.past_key_values).logits for t in range(5, TOKENS)]
        close(torch.cat([first.logits, *rest], 1).float(), whole)
        continued = model(other, past_key_values=kept).logits
        close(continued.float(), logits(model, torch.cat([ids[:, :5], other], 1))[:, 5:])


#: where beams are generated too: every case and every architecture; `test_cache_is_invisible_in_every_mode` has all
BEAMS = {one.values for one in spread(CASES)}


@pytest.mark.parametrize(("arch", "case"), pairs())
def test_cache_is_invisible(subject: Subject) -> None:
    assert_alive(subject)
    brief = ("greedy", "beams") if (subject.arch, subject.case) in BEAMS else ("greedy",)
    check_generation(subject, MODES if subject.arch == "llama" else {name: MODES[name] for name in brief})
    check_padding(subject)
    check_continuation(subject)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "case"), pairs())
def test_cache_is_invisible_in_every_mode(subject: Subject) -> None:
    check_generation(subject)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].gate == "context"])
def test_a_cache_moves_its_state_as_its_keys(case: str) -> None:
    """Rows selected, repeated and reordered in a cache keep their own running average."""
    with subject_of("llama", case) as subject, torch.no_grad():
        subject.plug("m")
        model, ids = subject.model, batch()[0]
        assert_alive(subject)
        following = random_ids(4, 3, seed=7)
        with subject.base.using("m"):

            def after(change: Callable[[Any], None], rows: Tensor) -> None:
                past = model(ids, use_cache=True).past_key_values
                change(past)
                found = model(following[rows], past_key_values=past).logits
                close(found, logits(model, torch.cat([ids, following], 1)[rows])[:, TOKENS:])

            after(lambda past: past.batch_select_indices(torch.tensor([2, 0])), torch.tensor([2, 0]))
            after(lambda past: past.reorder_cache(torch.tensor([3, 1, 0, 2])), torch.tensor([3, 1, 0, 2]))
            past = model(ids, use_cache=True).past_key_values
            past.batch_repeat_interleave(2)
            rows = torch.arange(4).repeat_interleave(2)
            found = model(following[rows], past_key_values=past).logits
            close(found, logits(model, torch.cat([ids, following], 1)[rows])[:, TOKENS:])
            with pytest.raises(UnsupportedError, match="cropped"):
                past.crop(-1)
            past.reset()


@pytest.mark.parametrize("case", MAIN)
def test_rows_in_generate_stand_for_prompts(case: str) -> None:
    """Each prompt's beams are those of the prompt alone; another number of entries is an error."""
    with subject_of("llama", case) as subject:
        subject.plug("m")
        ids = batch()[0]
        rows = [{"m": 1.0}, {}, {"m": 0.5}, {"m": 1.0}]
        with subject.base.rows(rows):
            together = generate(subject.model, ids, num_beams=3, num_return_sequences=2)
        for number, row in enumerate(rows):
            with subject.base.using(row):
                alone = generate(subject.model, ids[number : number + 1], num_beams=3, num_return_sequences=2)
            part = slice(2 * number, 2 * number + 2)
            close(together.sequences_scores[part], alone.sequences_scores, 1e-4)
            assert torch.equal(together.sequences[part], alone.sequences)
        for wrong in (rows[:2], rows[:1], [*rows, {}], rows * 3):
            with subject.base.rows(wrong), pytest.raises(AddendaError, match="rows"):
                generate(subject.model, ids, num_beams=3)


@pytest.mark.parametrize("case", MAIN)
def test_bfloat16_is_no_further_from_itself_than_the_bare_base(case: str) -> None:
    """In half precision: cached against uncached, and padded against singles, at most twice the base's own difference."""
    with subject_of("llama", case, torch.bfloat16) as subject, torch.no_grad():
        subject.plug("m")
        assert_alive(subject)
        model, ids = subject.model, batch()[0]

        def differences() -> list[float]:
            whole = logits(model, ids)
            first = model(ids[:, :5], use_cache=True)
            steps = [model(ids[:, t : t + 1], past_key_values=first.past_key_values).logits for t in range(5, TOKENS)]
            pieces = torch.cat([first.logits, *steps], 1).float()
            padded, mask = batch(padded=True)
            together = logits(model, padded, mask)
            alone = [logits(model, padded[r : r + 1, -n:])[0] for r, n in enumerate(LENGTHS)]
            apart = max(float((together[r, -n:] - alone[r]).abs().max()) for r, n in enumerate(LENGTHS))
            return [float((pieces - whole).abs().max()), apart]

        bare = differences()
        with subject.base.using("m"):
            on = differences()
        # the largest of a few hundred roundings is itself noisy: both numbers get the larger of the base's two
        assert max(on) <= 2 * max(bare), f"with the module {on}, bare {bare}"


# -- mutants --------------------------------------------------------------------------------------------------------


def padding_counts(patch: pytest.MonkeyPatch) -> None:
    """The context gate averages over pads too."""
    original = ContextGate.forward
    patch.setattr(ContextGate, "forward", lambda self, x, state=None, mask=None, starts=None: original(self, x, state))


def beams_do_not_reorder_state(patch: pytest.MonkeyPatch) -> None:
    """The running average stays where it is while beams swap rows."""
    patch.setattr(caches.StateLayer, "reorder_cache", lambda self, beams: None)


def state_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Each decoding step begins the average anew."""
    patch.setattr("addenda.plug.machinery.keep_states", lambda *_: None)


def prefill_only(patch: pytest.MonkeyPatch) -> None:
    """With a cache, modules act on the prompt alone."""
    original = Machinery._call

    def call(self: Machinery, chosen: Any, tokens: Tensor, cache: Any, **marks: Any) -> Any:
        made = original(self, chosen, tokens, cache, **marks)
        if cache is not None and tokens.shape[1] == 1 and int(cache.get_seq_length()) > 0:
            made.shares = []
        return made

    patch.setattr(Machinery, "_call", call)


def slots_hide_the_last_keys(patch: pytest.MonkeyPatch) -> None:
    """The mask is not widened with the slots: the causal alignment shifts, and pads become visible."""
    patch.setattr("addenda.bases.attention.kernel_for", lambda *_: None)
    patch.setattr(
        "addenda.bases.attention._widened",
        lambda mask, slots, query, length: (
            None
            if mask is None
            else torch.cat([mask[..., :1].expand(*mask.shape[:3], sum(n for n, _ in slots)), mask], -1)
        ),
    )


def tokens_are_read_without_their_mask(patch: pytest.MonkeyPatch) -> None:
    """Read apart from the slots, tokens see the pads."""
    original = joining.read_tokens
    patch.setattr(
        "addenda.bases.attention.read_tokens",
        lambda kernel, module, tensors, mask, options: original(kernel, module, tensors, None, options),
    )


def slots_have_the_same_share_everywhere(patch: pytest.MonkeyPatch) -> None:
    """Tokens and slots are joined without the slots' log-sum-exp, by a number of the whole batch."""
    original = joining.join
    patch.setattr(
        "addenda.bases.attention.join",
        lambda tokens, slots: original(tokens, slots._replace(lse=tokens.lse.mean().expand_as(slots.lse))),
    )


@pytest.mark.parametrize(
    ("mutant", "case", "check"),
    [
        (padding_counts, "neutral-context", check_padding),
        (padding_counts, "registers-context", check_padding),
        (beams_do_not_reorder_state, "neutral-context", check_generation),
        (state_is_forgotten, "neutral-context", check_continuation),
        (prefill_only, "lora", check_generation),
        (prefill_only, "registers", check_continuation),
        (slots_hide_the_last_keys, "cartridge", check_padding),
        (tokens_are_read_without_their_mask, "cartridge", check_padding),
        (slots_have_the_same_share_everywhere, "registers", check_padding),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    case: str,
    check: Callable[[Subject], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = throwaway("llama", case)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check(subject)
