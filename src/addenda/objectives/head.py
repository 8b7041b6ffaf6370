"""The head: logits from hidden states, chunk by chunk, so that no batch's logits are ever held whole.

Knows the model only through `base_model` and `get_output_embeddings`. What it takes for granted (that logits are the
output embedding of the decoder's last state, scaled or capped as the config says) is checked on a few tokens; where it
does not hold, the model's own logits are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from addenda.core.logits import Finish
from addenda.objectives.objective import Objective, Taught

#: logits of one chunk, in numbers: 16 MiB in float32; from 32 MiB on, glibc maps fresh pages for each tensor
CHUNK_NUMBERS = 2**22


class Head:
    """The output side of a causal language model. `whole` is True where only the model itself can make its logits."""

    def __init__(self, model: nn.Module, chunk: int | None = None) -> None:
        self.model: Any = model
        self.decoder: Any = model.base_model
        self.output: Any = self.model.get_output_embeddings()
        self.finish = Finish.of(self.model.config)
        self.whole = self.output is None or self.decoder is model or not self._holds()
        self.vocabulary: int = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator, union-attr]
        self.chunk = chunk or max(16, CHUNK_NUMBERS // self.vocabulary)

    def hidden(self, ids: Tensor, **inputs: Any) -> Tensor:
        """The decoder's last states [B, T, D] for token ids [B, T]; the logits themselves [B, T, V] where `whole`."""
        inputs = {"use_cache": False} | inputs
        if self.whole:
            return self.model(input_ids=ids, **inputs).logits
        return self.decoder(input_ids=ids, **inputs).last_hidden_state

    @torch.no_grad()
    def cache(self, ids: Tensor) -> Any:
        """The decoder's cache after token ids [B, T], for `hidden(..., past_key_values=)` of those that follow."""
        return self.decoder(input_ids=ids, use_cache=True).past_key_values

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [n, V], float32, of states [n, D], in memory of their own."""
        return hidden.float().clone() if self.whole else self.finish(self.output(hidden)).float()

    @torch.no_grad()
    def _holds(self) -> bool:
        device = self.model.get_input_embeddings().weight.device
        pad = self.model.config.pad_token_id  # transformers warns where it meets one
        ids = torch.tensor([[token for token in range(5) if token != pad][:4]], device=device)
        theirs = self.model(input_ids=ids, use_cache=False).logits.float()
        states = self.decoder(input_ids=ids, use_cache=False).last_hidden_state
        ours = self.finish(self.output(states)).float()
        if ours.shape != theirs.shape:
            return False
        rough = 1e-4 if self.model.dtype == torch.float32 else 3e-2
        return bool((ours - theirs).abs().max() <= rough * theirs.abs().max())

    def costs(
        self, objective: Objective, hidden: Tensor, targets: Tensor, weights: Tensor, taught: Taught = ()
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of the tokens' costs, and each token's cost.

        Gradients reach `hidden`, and the output embedding where it learns: they are taken chunk by chunk on the way
        forward, so that no chunk's logits outlive it and none is computed twice.

        Args:
            objective: what a token costs.
            hidden: [n, D], as `hidden` gives them, flattened.
            targets: [n], the tokens that came.
            weights: [n], float32; tokens of weight zero are not computed.
            taught: tensors [n, ...] from `teach`.

        Returns:
            A scalar with a gradient, in nats, and the costs [n] without one, zero where the weight is.
        """
        chosen = weights.nonzero().squeeze(-1)
        if len(chosen) < len(weights):
            hidden, targets = hidden[chosen], targets[chosen]
            taught = tuple(part[chosen] for part in taught)
        picked = weights[chosen]
        learns = torch.is_grad_enabled() and not self.whole
        own = [p for p in self.output.parameters() if p.requires_grad] if learns else []

        def graded(states: Tensor, at: slice) -> tuple[Tensor, Sequence[Tensor] | None]:
            part = tuple(tensor[at] for tensor in taught)
            logits = self.logits(states)
            if not states.requires_grad:
                return objective.cost(logits, targets[at], part), None
            costs, slope = objective.graded(logits.detach(), targets[at], picked[at], part)
            return costs, torch.autograd.grad(logits, [states, *own], slope)

        total, costs = _Chunked.apply(hidden, picked, graded, self.chunk, *own)
        return total, torch.zeros_like(weights).index_copy(0, chosen, costs)

    @torch.no_grad()
    def teach(self, objective: Objective, hidden: Tensor) -> Taught:
        """What the objective keeps of the teacher's states [n, D]: tensors [n, ...]."""
        parts = [objective.teach(self.logits(states)) for states in hidden.split(self.chunk)]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))


class _Chunked(torch.autograd.Function):
    """Sum of weighted costs over chunks, with the gradients for states and the head's own parameters found on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weights: Tensor,
        graded: Callable[[Tensor, slice], tuple[Tensor, Sequence[Tensor] | None]],
        chunk: int,
        *own: Tensor,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0] or bool(own)
        gradient = torch.empty_like(hidden) if wanted else None
        of_own = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in own]
        costs = torch.empty_like(weights)
        for start in range(0, len(hidden), chunk):
            at = slice(start, start + chunk)
            with torch.set_grad_enabled(wanted):
                costs[at], slopes = graded(hidden[at].detach().requires_grad_(wanted), at)
            if gradient is not None and slopes is not None:
                gradient[at] = slopes[0]
                for total, slope in zip(of_own, slopes[1:], strict=True):
                    total += slope
        ctx.gradients = (gradient, of_own)
        ctx.mark_non_differentiable(costs)
        return (costs * weights).sum(), costs

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradient, of_own = ctx.gradients
        scaled = [None if part is None else part * upstream[0].to(part.dtype) for part in (gradient, *of_own)]
        return scaled[0], None, None, None, *scaled[1:]
