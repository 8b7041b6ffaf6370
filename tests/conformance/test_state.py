"""State of replacing adapters is selected by rows, travels with the cache, and moves with beams: on kinds made here.

No kind of the library replaces yet; these stand in for those that will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import addenda
from addenda.bases import cache as caches
from addenda.core.call import Collector
from addenda.core.contracts import Kind, ReplacingAdapter
from addenda.core.errors import UnsupportedError
from addenda.core.site import Anatomy, Seam
from addenda.core.state import RowStates
from conformance import kinds
from conformance.kinds import Case
from conformance.test_law04_cache_is_invisible import check_continuation, check_generation, check_padding
from conformance.test_law05_rows_are_alone import check_alone, check_neighbours, plug_three
from conformance.test_law09_only_the_module_learns import check_learning
from conformance.test_law10_compiled_models_see_it import check_compiled
from conformance.world import TOKENS, Subject, batch, close, generate, logits, subject_of, throwaway, watch
from pico import random_ids


class Seen(NamedTuple):
    """State as an object: sums [R, D] and counts [R]."""

    total: Tensor
    count: Tensor

    def select(self, rows: Tensor) -> Seen:
        return Seen(self.total[rows], self.count[rows])


class MemoryAdapter(ReplacingAdapter):
    """y mixed with a projection of the mean of all that the row has read so far."""

    seam = Seam.FFN

    def __init__(self, width: int, tensor: bool) -> None:
        super().__init__()
        self.tensor = tensor
        self.down = nn.Parameter(torch.zeros(width, width))

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        weight: float | Tensor = 1.0,
        state: Any = None,
        mask: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        real = torch.ones(x.shape[:2], device=x.device) if mask is None else mask.float()
        total, count = (x * real.unsqueeze(-1)).cumsum(1), real.cumsum(1)
        if isinstance(state, Tensor):
            state = Seen(state[:, :-1], state[:, -1])
        if state is not None:
            total, count = total + state.total[:, None], count + state.count[:, None]
        mean = total / count.clamp(min=1.0).unsqueeze(-1)
        last = Seen(total[:, -1], count[:, -1])
        kept = torch.cat([last.total, last.count[:, None]], -1) if self.tensor else Seen(*(t.detach() for t in last))
        return y + weight * (torch.tanh(mean @ self.down) - 0.1 * y), kept


@dataclass(frozen=True)
class Memory(Kind):
    """A memory that replaces the FFN's output. Its state is a tensor, or an object."""

    tensor: bool = True

    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 1e-3

    @property
    def fresh_is_neutral(self) -> bool:
        return False

    def adapters(self, anatomy: Anatomy) -> Mapping[str, MemoryAdapter]:
        return {site.key: MemoryAdapter(anatomy.width, self.tensor) for site in anatomy.at(Seam.FFN)}


CASES = ["memory", "memory-object"]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for case in CASES:
            patch.setitem(kinds.CASES, case, Case(lambda _, tensor=case == "memory": Memory(tensor)))
        yield


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("arch", ["llama", "gemma2", "opt", "gpt2"])
def test_cache_is_invisible(arch: str, case: str) -> None:
    """Cached, uncached, static, beams, several sequences, padding, text read in pieces."""
    with subject_of(arch, case) as subject:
        subject.plug("m")
        check_generation(subject)
        check_padding(subject)
        check_continuation(subject)


@pytest.mark.parametrize("arch", ["llama", "opt"])
def test_rows_are_alone(arch: str, case: str) -> None:
    with subject_of(arch, case) as subject:
        plug_three(subject)
        check_alone(subject, padded=False)
        check_alone(subject, padded=True)
        check_neighbours(subject)


def test_rows_with_beams_are_their_prompts_alone(case: str) -> None:
    with subject_of("llama", case) as subject:
        check_beams(subject)


def check_beams(subject: Subject) -> None:
    subject.plug("m")
    subject.plug("n", seed=1)
    ids = batch()[0]
    rows = [{}, {"m": 1.0}, {"m": 0.5, "n": 1.0}, {"n": 1.0}]
    with subject.base.rows(rows):
        together = generate(subject.model, ids, num_beams=3, num_return_sequences=2)
    for number, row in enumerate(rows):
        with subject.base.using(row):
            alone = generate(subject.model, ids[number : number + 1], num_beams=3, num_return_sequences=2)
        part = slice(2 * number, 2 * number + 2)
        close(together.sequences_scores[part], alone.sequences_scores, 1e-4)
        assert torch.equal(together.sequences[part], alone.sequences)


def test_only_the_module_learns(case: str) -> None:
    subject = throwaway("llama", case)
    subject.plug("n", case="lora")
    check_learning(subject)


@torch.no_grad()
def test_a_cache_moves_state_with_its_rows(case: str) -> None:
    with subject_of("llama", case) as subject:
        check_moves(subject)


@torch.no_grad()
def check_moves(subject: Subject) -> None:
    """Rows selected, repeated and reordered keep what they have read, also where some rows select nothing."""
    if "m" not in subject.modules:
        subject.plug("m")
    model, ids, following = subject.model, batch()[0], random_ids(4, 3, seed=7)
    chosen: list[dict[str, float]] = [{"m": 1.0}, {}, {"m": 0.5}, {"m": 1.0}]

    def after(change: Callable[[Any], None], rows: list[int]) -> None:
        with subject.base.rows(chosen):
            past = model(ids, use_cache=True).past_key_values
        change(past)
        with subject.base.rows([chosen[row] for row in rows]):
            found = model(following[rows], past_key_values=past).logits
            close(found, logits(model, torch.cat([ids, following], 1)[rows])[:, TOKENS:])

    after(lambda past: None, [0, 1, 2, 3])
    after(lambda past: past.reorder_cache(torch.tensor([3, 1, 0, 2])), [3, 1, 0, 2])
    after(lambda past: past.batch_select_indices(torch.tensor([2, 1])), [2, 1])
    after(lambda past: past.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2, 3, 3])
    with subject.base.rows(chosen):
        past = model(ids, use_cache=True).past_key_values
        with pytest.raises(UnsupportedError, match="cropped"):
            past.crop(-1)


@pytest.mark.parametrize("case", [*CASES, "neutral-context", "registers-context"])
@torch.no_grad()
def test_a_row_that_selects_in_the_middle_of_a_text_begins_there(case: str) -> None:
    """And one that selects it again goes on from where it was, whatever its neighbours did meanwhile."""
    with subject_of("llama", case) as subject:
        subject.plug("m")
        model, base, ids, following = subject.model, subject.base, batch()[0], random_ids(4, 3, seed=7)
        turns = [[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]

        def run(rows: list[int]) -> list[Tensor]:
            past, found = None, []
            for turn, text in zip(turns, (ids, following, following), strict=True):
                with base.rows([{"m": 1.0} if turn[row] else {} for row in rows]):
                    out = model(text[rows], past_key_values=past, use_cache=True)
                past = out.past_key_values
                found.append(out.logits)
            return found

        together = run([0, 1, 2, 3])
        for row in range(4):
            for mixed, alone in zip(together, run([row]), strict=True):
                close(mixed[row], alone[0])


def test_weights_and_reports(case: str) -> None:
    """At zero a row is the base's bit for bit; every site reports, and is charged with what it changed."""
    with subject_of("llama", case) as subject:
        module = subject.plug("m")
        with subject.base.rows(torch.tensor([0, 1, 0, 1]), table=[{}, {"m": 1.0}]):
            mixed = logits(subject.model, *batch())
        bare = subject.bare()
        assert torch.equal(mixed[[0, 2]], bare[[0, 2]])
        with subject.base.using("m"):
            close(mixed[[1, 3]], logits(subject.model, *batch())[[1, 3]])
        assert watch(subject.base, "m").seen["m"] == list(module.sites())
        collector = Collector(torch.ones(4, TOKENS))
        with subject.base.using("m"), subject.base.watching(collector=collector):
            subject.model(batch()[0])
        assert len(collector.deltas["m"]) == 3
        assert all(float(value.detach()) > 0 for value in collector.deltas["m"])


def test_a_kind_that_replaces_is_saved_by_its_tensors_alone(case: str) -> None:
    """State is the selection's, never the adapter's."""
    with subject_of("llama", case) as subject:
        module = subject.plug("m")
        before = {name: tensor.clone() for name, tensor in module.tensors().items()}
        with subject.base.using("m"):
            generate(subject.model, *batch())
        assert module.tensors().keys() == before.keys()
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.tensors().items())
        assert isinstance(module, addenda.KnowledgeModule)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["memory", "memory-object"])
def test_compiled_models_see_it(case: str) -> None:
    torch._dynamo.reset()
    subject = throwaway("llama", case, num_hidden_layers=2)
    check_compiled(subject)
    torch._dynamo.reset()


# -- mutants --------------------------------------------------------------------------------------------------------


def beams_do_not_reorder_state(patch: pytest.MonkeyPatch) -> None:
    """State stays where it is while beams swap rows."""
    patch.setattr(caches.StateLayer, "reorder_cache", lambda self, beams: None)


def state_is_taken_from_the_first_rows(patch: pytest.MonkeyPatch) -> None:
    """Rows that select the module are given the state that comes first, whoever it is of."""

    def of(self: RowStates, rows: tuple[int, ...]) -> Any:
        return [(rows, self.pieces[0][1])]

    patch.setattr(RowStates, "of", of)
    patch.setattr(RowStates, "select", lambda self, rows: self)


def state_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Each step begins anew."""
    patch.setattr("addenda.plug.machinery.keep_states", lambda *_: None)


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (beams_do_not_reorder_state, check_generation),
        (beams_do_not_reorder_state, check_moves),
        (state_is_taken_from_the_first_rows, check_moves),
        (state_is_forgotten, check_continuation),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    check: Callable[[Subject], None],
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = throwaway("llama", case)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check(subject)
