"""A step: its gradient is the one it says it is, for one module, for several, and with penalties on replay alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import addenda
from addenda.core.contracts import AddingAdapter
from addenda.core.gate import starts_of
from addenda.objectives.head import Head
from addenda.writing.batches import Batch, Item, stack
from addenda.writing.distributed import Processes
from addenda.writing.isolation import way_of
from addenda.writing.plan import make_plan
from addenda.writing.prepare import prepared
from addenda.writing.settings import settings_from
from addenda.writing.step import Stepper
from pico import pico

CPU = torch.device("cpu")
Make = Callable[..., addenda.Base]
KINDS: dict[str, Any] = {
    "token": addenda.NeutralResidues(width=8, gate="token"),
    "context": addenda.NeutralResidues(width=8, gate="context", read_at=0),
    "sigmoid": addenda.NeutralResidues(width=8, gate="sigmoid"),
    "lora": addenda.LoRA(rank=2),
    "registers": addenda.Registers(count=4, init="text"),
    "cartridge": addenda.Cartridge(count=4),
}


def grown(base: addenda.Base, name: str, kind: Any) -> None:
    """A module that already does something, so that every parameter has a gradient."""
    module = (
        base.new(name, kind, text="the heart and the river. " * 3) if kind.starts_from_text else base.new(name, kind)
    )
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)


class Caught:
    """Takes one step's gradients without letting an optimizer use them."""

    def __init__(self, base: addenda.Base, names: Any, texts: dict[str, Any], corpus: Any, **settings: Any) -> None:
        settings = {"length": 32, "batch_rows": 4, "clip": None, **settings}
        modules = [base.modules[name] for name in ([names] if isinstance(names, str) else names)]
        if not any(module.classifies for module in modules):  # such a weight is refused where there is no gate
            settings.pop("gate_weight", None)
        alongside, lr = settings.pop("alongside", ()), settings.pop("lr", 1e-2)
        self.base, self.texts = base, texts
        self.plan = make_plan(
            base,
            names,
            corpus=corpus,
            replay=texts["replay"],
            replay_share=0.5,
            tokens=10**4,
            lr=lr,
            seed=0,
            alongside=alongside,
            settings=settings_from(settings),
        )
        self.stepper = Stepper(base, self.plan, Head(base.model), Processes(), torch.device("cpu"))
        self.stepper._update = lambda name, step: None  # type: ignore[method-assign]

    def passes(self) -> list[list[Item]]:
        mixture = self.plan.mixture(self.base)
        return [mixture.take(self.plan.settings.batch_rows) for _ in range(self.plan.settings.accumulate)]

    def gradients(self) -> dict[str, dict[str, torch.Tensor]]:
        seed_and_checkpointing: Any = {"seed": 0, "gradient_checkpointing": self.plan.settings.gradient_checkpointing}
        with prepared(self.base, self.plan.names, **seed_and_checkpointing):
            self.sums = self.stepper.take(0, self.passes())
            return {
                name: {k: p.grad.clone() for k, p in self.base.modules[name].named_parameters() if p.grad is not None}
                for name in self.plan.names
            }


def assert_close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert float((gradient - two[name]).abs().max()) <= tolerance * scale, name
    assert max(float(g.abs().max()) for g in one.values()) > 1e-4


def plain_loss(base: addenda.Base, batch: Batch, name: str) -> torch.Tensor:
    """The loss taken the simple way, from whole logits."""
    with base.using({name: 1.0}), base.watching(documents=batch.seen_documents):
        logits = base.model(input_ids=batch.student()["ids"], use_cache=False).logits
    each = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
    weights = batch.target_weights.flatten()
    return (each * weights).sum() / weights.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_mean_loss(make_base: Make, texts: dict[str, Any], kind: str) -> None:
    base = make_base()
    grown(base, "a", KINDS[kind])
    caught = Caught(base, "a", texts, texts["corpus"], local=0.0, gate_weight=0.0, loss_chunk=9)
    found = caught.gradients()["a"]
    with prepared(base, ["a"], seed=0, gradient_checkpointing=False):
        plain_loss(base, stack(caught.passes()[0], CPU), "a").backward()
        plain = {k: p.grad.clone() for k, p in base.modules["a"].named_parameters() if p.grad is not None}
    assert_close(found, plain)
    assert caught.sums["a"].corpus_tokens > 0
    assert caught.sums["a"].replay_tokens > 0


def test_accumulated_passes_equal_one(make_base: Make, texts: dict[str, Any]) -> None:
    base = make_base()
    grown(base, "a", KINDS["context"])
    one = Caught(base, "a", texts, texts["corpus"], batch_rows=6, local=1.0).gradients()["a"]
    three = Caught(base, "a", texts, texts["corpus"], batch_rows=2, accumulate=3, local=1.0).gradients()["a"]
    assert_close(one, three)


@pytest.mark.parametrize("kind", ["token", "context", "sigmoid", "lora"])
def test_checkpointing_changes_no_gradient(make_base: Make, texts: dict[str, Any], kind: str) -> None:
    base = make_base("opt", dropout=0.3)
    grown(base, "a", KINDS[kind])
    plain = Caught(base, "a", texts, texts["corpus"], local=1.0).gradients()["a"]
    again = Caught(base, "a", texts, texts["corpus"], local=1.0, gradient_checkpointing=True).gradients()["a"]
    assert_close(plain, again, 1e-6)


@pytest.mark.parametrize(
    "pair", [("token", "token"), ("context", "lora"), ("registers", "token"), ("sigmoid", "sigmoid")]
)
def test_modules_trained_in_one_batch_learn_what_each_learns_alone(
    make_base: Make, texts: dict[str, Any], pair: tuple[str, str]
) -> None:
    base = make_base()
    grown(base, "a", KINDS[pair[0]])
    grown(base, "bb", KINDS[pair[1]])
    corpora = {"a": texts["corpus"], "bb": texts["learning"] * 9}
    settings = {"local": 0.7, "gate_weight": 0.3, "accumulate": 2}
    together = Caught(base, ["a", "bb"], texts, corpora, **settings).gradients()
    for name in ("a", "bb"):
        alone = Caught(base, name, texts, corpora[name], **settings)
        assert_close(alone.gradients()[name], together[name])
        other = Caught(base, name, texts, corpora["bb" if name == "a" else "a"], **settings).gradients()[name]
        with pytest.raises(AssertionError):  # the mutant: another corpus has another gradient
            assert_close(other, together[name])


def local_by_hand(base: addenda.Base, batch: Batch) -> float:
    """Mean over sites of the mean absolute contribution on replay rows."""
    found: list[torch.Tensor] = []

    def observer(share: Any, site: str, **facts: Any) -> None:
        part = facts["contribution"]
        dense = torch.zeros(batch.targets.numel(), 64)
        if part is not None:
            dense = part.delta.flatten(0, -2) if part.index is None else dense.index_copy(0, part.index, part.delta)
        found.append(dense.view(*batch.targets.shape, 64)[batch.replay].abs().mean())

    with torch.no_grad(), base.using("a"), base.watching(observer=observer):
        base.model(input_ids=batch.student()["ids"], use_cache=False)
    return float(torch.stack(found).mean())


def test_the_local_loss_sees_replay_tokens_alone(make_base: Make, texts: dict[str, Any]) -> None:
    base = make_base()
    grown(base, "a", KINDS["token"])
    caught = Caught(base, "a", texts, texts["corpus"], local=1.0)
    caught.gradients()
    batch = stack(caught.passes()[0], CPU)
    assert caught.sums["a"].local == pytest.approx(local_by_hand(base, batch), rel=1e-4)
    assert batch.replay.sum() == 2
    # other corpus text leaves it as it is, other replay text does not
    other = Caught(base, "a", texts, ["nothing of the sort. " * 4] * 20, local=1.0)
    other.gradients()
    assert other.sums["a"].local == pytest.approx(caught.sums["a"].local, rel=1e-6)
    texts = texts | {"replay": ["Nothing of the sort. " * 4] * 20}
    changed = Caught(base, "a", texts, texts["corpus"], local=1.0)
    changed.gradients()
    assert changed.sums["a"].local != pytest.approx(caught.sums["a"].local, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_local_loss_has_a_gradient_for_every_kind(make_base: Make, texts: dict[str, Any], kind: str) -> None:
    base = make_base()
    grown(base, "a", KINDS[kind])
    without = Caught(base, "a", texts, texts["corpus"], local=0.0).gradients()["a"]
    heavy = Caught(base, "a", texts, texts["corpus"], local=100.0)
    assert max(float((g - without[k]).abs().max()) for k, g in heavy.gradients()["a"].items()) > 1e-3
    assert heavy.sums["a"].local > 0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gate_penalty_is_that_of_the_hinges(make_base: Make, texts: dict[str, Any], accumulate: int) -> None:
    base = make_base()
    grown(base, "a", KINDS["context"])
    settings = {"local": 0.0, "accumulate": accumulate}
    caught = Caught(base, "a", texts, texts["corpus"], gate_weight=1.0, **settings)
    with_ = caught.gradients()["a"]["gate.bias"]
    without = Caught(base, "a", texts, texts["corpus"], gate_weight=0.0, **settings).gradients()["a"]["gate.bias"]
    gate, scores = base.modules["a"].gate, {False: [], True: []}
    for items in caught.passes():
        batch = stack(items, CPU)
        with base.using("a"), site_input(base, gate.site) as seen:
            base.model(input_ids=batch.student()["ids"], use_cache=False)
        for row, replay in enumerate(batch.replay.tolist()):
            score, _ = gate(seen[-1][row : row + 1], starts=starts_of(batch.seen_documents[row : row + 1]))
            scores[replay].append(score.flatten())
    shut, open_ = torch.cat(scores[True]), torch.cat(scores[False])
    penalty = torch.relu(1 + shut).mean() + torch.relu(1 - open_).mean()
    assert caught.sums["a"].gate == pytest.approx(penalty.item(), rel=1e-5)
    (slope,) = torch.autograd.grad(penalty, gate.bias)
    assert float(with_ - without) == pytest.approx(float(slope), abs=1e-4)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("arch", ["llama", "opt"])
def test_the_gate_penalty_of_sigmoid_gates_is_the_cross_entropy(
    make_base: Make, texts: dict[str, Any], arch: str, accumulate: int
) -> None:
    base = make_base(arch)
    grown(base, "a", KINDS["sigmoid"])
    module: Any = base.modules["a"]
    caught = Caught(base, "a", texts, texts["corpus"], local=0.0, gate_weight=1.0, accumulate=accumulate)
    with_ = caught.gradients()["a"]
    silent = Caught(base, "a", texts, texts["corpus"], local=0.0, gate_weight=0.0, accumulate=accumulate)
    without = silent.gradients()["a"]
    found: dict[str, dict[bool, list[torch.Tensor]]] = {key: {False: [], True: []} for key in module.sites()}
    for items in caught.passes():
        batch = stack(items, CPU)

        def observer(share: Any, site: str, *, replay: torch.Tensor = batch.replay, **facts: Any) -> None:
            adapter = module.adapter(site)
            scores = facts["x"] @ adapter.router + adapter.bias
            for on in (False, True):
                found[site][on].append(scores[replay == on].flatten())

        with base.using("a"), base.watching(observer=observer, documents=batch.seen_documents):
            base.model(input_ids=batch.student()["ids"], use_cache=False)
    each = []
    for scores in found.values():
        subject, replay = torch.sigmoid(torch.cat(scores[False])), torch.sigmoid(torch.cat(scores[True]))
        each.append(-subject.log().mean() - (1 - replay).log().mean())
    penalty = torch.stack(each).mean()
    assert caught.sums["a"].gate == pytest.approx(penalty.item(), rel=1e-5)
    assert silent.sums["a"].gate == 0.0
    slopes = torch.autograd.grad(penalty, list(module.parameters()), materialize_grads=True)
    # the gates' own, and those of the adapters below, whose output the gates above read
    for (name, _), slope in zip(module.named_parameters(), slopes, strict=True):
        torch.testing.assert_close(with_[name] - without[name], slope, rtol=1e-3, atol=1e-5)


@contextmanager
def site_input(base: addenda.Base, key: str) -> Iterator[list[torch.Tensor]]:
    """What a site's submodule was given, call by call."""
    seen: list[torch.Tensor] = []
    handle = base.host.submodule(base.host.site(key).path).register_forward_pre_hook(
        lambda _, args: seen.append(args[0].detach())
    )
    yield seen
    handle.remove()


def test_the_gate_is_clipped_apart(make_base: Make, texts: dict[str, Any]) -> None:
    base = make_base()
    grown(base, "a", KINDS["context"])
    caught = Caught(base, "a", texts, texts["corpus"], local=0.0, gate_weight=100.0, clip=1e-3)
    found = caught.gradients()["a"]
    for part in (True, False):
        norms = [g.norm() for name, g in found.items() if name.startswith("gate.") == part]
        assert float(torch.stack(norms).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_alongside_modules_are_on_and_stay_as_they_are(make_base: Make, texts: dict[str, Any]) -> None:
    base = make_base()
    grown(base, "a", KINDS["lora"])
    grown(base, "bb", KINDS["token"])
    alone = Caught(base, "a", texts, texts["corpus"], local=0.0)
    beside = Caught(base, "a", texts, texts["corpus"], local=0.0, alongside={"bb": 1.0})
    one, two = alone.gradients()["a"], beside.gradients()["a"]
    assert max(float((one[k] - two[k]).abs().max()) for k in one) > 1e-5
    assert alone.sums["a"].loss != beside.sums["a"].loss
    assert all(p.grad is None for p in base.modules["bb"].parameters())


ISOLATED = ["llama", "mistral", "gemma2", "gemma3", "gpt_neox", "gpt2", "opt", "qwen3"]


@pytest.mark.parametrize("kind", ["context", "registers"])
@pytest.mark.parametrize("arch", ISOLATED)
def test_isolated_documents_equal_documents_alone(arch: str, kind: str) -> None:
    base = addenda.attach(pico(arch))
    grown(base, "a", addenda.Registers(count=4) if kind == "registers" else KINDS[kind])
    row = torch.randint(4, 128, (1, 40))
    documents = torch.tensor([[3] * 13 + [4] * 1 + [5] * 26])
    weights = torch.ones(1, 40)
    batch = Batch(row, documents, weights, torch.zeros(1, dtype=torch.bool), ("a",), 0, isolate=way_of(base))
    with torch.no_grad(), base.using("a"):
        with base.watching(documents=batch.seen_documents):
            inputs = batch.student()
            ids = inputs.pop("ids")
            packed = base.model(input_ids=ids, use_cache=False, **inputs).logits
            open_ = base.model(input_ids=ids, use_cache=False).logits
        alone = [base.model(input_ids=part, use_cache=False).logits for part in ids.split([13, 1, 25], 1)]
    scale = float(packed.abs().max())
    assert float((packed - torch.cat(alone, 1)).abs().max()) < 1e-5 * scale
    assert float((open_ - packed)[:, 14:].abs().max()) > 1e-3 * scale  # without isolation they are seen


def test_a_teacher_that_reads_no_more_teaches_what_the_base_says(make_base: Make, texts: dict[str, Any]) -> None:
    base = make_base()
    base.new("a", KINDS["lora"])
    settings = {"objective": "distill", "top_k": 128}
    silent = Caught(base, "a", texts, texts["corpus"], context=0, **settings)
    silent.gradients()
    assert abs(silent.sums["a"].loss) < 1e-5  # a fresh module says what the base says
    taught = Caught(base, "a", texts, texts["corpus"], context=32, **settings)
    gradients = taught.gradients()["a"]
    assert taught.sums["a"].loss > 0.01
    assert max(float(g.abs().max()) for g in gradients.values()) > 1e-4


def test_the_teacher_is_the_bare_base_with_more_context(make_base: Make, texts: dict[str, Any]) -> None:
    base = make_base()
    grown(base, "a", KINDS["lora"])
    settings = {"objective": "distill", "top_k": 128, "context": 32, "alongside": {}}
    caught = Caught(base, "a", texts, texts["corpus"], **settings)
    caught.gradients()
    batch = stack(caught.passes()[0], CPU, context=32)
    with torch.no_grad():
        with base.off():
            teacher = base.model(input_ids=batch.ids[:, :-1], use_cache=False).logits[:, 32:].log_softmax(-1)
        with base.using("a"):
            student = base.model(input_ids=batch.ids[:, 32:-1], use_cache=False).logits.log_softmax(-1)
    each = F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1)
    rows = batch.target_weights * ~batch.replay[:, None]
    assert caught.sums["a"].loss == pytest.approx(float((each * rows).sum() / rows.sum()), rel=1e-3)


def test_every_gate_shut_learns_nothing_and_does_not_fail(make_base: Make, texts: dict[str, Any]) -> None:
    base = make_base()
    grown(base, "a", KINDS["token"])
    for key in base.modules["a"].sites():
        adapter = base.modules["a"].adapter(key)
        assert isinstance(adapter, AddingAdapter)
        adapter.get_buffer("threshold").fill_(1e9)
    gradients = Caught(base, "a", texts, texts["corpus"], local=1.0).gradients()["a"]
    assert not any(gradient.any() for gradient in gradients.values())
