"""Kinds of `count` slots that attention reads beside the text's own, which may start from a text."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.site import Seam


class TextSlots(Kind):
    """Slots whose number is an option, drawn where `init` is the first of `starts`, taken from a text where it is `"text"`."""

    count: int
    init: Any

    seam: ClassVar[Seam] = Seam.ATTENTION
    #: the starts there are
    starts: ClassVar[tuple[str, Literal["text"]]] = ("random", "text")
    #: fewest slots
    least: ClassVar[int] = 1

    def __post_init__(self) -> None:
        wanted = "positive" if self.least == 1 else f"at least {self.least}"
        self.check(self.count >= self.least, f"count must be {wanted}; got {self.count}")
        self.check(self.init in self.starts, f"init is {' or '.join(map(repr, self.starts))}; got {self.init!r}")

    @property
    def starts_from_text(self) -> bool:
        """With `init="text"`."""
        return self.init == "text"

    def check_text(self, ids: Tensor) -> None:
        """Refuse a text of fewer tokens [T] than there are slots.

        Raises:
            AddendaError: says how many it needs.
        """
        if len(ids) < self.count:
            raise AddendaError(f"init='text' needs at least {self.count} tokens of text; got {len(ids)}")


class SharedSlots(TextSlots):
    """Slots in the tokens' own softmax, always: a fresh module is not neutral."""

    @property
    def fresh_is_neutral(self) -> bool:
        """Never: its slots take part in the tokens' softmax from the start."""
        return False

    @property
    def shared_softmax(self) -> bool:
        """Always."""
        return True
