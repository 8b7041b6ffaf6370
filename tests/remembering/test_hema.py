"""HEMA, and what holds for every text memory: text in the window, the same folder and plug, and nothing in the base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError, FileError, SelectionError, UnsupportedError
from addenda.remembering.hema import HEMA, Chunk, cosines, summarised
from addenda.showing.conversation import Conversation
from addenda.showing.generating import generate, side_by_side
from pico import pico, pico_tokenizer, random_ids

FACT = "The key to the boat house hangs behind the blue clock."
TALK = [f"On day {n} we talked about the weather, the garden and the {thing}." for n, thing in enumerate(["rain"] * 60)]


def attached() -> addenda.Base:
    return addenda.attach(pico("llama"), pico_tokenizer())


def words(text: str) -> int:
    return len(text.split())


def taken(kind: HEMA, *texts: str) -> dict[str, Any]:
    held = kind.blank()
    for text in texts:
        held = kind.take(held, text)
    return held


# -- the method -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0, 3, 12, 40, 200])
def test_what_is_recalled_is_never_above_the_budget(budget: int) -> None:
    kind = HEMA(passage=12)
    held = taken(kind, *TALK[:20], FACT, *TALK[20:])
    assert words(kind.recall(held, "Where is the key to the boat house?", budget, words)) <= budget


def test_more_is_found_again_than_a_summary_holds() -> None:
    places = ["boat house", "cellar", "old mill", "tower", "bakery", "chapel", "stable", "library"]
    hooks = ["blue clock", "oak door", "tin box", "red curtain", "flour sack", "marble angel", "saddle", "atlas"]
    facts = [f"The key to the {place} hangs behind the {hook}." for place, hook in zip(places, hooks, strict=True)]
    turns = [turn for fact, talk in zip(facts, TALK, strict=False) for turn in (fact, talk)]
    shares = {}
    for found in (0, 2):
        kind = HEMA(passage=20, summary=30, found=found)
        held = taken(kind, *turns, *TALK[20:40])
        told = [kind.recall(held, f"Where is the key to the {place}?", 100, words) for place in places]
        shares[found] = sum(fact in one for fact, one in zip(facts, told, strict=True)) / len(facts)
        assert all(one.endswith(TALK[39]) for one in told)  # the end is always there
    assert 0 < shares[0] < 0.6
    assert shares[2] == 1


def test_the_least_salient_passages_go_first() -> None:
    kind = HEMA(kept=2, every=10)
    chunks = [
        Chunk("old", 1, 1),
        Chunk("old and used", 1, 18, 3),
        Chunk("old and used once", 1, 9, 1),
        Chunk("new", 19, 19),
    ]
    assert [chunk.text for chunk in kind.pruned(chunks, 20)] == ["old and used", "new"]
    held = taken(HEMA(kept=5, every=10, passage=20), *TALK[:40])
    assert [chunk["at"] for chunk in held["chunks"]] == [36, 37, 38, 39, 40]


def test_what_is_recalled_stays_longer() -> None:
    kind = HEMA(passage=20, kept=10, every=20, tail=1)
    for asked in (0, 5):
        held = taken(kind, FACT, *TALK[:15])
        for _ in range(asked):
            kind.recall(held, "the key to the boat house", 300, words)
        assert held["chunks"][0]["text"] == FACT
        assert held["chunks"][0]["hits"] == asked
        for text in TALK[15:30]:
            held = kind.take(held, text)
        assert (FACT in [chunk["text"] for chunk in held["chunks"]]) == bool(asked)


def test_a_summary_of_a_summary_is_itself() -> None:
    sentences = [*TALK, FACT, "The clock was bought by the captain of the ferry."]
    once = summarised(sentences, 40)
    assert 0 < sum(map(words, once)) <= 40
    assert summarised(once, 40) == once
    assert [sentence for sentence in sentences if sentence in once] == once  # in order
    assert summarised([FACT, FACT], 40) == [FACT]
    assert summarised(sentences, 0) == []


def test_taking_in_leaves_what_was_as_it_was() -> None:
    kind, held = HEMA(), HEMA().blank()
    more = kind.take(held, FACT)
    assert held == kind.blank()
    assert more["turns"] == 1


def test_cosines_are_of_words_that_tell() -> None:
    near, far, none = cosines(["the red boat", "the garden", ""], "the boat")
    assert near > far > none == 0.0
    assert cosines([], "a") == []


@pytest.mark.parametrize("options", [{"window": 0}, {"passage": 0}, {"every": 0}, {"found": -1}, {"kept": 0}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(AddendaError, match="HEMA"):
        HEMA(**options)


# -- in a base ------------------------------------------------------------------------------------------------------


def test_prompts_begin_with_what_is_recalled() -> None:
    base = attached()
    module = base.new("meeting", HEMA(passage=12))
    assert module.size() == 0
    base.remember("meeting", *TALK[:5], FACT)
    question = "Where is the key?"
    bare = base.prompts([question], raw=True)["input_ids"]
    with base.using("meeting"):
        asked = base.prompts([question], raw=True)
        said = base.tokenizer.decode(asked["input_ids"][0])
        assert FACT in said
        assert said.rstrip().endswith(question)
        written = base.model.generate(**asked, max_new_tokens=3)
        seen = base.model(**asked).logits
        (row,) = generate(base, [question], raw=True, max_tokens=3)
    assert torch.equal(base.prompts([question], raw=True)["input_ids"], bare)
    plain = {name: tensor.clone() for name, tensor in asked.items()}
    assert torch.equal(base.model(**plain).logits, seen)  # nothing but the text
    assert torch.equal(base.model.generate(**plain, max_new_tokens=3), written)
    assert row.ids == tuple(written[0, -3:].tolist())


def test_each_prompt_has_its_own() -> None:
    base = attached()
    for name, text in (("a", "The boat is red."), ("b", "The clock is blue.")):
        base.new(name, HEMA())
        base.remember(name, text)
    base.new("lora", addenda.LoRA(rank=2))
    index = torch.tensor([0, 1, 2])
    table = [{"a": 1.0, "lora": 0.5}, {}, {"a": 1.0, "b": 1.0}]
    for selection in (base.rows(table), base.rows(index, table=table)):
        with selection:
            asked = base.prompts(["What colour?"] * 3)
            said = base.tokenizer.batch_decode(asked["input_ids"], skip_special_tokens=True)
            assert ["red" in one for one in said] == [True, False, True]
            assert ["blue" in one for one in said] == [False, False, True]
            base.model.generate(**asked, max_new_tokens=2)
            with pytest.raises(SelectionError, match="rows"):
                base.prompts(["What colour?"] * 2)


def test_token_ids_without_it_are_refused() -> None:
    base = attached()
    base.new("meeting", HEMA())
    base.remember("meeting", FACT)
    outside = base.prompts(["Where is the key?"])
    for ids in (random_ids(1, 5), outside["input_ids"]):
        with base.using("meeting"):
            with pytest.raises(UnsupportedError, match="'meeting' is text in the window.*base.prompts"):
                base.model(ids)
            with pytest.raises(UnsupportedError, match="'meeting' is text in the window"):
                base.model.generate(ids, max_new_tokens=2)
    base.model(random_ids(1, 5))


def test_the_window_holds_prompt_and_memory() -> None:
    base = attached()
    base.new("meeting", HEMA(window=40, passage=12))
    base.remember("meeting", *TALK)
    with base.using("meeting"):
        for prompt in ("the weather", "the weather " * 30):
            ids = base.prompts([prompt], raw=True)["input_ids"][0]
            alone = len(base.tokenize(prompt))
            assert len(ids) <= max(alone, 41)
    with pytest.raises(SelectionError, match="its weight is 1 or 0; got 0.5"), base.using(meeting=0.5):
        base.prompts(["the weather"])


def test_it_is_saved_and_plugged_like_any_module(tmp_path: Path) -> None:
    base = attached()
    module = base.new("meeting", HEMA(passage=12, found=3))
    base.remember("meeting", *TALK[:5], FACT)
    folder = module.save(tmp_path / "meeting")
    assert {file.name for file in folder.iterdir()} >= {"card.json", "memory.json", "module.safetensors"}
    other = attached()
    back = other.plug(folder)
    assert back.kind == module.kind
    assert back.memory == module.memory
    assert "base.prompts" in (folder / "README.md").read_text()
    assert [listed.name for listed in addenda.list_modules(tmp_path)] == ["meeting"]
    other.remember("meeting", "More.")
    back.save(folder)
    assert json.loads((folder / "memory.json").read_text())["turns"] == 7


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{", "memory.json is malformed"),
        ('{"turns": -1}', "not the file that the card describes"),
        (None, "memory.json"),
    ],
)
def test_a_file_that_is_not_its_own_is_refused(wrong: str | None, said: str, tmp_path: Path) -> None:
    folder = attached().new("meeting", HEMA()).save(tmp_path / "meeting")
    (folder / "memory.json").unlink()
    if wrong is not None:
        (folder / "memory.json").write_text(wrong)
    with pytest.raises(FileError, match=said):
        attached().plug(folder)


def test_what_it_holds_is_checked() -> None:
    for held in ({"turns": -1}, {"chunks": [{"text": 3}]}, {"other": 1}):
        with pytest.raises(AddendaError):
            HEMA().restored(held)


def test_what_it_cannot_is_said(tmp_path: Path) -> None:
    base = attached()
    with pytest.raises(AddendaError, match="HEMA is text in the window, which takes no gate"):
        base.new("m", HEMA(), gate="document")
    base.new("m", HEMA())
    base.new("lora", addenda.LoRA(rank=2))
    with pytest.raises(AddendaError, match="'lora' .LoRA. is no text memory"):
        base.remember("lora", "a")
    with pytest.raises(AddendaError, match="no module 'n' is plugged"):
        base.remember("n", "a")
    with pytest.raises(AddendaError, match="text memory"):
        addenda.merge(base, ["m"], out=tmp_path / "merged")
    base.new("other", HEMA())
    for write in (
        lambda: addenda.compress(base, "m", "ternary", text=TALK),
        lambda: addenda.combine(base, ["m", "other"], name="both"),
        lambda: addenda.train(base, "m", corpus=TALK, tokens=512, log=False),
        lambda: addenda.memorize(base, "m", text=TALK, log=False),
    ):
        with pytest.raises(AddendaError, match="text memory.*base.remember"):
            write()


def test_generation_and_conversations_recall() -> None:
    base = attached()
    base.new("meeting", HEMA())
    base.remember("meeting", FACT)
    (row,) = side_by_side(base, ["Where is the key?"], {"base": {}, "meeting": {"meeting": 1.0}}, max_tokens=4)
    assert row["base"].ids != row["meeting"].ids
    base.use("meeting")
    talk = Conversation(base, raw=True, max_tokens=3)
    assert talk.say("Where is the key?") == generate(base, ["Where is the key?"], raw=True, max_tokens=3)[0].text
