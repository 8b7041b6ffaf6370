"""Random use of the public API: after every step the base answers as a reference does, or an AddendaError was raised."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor

import addenda
from addenda.core.errors import AddendaError, SelectionError
from addenda.core.module import NAME, RESERVED
from addenda.core.registry import build_kind, kinds
from addenda.plug import selection as selecting
from conformance.kinds import CASES
from conformance.world import close, differences, perturbed, structure
from pico import pico, pico_tokenizer, random_ids

# -- the world: one base to abuse, and one on which every module of the pool is plugged for good ------------------------

POOL = ("registers", "registers-neutral", "cartridge-random", "neutral", "neutral-context", "parallel", "lora")
SHORT: dict[str, Any] = {"num_hidden_layers": 2}
IDS = random_ids(4, 9, seed=31)

Row = dict[str, float]


class World:
    """The shared models; built once, given back by every run."""

    def __init__(self) -> None:
        self.model: Any = pico("llama", **SHORT)
        self.reference = addenda.attach(pico("llama", **SHORT), pico_tokenizer())
        for number, case in enumerate(POOL):
            perturbed(self.reference, f"p{number}", case)
        self.start = structure(self.model)
        self.bare = self.logits(self.model, IDS)
        self.known: dict[Any, Tensor] = {}

    @staticmethod
    @torch.no_grad()
    def logits(model: Any, ids: Tensor) -> Tensor:
        return model(input_ids=ids, use_cache=False).logits

    def expected(self, row: int, chosen: tuple[tuple[int, float], ...]) -> Tensor:
        """What the reference says of one row under (module, weight) pairs."""
        if (row, chosen) not in self.known:
            with self.reference.using({f"p{number}": weight for number, weight in chosen}):
                self.known[row, chosen] = self.logits(self.reference.model, IDS[row : row + 1])[0]
        return self.known[row, chosen]


_worlds: list[World] = []


def world() -> World:
    if not _worlds:
        _worlds.append(World())
    return _worlds[0]


# -- what is thrown at it ---------------------------------------------------------------------------------------------

GOOD = ("a", "b", "c-1", "d.x_y", "9", "z" * 64)
BAD = ("", "A", "base", "off", "a b", "../a", "a/b", "z" * 65, "é", "a=1", "a@1", "-a", ".a", "a\n", None, 3, ("a",))
few = st.sampled_from(("a", "b", "c-1"))  # few names, so that most of what is said of them is allowed
names = few | few | st.sampled_from(GOOD + BAD)
plugged_names = few | st.sampled_from((*GOOD, "nobody"))
weights = st.sampled_from((0.0, 1.0, 0.5, -0.5, 2, 1e-3, True, math.nan, math.inf, "1", None))
good_weights = st.sampled_from((1.0, 0.5, 2.0, 1e-3, 0.0))
mappings = st.dictionaries(plugged_names, weights, max_size=3)


@st.composite
def selections(draw: st.DrawFn, plugged: list[str]) -> dict[str, Any]:
    """A mapping of weights that is mostly a good one."""
    if not plugged or draw(st.integers(0, 3)) == 0:
        return draw(mappings)
    return draw(st.dictionaries(st.sampled_from(plugged), good_weights, min_size=1, max_size=2))


class Plugging(RuleBasedStateMachine):
    """The base under random calls; `self.plugged` and `self.stack` say what must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.world = world()
        self.base = addenda.attach(self.world.model, pico_tokenizer())
        self.plugged: dict[str, int] = {}
        self.stack: list[list[Row] | Row] = [{}]
        self.blocks: list[Any] = []

    # what a call should do

    def fits(self, chosen: Any) -> bool:
        """Whether a mapping may be selected."""
        for name, weight in chosen.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                return False
            if name not in self.plugged:
                return False
            if weight < 0 and CASES[POOL[self.plugged[name]]].joint:
                return False
        return True

    def attempt(self, allowed: bool, call: Any) -> bool:
        """Make a call that is allowed, or must raise an AddendaError."""
        if allowed:
            call()
            return True
        with pytest.raises(AddendaError):
            call()
        return False

    # the calls

    @initialize(numbers=st.lists(st.integers(0, len(POOL) - 1), min_size=2, max_size=2))
    def begin(self, numbers: list[int]) -> None:
        for name, number in zip(("a", "b"), numbers, strict=True):
            self.new(name, number)

    @rule(name=names, number=st.integers(0, len(POOL) - 1))
    def new(self, name: Any, number: int) -> None:
        free = (
            isinstance(name, str) and bool(NAME.fullmatch(name)) and name not in RESERVED and name not in self.plugged
        )
        if self.attempt(free, lambda: perturbed(self.base, name, POOL[number])):
            self.plugged[name] = number

    @rule(name=plugged_names)
    def unplug(self, name: str) -> None:
        if self.attempt(name in self.plugged, lambda: self.base.unplug(name)):
            del self.plugged[name]
            self.stack[-1] = self.drop(self.stack[-1])

    def drop(self, selected: list[Row] | Row) -> list[Row] | Row:
        """A selection without what is no longer plugged."""
        if isinstance(selected, dict):
            return {name: weight for name, weight in selected.items() if name in self.plugged}
        return [{name: weight for name, weight in row.items() if name in self.plugged} for row in selected]

    @rule(data=st.data())
    def use(self, data: Any) -> None:
        chosen = data.draw(selections(list(self.plugged)))
        if self.attempt(self.fits(chosen), lambda: self.base.use(chosen)):
            self.stack[-1] = {name: float(weight) for name, weight in chosen.items() if weight}

    @rule(data=st.data())
    def using(self, data: Any) -> None:
        self.block(data.draw(selections(list(self.plugged))))

    def block(self, chosen: Any) -> None:
        self.enter(self.fits(chosen), lambda: self.base.using(chosen), {n: w for n, w in chosen.items() if w})

    @rule(data=st.data())
    def rows(self, data: Any) -> None:
        rows = data.draw(st.lists(selections(list(self.plugged)), min_size=1, max_size=4) | st.just([]))
        allowed = bool(rows) and all(map(self.fits, rows))
        self.enter(allowed, lambda: self.base.rows(rows), [{n: w for n, w in row.items() if w} for row in rows])

    @rule(data=st.data())
    def rows_by_index(self, data: Any) -> None:
        table = data.draw(st.lists(selections(list(self.plugged)), min_size=1, max_size=3))
        within = st.lists(st.integers(0, len(table) - 1), min_size=1, max_size=4)
        index = data.draw(within | within | st.lists(st.integers(-1, 3), max_size=5))
        allowed = bool(index) and all(0 <= n < len(table) for n in index) and all(map(self.fits, table))
        expected = [{n: w for n, w in table[i].items() if w} for i in index] if allowed else {}
        self.enter(allowed, lambda: self.base.rows(torch.tensor(index, dtype=torch.long), table=table), expected)

    @rule()
    def off(self) -> None:
        self.enter(True, self.base.off, {})

    def enter(self, allowed: bool, make: Any, expected: list[Row] | Row) -> None:
        blocks: list[Any] = []
        if self.attempt(allowed, lambda: blocks.append(make())):
            blocks[0].__enter__()
            self.blocks.append(blocks[0])
            self.stack.append(expected)

    @precondition(lambda self: self.blocks)
    @rule()
    def leave(self) -> None:
        self.blocks.pop().__exit__(None, None, None)
        self.stack.pop()
        self.stack[-1] = self.drop(self.stack[-1])

    @rule(name=plugged_names)
    def train_a_little(self, name: str) -> None:
        """Opening and closing a trainable changes nothing but flags, which come back."""
        flags = [parameter.requires_grad for parameter in self.world.model.parameters()]
        if self.attempt(name in self.plugged, lambda: self.base.trainable(name).close()):
            assert [parameter.requires_grad for parameter in self.world.model.parameters()] == flags

    @rule()
    def attach_again(self) -> None:
        assert addenda.attach(self.world.model) is self.base

    @rule(wrong=st.integers(1, 4))
    def another_number_of_rows(self, wrong: int) -> None:
        chosen = self.stack[-1]
        if isinstance(chosen, list) and wrong != len(chosen):
            with pytest.raises(SelectionError):
                self.world.logits(self.world.model, IDS[:wrong])

    # what holds after each

    @invariant()
    def the_base_answers_as_the_reference(self) -> None:
        chosen = self.stack[-1]
        rows = chosen if isinstance(chosen, list) else [chosen] * 2
        if not 0 < len(rows) <= len(IDS):
            return
        found = self.world.logits(self.world.model, IDS[: len(rows)])
        if not any(rows):
            assert torch.equal(found, self.world.logits(self.world.model, IDS[: len(rows)]))
        for number, row in enumerate(rows):
            # two names of one module of the pool cannot be told to the reference as one mapping
            pairs = sorted((self.plugged[name], float(weight)) for name, weight in row.items())
            if len({number for number, _ in pairs}) == len(pairs):
                close(found[number], self.world.expected(number, tuple(pairs)))

    @invariant()
    def the_base_keeps_its_shape(self) -> None:
        assert list(self.base.modules) == list(self.plugged)
        assert list(self.world.model.state_dict()) == self.world.start["keys"]

    def teardown(self) -> None:
        for block in reversed(self.blocks):
            block.__exit__(None, None, None)
        self.base.detach()
        assert not differences(structure(self.world.model), self.world.start)
        assert torch.equal(self.world.logits(self.world.model, IDS), self.world.bare)


TestPlugging = Plugging.TestCase
TestPlugging.settings = settings(
    settings.get_profile(settings.get_current_profile_name()),
    max_examples=2 * settings().max_examples,
    stateful_step_count=20,
    suppress_health_check=list(HealthCheck),
)


def test_a_base_that_forgets_a_block_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: leaving a block keeps its selection. A short walk by hand finds it."""

    @contextlib.contextmanager
    def block(self: addenda.Base, chosen: Any) -> Any:
        self._select(chosen)
        yield self

    monkeypatch.setattr(addenda.Base, "_block", block)
    walk = Plugging()
    walk.new("a", POOL.index("lora"))
    walk.block({"a": 1.0})
    walk.the_base_answers_as_the_reference()
    walk.leave()
    with pytest.raises(AssertionError):
        walk.the_base_answers_as_the_reference()
    walk.teardown()


# -- the parser -------------------------------------------------------------------------------------------------------

module_names = st.from_regex(NAME, fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.text(max_size=40) | st.text(alphabet="ab1,+@=. -einf", max_size=30))
def test_any_text_is_a_selection_or_a_clear_error(text: str) -> None:
    try:
        chosen = selecting.weights_of(text)
    except SelectionError as error:
        assert str(error)
        return
    assert all(name and name == name.strip() for name in chosen)
    assert all(isinstance(weight, float) and math.isfinite(weight) for weight in chosen.values())


@given(st.dictionaries(module_names, finite, max_size=5), st.booleans())
def test_a_selection_written_out_reads_back(chosen: dict[str, float], server: bool) -> None:
    mark, between = ("@", "+") if server else ("=", ",")
    # a weight with a plus sign (1e+20) would be cut where the server's form puts its plus
    text = between.join(f"{name}{mark}{str(weight).replace('e+', 'e')}" for name, weight in chosen.items())
    assert selecting.parse(text) == chosen
    assert selecting.weights_of(text) == chosen
    assert selecting.weights_of(chosen) == chosen
    assert list(selecting.weights_of(list(chosen)).values()) == [1.0] * len(chosen)


@given(st.sampled_from(["a", "b=0.5", "c@2", "a=1,b", "a+b@0.25"]), st.sampled_from(["a", "b", "d=3"]))
def test_a_name_twice_is_an_error(one: str, two: str) -> None:
    first, second = selecting.parse(one), selecting.parse(two)
    both = set(first) & set(second)
    for join in (lambda: selecting.weights_of(one, two), lambda: selecting.parse(f"{one},{two}")):
        if both:
            with pytest.raises(SelectionError, match="twice"):
                join()
        else:
            assert join() == first | second


# -- kinds ------------------------------------------------------------------------------------------------------------

option_names = st.sampled_from(
    [
        "count",
        "mode",
        "init",
        "gate",
        "normalise",
        "extra",
        "width",
        "read_at",
        "rank",
        "alpha",
        "targets",
        "rslora",
        "x",
    ]
)
option_values = st.one_of(
    st.integers(-2, 9),
    st.sampled_from([0.1, -1.0, math.nan, True, None, "zeros", "text", "neutral", "context", "avg", "q_proj"]),
    st.lists(st.sampled_from(["q_proj", "down_proj", "nothing"]), max_size=2),
)


@settings(max_examples=60)
@given(
    st.sampled_from([*kinds(), "lora", "neutral-residues", "Nonsense"]),
    st.dictionaries(option_names, option_values, max_size=3),
)
def test_any_options_make_a_kind_or_a_clear_error(name: str, options: dict[str, Any]) -> None:
    anatomy = world().reference.anatomy
    try:
        kind = build_kind(name, options)
        adapters = kind.adapters(anatomy)
    except AddendaError as error:
        assert str(error)
        return
    assert adapters
    assert all(parameter.numel() for adapter in adapters.values() for parameter in adapter.parameters())
