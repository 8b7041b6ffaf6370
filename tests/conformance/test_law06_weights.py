"""Law 6, weights mean what they say: 1 is the module, 0 is off, others scale it; the order of naming never matters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from addenda.bases import attention
from addenda.core.call import Call, Share
from addenda.core.errors import SelectionError
from addenda.core.site import Seam
from addenda.plug.selection import Selection
from conformance.kinds import CASES, MAIN, REFUSED, pairs
from conformance.world import IDS, Subject, assert_alive, bare, batch, close, logits, subject_of, throwaway

ALL = torch.zeros(4, dtype=torch.long)


def check_one_and_zero(subject: Subject) -> None:
    """Every way of saying 1 gives the same bits, every way of saying 0 the bare base's."""
    base, (ids, mask) = subject.base, batch()

    def run(selection: Any) -> Tensor:
        with selection:
            return logits(base.model, ids, mask)

    one = run(base.using("m"))
    ways = [
        base.using(m=1.0),
        base.using({"m": 1}),
        base.using(["m"]),
        base.using("m=1.0"),
        base.rows([{"m": 1.0}] * 4),
    ]
    for way in ways:
        assert torch.equal(run(way), one), "a module at 1.0 is not that module"
    by_index = run(base.rows(ALL, table=[{"m": 1.0}]))
    if subject.joint:  # an additive mask of zeros is another kernel's input
        close(by_index, one)
    else:
        assert torch.equal(by_index, one), "a module at 1.0 by index is not that module"
    zero = subject.bare()
    ways = [base.using(m=0.0), base.using({"m": 0}), base.using("m=0"), base.rows([{"m": 0.0}] * 4)]
    for way in [*ways, base.rows(ALL, table=[{"m": 0.0}]), base.rows(ALL, table=[{"m": 0.0}, {"m": 1.0}])]:
        assert torch.equal(run(way), zero), "a module at 0.0 is not off"


def check_order(subject: Subject) -> None:
    """Modules named in any order, in any form, give the same bits; names that sort otherwise give the same sum."""
    base, (ids, mask) = subject.base, batch()

    def run(selection: Any) -> Tensor:
        with selection:
            return logits(base.model, ids, mask)

    expected = run(base.using(m=1.0, n=0.5, o=1.0))
    ways = [
        base.using(o=1.0, n=0.5, m=1.0),
        base.using("n=0.5,o,m"),
        base.using({"o": 1, "m": 1}, n=0.5),
        base.using("o", {"n": 0.5}, "m"),
    ]
    for way in ways:
        assert torch.equal(run(way), expected), "the order of naming matters"
    rows = [{"m": 1.0, "n": 0.5, "o": 1.0}, {"o": 1.0, "n": 0.5, "m": 1.0}]
    mixed = run(base.rows([*rows, *rows]))
    assert torch.equal(mixed, run(base.rows([rows[0]] * 4))), "the order of naming matters in rows"
    close(mixed, expected)
    table = [{"o": 1.0, "n": 0.5, "m": 1.0}, {"n": 0.25}, {}]
    index = torch.tensor([0, 1, 2, 0])
    close(run(base.rows(index, table=table)), run(base.rows([table[n] for n in index.tolist()])))


def check_weights(subject: Subject) -> None:
    """What a weight does, by its definition."""
    if subject.joint:
        check_joint(subject)
    elif subject.base.modules["m"].kind.seam is Seam.HEAD:
        check_mixed(subject)
    else:
        check_scaled(subject)


def check_mixed(subject: Subject) -> None:
    """A share of the mixture: probabilities move by the weighted sum of what each module adds alone, up to a share of 1."""

    def probabilities(weights: dict[str, float]) -> Tensor:
        with subject.base.using(weights):
            return logits(subject.model, *batch()).softmax(-1)

    off = subject.bare().softmax(-1)
    m, n = (probabilities({name: 1.0}) - off for name in "mn")
    assert min(float(m.abs().max()), float(n.abs().max())) > 1e-3
    for a, b in ((0.5, 0.0), (2.0, 1.0), (0.7, 0.3)):
        for found in (probabilities({"m": a, "n": b}), probabilities({"n": b, "m": a})):
            assert float((found - off - (a * m + b * n)).abs().max()) < 1e-5, f"weights {a}, {b}"
            assert float((found.sum(-1) - 1).abs().max()) < 1e-5
    full = probabilities({"m": 1e6})
    assert float((probabilities({"m": 2e6}) - full).abs().max()) < 1e-6, "a share is at most 1"
    for refused in ({"m": -0.5}, {"n": -1e-9}):
        with pytest.raises(SelectionError, match="negative"):
            subject.base.use(refused)


def check_joint(subject: Subject) -> None:
    """Log w on the scores: w splits over copies of the slots; a negative weight is refused."""
    base, (ids, mask) = subject.base, batch()
    if not CASES[subject.case].text:  # a frozen sink is there once for all, so that copies have fewer slots
        copy = subject.plug("m2")
        assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), base.modules["m"].parameters(), strict=True))
        for whole, parts in (({"m": 2.0}, {"m": 1.0, "m2": 1.0}), ({"m": 0.8}, {"m": 0.3, "m2": 0.5})):
            with base.using(whole):
                expected = logits(base.model, ids, mask)
            for selection in (base.using(parts), base.rows([parts] * 4), base.rows(ALL, table=[parts])):
                with selection:
                    close(logits(base.model, ids, mask), expected)
        base.unplug("m2")
    tiny = 1e-30  # log w far below every score: as good as off
    with base.using(m=tiny):
        close(logits(base.model, ids, mask), subject.bare())
    for refused in ({"m": -0.5}, {"m": -1e-9}):
        with pytest.raises(SelectionError, match="negative"):
            base.use(refused)
        with pytest.raises(SelectionError, match="negative"):
            base.rows([refused, {}])
        with pytest.raises(SelectionError, match="negative"):
            base.rows(ALL, table=[refused])


def check_scaled(subject: Subject) -> None:
    """At the first site that it changes, the output moves by the weighted sum of what each module adds alone."""

    def added(weights: dict[str, float], way: str = "using") -> Tensor:
        with (
            outputs(subject) as found,
            {
                "using": lambda: subject.base.using(weights),
                "rows": lambda: subject.base.rows([weights] * 4),
                "index": lambda: subject.base.rows(ALL, table=[weights]),
            }[way](),
        ):
            logits(subject.model, *batch())
        return found[at] - off[at]

    with outputs(subject) as off, subject.base.off():
        logits(subject.model, *batch())
    with outputs(subject) as on, subject.base.using("m"):
        logits(subject.model, *batch())
    at = next(n for n, (a, b) in enumerate(zip(on, off, strict=True)) if not torch.equal(a, b))
    m, n = added({"m": 1.0}), added({"n": 1.0})
    assert float(m.abs().max()) > 1e-3
    assert float(n.abs().max()) > 1e-3
    largest = 1e-5 * float(max(off[at].abs().max(), m.abs().max(), n.abs().max()))
    for way in ("using", "rows", "index"):
        for a, b in ((0.5, 0.0), (-1.0, 0.0), (2.0, 1.0), (0.7, -0.3)):
            if b and CASES[subject.case].beside is not None:
                continue  # one that measures at a site below is told something else where the other changes it
            far = float((added({"m": a, "n": b}, way) - (a * m + b * n)).abs().max())
            assert far <= 4 * largest, f"weights {a}, {b} by {way}: off by {far:.1e}"


@contextmanager
def outputs(subject: Subject) -> Iterator[list[Tensor]]:
    """The outputs of the sites that `m` touches, in the order in which they run, once the block has ended."""
    found: list[Tensor] = []

    def note(_: nn.Module, __: Any, out: Any) -> None:
        found.append((out[0] if isinstance(out, tuple) else out).detach().clone())

    host = subject.base.host
    keys = list(subject.base.modules["m"].sites())
    handles = [host.submodule(host.site(key).path).register_forward_hook(note) for key in keys]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(("arch", "case"), pairs())
def test_weights_mean_what_they_say(arch: str, case: str) -> None:
    with subject_of(arch, case) as subject:
        subject.plug("m")
        subject.plug("n", seed=1)
        subject.plug("o", case="lora" if case != "lora" else "registers")
        assert_alive(subject, "m", "n")
        check_one_and_zero(subject)
        check_order(subject)
        check_weights(subject)


@pytest.mark.parametrize("arch", ["llama", "gemma3", "opt", "qwen3_moe"])
def test_all_kinds_in_any_order(arch: str) -> None:
    cases = [case for case in MAIN if (arch, case) not in REFUSED]
    with subject_of(arch, "lora") as subject:
        names = [f"m{number}" for number in range(len(cases))]
        for name, case in zip(names, cases, strict=True):
            subject.plug(name, case=case)
        found = []
        for order in (names, names[::-1], names[3:] + names[:3]):
            with subject.base.using(dict.fromkeys(order, 0.5)):
                found.append(logits(subject.model, *batch()))
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])
        for name, case in zip(names, cases, strict=True):  # and each of them counts
            if CASES[case].gate == "context":
                continue  # what the others do may shut its gate for good
            with subject.base.using({other: 0.5 for other in names if other != name}):
                assert not torch.equal(logits(subject.model, *batch()), found[0]), f"{name} adds nothing to the others"


#: slots of which every token sees all
ALL_SEEN = [name for name, case in CASES.items() if case.joint and case.behind is None and "pages" not in name]


@pytest.mark.parametrize("weight", [1.0, 0.3, 4.0])
@pytest.mark.parametrize("case", ALL_SEEN)
def test_a_joint_weight_against_the_formula(case: str, weight: float) -> None:
    """Softmax over [slots + log w, tokens], written out, at the first layer of a Llama."""
    with subject_of("llama", case) as subject:
        subject.plug("m")
        layer = subject.model.model.layers[0].self_attn
        caught: dict[str, Any] = {}
        projections = ("q_proj", "k_proj", "v_proj")
        handles = [
            layer.register_forward_pre_hook(lambda _, __, kwargs: caught.update(kwargs), with_kwargs=True),
            layer.o_proj.register_forward_pre_hook(lambda _, args: caught.update(out=args[0])),
            *(  # of the projections, what a module may have added to them too
                getattr(layer, name).register_forward_hook(lambda _, __, out, name=name: caught.update({name: out}))
                for name in projections
            ),
        ]
        with subject.base.using(m=weight):
            logits(subject.model, *batch())
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            slots = subject.base.reader.materialise(subject.base.modules["m"])["layers.0.attention"]
            x, (cos, sin) = caught["hidden_states"], caught["position_embeddings"]
            q, k, v = (caught[name].view(*x.shape[:2], -1, 16).transpose(1, 2) for name in projections)
            q, k = apply_rotary_pos_emb(q, k, cos, sin)
            k, v = (
                torch.cat([s.expand(4, -1, -1, -1), t], 2).repeat_interleave(2, 1)
                for s, t in zip(slots, (k, v), strict=True)
            )
            scores = q @ k.transpose(2, 3) / 4.0
            count, length = slots[0].shape[1], x.shape[1]
            scores[..., :count] += math.log(weight)
            causal = torch.ones(length, length).triu(1).bool()
            scores[..., count:] = scores[..., count:].masked_fill(causal, -torch.inf)
            expected = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        close(caught["out"], expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, True, "0.5", None, 1j])
def test_a_weight_is_a_finite_number(bad: Any) -> None:
    with subject_of("llama", "lora") as subject:
        subject.plug("m")
        for call in (
            lambda: subject.base.use({"m": bad}),
            lambda: subject.base.using(m=bad),
            lambda: subject.base.rows([{"m": bad}]),
            lambda: subject.base.rows(ALL, table=[{"m": bad}]),
        ):
            with pytest.raises(SelectionError, match="finite number"):
                call()
        assert torch.equal(logits(subject.model, *batch()), bare("llama"))


# -- mutants --------------------------------------------------------------------------------------------------------


def weights_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """Every weight counts as one."""
    patch.setattr(Call, "weight_of", lambda self, share: self.gates.get(share.name, 1.0))


def joint_weights_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """No log w on the scores."""
    patch.setattr(attention, "_log", lambda weight, like: None)


def joint_weights_scale_values(patch: pytest.MonkeyPatch) -> None:
    """The weight multiplies the scores' bias instead of its logarithm."""
    original = attention._log
    patch.setattr(
        attention,
        "_log",
        lambda weight, like: None if isinstance(weight, float) and weight == 1.0 else original(weight, like).exp(),
    )


def contributions_in_naming_order(patch: pytest.MonkeyPatch) -> None:
    """Modules act in the order in which they were named, and later ones see earlier ones' outputs rounded."""
    original = Selection.shares

    def shares(self: Selection, *args: Any) -> list[Share]:
        found = {share.name: share for share in original(self, *args)}
        return [found[name] for name in self.everyone] if self.everyone else list(found.values())

    patch.setattr(Selection, "shares", shares)


def zero_is_almost_off(patch: pytest.MonkeyPatch) -> None:
    """A weight of zero is a very small one."""
    patch.setattr("addenda.plug.selection._nonzero", lambda weights: {n: w or 1e-6 for n, w in weights.items()})


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        (weights_are_ignored, "lora"),
        (weights_are_ignored, "neutral"),
        (weights_are_ignored, "registers-neutral"),
        (joint_weights_are_ignored, "registers"),
        (joint_weights_scale_values, "registers"),
        (contributions_in_naming_order, "parallel"),
        (contributions_in_naming_order, "registers"),
        (zero_is_almost_off, "parallel"),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = throwaway("llama", case)
    subject.plug("n", seed=1)
    subject.plug("o", case="registers" if case in ("lora", "registers") else "lora")  # two parts of a softmax commute
    mutant(monkeypatch)
    with pytest.raises(AssertionError):  # noqa: PT012
        check_one_and_zero(subject)
        check_order(subject)
        check_weights(subject)


def test_the_seams_are_all_here() -> None:
    assert {seam.value for seam in Seam} == {"ffn", "attention", "linear", "head", "text"}
    assert IDS.shape == (4, 11)
