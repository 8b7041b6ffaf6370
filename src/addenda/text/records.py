"""Parts of a record, checked: messages, tools, prompts and completions, what a teacher reads, and text that can be encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from addenda.core.errors import DataError

#: the fields of a question with its answer
PAIR = ("prompt", "completion")


def check_unicode(where: str, text: str) -> None:
    """Refuse a text that no encoding can write.

    Raises:
        DataError: it has half a surrogate pair; `where` says where the text stands.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: half a surrogate pair at character {error.start + 1}; it was not UTF-8") from None


def plain_text(record: Mapping[str, Any]) -> str:
    """What a record says, in words: its text, or what is said in it, a line for each turn."""
    if "text" in record:
        return record["text"]
    said = [record["messages"]] if "messages" in record else [record["prompt"], record["completion"]]
    return "\n".join(part if isinstance(part, str) else "\n".join(one["content"] for one in part) for part in said)


def messages_of(where: str, value: Any) -> list[dict[str, Any]]:
    """Messages as plain dicts.

    Raises:
        DataError: they are no list of messages; `where` says where they stand.
    """
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: 'messages' is a list of dicts with 'role' and 'content'")
    messages: list[dict[str, Any]] = []
    for message in value:
        calls = isinstance(message, Mapping) and bool(message.get("tool_calls"))
        if not isinstance(message, Mapping) or "role" not in message or not ("content" in message or calls):
            raise DataError(f"{where}: a message needs 'role' and 'content'")
        content = "" if message.get("content") is None and calls else message["content"]
        if not isinstance(content, str):
            raise DataError(f"{where}: a message's content is text; got {type(content).__name__}")
        if not isinstance(message["role"], str):
            raise DataError(f"{where}: a message's role is text; got {type(message['role']).__name__}")
        check_unicode(where, content)
        check_unicode(where, message["role"])
        messages.append({key: part for key, part in message.items() if part is not None} | {"content": content})
    return messages


def tools_of(where: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """The tools that a conversation may call: JSON schemas, as chat templates take them."""
    tools = value.get("tools")
    if tools is None or tools == []:
        return {}
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"{where}: 'tools' is a list of JSON schemas; got {type(tools).__name__}")
    return {"tools": tools}


def reads_of(where: str, value: Mapping[str, Any]) -> dict[str, str]:
    """What a teacher alone reads before the record; nothing where it has none.

    Raises:
        DataError: it is no text; `where` says where the record stands.
    """
    reads = value.get("reads")
    if reads is None:
        return {}
    if not isinstance(reads, str):
        raise DataError(f"{where}: 'reads' is the text that a teacher reads first; got {type(reads).__name__}")
    check_unicode(where, reads)
    return {"reads": reads}


def part_of(where: str, part: str, value: Any) -> Any:
    """A prompt or a completion: a text, or messages.

    Raises:
        DataError: it is neither.
    """
    if isinstance(value, str):
        check_unicode(where, value)
        return value
    if isinstance(value, list):
        return messages_of(where, value)
    raise DataError(f"{where}: '{part}' is text or a list of messages; got {type(value).__name__}")


def conversation(record: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """The messages of a record that are only read, and those that are learned from; None of running text."""
    if "messages" in record:
        return [], record["messages"]
    if "prompt" not in record:
        return None
    prompt, completion = record["prompt"], record["completion"]
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    said = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
    return asked, said
