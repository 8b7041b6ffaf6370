"""Replay in chat form: the base's own answers to general prompts, from which a module learns to leave them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError, DataError
from addenda.core.modes import own_modes
from addenda.exercises.exercise import Ask, Message
from addenda.measuring.asking.chats import asked_of
from addenda.remote.answerer import answers
from addenda.remote.store import Store
from addenda.teaching.base_teacher import BaseTeacher
from addenda.teaching.study_set import REPLAY, WORK, form, write_lines
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.telling.progress import Progress
from addenda.tiny.asked import chat_prompts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens of an answer at most
TOKENS = 96
#: in `work/`: the base's answers
ANSWERED = "replay_answers.jsonl"


@own_modes()
def replay(
    base: Base,
    out: str | Path,
    *,
    prompts: Any = None,
    count: int | None = None,
    tokens: int = TOKENS,
    log: bool = True,
) -> Path:
    """Let the base answer general prompts, greedily, with every module off; returns the file, `out/replay.jsonl`.

    The file is replay for `addenda.train`: records of `messages`, or of `prompt` and `completion` where the base has no chat
    template, with their `kind` and, where an answer was not finished, `"cut": true`. Interrupted, the same call goes on to
    the same bits; a file that is there is made anew from the answers that are kept.

    Args:
        base: whose answers are to stay.
        out: folder of a study, or any other.
        prompts: whatever `addenda.train` takes, of which all up to the last that the user says is asked; default: the prompts
            that come with the package.
        count: so many of them; default: all.
        tokens: of an answer at most.
        log: say on standard error how it goes.

    Raises:
        AddendaError: the base has no tokenizer, or the count or the tokens are none.
        DataError: the prompts cannot be read, or no answer says anything.
        FileError: the folder cannot be written to.
        Stopped: after a signal; what was answered is kept.
    """
    if tokens < 1 or (count is not None and count < 1):
        raise AddendaError(f"replay takes at least one prompt and one token; got {count} and {tokens}")
    if base.tokenizer is None:
        raise AddendaError("replay reads text, and the base has no tokenizer: addenda.attach(model, tokenizer)")
    place = Path(out).expanduser()
    asked = _prompts(prompts, count)
    store = Store(place / WORK / ANSWERED)
    kept = f"what was answered is kept in {place}, and the same call goes on"
    try:
        with (
            Interrupts(f"stopping after this batch; {kept}"),
            Progress(f"{base.name} answers general prompts", len(asked), "prompts", show=log) as shown,
        ):
            asks = [Ask(messages, (), tokens) for _, messages in asked]
            said = answers(BaseTeacher(base), asks, store, lambda done: shown.update(done))
    except Stopped as stopped:
        raise Stopped(f"stopped by {stopped.signal}; {kept}", stopped.signal) from None
    records: list[dict[str, Any]] = []
    for (kind, messages), one in zip(asked, said, strict=True):
        if one.text:
            record = form(base.tokenizer, [*messages, {"role": "assistant", "content": one.text}])
            records.append(record | {"kind": kind} | ({"cut": True} if one.cut else {}))
    if not records:
        raise DataError("the base answers nothing to any prompt: its answers cannot be replayed")
    write_lines(place / REPLAY, records)
    return place / REPLAY


def _prompts(source: Any, count: int | None) -> list[tuple[str, tuple[Message, ...]]]:
    """What is asked, each with its kind."""
    if source is None:
        return [(chat.kind, chat.messages) for chat in chat_prompts(count)]
    name, chats = asked_of(source, count)
    found: Sequence[Sequence[Message]] = chats
    return [(name, tuple(messages)) for messages in found]
