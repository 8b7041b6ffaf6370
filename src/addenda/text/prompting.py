"""Prompts: a text or a conversation as the token ids that a model goes on from; begun as the tokenizer begins, never closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from addenda.core.errors import AddendaError, DataError
from addenda.text.records import check_unicode

#: a text that every tokenizer knows, to see what is put around it
_PROBE = "a"


def marks(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that a tokenizer puts before a text and after it: bos, eos, [CLS], [SEP], or nothing.

    They are read off a text of one letter, so that it does not matter who adds them: a setting (`add_eos_token`), a template,
    or the class.
    """
    bare = bare_ids(tokenizer, _PROBE)
    whole = list(tokenizer(_PROBE, verbose=False)["input_ids"])
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text that is to be gone on with: with the tokenizer's bos if it wants one, without what closes a text.

    After a closing eos a model begins something new, and an answer's tokens would stand at other places than alone.
    """
    return [*marks(tokenizer)[0], *bare_ids(tokenizer, text)]


def unclosed(tokenizer: Any, ids: Sequence[int], text: str) -> list[int]:
    """The ids of a text, tokenized in any way, without what the tokenizer closed it with."""
    closing = marks(tokenizer)[1]
    added = bool(closing) and len(ids) > len(bare_ids(tokenizer, text)) and list(ids[-len(closing) :]) == closing
    return list(ids[: -len(closing)] if added else ids)


def chats(tokenizer: Any) -> bool:
    """Whether prompts are put in the chat's form unless asked otherwise: there is a chat template, and the model has learned it.

    A base that has a template and never saw it in training, as `tiny`, says so: `"chat_learned": false` in its tokenizer_config.
    """
    learned = getattr(tokenizer, "init_kwargs", {}).get("chat_learned", True)
    return getattr(tokenizer, "chat_template", None) is not None and learned is not False


def prepared(tokenizer: Any, text: str, *, system: str | None = None, raw: bool | None = None) -> tuple[list[int], str]:
    """The ids of a prompt and the text behind them: in the chat's form, or as it stands.

    Args:
        tokenizer: of the base.
        text: what is asked, or, as it stands, what is to be gone on with.
        system: what the model is told first.
        raw: True: as it stands; False: in the chat's form; None: in the chat's form where the model has learned one.

    Raises:
        AddendaError: there is no template, or it refuses the prompt; or there is a system text and no place for it.
    """
    for said in (text, system or ""):
        _check(said)
    if not chats(tokenizer) if raw is None else raw:
        if system is not None:
            raise AddendaError(
                "a prompt that is taken as it stands has no place for a system text; write it into the prompt"
            )
        return prompt_ids(tokenizer, text), text
    told = [] if system is None else [{"role": "system", "content": system}]
    return templated(tokenizer, [*told, {"role": "user", "content": text}])


def templated(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], str]:
    """A conversation as the chat template writes it, up to where the assistant begins to answer: its ids, its text.

    Raises:
        AddendaError: there is no template, or it refuses the conversation.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise AddendaError("the base's tokenizer has no chat template; take the prompt as it stands (raw)")
    try:
        whole = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except Exception as error:  # noqa: BLE001 - templates raise what they like
        raise AddendaError(f"the chat template refuses the conversation: {error}") from None
    return bare_ids(tokenizer, whole), whole  # the template has written the special tokens


def after_text(messages: Sequence[Mapping[str, str]], text: str) -> list[dict[str, str]]:
    """A conversation whose first question comes after a text that it is to be answered from."""
    told, first = [dict(message) for message in messages], True
    for message in told:
        if first and message["role"] == "user":
            message["content"], first = f"{text}\n\n{message['content']}", False
    return told


def check_ids(ids: Any, vocabulary: int) -> None:
    """Refuse token ids, an array or a tensor of any shape, that the model has no embedding for.

    Raises:
        DataError: the highest lies outside the vocabulary: tokens were added and the embeddings not resized, or the
            tokenizer is another model's.
    """
    highest = -1 if 0 in ids.shape else int(ids.max())
    if highest >= vocabulary:
        raise DataError(
            f"the tokenizer does not match the base: it gave token id {highest}, and the base's vocabulary has {vocabulary} "
            "entries; where tokens were added, resize the embeddings before addenda.attach"
        )


def bare_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text, with nothing before it or after."""
    _check(text)
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _check(text: Any) -> None:
    """Refuse what is no text, and text that no encoding can write: tokenizers' own words for it help nobody."""
    if not isinstance(text, str):
        raise DataError(f"a prompt is a text; got {type(text).__name__}")
    check_unicode("a prompt", text)
