"""The proof of a merge: the merged checkpoint, loaded by transformers alone, against the base with its modules plugged."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from addenda.bases.gguf_file import plain_config
from addenda.bases.wrappers import plain_name
from addenda.core.errors import DataError
from addenda.core.modes import evaluating
from addenda.telling.progress import tick
from addenda.text.encoding import Encoder
from addenda.text.texts import texts

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: rows and tokens of the probe text
ROWS, LENGTH = 8, 128
#: allowed difference in float32, relative to the largest logit
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Proof:
    """Merged against plugged logits on `tokens` tokens of `text`.

    `difference` is the largest, relative to the largest logit; `allowed` the most that is let through: 1e-4 in float32,
    in half precision twice the base's own difference from its float32 run. `changed` is how far the modules move the
    logits, by the same measure: a merge that lost them would differ by that much.
    """

    text: str
    tokens: int
    difference: float
    allowed: float
    changed: float
    same_first_choice: float
    dtype: str

    @property
    def holds(self) -> bool:
        """Whether the merged model computes what the plugged one does, and not only what the bare one does."""
        return self.difference <= self.allowed < math.inf and self.tells

    @property
    def tells(self) -> bool:
        """Whether the difference is so small beside what the modules change that a merge without them would not pass."""
        return self.changed == 0.0 or 2 * self.difference <= self.changed

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self) | {"holds": self.holds}

    def __str__(self) -> str:
        return (
            f"merged against plugged on {self.tokens:,} tokens of {self.text}: largest difference {self.difference:.1e} of "
            f"the largest logit (allowed {self.allowed:.1e}; the modules move it by {self.changed:.1e}), first choice equal "
            f"for {self.same_first_choice:.1%}"
        )


Rows = tuple[list[Tensor], str]


@torch.no_grad()
def prove(base: Base, selection: Mapping[str, float], folder: Path, dtype: torch.dtype, probe: Rows) -> Proof:
    """Compare a written checkpoint with the base and its modules.

    Args:
        base: with the modules plugged.
        selection: what was merged, by weight.
        folder: the checkpoint.
        dtype: in which it was written.
        probe: as `probe_rows` gives it.
    """
    rows, name = probe
    with base.off():
        bare = logits_of(base.model, rows)
    with base.using(dict(selection)):
        plugged = logits_of(base.model, rows)
    merged_model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=base.model.config._attn_implementation
    )
    merged = logits_of(merged_model, rows)
    del merged_model
    allowed = TOLERANCE
    if dtype != torch.float32 or base.host.dtype() != torch.float32:
        exact = _cast_logits(base, rows, torch.float32)
        allowed = 2 * max(apart(_cast_logits(base, rows, kind), exact) for kind in {dtype, base.host.dtype()})
    agree = [(a.argmax(-1) == b.argmax(-1)).float().mean() for a, b in zip(merged, plugged, strict=True)]
    return Proof(
        text=name,
        tokens=sum(len(row) for row in rows),
        difference=apart(merged, plugged),
        allowed=allowed,
        changed=apart(plugged, bare),
        same_first_choice=float(torch.stack(agree).mean()),
        dtype=str(dtype).removeprefix("torch."),
    )


def probe_rows(base: Base, probe: Any) -> Rows:
    """Rows of token ids [T] to compare on, T at most LENGTH, and what they are called.

    They come from a text, whatever `addenda.text.texts.texts` reads, and from the probes that plugged modules keep; without a
    tokenizer they are random tokens.

    Raises:
        DataError: the text cannot be read, or is empty.
    """
    vocabulary = base.vocabulary
    if base.tokenizer is None:
        generator = torch.Generator().manual_seed(0)
        return [torch.randint(vocabulary, (LENGTH,), generator=generator) for _ in range(ROWS)], "random tokens"
    source = texts(probe)
    read = [
        torch.from_numpy(document.ids[:LENGTH].astype("int64"))
        for document in islice(Encoder(base.tokenizer, vocabulary).documents(source), ROWS)
    ]
    kept = [torch.tensor(module.probe) for module in base.modules.values() if module.probe]
    rows = [row for row in (*read, *kept) if len(row)]
    if not rows:
        raise DataError(f"'{source.name}' holds no text to compare the merged model on")
    return rows, source.name


def logits_of(model: Any, rows: Sequence[Tensor]) -> list[Tensor]:
    """A model's logits [T, V] on each row of token ids [T]."""
    device = model.get_input_embeddings().weight.device
    logits: list[Tensor] = []
    with evaluating(model):
        for row in rows:
            tick(len(row))
            logits.append(model(input_ids=row[None].to(device), use_cache=False).logits[0].float().cpu())
    return logits


def loss_of(logits: Sequence[Tensor], rows: Sequence[Tensor]) -> float:
    """Nats per token that logits [T, V] give to the rows of token ids [T] they were computed on."""
    lost = [cross_entropy(a[:-1], b[1:], reduction="none") for a, b in zip(logits, rows, strict=True)]
    return float(torch.cat(lost).mean())


def _cast_logits(base: Base, rows: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Logits of the bare base in another dtype."""
    if dtype == base.host.dtype():
        with base.off():
            return logits_of(base.model, rows)
    with _copy(base, dtype) as model:
        return logits_of(model, rows)


@contextlib.contextmanager
def _copy(base: Base, dtype: torch.dtype) -> Iterator[Any]:
    """The bare base once more, in another dtype."""
    config = plain_config(base.host.config)
    implementation = base.model.config._attn_implementation
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=implementation)
    model.load_state_dict({plain_name(name): value for name, value in base.host.model.state_dict().items()})
    yield model.to(base.host.device_at(base.host.table.layers + ".0")).eval()


def apart(logits: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The largest difference of two lists of logits, relative to the largest logit; infinite where one is no number."""
    largest = torch.stack([b.abs().max() for b in other]).max()
    farthest = torch.stack([(a - b).abs().max() for a, b in zip(logits, other, strict=True)]).max()
    apart = farthest / largest.clamp(min=1e-12)
    return float(apart) if bool(apart.isfinite()) else math.inf  # not Python's max, which may step over a NaN
