"""Memorize: what is scored, when it is written, and that a stop changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tokenizers.processors import TemplateProcessing

import addenda
from addenda.core.errors import AddendaError, DataError, TrainingError
from addenda.writing.signals import TrainingStopped
from addenda.writing.writer import Writer

from .conftest import general, medical

TEXT = " ".join(medical(5))
#: for what does not depend on how much is learned
SHORT = " ".join(medical(2))
#: no replay: reading the sample that is taken by default costs more than all else of a short run
QUICK: dict[str, Any] = {
    "window": 48, "chunk": 16, "log": False, "lr": 1e-2, "kind": addenda.LocasGLU(4, scale=16.0), "replay": None,
}  # fmt: skip


def tensors(base: addenda.Base, name: str = "m") -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in base.modules[name].tensors().items()}


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@torch.no_grad()
def by_hand(base: addenda.Base, text: str, window: int, chunk: int) -> float:
    """Mean nats per token of the model as it is, chunk after chunk from its window."""
    ids = base.tokenize(text)
    if ids[0] != base.tokenizer.bos_token_id:
        ids = torch.cat([torch.tensor([base.tokenizer.bos_token_id]), ids])
    total = 0.0
    for start in range(1, len(ids), chunk):
        end = min(start + chunk, len(ids))
        read = ids[max(0, start - (window - chunk)) : end]
        logits = base.model(read[None, :-1]).logits[0, -(end - start) :]
        total += float(F.cross_entropy(logits, read[-(end - start) :], reduction="sum"))
    return total / (len(ids) - 1)


def test_the_bare_loss_is_that_of_the_truncated_window(base: addenda.Base) -> None:
    expected = by_hand(base, TEXT, 48, 16)
    report = addenda.memorize(base, "m", text=TEXT, **QUICK)
    online = report.texts["m"]
    assert online.bare == pytest.approx(expected, rel=1e-5)
    assert online.tokens == len(base.tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    assert online.nats < expected - 0.1
    assert online.gain(0.75) > online.gain(0.0, 0.25)  # type: ignore[operator]


def test_a_chunk_is_scored_before_it_is_written(base: addenda.Base) -> None:
    """A text of one chunk is predicted as the bare base would, and is known after."""
    text = medical(1)[0][:40]
    chunk = len(base.tokenize(text)) + 1
    before = by_hand(base, text, 100, chunk)
    report = addenda.memorize(base, "m", text=text, **QUICK | {"window": 100, "chunk": chunk})
    assert report.texts["m"].nats == pytest.approx(before, rel=1e-5)
    with base.using("m"):
        assert by_hand(base, text, 100, chunk) < before - 0.01


def test_the_cached_context_gives_the_loss_of_the_whole_window(base: addenda.Base) -> None:
    """With a learning rate of next to nothing the online loss is that of the untouched module."""
    module = base.new("m", addenda.LocasGLU(4, scale=16.0), text=TEXT)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    module.constrain()
    with base.using("m"):
        expected = by_hand(base, TEXT, 48, 16)
    report = addenda.memorize(base, "m", text=TEXT, **QUICK | {"lr": 1e-12})
    assert report.texts["m"].nats == pytest.approx(expected, rel=1e-5)
    assert abs(expected - report.texts["m"].bare) > 1e-3  # type: ignore[operator]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(addenda.LoRA(2), id="lora"),
        pytest.param(addenda.NeutralResidues(width=8, gate="context"), id="context"),
        pytest.param(addenda.NeutralResidues(width=8, gate="token"), id="token"),
        pytest.param(addenda.NeutralResidues(width=8, gate="sigmoid"), id="sigmoid"),
        pytest.param(addenda.Registers(4), id="registers"),
    ],
)
def test_any_kind_can_be_written_in_a_stream(base: addenda.Base, kind: Any) -> None:
    report = addenda.memorize(
        base, "m", text=TEXT, **QUICK | {"kind": kind, "replay": general(30), "replay_tokens": 32}
    )
    assert report.texts["m"].gain() > 0.02  # type: ignore[operator]
    assert base.modules["m"].probe


def test_the_module_is_plain_to_use_after(base: addenda.Base, tmp_path: Path) -> None:
    out = tmp_path / "book"
    report = addenda.memorize(base, "m", text=TEXT, out=out, licence="cc0-1.0", **QUICK)
    assert base.selection.empty
    card = base.modules["m"].card
    assert card.licence == "cc0-1.0"
    assert card.training[0].objective == "memorize"
    assert {measure.name for measure in card.measures} == {"online loss", "online gain"}
    assert report.out == out
    again = base.plug(out, name="again")
    assert_equal(tensors(base), again.tensors())
    assert all(p.grad is None for p in base.model.parameters())
    assert str(report).startswith("m: ")


class Stop(Exception):
    pass


def stop() -> None:
    raise Stop


def at_chunk(monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[], None]) -> None:
    """Let something happen just before a writer takes its chunk of that number, counted from 1."""
    original, taken = Writer.take, 0

    def take(self: Writer, *args: Any, **kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == number:
            do()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Writer, "take", take)


RESUMED: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    "replay": ("llama", {"replay": general(30), "replay_tokens": 32}),
    "passes": ("llama", {"passes": 3, "chunk": 40, "every": 2, "steps": 2}),
    "document gate": ("llama", {"kind": addenda.NeutralResidues(width=8), "replay": general(30), "replay_tokens": 32}),
    "closed": ("gpt2", {"kind": addenda.LocasMLP(24, scale=8.0)}),
}


@pytest.mark.parametrize("case", RESUMED)
def test_resume_is_exact(
    make_base: Callable[..., addenda.Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    arch, more = RESUMED[case]
    given = QUICK | {"checkpoint_every": 3, "window": 64} | more
    whole = make_base(arch)
    first = addenda.memorize(whole, "m", text=SHORT, out=tmp_path / "whole", **given)

    base = make_base(arch)
    at_chunk(monkeypatch, 8, stop)
    with pytest.raises(Stop):
        addenda.memorize(base, "m", text=SHORT, out=tmp_path / "cut", **given)
    assert not base.modules  # nothing half-written stays plugged
    with pytest.raises(TrainingError, match="resume=True"):
        addenda.memorize(base, "m", text=SHORT, out=tmp_path / "cut", **given)
    with pytest.raises(TrainingError, match="chunk: [0-9]+ then, 8 now"):
        addenda.memorize(base, "m", text=SHORT, out=tmp_path / "cut", resume=True, **given | {"chunk": 8})
    second = addenda.memorize(base, "m", text=SHORT, out=tmp_path / "cut", resume=True, **given)
    assert second.resumed_from == 6
    assert_equal(tensors(whole), tensors(base))
    assert first.texts["m"].curve.bins == second.texts["m"].curve.bins


def test_several_texts_resume_exactly_and_in_their_order(
    make_base: Callable[..., addenda.Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories = {"one": " ".join(medical(2)), "two": " ".join(general(5)), "three": " ".join(medical(4, 50))}
    given = QUICK | {"checkpoint_every": 2}
    whole = make_base()
    addenda.memorize(whole, list(stories), text=stories, out=tmp_path / "whole", **given)
    base = make_base()
    at_chunk(monkeypatch, 15, stop)
    with pytest.raises(Stop):
        addenda.memorize(base, list(stories), text=stories, out=tmp_path / "cut", **given)
    with pytest.raises(TrainingError, match="names"):
        addenda.memorize(base, list(reversed(stories)), text=stories, out=tmp_path / "cut", resume=True, **given)
    addenda.memorize(base, list(stories), text=stories, out=tmp_path / "cut", resume=True, **given)
    for name in stories:
        assert_equal(tensors(whole, name), tensors(base, name))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"chunk": 64}, "predicted before it is written"),
        ({"chunk": 8, "passes": 2}, "these are of the first pass"),
        ({"chunk": 8}, None),
    ],
)
def test_what_the_online_loss_cannot_show_is_said(
    make_base: Callable[..., addenda.Base], settings: dict[str, Any], told: str | None
) -> None:
    report = addenda.memorize(make_base(), "m", text="the heart pumps the blood", window=96, **settings)
    assert (told is None and report.texts["m"].tokens > 8) or told in str(report)
    assert len(str(report).splitlines()) == (2 if told is None else 3)


def test_nothing_is_not_the_folder_one_stands_in(make_base: Callable[..., addenda.Base]) -> None:
    with pytest.raises(DataError, match="text to memorize is empty"):
        addenda.memorize(make_base(), "m", text="")


def test_closed_form_learns_nothing_from_replay_and_says_so(make_base: Callable[..., addenda.Base]) -> None:
    base = make_base("opt")
    with pytest.raises(TrainingError, match="written in closed form"):
        addenda.memorize(base, "m", text=TEXT, window=48, chunk=16, replay=general(30), log=False)
    assert not base.modules
    report = addenda.memorize(base, "m", text=medical(1)[0][:60], window=48, chunk=16, log=False)
    assert report.parameters["m"] == 2 * 2 * 64 * 64  # a text shorter than its 64 slots


@pytest.mark.parametrize(
    ("given", "scale", "quiet"),
    [
        ({}, 16.0, True),
        ({"published": True}, 1.0, False),
        ({"replay": None}, 16.0, False),
        ({"kind": addenda.LoRA(rank=2)}, 2.0, False),  # TempLoRA, as published
        ({"kind": addenda.NeutralResidues(width=8)}, None, True),  # its gate could not tell text from text
    ],
)
def test_memories_are_kept_quiet_unless_told_otherwise(
    make_base: Callable[..., addenda.Base], given: dict[str, Any], scale: float | None, quiet: bool
) -> None:
    base = make_base()
    addenda.memorize(base, "m", text=SHORT, window=48, chunk=16, replay_tokens=16, log=False, **given)
    module = base.modules["m"]
    assert getattr(module.kind, "scale", None) == scale
    data = [one.role for one in module.card.training[0].data]
    assert data == (["corpus", "replay"] if quiet else ["corpus"])
    assert not quiet or module.card.training[0].settings["local"] == 0.3


def test_a_long_file_is_one_text(base: addenda.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pieces begin with no token of their own."""
    from addenda.text import files as text_files

    (tmp_path / "long.txt").write_text("\n".join(medical(3)))
    template = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", base.tokenizer.bos_token_id)])
    base.tokenizer.backend_tokenizer.post_processor = template
    assert base.tokenizer("a")["input_ids"][0] == base.tokenizer.bos_token_id
    whole = addenda.memorize(base, "a", text=tmp_path / "long.txt", **QUICK)
    monkeypatch.setattr(text_files, "PIECE", 300)
    pieces = addenda.memorize(base, "b", text=tmp_path / "long.txt", **QUICK)
    assert pieces.texts["b"].tokens == whole.texts["a"].tokens


def test_a_signal_stops_after_a_whole_chunk(
    base: addenda.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    at_chunk(monkeypatch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingStopped, match="after chunk 4 of"):
        addenda.memorize(base, "m", text=TEXT, out=tmp_path / "m", **QUICK)
    report = addenda.memorize(base, "m", text=TEXT, out=tmp_path / "m", resume=True, **QUICK)
    assert report.resumed_from == 4


def test_several_texts_at_once_are_each_as_alone(make_base: Callable[..., addenda.Base]) -> None:
    stories = {"one": " ".join(medical(6)), "two": " ".join(general(4)), "three": " ".join(medical(6, 50))}
    base = make_base()
    together = addenda.memorize(base, list(stories), text=stories, **QUICK)  # replay is read by all of a batch
    for name, text in stories.items():
        alone = make_base()
        report = addenda.memorize(alone, name, text=text, **QUICK)
        assert report.texts[name].nats == pytest.approx(together.texts[name].nats, rel=1e-4)
        for key, tensor in tensors(alone, name).items():
            torch.testing.assert_close(tensor, tensors(base, name)[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("through", [False, True])
def test_replay_keeps_a_memory_quiet_off_its_text(make_base: Callable[..., addenda.Base], through: bool) -> None:
    forgotten, gained = [], []
    for more in ({"replay": None}, {"replay": general(40), "replay_tokens": 64, "local": 3.0, "through": through}):
        base = make_base()
        report = addenda.memorize(base, "m", text=TEXT, **QUICK | more)
        bare = addenda.perplexity(base, general(10, 100))
        with base.using("m"):
            forgotten.append(abs(addenda.perplexity(base, general(10, 100)).minus(bare).nats))
        gained.append(report.texts["m"].gain())
    assert forgotten[1] < 0.7 * forgotten[0]
    assert gained[1] > 0.3 * gained[0]


def test_every_second_chunk(base: addenda.Base, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bool] = []
    original = Writer.take

    def take(self: Writer, rows: Any, write: bool) -> Any:
        before = tensors(self.base)
        found = original(self, rows, write)
        written.append(any(not torch.equal(t, before[k]) for k, t in tensors(self.base).items()))
        return found

    monkeypatch.setattr(Writer, "take", take)
    addenda.memorize(base, "m", text=TEXT, every=2, **QUICK)
    assert written == [False, True] * (len(written) // 2) + [False] * (len(written) % 2)


def test_passes_write_again_and_the_curve_is_the_first_pass(base: addenda.Base) -> None:
    once = addenda.memorize(base, "once", text=TEXT, **QUICK)
    twice = addenda.memorize(base, "twice", text=TEXT, passes=2, **QUICK)
    assert twice.texts["twice"].curve.bins == once.texts["once"].curve.bins
    with base.using("once"):
        after_one = by_hand(base, TEXT, 48, 16)
    with base.using("twice"):
        assert by_hand(base, TEXT, 48, 16) < after_one


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_the_text_may_be_a_file(base: addenda.Base, tmp_path: Path, suffix: str) -> None:
    import gzip

    file, text = tmp_path / f"story{suffix}", SHORT[:200]
    file.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    by_path = addenda.memorize(base, "a", text=file, **QUICK)
    by_name = addenda.memorize(base, "b", text=str(file), **QUICK)
    itself = addenda.memorize(base, "c", text=text, **QUICK)
    listed = addenda.memorize(base, "d", text=[text], **QUICK)
    assert by_path.texts["a"].curve.bins == by_name.texts["b"].curve.bins == itself.texts["c"].curve.bins
    assert listed.texts["d"].curve.bins == itself.texts["c"].curve.bins
    assert by_path.texts["a"].on == f"story{suffix}"


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"text": "missing.txt"}, DataError, "no file"),
        ({"text": " \n"}, DataError, "empty"),
        ({"text": []}, DataError, "empty"),
        ({"text": 3}, DataError, "texts come from"),
        ({"window": 16}, TrainingError, "no room for context"),
        ({"window": 4096}, TrainingError, "does not fit the base's context of 256"),
        ({"chunks": 8}, AddendaError, "did you mean 'chunk'"),
        ({"chunk": 0}, AddendaError, "'chunk' must be at least 1"),
        ({"lr": -1.0}, AddendaError, "'lr' must be a positive number"),
        ({"lr": 1e38}, TrainingError, "is not finite"),
        ({"resume": True}, TrainingError, "nothing to resume without out"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(
    base: addenda.Base, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        addenda.memorize(base, "m", **{"text": TEXT} | QUICK | given)
    assert not base.modules
    assert base.selection.empty


def test_several_names_want_several_texts(base: addenda.Base) -> None:
    with pytest.raises(DataError, match="one text each"):
        addenda.memorize(base, ["a", "b"], text=TEXT, **QUICK)
