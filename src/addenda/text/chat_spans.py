"""Chat spans: which characters of a rendered conversation the assistant is to learn, told by the template's structure."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any

from addenda.core.errors import DataError

Messages = list[dict[str, Any]]
Span = tuple[int, int]

#: two planes of private characters: nobody's words; one that the conversation does not hold serves as marks
_PLANES = (0xF0000, 0x100000)
#: tags such as </think> or [/THINK]: a template that drops the beginning of what was said drops it up to one of these
_TAG = re.compile(r"[<\[◁][^<>\[\]◁▷]{1,40}[>\]▷]")
_AFTER_A_TAG = re.compile(rf"(?:{_TAG.pattern})\s*")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


class Chat:
    """A conversation as a tokenizer's chat template writes it.

    `text` is the whole of it. Words are never searched for: a turn is found by marks put around its words before they
    are rendered, and only where the rendering without the marks is `text` again.

    Raises:
        DataError: there is no template, or it refuses the messages.
    """

    def __init__(self, tokenizer: Any, messages: Messages, tools: list[Any] | None = None) -> None:
        if tokenizer.chat_template is None:
            raise DataError("the record has messages, and the tokenizer has no chat template")
        self._tokenizer, self._messages, self._tools = tokenizer, messages, tools
        self.text = self._render(messages)
        self._open, self._cut, self._close = self._marks()

    def spans(self, first: int = 0) -> list[Span]:
        """Start and end in `text` of what the assistant writes from message `first` on, with what ends each turn.

        Where the template has `{% generation %}` marks they say it. A turn that the template leaves out has no span.

        Raises:
            DataError: there is no such turn, or the template hides where it stands.
        """
        turns = [at for at in range(first, len(self._messages)) if self._messages[at]["role"] == "assistant"]
        if not turns:
            raise DataError("the record has no message of the role 'assistant' to learn from")
        template = self._tokenizer.get_chat_template(tools=self._tools)
        if _GENERATION.search(_COMMENT.sub("", template)):
            spans = self._generated(template, first)
        else:
            spans = [span for at in turns if (span := self._turn(at)) is not None]
        if not spans:
            raise DataError("the chat template leaves out everything that the assistant says")
        return spans

    # -- rendering -----------------------------------------------------------------------------------------------

    def _render(self, messages: Messages, prompt: bool = False, template: str | None = None) -> str:
        try:
            return self._tokenizer.apply_chat_template(
                messages, tools=self._tools, chat_template=template, tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:  # noqa: BLE001 - templates raise what they like
            raise DataError(f"the chat template refuses the messages: {error}") from None

    def _part(self, messages: Messages, prompt: bool = False) -> str | None:
        """A beginning of the conversation; None where the template does not take it alone."""
        try:
            return self._render(messages, prompt) if messages else None
        except DataError:
            return None

    def _marks(self) -> tuple[str, str, str]:
        said = self.text + json.dumps(self._messages, ensure_ascii=False, default=str)
        for plane in _PLANES:
            marks = chr(plane), chr(plane + 1), chr(plane + 2)
            if not any(mark in said for mark in marks):
                return marks
        raise DataError("the record holds characters of both private planes; its turns cannot be marked")

    def _without(self, marked: str) -> str:
        return marked.replace(self._open, "").replace(self._cut, "").replace(self._close, "")

    def _plainly(self, marked: str, at: int) -> int:
        """Where a place in a marked rendering stands in the rendering without marks."""
        return len(self._without(marked[:at]))

    # -- a turn found by marks of ours ---------------------------------------------------------------------------

    def _turn(self, at: int) -> Span | None:
        """Where the assistant's message `at` stands, with what ends it; None where the template leaves it out."""
        prompt = self._part(self._messages[:at], prompt=True)
        marked = self._marked(at)
        if marked is None:
            return self._between(at, prompt)
        whole, closing = marked
        marks = [whole.find(mark) for mark in (self._open, self._cut) if mark in whole]
        if not marks and self._close not in whole:
            return None
        if not marks or whole.count(self._close) != 1:
            raise self._hidden(at)
        start, end = self._plainly(whole, min(marks)), self._plainly(whole, whole.index(self._close))
        if prompt is not None and self.text.startswith(prompt) and len(prompt) <= start:
            # what the template puts between its generation prompt and the words, the model has to write too
            asks = prompt != self._part(self._messages[:at])
            if asks or not self.text[len(prompt) : start].strip():
                return len(prompt), end + len(closing)
        tags = () if self._open in whole else _TAG.findall(self._messages[at]["content"])
        if any(self.text[:start].rstrip().endswith(tag) for tag in tags):
            raise self._hidden(at)  # was this tag said, or is it the template's?
        return start, end + len(closing)

    def _marked(self, at: int) -> tuple[str, str] | None:
        """The conversation with marks in message `at`, and what closes that turn; None where marks change more."""
        words = self._messages[at]["content"]
        kept = words.strip()
        before, after = words[: len(words) - len(words.lstrip())], words[len(words.rstrip()) :] if kept else ""
        turns = [*self._messages]
        for place in (_TAG, _AFTER_A_TAG):  # what is dropped with a tag may take the white space after it along, or not
            cut = place.sub(lambda tag: tag[0] + self._cut, kept)
            turns[at] = {**turns[at], "content": before + self._open + cut + self._close + after}
            whole = self._part(turns)
            if whole is not None and self._without(whole) == self.text:
                break
        else:
            return None
        alone = self._part(turns[: at + 1]) if at + 1 < len(turns) else whole
        tail = alone.partition(self._close)[2] if alone is not None else ""
        rest = whole.partition(self._close)[2]
        return whole, self._closing(self._without(tail), self._without(rest), bool(turns[at].get("tool_calls")))

    def _closing(self, tail: str, rest: str, calls: bool) -> str:
        """What ends a turn: `tail` follows it where it is the last, `rest` where it stands.

        It goes to the first special token, and past the calls of tools where the turn has some.
        """
        special = min((place for place in map(tail.find, self._specials) if place >= 0), default=-1)
        ends = [tail.rstrip()]
        if special >= 0 and not calls:
            token = max((t for t in self._specials if tail.startswith(t, special)), key=len)
            ends.insert(0, tail[: special + len(token)])
        return next((end for end in ends if rest.startswith(end)), "")

    @cached_property
    def _specials(self) -> set[str]:
        added = self._tokenizer.added_tokens_decoder.values()
        return {str(token) for token in added if token.special} | set(self._tokenizer.all_special_tokens)

    def _between(self, at: int, prompt: str | None) -> Span:
        """A turn that marks would change (an empty one, mostly), where the renderings up to it and through it tell.

        Where it is the last, the template may begin it with more than where it stands, never end it otherwise.
        """
        through = self._part(self._messages[: at + 1])
        asked = prompt is not None and prompt != self._part(self._messages[:at]) and self.text.startswith(prompt)
        if prompt is not None and through is not None and asked and through.startswith(prompt):
            turn, rest = through[len(prompt) :].rstrip(), self.text[len(prompt) :]
            left = next((cut for cut in range(len(turn) + 1) if rest.startswith(turn[cut:])), len(turn))
            whole = left == 0 or any(token in turn[left:] for token in self._specials)
            if whole:
                return len(prompt), len(prompt) + len(turn) - left
        raise self._hidden(at)

    def _hidden(self, at: int) -> DataError:
        return DataError(
            f"the chat template rewrites message {at + 1}, which the assistant says, so that where it stands cannot be "
            "told; change the message, or give the tokenizer a template with {% generation %} marks"
        )

    # -- turns that the template itself marks --------------------------------------------------------------------

    def _generated(self, template: str, first: int) -> list[Span]:
        marked = _GENERATION.sub(self._shown, template)
        whole = self._render(self._messages, template=marked)
        if self._without(whole) != self.text:
            raise DataError("the chat template's {% generation %} marks cannot be followed in this record")
        before = self._render(self._messages[:first], template=marked).count(self._open) if first else 0
        places = [match.span() for match in re.finditer(f"{self._open}[^{self._close}]*{self._close}", whole)][before:]
        if not places:
            return []
        tail = self._without(whole[places[-1][1] :])
        if self._messages[-1]["role"] != "assistant":
            last = max(at for at, message in enumerate(self._messages) if message["role"] == "assistant")
            tail = (self._part(self._messages[: last + 1]) or "").removeprefix(self._without(whole[: places[-1][1]]))
        token = next((token for token in self._specials if tail.lstrip().startswith(token)), None)
        closing = "" if token is None else tail[: tail.index(token) + len(token)]
        return [
            (
                self._plainly(whole, start),
                self._plainly(whole, end) + (len(closing) if whole.startswith(closing, end) else 0),
            )
            for start, end in places
        ]

    def _shown(self, mark: re.Match[str]) -> str:
        """A generation mark that also writes a mark of ours, with the same control of white space around it."""
        left, ends, right = mark.groups()
        if ends:
            return f"{{%{left} if true %}}{self._close}{{% endif %}}{{% endgeneration {right}%}}"
        return f"{{%{left} generation %}}{{% if true %}}{self._open}{{% endif {right}%}}"
