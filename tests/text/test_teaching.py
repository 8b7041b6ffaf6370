"""What a teacher reads of a record: its own text first, then the same tokens to learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from addenda.core.errors import DataError
from addenda.text.encoding import Encoder
from addenda.text.records import reads_of
from addenda.text.teaching import Teaching, question, question_ids, takes_system
from addenda.text.texts import texts
from pico import VOCAB, pico_tokenizer

READS = "Room 7 costs 12 coins."
ASKED = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "12 coins."}]
#: knows no system message
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ m['role'] }}: {{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tokenizer(template: str | None = "") -> Any:
    made = pico_tokenizer()
    if template != "":
        made.chat_template = template
    return made


def lesson(record: dict[str, Any], template: str | None = "", longest: int | None = None) -> tuple[str, str, Any]:
    made = tokenizer(template)
    found = Teaching(Encoder(made, VOCAB, close=True), longest).lesson(next(iter(texts([record]))))
    return made.decode(found.ids), made.decode(found.ids[found.places]), found


def test_a_system_message_holds_it_where_there_is_one() -> None:
    whole, learned, found = lesson({"messages": ASKED, "reads": READS})
    assert whole == f"<bos>system: {READS}\nuser: What is it?\nassistant: 12 coins.<eos>\n"
    assert learned == "12 coins.<eos>"
    assert (found.reads, found.ids.dtype) == (READS, np.int32)


def test_a_system_message_of_the_record_comes_after_it() -> None:
    told = [{"role": "system", "content": "Be brief."}, *ASKED]
    whole, learned, _ = lesson({"messages": told, "reads": READS})
    assert whole.startswith(f"<bos>system: {READS}\n\nBe brief.\nuser: What")
    assert learned == "12 coins.<eos>"


def test_else_it_stands_before_what_the_user_says_first() -> None:
    assert not takes_system(tokenizer(STRICT))
    whole, learned, _ = lesson({"messages": ASKED * 2, "reads": READS}, STRICT)
    assert whole.startswith(f"user: {READS}\n\nWhat is it?\nassistant: 12 coins.<eos>\nuser: What")
    assert learned == "12 coins.<eos>" * 2


def test_of_a_prompt_and_its_completion_the_completion_alone_is_learned() -> None:
    prompt = [*ASKED, {"role": "user", "content": "And then?"}]
    whole, learned, _ = lesson({"prompt": prompt, "completion": "Nothing.", "reads": READS})
    assert whole.startswith(f"<bos>system: {READS}\n")
    assert learned == "Nothing.<eos>"


def test_without_a_template_it_stands_before_the_prompt() -> None:
    whole, learned, _ = lesson({"prompt": "Question: what? Answer:", "completion": " 12", "reads": READS}, None)
    assert whole == f"{READS}\n\nQuestion: what? Answer: 12<eos>"
    assert learned == " 12<eos>"


def test_running_text_is_learned_but_for_its_first_token() -> None:
    whole, learned, found = lesson({"text": "the heart", "reads": READS})
    assert whole == f"{READS}\n\nthe heart<eos>"
    student = Encoder(tokenizer(), VOCAB, close=True).one({"text": "the heart"})
    assert found.ids[found.places].tolist() == student.ids[1:].tolist()
    assert learned.endswith("heart<eos>")
    assert found.tokens == len(student.ids)


@pytest.mark.parametrize("record", [{"messages": ASKED}, {"messages": ASKED, "reads": ""}])
def test_where_it_reads_nothing_it_reads_what_the_student_does(record: dict[str, Any]) -> None:
    _, learned, found = lesson(record)
    student = Encoder(tokenizer(), VOCAB, close=True).one(record)
    assert found.ids.tolist() == student.ids.tolist()
    assert learned == "12 coins.<eos>"


def test_what_does_not_fit_the_base_is_refused_by_place() -> None:
    record = {"messages": ASKED, "reads": READS * 20}
    _, _, found = lesson(record)
    lesson(record, longest=len(found.ids))
    with pytest.raises(DataError, match=rf"text 1: the teacher would read {len(found.ids)} tokens.* 9 tokens shorter"):
        lesson(record, longest=len(found.ids) - 9)


def test_a_conversation_with_no_place_for_it_is_refused() -> None:
    with pytest.raises(
        DataError, match="text 1: the chat template has no system message, and the conversation no user"
    ):
        lesson({"messages": ASKED[1:], "reads": READS}, STRICT)


@pytest.mark.parametrize("wrong", [7, ["a"], {"text": "a"}])
def test_only_text_is_read(wrong: Any) -> None:
    with pytest.raises(DataError, match="text 1: 'reads' is the text that a teacher reads first; got"):
        list(texts([{"messages": ASKED, "reads": wrong}]))


def test_it_travels_with_every_form_of_record() -> None:
    records = [{"text": "a"}, {"messages": ASKED}, {"prompt": "a", "completion": "b"}]
    assert [r["reads"] for r in texts([record | {"reads": READS} for record in records])] == [READS] * 3
    assert all("reads" not in record for record in texts([record | {"reads": None} for record in records]))
    assert reads_of("here", {}) == {}
    assert texts([records[0]]).sha256() != texts([records[0] | {"reads": READS}]).sha256()


def test_a_question_is_all_before_the_last_answer() -> None:
    assert question({"messages": [*ASKED, *ASKED]}) == [*ASKED, ASKED[0]]
    assert question({"prompt": "what?", "completion": "this"}) == "what?"
    assert question({"text": "a"}) is None
    assert question({"messages": ASKED[1:]}) is None
    made = tokenizer()
    assert made.decode(question_ids(made, ASKED[:1])) == "<bos>user: What is it?\nassistant: "
    assert made.decode(question_ids(tokenizer(None), "Question: what?")) == "Question: what?"
