"""What a text memory promises: it takes in text, and recalls, within a budget of tokens, what stands before a prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from addenda.core.contracts import Adapter, Kind
from addenda.core.site import Anatomy, Seam

#: how many tokens a text has
Count = Callable[[str], int]
#: what a memory holds, as JSON gives it back
Held = dict[str, Any]


class TextMemory(Kind):
    """Options of one text memory; a subclass is a frozen dataclass in a file of its own under `remembering/`.

    What it holds is plain data, kept in `memory.json` of the module's folder. It has an option `window`: the tokens that what
    it recalls and the prompt have together, at most.
    """

    stage = "text memory"
    seam: ClassVar[Seam] = Seam.TEXT
    default_lr: ClassVar[float] = 0.0

    window: int

    def adapters(self, anatomy: Anatomy) -> Mapping[str, Adapter]:
        """None: it touches nothing of the base."""
        return {}

    @abstractmethod
    def blank(self) -> Held:
        """What an empty memory holds."""

    @abstractmethod
    def restored(self, held: Mapping[str, Any]) -> Held:
        """What a file holds, checked.

        Raises:
            AddendaError: it is nothing that this memory wrote.
        """

    @abstractmethod
    def take(self, held: Held, text: str) -> Held:
        """What it holds after one more turn or document; `held` is left as it was."""

    @abstractmethod
    def turns(self, held: Held) -> int:
        """How many turns or documents it has taken in."""

    @abstractmethod
    def recall(self, held: Held, prompt: str, budget: int, count: Count) -> str:
        """What is to stand before a prompt, of at most `budget` tokens; empty where nothing is to. It may note what was used."""
