"""Generating: prompts continued under a selection, or under several side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from addenda.core.call import mark_recalled, recalled_in
from addenda.core.errors import AddendaError
from addenda.core.modes import evaluating
from addenda.core.settings import Checked, checked
from addenda.plug import decoding
from addenda.plug.selection import Names, weights_of

if TYPE_CHECKING:
    from addenda.plug.base import Base


#: least temperature that draws: below it, logits over temperature overflow
LEAST = 1e-3


@dataclass(frozen=True)
class Sampling(Checked):
    """How tokens are chosen."""

    max_tokens: int = 60
    """tokens to write at most; fewer where the base's context ends"""
    temperature: float = 0.0
    """0: the likeliest token each time; above: drawn"""
    top_k: int | None = None
    """draw among so many likeliest tokens"""
    top_p: float | None = None
    """draw among the likeliest tokens that make up this share"""
    min_p: float | None = None
    """draw among tokens at least so likely, as a share of the likeliest"""
    repetition_penalty: float = 1.0
    """above 1: tokens that were there already become less likely"""
    seed: int = 0
    """of the draws; each prompt starts from it anew, so that neighbours change nothing"""

    least: ClassVar[Mapping[str, int]] = {"max_tokens": 1, "top_k": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(
            self.temperature == 0 or LEAST <= self.temperature < math.inf,
            "temperature",
            f"0 (the likeliest token each time), or at least {LEAST:g} and finite",
        )
        self.check(self.top_p is None or 0 < self.top_p <= 1, "top_p", "a share above 0, up to 1")
        self.check(self.min_p is None or 0 <= self.min_p <= 1, "min_p", "a share from 0 to 1")
        self.check(self.repetition_penalty > 0, "repetition_penalty", "positive")
        drawn = any(limit is not None for limit in (self.top_k, self.top_p, self.min_p))
        self.check(self.temperature > 0 or not drawn, "temperature", "above 0 where top_k, top_p or min_p is given")

    def options(self) -> dict[str, Any]:
        """The settings as transformers' `generate` takes them; what the checkpoint says of sampling is put aside."""
        drawn = self.temperature > 0
        return {
            "do_sample": drawn,
            "temperature": self.temperature if drawn else None,
            "top_k": (self.top_k or 0) if drawn else None,
            "top_p": (self.top_p or 1.0) if drawn else None,
            "min_p": self.min_p if drawn else None,
            "repetition_penalty": self.repetition_penalty,
        }

    def __str__(self) -> str:
        if not self.temperature:
            how = "the likeliest token each time"
        else:
            limits = {name: getattr(self, name) for name in ("top_k", "top_p", "min_p")}
            said = "".join(f", {name} {value:g}" for name, value in limits.items() if value is not None)
            how = f"drawn at temperature {self.temperature:g}{said}"
        return how + (f", repetition penalty {self.repetition_penalty:g}" if self.repetition_penalty != 1 else "")


@dataclass(frozen=True)
class Continuation:
    """What was written after a prompt, its token ids too.

    `ended` is True where the model itself stopped, `full` where the base's context left no room for as much as was asked for.
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    ended: bool
    full: bool = False

    @property
    def tokens(self) -> int:
        """How many were written."""
        return len(self.ids)

    @property
    def ended_at_once(self) -> bool:
        """Whether nothing was written, for the first token already ended the text."""
        return self.ended and not self.text.strip()


def generate(
    base: Base, prompts: Iterable[str], *, system: str | None = None, raw: bool | None = None, **settings: Any
) -> list[Continuation]:
    """Answer prompts under the current selection, or go on with them; each as if it were alone.

    Args:
        base: with a tokenizer; what is selected in this thread is what writes.
        prompts: texts.
        system: what the model is told first, in the chat's form.
        raw: True: go on with the prompts as they stand; False: ask them in the chat's form; None: in the chat's form where
            the model has learned one.
        settings: fields of `Sampling`.

    Raises:
        AddendaError: there is no tokenizer, a setting is out of range, or a prompt fills the base's context; or there is a
            system text, or raw=False, and no chat template.
        DataError: the model has no embedding for a token of a prompt.
    """
    sampling = sampling_from(settings)
    return [continue_ids(base, base.asked(prompt, system=system, raw=raw), prompt, sampling) for prompt in prompts]


def side_by_side(
    base: Base,
    prompts: Iterable[str],
    columns: Mapping[str, Names],
    *,
    system: str | None = None,
    raw: bool | None = None,
    **settings: Any,
) -> list[dict[str, Continuation]]:
    """Answer each prompt under several selections, by column: `{"base": {}, "pubmed": {"pubmed": 1.0}}`.

    Raises:
        AddendaError: as `generate`; or a column names what is not plugged.
    """
    sampling = sampling_from(settings)
    chosen = {column: weights_of(names) for column, names in columns.items()}
    rows = []
    for prompt in prompts:
        row: dict[str, Continuation] = {}
        for column, weights in chosen.items():
            with base.using(weights):
                ids = base.asked(prompt, system=system, raw=raw)
                row[column] = continue_ids(base, ids, prompt, sampling)
        rows.append(row)
    return rows


def sampling_from(settings: Mapping[str, Any]) -> Sampling:
    """Sampling from keywords, checked.

    Raises:
        AddendaError: there is no such setting, or one is out of range.
    """
    return checked(Sampling, "generate", settings)


def sampling_of(base: Base, changes: Mapping[str, Any]) -> Sampling:
    """How the model's own generation_config draws tokens, with changes; the likeliest token where it says nothing of that.

    Its repetition penalty is left out: what stands in the conversation may be said again.

    Raises:
        AddendaError: as `sampling_from`.
    """
    own = base.model.generation_config
    drawn = bool(own.do_sample) and changes.get("temperature", 1.0) > 0
    names = ("temperature", "top_k", "top_p", "min_p") if drawn else ()
    said = {name: value for name in names if (value := getattr(own, name, None))}
    return sampling_from(({"temperature": 1.0} if drawn else {}) | said | dict(changes))


@torch.no_grad()
def continue_ids(base: Base, ids: torch.Tensor, prompt: str, sampling: Sampling, streamer: Any = None) -> Continuation:
    """Continue token ids [T]; `streamer` is told the tokens as they come, as transformers' streamers are.

    Raises:
        AddendaError: there is nothing to continue, or the ids fill the base's context.
    """
    tokenizer, model = base.tokenizer, base.model
    if not len(ids):
        raise AddendaError("the prompt has no token; give a text to continue")
    room = sampling.max_tokens if base.context is None else min(sampling.max_tokens, base.context - len(ids))
    if room < 1:
        raise AddendaError(
            f"the prompt has {len(ids)} tokens and fills the base's context of {base.context}; shorten it"
        )
    row = ids[None].to(base.device)
    mark_recalled(row, recalled_in(ids))
    drawn_on = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=drawn_on), evaluating(model):
        torch.manual_seed(sampling.seed)
        out = model.generate(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            streamer=streamer,
            **decoding.settings(model, tokenizer, max_new_tokens=room, **sampling.options()),
        )[0, len(ids) :]
    ended = bool(len(out)) and int(out[-1]) in decoding.end_ids(model, tokenizer)
    text, full = tokenizer.decode(out, skip_special_tokens=True), not ended and len(out) < sampling.max_tokens
    return Continuation(prompt, text, tuple(out.tolist()), ended, full)
