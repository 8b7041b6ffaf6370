"""Written answers: many prompts continued greedily at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from addenda.plug.continuing import continued

if TYPE_CHECKING:
    from addenda.plug.base import Base


def written(base: Base, prompts: Sequence[str], *, tokens: int = 16, batch_tokens: int = 4096) -> list[str]:
    """What the base, as selected, writes after each prompt: the first line, of at most so many tokens.

    Prompts of one length ride together, so none is padded, and each is continued as if it were alone. One that is too long for
    the base's context loses its beginning.

    Raises:
        AddendaError: the base has no tokenizer.
    """
    ids = [base.tokenize(prompt.rstrip()) for prompt in prompts]
    answers = continued(base, ids, tokens=tokens, batch_tokens=batch_tokens)
    return [base.tokenizer.decode(answer, skip_special_tokens=True).strip().split("\n")[0] for answer in answers]
