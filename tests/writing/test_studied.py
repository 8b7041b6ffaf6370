"""Training on records with what a teacher reads: the gradient is that of a teacher run live, and resumes are exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import addenda
from addenda.comparing.peak import Peak
from addenda.core.errors import AddendaError, DataError, TrainingError
from addenda.objectives.head import Head
from addenda.text.encoding import Encoder
from addenda.text.teaching import Teaching
from addenda.text.texts import texts
from addenda.writing import teacher as teacher_file
from addenda.writing.batches import stack
from addenda.writing.distributed import Processes
from addenda.writing.lessons import Lessons
from addenda.writing.plan import make_plan
from addenda.writing.prepare import prepared
from addenda.writing.settings import settings_from
from addenda.writing.shards import Shards
from addenda.writing.step import Stepper

from .studied import GENERAL, RUN, make, records

CPU = torch.device("cpu")


def tensors(base: addenda.Base) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in base.modules["a"].tensors().items()}


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def grow(base: addenda.Base, size: float = 0.05) -> None:
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in base.modules["a"].parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * size)


class Caught:
    """A step's gradients, and its rows, without an optimizer that uses them."""

    def __init__(self, base: addenda.Base, **more: Any) -> None:
        given = RUN | more
        named = {key: given.pop(key) for key in ("corpus", "replay", "replay_share", "tokens", "lr")}
        settings = settings_from({"clip": None, **given})
        self.base = base
        self.plan = make_plan(base, "a", **named, seed=0, alongside=(), settings=settings)
        head = Head(base.model)
        self.lessons = Lessons(base, self.plan, head, None, Processes()) if self.plan.studied else None
        self.stepper = Stepper(base, self.plan, head, Processes(), CPU, self.lessons)
        self.stepper._update = lambda name, step: None  # type: ignore[method-assign]
        self.items = self.plan.mixture(base).take(self.plan.rows)

    def gradients(self) -> dict[str, torch.Tensor]:
        with prepared(self.base, ["a"], seed=0, gradient_checkpointing=False):
            if self.lessons is not None:
                self.lessons.make()
            self.sums = self.stepper.take(0, [self.items])["a"]
            if self.lessons is not None:
                self.lessons.close()
            own = self.base.modules["a"].named_parameters()
            return {name: p.grad.clone() for name, p in own if p.grad is not None}


def live(base: addenda.Base, corpus: Any) -> torch.Tensor:
    """The teacher's log-probabilities of every token to learn [n, V], from each record read anew."""
    teaching, said = Teaching(Encoder(base.tokenizer, base.vocabulary, close=True)), []
    for record in texts(corpus):
        lesson = teaching.lesson(record)
        with torch.no_grad(), base.off():
            logits = base.model(input_ids=torch.from_numpy(lesson.ids).long()[None], use_cache=False).logits[0]
        said.append(logits.log_softmax(-1)[torch.from_numpy(lesson.places) - 1])
    return torch.cat(said)


@pytest.mark.parametrize("objective", ["distill", "reverse_kl"])
def test_the_gradient_is_that_of_a_teacher_run_live(objective: str) -> None:
    base = make()
    grow(base)
    caught = Caught(base, objective=objective, top_k=128, replay=None, replay_share=0.1, local=None)
    found = caught.gradients()
    said, batch = live(base, records()), stack(caught.items, CPU, isolate="positions")
    at = batch.target_rows
    assert at is not None
    with prepared(base, ["a"], seed=0, gradient_checkpointing=False):
        with base.using("a"), base.watching(documents=batch.seen_documents):
            logits = base.model(**{"input_ids" if k == "ids" else k: v for k, v in batch.student().items()}).logits
        student, rows = logits[at >= 0].log_softmax(-1), said[at[at >= 0]]
        given = (student, rows) if objective == "distill" else (rows, student)
        each = F.kl_div(*given, log_target=True, reduction="none").sum(-1)
        assert len(each) == int(batch.target_weights.sum()) > 20
        each.mean().backward()
        wanted = {name: p.grad.clone() for name, p in base.modules["a"].named_parameters() if p.grad is not None}
    assert caught.sums.loss == pytest.approx(float(each.detach().mean()), rel=2e-3)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).abs().max()) <= 4e-3 * float(gradient.abs().max()), name
        assert float(gradient.abs().max()) > 1e-4


def test_a_silent_module_pays_nothing_on_replay() -> None:
    caught = Caught(make(), replay_share=0.5)
    caught.gradients()
    assert abs(caught.sums.replay / caught.sums.replay_tokens) < 1e-6
    assert (caught.sums.loss or 0.0) > 0.05


def test_on_replay_the_teacher_is_the_bare_base_on_the_same_row() -> None:
    base = make()
    grow(base)
    plain = {"objective": "lm", "replay_objective": "distill(top_k=128)", "local": 0.0, "isolate": False}
    caught = Caught(base, corpus=GENERAL[::-1], replay_share=0.5, **plain)
    caught.gradients()
    batch = stack([item for item in caught.items if item.replay], CPU)
    with torch.no_grad():
        with base.off():
            teacher = base.model(batch.ids[:, :-1]).logits.log_softmax(-1)
        with base.using("a"):
            student = base.model(batch.ids[:, :-1]).logits.log_softmax(-1)
    each = F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1)
    wanted = float((each * batch.target_weights).sum() / batch.target_weights.sum())
    assert caught.sums.replay / caught.sums.replay_tokens == pytest.approx(wanted, rel=1e-3)
    corpus = stack([item for item in caught.items if not item.replay], CPU)
    with torch.no_grad(), base.using("a"):
        logits = base.model(corpus.ids[:, :-1]).logits
    nats = F.cross_entropy(logits.flatten(0, 1), corpus.targets.flatten(), reduction="none")
    weights = corpus.target_weights.flatten()
    assert caught.sums.loss == pytest.approx(float((nats * weights).sum() / weights.sum()), rel=1e-3)


def test_replay_may_be_learned_as_language() -> None:
    caught = Caught(make(), replay_share=0.5, replay_objective="lm")
    caught.gradients()
    assert caught.sums.replay / caught.sums.replay_tokens > 1.0


def test_a_run_learns_what_the_teacher_read(tmp_path: Path) -> None:
    base = make()
    report = addenda.train(base, "a", **RUN | {"tokens": 60 * 4 * 48}, out=tmp_path / "a")
    first = addenda.train(make(), "a", **RUN | {"tokens": 4 * 48})
    assert (report.losses["a"] or 9.0) < 0.7 * (first.losses["a"] or 0.0)
    training = base.modules["a"].card.training[-1]
    assert (training.objective, training.settings["isolate"]) == ("distill", True)
    assert report.freed > 0
    assert not (tmp_path / "a.run" / "teacher").exists()


def test_plain_training_does_not_look_at_what_a_teacher_would_read() -> None:
    one, other = make(), make()
    bare = [{"messages": record["messages"]} for record in records()]
    addenda.train(one, "a", **RUN | {"objective": "lm"})
    addenda.train(other, "a", **RUN | {"objective": "lm", "corpus": bare})
    assert_equal(tensors(one), tensors(other))


class Enough(Exception):
    """Stops a run at once, as a power cut would."""


def cut_off(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    original, calls = getattr(owner, name), [0]

    def stop(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Enough
        return original(*args, **options)

    monkeypatch.setattr(owner, name, stop)


#: what is broken off, at which call
CUTS: dict[str, tuple[Any, str, int]] = {"step": (Stepper, "take", 8), "shards": (Shards, "write", 3)}


@pytest.mark.parametrize("cut", CUTS)
def test_a_run_that_was_broken_off_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    monkeypatch.setattr(teacher_file, "READ", 900)
    given = RUN | {"checkpoint_every": 3}
    straight, broken, again = make(), make(), make()
    report = addenda.train(straight, "a", **given, out=tmp_path / "straight")
    with monkeypatch.context() as patched:
        cut_off(patched, *CUTS[cut])
        with pytest.raises(Enough):
            addenda.train(broken, "a", **given, out=tmp_path / "cut")
    resumed = addenda.train(again, "a", **given, out=tmp_path / "cut", resume=True)
    assert resumed.resumed_from == (6 if cut == "step" else None)
    assert resumed.losses == report.losses
    assert resumed.data_crc == report.data_crc
    assert_equal(tensors(again), tensors(straight))


def test_runs_share_a_folder_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = RUN | {"teacher": str(tmp_path / "said")}
    one = make()
    addenda.train(one, "a", **given)
    monkeypatch.setattr(teacher_file.Teacher, "said", None)  # nobody reads any more
    same, other = make(), make()
    addenda.train(same, "a", **given)
    assert_equal(tensors(one), tensors(same))
    other.new("b", addenda.FFALoRA(rank=2), seed=4)
    addenda.train(other, "b", **given | {"objective": "reverse_kl"}, seed=3, out=tmp_path / "b")
    assert list((tmp_path / "said").iterdir())


def test_nothing_is_left_where_no_folder_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    addenda.train(make(), "a", **RUN)
    assert not list(tmp_path.iterdir())


def test_several_modules_have_teachers_of_their_own() -> None:
    base, alone = make(), make()
    base.new("b", addenda.LoRA(rank=2))
    corpora = {"a": records(), "b": records(36)[12:]}
    addenda.train(base, ["a", "b"], **RUN | {"corpus": corpora})
    addenda.train(alone, "a", **RUN)
    for name, tensor in tensors(alone).items():
        torch.testing.assert_close(tensors(base)[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_penalty_that_is_fitted_on_rows_takes_their_likelihood(tmp_path: Path) -> None:
    base = make()
    addenda.train(base, "a", **RUN | {"penalty": "ewc", "earlier": GENERAL})
    assert base.modules["a"].card.training[-1].objective == "distill"


def test_the_plan_tells_what_the_teacher_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = RUN | {"log": True, "teacher": str(tmp_path / "said")}
    addenda.train(make(), "a", **given)
    told = capsys.readouterr().err
    assert "  teacher: reads 3," in told
    assert f"records, in {tmp_path / 'said'}" in told
    addenda.train(make(), "a", **given)
    assert "  teacher: has read all of it before: " in capsys.readouterr().err


BARE = [{"messages": record["messages"]} for record in records()]
WRONG: dict[str, tuple[dict[str, Any], type[AddendaError], str]] = {
    "one without": ({"corpus": [*records(), BARE[0]]}, DataError, "text 25: the record has no 'reads'"),
    "too long": ({"corpus": [*records(), records()[0] | {"reads": "long. " * 300}]}, DataError, "text 25: the teacher"),
    "no text": ({"corpus": [records()[0] | {"reads": 1.5}]}, DataError, "text 1: 'reads' is the text .*; got float"),
    "none at all": ({"corpus": BARE, "objective": "on_policy"}, DataError, "'on_policy' needs records with 'reads'"),
    "a folder for nothing": ({"corpus": BARE, "teacher": "said"}, TrainingError, "teacher= is the folder"),
    "context": ({"context": 16}, TrainingError, "context=16 is for running text"),
    "no replay": (
        {"replay": None, "replay_share": 0.1, "replay_objective": "lm"},
        TrainingError,
        "replay_objective='lm' is for replay rows",
    ),
    "no such": ({"replay_objective": "lmm"}, AddendaError, "no objective is called 'lmm'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_before_the_first_step(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more, error, message = WRONG[case]
    monkeypatch.setattr(Stepper, "take", None)
    with pytest.raises(error, match=message):
        addenda.train(make(), "a", **RUN | more)


def test_two_corpora_of_two_sorts_are_trained_apart() -> None:
    base = make()
    base.new("b", addenda.LoRA(rank=2))
    with pytest.raises(DataError, match="the records of 'texts' have no 'reads'.*train them apart"):
        addenda.train(base, ["a", "b"], **RUN | {"corpus": {"a": records(), "b": BARE}})


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["distill", "on_policy(rounds=2)"])
def test_memory_is_that_of_plain_training(objective: str, tmp_path: Path) -> None:
    """At most a fifth more, teacher, answers and shards counted; on rows that are long enough to count."""
    corpus = [record | {"reads": record["reads"] * 6} for record in records(64)]
    for record in corpus:
        record["messages"] = [*record["messages"][:1], {"role": "assistant", "content": record["reads"][:400]}]
    given = {"corpus": corpus, "replay": "general_train", "replay_share": 0.25, "tokens": 2 * 6 * 512, "length": 512}
    given |= {"batch_rows": 6, "log": False}

    def peak(**more: Any) -> float:
        base = addenda.load_base("tiny", dtype=torch.float32)
        base.new("a", addenda.NeutralResidues(extra=0.1, gate="token"))
        most = Peak(base.model, base.device)
        addenda.train(base, "a", **given | more)
        found = most.megabytes()
        if found is None:
            pytest.skip("this system does not let a peak begin anew")
        return found

    peak()  # the first of all brings in libraries and their buffers
    plain, distilled = peak(), peak(objective=objective, out=tmp_path / "a")
    assert distilled <= 1.2 * plain, (distilled, plain)
