"""Sites: the places in a base that a module may touch, and the anatomy a kind may know of the base."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Seam(StrEnum):
    """How an adapter meets its site."""

    FFN = "ffn"
    ATTENTION = "attention"
    LINEAR = "linear"
    HEAD = "head"
    #: no place in the base: text in the window
    TEXT = "text"


@dataclass(frozen=True)
class Site:
    """One place in the base.

    `key` is stable across loads and stands in files (`layers.3.ffn`); `path` is the submodule whose output the
    adapter meets (`model.layers.3.mlp`) and `entry` the submodule whose input it reads: the same one, except where
    an architecture has no FFN module of its own.
    """

    key: str
    seam: Seam
    layer: int
    path: str
    entry: str
    d_in: int
    d_out: int


@dataclass(frozen=True)
class FFNShape:
    """What the FFNs of a base are made of.

    Each has `units` hidden units; in a gated one (GLU) an activated gate multiplies every unit, in a plain one (MLP)
    the unit itself is activated. `activation` is transformers' name of the function.
    """

    units: int
    gated: bool
    activation: str


@dataclass(frozen=True)
class Anatomy:
    """What a kind may know of a base: sizes and sites, nothing of its code."""

    model_type: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    parameters: int
    sites: tuple[Site, ...]
    #: None where the FFNs are no such blocks of units
    ffn: FFNShape | None = None

    def at(self, seam: Seam) -> tuple[Site, ...]:
        """The sites of one seam, first layer first."""
        return tuple(site for site in self.sites if site.seam is seam)
