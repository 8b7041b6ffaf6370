"""A method: one of many that may stand at a stage (a kind, an objective, ...); one file each, found by stage and name."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar


class Method(ABC):
    """Options of one method; a subclass is a frozen dataclass in a file of its own, in its stage's folder.

    Its fields are its options, its docstring is its help: the first line says what it is for, a paragraph that begins with
    `Source:` where it comes from, one that begins with `Measured:` what it did in our hands.
    """

    #: what it is a method of; set by the stage's contract
    stage: ClassVar[str]
    #: what it is called, where that is not the class's name
    name: ClassVar[str] = ""

    @classmethod
    def called(cls) -> str:
        """The name under which it is asked for."""
        return cls.name or cls.__name__
