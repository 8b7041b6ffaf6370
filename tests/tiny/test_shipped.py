"""What comes with the package: the base is as its card says, the samples do not overlap."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from addenda import tiny
from addenda.tiny.corpus import RunHasher, contains, read_jsonl

BASE = tiny.path()
needs_base = pytest.mark.skipif(not (BASE / "config.json").exists(), reason="no base exported yet")
WILD = ["", " ", "  two  spaces ", "é\u0301", "\x00\x01", "漢字かな", "\U0001f9ea🇫🇷", "\r\n\t", "a" * 999]


@pytest.fixture(scope="module")
def shipped():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(BASE), AutoTokenizer.from_pretrained(BASE)


def records(name):
    return list(read_jsonl(tiny.sample(name)))


def runs(texts):
    hasher = RunHasher()
    return np.concatenate([hasher.runs(hasher.codes(t)) for t in texts])


def test_unknown_sample_lists_the_names():
    with pytest.raises(ValueError, match="pubmed_train, pubmed_valid, general_train, general_valid"):
        tiny.sample("pubmed")


def test_importing_tiny_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, addenda.tiny; addenda.tiny.path(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_base
def test_size():
    assert sum(p.stat().st_size for p in BASE.rglob("*")) <= 32_000_000
    assert not list(BASE.rglob("*.bin"))
    assert not list(BASE.rglob("*.pt"))


@needs_base
def test_tokenizer_gives_back_any_text(shipped):
    _, tokenizer = shipped
    for text in WILD:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert tokenizer.decode(ids[1:]) == text


@needs_base
def test_chat_template(shipped):
    _, tokenizer = shipped
    chat = [{"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|bos|><|user|>\nHello\n<|assistant|>\n"


@needs_base
@pytest.mark.parametrize("name", ["general_valid", "pubmed_valid"])
def test_loss_is_that_of_the_card(shipped, name):
    from addenda.tiny.export import QUICK, held_out_loss

    model, tokenizer = shipped
    card = json.loads((BASE / "card.json").read_text())["quick_scores"][name]
    texts = [record["text"] for record in records(name)]
    score = held_out_loss(model.float(), tokenizer, texts, QUICK)
    assert score["tokens"] == card["tokens"]
    assert abs(score["nats_per_token"] - card["nats_per_token"]) < 0.02


@needs_base
@pytest.mark.slow
@pytest.mark.parametrize("name", ["general_valid", "pubmed_valid"])
def test_loss_of_the_whole_sample_is_that_of_the_card(shipped, name):
    from addenda.tiny.export import held_out_loss

    model, tokenizer = shipped
    card = json.loads((BASE / "card.json").read_text())["losses"][f"sample {name}"]
    score = held_out_loss(model.float(), tokenizer, [record["text"] for record in records(name)])
    assert abs(score["nats_per_token"] - card["nats_per_token"]) < 0.02


def test_samples_do_not_overlap():
    train = [r["text"] for n in ("pubmed_train", "general_train", "french_train") for r in records(n)]
    valid = [r["text"] for n in ("pubmed_valid", "general_valid", "french_valid") for r in records(n)]
    assert not contains(np.unique(runs(valid)), runs(train)).any()


def test_samples_have_licences_and_sizes():
    size = {}
    for name in tiny.SAMPLES:
        rows = records(name)
        assert len({r["id"] for r in rows}) == len(rows)
        size[name] = sum(len(r["text"].encode()) for r in rows)
        for row in rows:
            assert row["id"]
            assert row["text"].strip()
            licence = row["license"].lower()
            assert licence.startswith(("cc", "public domain"))
            assert "nc" not in licence
            assert "nd" not in licence
    assert size["pubmed_train"] > 1_000_000
    assert size["general_train"] > 600_000
    assert size["french_train"] > 300_000
    assert size["french_valid"] > 50_000
    assert size["pubmed_valid"] > 100_000
    assert size["general_valid"] > 150_000
    assert (tiny.sample("pubmed_train").parent / "SOURCE.md").exists()


@needs_base
def test_replay_sample_was_seen_whole():
    from addenda.tiny.samples import saw_whole

    seen = saw_whole(BASE / "documents.jsonl.gz")
    others = {"law", "dialogue"}  # kinds of text that only a gate is to know
    replayed = records("general_train")
    assert {r["id"] for r in replayed if r["source"] not in others} <= seen
    assert {r["source"] for r in replayed} == {"wikipedia_en", "openstax", "novels_en", *others}
    assert not {r["id"] for r in records("general_valid")} & seen


def test_questions_are_of_four_sets_and_have_credits():
    from addenda.tiny.asked import EACH, LONGEST, SETS, questions

    found = list(read_jsonl(tiny.sample("questions")))
    assert len({one["id"] for one in found}) == len(found) == EACH * len(SETS)
    source = (tiny.sample("questions").parent / "SOURCE.md").read_text()
    for name, (_, licence) in SETS.items():
        mine = [one for one in found if one["set"] == name]
        assert len(mine) == EACH
        assert {one["license"] for one in mine} == {licence}
        assert f"- **{name}**" in source
        assert licence.replace("AFL-", "Academic Free License ") in source
        assert len({one["gold"] for one in mine}) > 1
    for one in found:
        assert 0 <= one["gold"] < len(one["choices"])
        assert len(set(one["choices"])) == len(one["choices"])
        assert len(one["prompt"]) + max(map(len, one["choices"])) <= LONGEST
    assert [one.set for one in questions(2)] == [name for name in SETS for _ in range(2)]
    assert len({one.prompt for one in questions()}) > 390


def test_questions_are_those_of_the_data_folder():
    data = Path(os.environ.get("ADDENDA_DATA", "../shared/data"))
    if not (data / "multiple_choice").is_dir():
        pytest.skip("no data folder: ADDENDA_DATA names it")
    from addenda.tiny.asked import choose

    assert list(choose(data)) == list(read_jsonl(tiny.sample("questions")))


def test_chats_end_with_the_user_and_a_few_of_every_kind_are_had():
    from addenda.tiny.asked import chats

    found = chats()
    assert len({one.id for one in found}) == len(found) >= 50
    assert {len(one.messages) for one in found} == {1, 3}
    for one in found:
        roles = [message["role"] for message in one.messages]
        assert roles == ["user", "assistant", "user"][: len(roles)]
        assert all(set(message) == {"role", "content"} and message["content"].strip() for message in one.messages)
    kinds = {one.kind for one in found}
    assert len(kinds) >= 8
    for count in (len(kinds), 2 * len(kinds)):
        few = chats(count)
        assert ({one.kind for one in few}, len(few)) == (kinds, count)
    assert chats(1000) == found


def test_paragraphs_have_questions_that_they_answer_and_credits():
    from addenda.tiny.paragraphs import LICENCE, paragraphs

    found = paragraphs()
    assert len({one.text for one in found}) == len(found) > 500
    for one in found:
        assert one.questions
        for asked, said in one.questions:
            assert asked.strip() == asked
            assert said[1:-1] in one.text
            assert said.endswith(".")
    assert {record["license"] for record in read_jsonl(tiny.sample("paragraphs"))} == {LICENCE}
    source = (tiny.sample("paragraphs").parent / "SOURCE.md").read_text()
    assert "SQuAD 2.0" in source
    assert LICENCE in source
    assert f"{len(found)} paragraphs" in source
    assert paragraphs(3) == found[:3]


def test_paragraphs_are_those_of_the_data_folder():
    data = Path(os.environ.get("ADDENDA_DATA", "../shared/data"))
    if not (data / "squad").is_dir():
        pytest.skip("no data folder: ADDENDA_DATA names it")
    from addenda.tiny.paragraphs import OTHERS, gather, left_out

    made = list(gather(data))
    assert [{**one, "questions": [list(pair) for pair in one["questions"]]} for one in made] == list(
        read_jsonl(tiny.sample("paragraphs"))
    )
    others = list(read_jsonl(data / OTHERS))
    left = {record["context"] for record in others if record["title"] in left_out(others)}
    assert len(left) > 40
    assert not {one["text"] for one in made} & left


def test_all_samples_together_are_small():
    folder = tiny.sample("questions").parent
    assert sum(tiny.sample(name).stat().st_size for name in tiny.ASKED) < 450_000
    assert {file.name for file in folder.iterdir()} >= set(tiny.ASKED.values())
