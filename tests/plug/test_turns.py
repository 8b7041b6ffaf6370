"""Turns: the ids with which the user begins to speak, found by a template, and a gate that begins anew there."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core.gate import Gate
from addenda.plug.turns import begun, turn_mark
from addenda.writing.gate_fit import Part, _Reader, fit_from_plan
from addenda.writing.isolation import way_of
from addenda.writing.plan import make_plan
from addenda.writing.settings import settings_from
from chat_templates import CHATML, GEMMA, LLAMA2, LLAMA3, SMOLLM2

MARKS = {
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_start|>user"),
    "smollm2": (SMOLLM2, ("<|im_start|>", "<|im_end|>"), "<|im_start|>user"),
    "llama3": (LLAMA3, ("<|head|>", "<|/head|>", "<|eot|>"), "<|head|>user"),
    "gemma": (GEMMA, ("<start_of_turn>", "<end_of_turn>"), "<start_of_turn>user"),
    "llama2": (LLAMA2, (), "<|eos|>"),
}
TALK = [
    {"role": "user", "content": "Where is the user's key?"},
    {"role": "assistant", "content": "On hook 4."},
    {"role": "user", "content": "And the assistant's?"},
]


def tokenizer_for(template: str | None, special: tuple[str, ...] = ()) -> Any:
    tokenizer = deepcopy(addenda.load_base("tiny").tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)} if special else {})
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("family", MARKS)
def test_the_mark_is_where_the_user_begins_to_speak_and_nowhere_else(family: str) -> None:
    template, special, wanted = MARKS[family]
    tokenizer = tokenizer_for(template, special)
    mark = turn_mark(tokenizer)
    assert tokenizer.decode(mark).startswith(wanted[:4])
    text = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    found = [int(at) for at in begun(ids, mark)[0][0].nonzero().flatten()]
    asked = [len(tokenizer.decode(ids[0, : at + 1])) for at in found]
    users = [text.index(TALK[0]["content"]), text.index(TALK[2]["content"])]
    if family != "llama2":  # it tells a turn by the end of the one before
        assert len(found) == 2
        assert all(at <= user <= at + 20 for at, user in zip(asked, users, strict=True))
    else:
        assert len(found) == 1
        assert text.index(TALK[1]["content"]) < asked[0] <= users[1]


def test_of_the_tiny_base_it_is_one_token() -> None:
    tokenizer = addenda.load_base("tiny").tokenizer
    assert turn_mark(tokenizer) == (tokenizer.convert_tokens_to_ids("<|user|>"),)


@pytest.mark.parametrize("template", [None, "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"])
def test_where_no_special_token_tells_turns_apart_there_is_none(template: str | None) -> None:
    assert turn_mark(tokenizer_for(template)) == ()
    assert turn_mark(None) == ()


def test_a_run_is_found_across_calls_however_they_are_cut() -> None:
    ids, mark = torch.tensor([[1, 7, 8, 7, 7, 8, 9], [7, 8, 9, 9, 7, 9, 8]]), (7, 8, 9)
    whole, _ = begun(ids, mark)
    assert whole.nonzero().tolist() == [[0, 6], [1, 2]]
    for width in (1, 2, 3):
        said, parts = None, list[Tensor]()
        for part in ids.split(width, 1):
            found, said = begun(part, mark, said)
            parts.append(found)
        assert torch.equal(torch.cat(parts, 1), whole)


# --- the gate ---------------------------------------------------------------------------------------------------------


def talking(by_turn: bool) -> tuple[addenda.Base, Gate, Tensor]:
    """A base with a module behind a gate that nothing has fitted yet, and a conversation of two turns."""
    base = addenda.load_base("tiny")
    gated = f"document(hold=True, by_turn={by_turn}, read_at=1)"
    base.new("m", addenda.LoRA(rank=2), gate=gated)
    ids = base.tokenizer(base.tokenizer.apply_chat_template(TALK, tokenize=False), return_tensors="pt")["input_ids"]
    gate = base.modules["m"].gate
    assert gate is not None
    return base, gate, ids


def sums(base: addenda.Base, ids: Tensor, width: int, cache: bool = True) -> Tensor:
    """The gate's sums [T] where a text is read in pieces of so many tokens."""
    seen: list[Tensor] = []

    def watch(share: Any, site: str, **facts: Any) -> None:
        if "statistic" in facts:
            seen.append(facts["statistic"][0])

    past = None
    with torch.no_grad(), base.using("m"), base.watching(observer=watch):
        for part in ids.split(width, 1):
            past = base.model(part, past_key_values=past, use_cache=cache).past_key_values
    return torch.cat(seen)


@pytest.mark.parametrize("width", [1, 4, 1000])
def test_a_turn_begins_at_zero_however_the_text_is_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    second: dict[bool, Tensor] = {}
    for by_turn in (False, True):
        base, gate, ids = talking(by_turn)
        mark = turn_mark(base.tokenizer)
        start = int(begun(ids, mark)[0][0].nonzero()[-1])
        # what is said first speaks for the subject, what comes then says nothing
        length = {"read": 0}

        def evidence(x: Tensor, length: dict[str, int] = length, start: int = start) -> Tensor:
            at = length["read"] + torch.arange(x.shape[1])
            length["read"] += x.shape[1]
            return torch.where(at < start, 4.0, 0.0).expand(x.shape[:2])

        monkeypatch.setattr(gate, "evidence", evidence)
        gate.threshold.fill_(5.0)
        found = sums(base, ids, width)
        assert float(found[start - 1]) == float(gate.threshold + gate.room)  # type: ignore[operator]
        second[by_turn] = found[start:]
    assert float(second[False][0]) > 5.0
    assert float(second[True].max()) <= 0.0


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("told", [0, 2])
def test_what_was_said_before_the_last_turn_is_read_without_the_module(
    beams: int, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate is open on the first turn (told = 0) or on the last (2); two prompts, one padded."""
    base, gate, _ = talking(by_turn=True)
    module = base.modules["m"]
    for tensor in module.parameters():
        torch.nn.init.normal_(tensor, std=0.2)
    gate.threshold.fill_(5.0)
    talks = [TALK, [{"role": "user", "content": "Good morning!"}, *TALK[1:]]]
    texts = [base.tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) for talk in talks]
    prompts = base.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    ids = prompts["input_ids"]
    starts = [begun(row[None], turn_mark(base.tokenizer))[0][0].nonzero().flatten().tolist() for row in ids]
    seen: list[Tensor] = []

    def evidence(x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            return torch.full(x.shape[:2], 4.0 if told else -4.0)
        said = torch.full(x.shape[:2], -4.0)
        for row in range(len(x)):
            first, last = starts[row // (len(x) // 2)]
            said[row, slice(last, None) if told else slice(first, last)] = 4.0
        return said

    def watch(share: Any, site: str, **facts: Any) -> None:
        if "statistic" in facts:
            seen.append(facts["gate"])

    monkeypatch.setattr(gate, "evidence", evidence)
    how = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "num_beams": beams, "pad_token_id": 2}
    with base.using("m"), base.watching(observer=watch):
        on = base.model.generate(**prompts, **how)
    with base.off():
        off = base.model.generate(**prompts, **how)
    assert torch.equal(on, off) == (told == 0)
    assert all(not bool(seen[0][row, : starts[row // beams][1]].any()) for row in range(len(seen[0])))
    for row in range(len(seen[0])):  # the last turn is one: as the gate stands at its end
        assert set(seen[0][row, starts[row // beams][1] :].flatten().tolist()) == {1.0 if told else 0.0}
    if not told:
        monkeypatch.setattr("addenda.plug.machinery.last_turn", lambda ids, mark: None)
        with base.using("m"):
            assert not torch.equal(base.model.generate(**prompts, **how), off), (
                "what was read with it moves what follows"
            )
    with torch.no_grad(), base.using("m"), base.watching(observer=watch):
        base.model(**prompts)
    assert bool(seen[-1].any()), "a forward knows of no last turn"


# --- and its fit ------------------------------------------------------------------------------------------------------


def chats(sides: str, count: int, start: int = 0) -> list[dict[str, Any]]:
    """Conversations whose turns are of the subject (S) or not (G)."""
    said = {
        "S": ("How is insulin given to patient {}?", "Patient {} was treated with insulin, and the dose was halved."),
        "G": ("What did the children do by river {}?", "The children sang by river {} as they walked home."),
    }
    return [
        {
            "messages": [
                {"role": role, "content": text.format(number)}
                for side in sides
                for role, text in zip(("user", "assistant"), said[side], strict=True)
            ]
        }
        for number in range(start, start + count)
    ]


def fitted() -> addenda.Base:
    base = addenda.load_base("tiny")
    base.new("m", addenda.LoRA(rank=2), gate="document(hold=True, by_turn=True, read_at=1)")
    settings = settings_from({"length": 128, "batch_rows": 4, "isolate": True})
    plan = make_plan(
        base, "m", corpus=chats("S", 150), replay=chats("G", 150), replay_share=0.5, tokens=4_096, lr=1e-3, seed=0,
        alongside=(), settings=settings,
    )  # fmt: skip
    fit_from_plan(base, plan, "m")
    return base


def opened(base: addenda.Base, record: dict[str, Any]) -> list[bool]:
    """Whether the gate stands open at the end of each turn of a conversation."""
    text = base.tokenizer.apply_chat_template(record["messages"], tokenize=False)
    ids = base.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    starts = begun(ids, turn_mark(base.tokenizer))[0][0].nonzero().flatten().tolist()
    open_ = sums(base, ids, 1000) > float(base.modules["m"].gate.threshold)  # type: ignore[union-attr]
    return [bool(open_[end - 1]) for end in [*starts[1:], ids.shape[1]]]


@pytest.mark.slow
def test_a_fitted_gate_shuts_where_the_next_question_is_of_something_else() -> None:
    base = fitted()
    for sides in ("SG", "GS", "SS", "GG", "SGS"):
        found = [opened(base, record) == [side == "S" for side in sides] for record in chats(sides, 10, start=500)]
        assert sum(found) >= 9, sides


def test_conversations_are_read_whole_and_each_turn_is_of_its_side() -> None:
    base = addenda.load_base("tiny")
    base.new("m", addenda.LoRA(rank=2), gate="document(by_turn=True, read_at=1)")
    site, mark = base.host.site(base.modules["m"].gate.site), turn_mark(base.tokenizer)  # type: ignore[union-attr]
    reader = _Reader(base, site, "fp32", torch.Generator().manual_seed(0), way_of(base))
    reader.mark = mark
    user = mark[0]
    mine = Part(torch.tensor([[0, user, 300, 301, 0, user, 302, 303]]), torch.tensor([[0] * 4 + [1] * 4]))
    theirs = Part(torch.tensor([[0, user, 400, 401, 405, 406, 407, 408]]), torch.tensor([[5] * 4 + [6] * 4]))
    rows = list(reader.in_talks(mine, theirs))
    assert len(rows) == 2, "of three documents with a turn, two are a conversation; what has none is left out"
    first, then = rows
    assert {row.subject for row in rows} <= {True, False}
    assert first.x.shape[1] == 4, "the first as it stands"
    assert then.x.shape[1] == 3, "the second from where the user speaks"
    assert bool(then.starts[0, 0])
    assert not bool(then.starts[0, 1:].any())
    assert len({int(number) for row in rows for number in row.documents.unique()}) == 1
