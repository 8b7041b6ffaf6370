"""The document gate: a sequential test for the subject's beginning, quick to open and quick to shut."""

# torch leaves some of its functions untyped
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.core.gate import Gate, GateMethod, GateRows, apart
from addenda.core.site import Site

#: hidden units that tell one token's subject
HIDDEN = 64
#: one token's evidence is cut at LIMIT nats; DRIFT is taken off each token's; the sum stops ROOM above the threshold
LIMIT, DRIFT, ROOM = 4.0, 0.8, 20.0
#: folds of documents: what a fit says of a document counts where the fit has not seen it
FOLDS = 2
#: steps of a fit at least and at most, one for so many tokens of the shorter side; tokens of each side in one; largest rate
STEPS, EACH, TOKENS, RATE = (100, 1000), 12, 512, 3e-3
#: least and largest share of general tokens that a fit leaves alone; what a missed token of the subject counts in others
LEAST, MOST, MISSED = 0.86, 0.995, 4.0


class Side(NamedTuple):
    """Tokens of one side of a fit, text after text: inputs [n, D], where one begins anew [1, n], and the fold [n] of each."""

    x: Tensor
    starts: Tensor
    folds: Tensor


class DocumentGate(Gate):
    """s_t = min(threshold + room, max(0, s_{t-1}) + clip(e_t, -limit, limit) - drift); open where s_t > threshold.

    e_t, the log-odds that token t is of the subject, comes from a small network on the base's own activations. The sum
    is Page's CUSUM (1954), the quickest detection of a change for a given rate of false alarms (Moustakides 1986). A
    document starts at zero. The sum stops `room` above the threshold, so that it takes some ten tokens to shut however
    long the subject lasted. The amplitude rises to one over one unit of the sum and stays there. The network is fitted
    before the module learns, and the threshold set, on documents that the fit has not seen, where missed tokens of the
    subject and touched general tokens are fewest together. Ours.

    With `hold` it stays open through a few tokens that say nothing: as soon as the sum is above the threshold it is at its
    largest, and a token that speaks for the subject puts it there again. So it opens where it did, and shuts once evidence
    against the subject, with no token for it in between, adds up to `room`: a short question's answer finds it open.

    With `by_turn` the sum starts at zero also where the user begins to speak, so that what was asked before opens nothing. In
    `generate` the module is silent on what was said before a prompt's last turn, and that turn is judged as one: the module acts
    on all of it, as far as the gate is open at its end. Where it is shut, the answer is the bare base's, bit for bit.
    """

    taught: ClassVar[bool] = False
    turns: ClassVar[bool] = True

    def __init__(self, site: Site, hold: bool = False, by_turn: bool = False) -> None:
        super().__init__(site)
        width, self.hold, self.by_turn = site.d_in, hold, by_turn
        for name, value in (
            ("up", torch.zeros(HIDDEN, width)),
            ("shift", torch.zeros(HIDDEN)),
            ("down", torch.zeros(HIDDEN)),
            ("bias", torch.tensor(LIMIT)),
            ("limit", torch.tensor(LIMIT)),
            ("drift", torch.tensor(DRIFT)),
            ("room", torch.tensor(ROOM)),
            ("fitted", torch.zeros(())),
        ):
            self.register_buffer(name, value)
        self.up: Tensor
        self.shift: Tensor
        self.down: Tensor
        self.bias: Tensor
        self.limit: Tensor
        self.drift: Tensor
        self.room: Tensor
        self.fitted: Tensor

    @property
    def fresh(self) -> bool:
        """Never fitted."""
        return not bool(self.down.any())

    @property
    def floor(self) -> float:
        """The fitted threshold."""
        return float(self.fitted)

    def begin(self) -> None:
        """Nothing: the fit does it all."""

    def evidence(self, x: Tensor) -> Tensor:
        """Log-odds [...] that a token is of the subject, float32 from x [..., D]; before they are cut."""
        return F.silu(F.linear(x.to(self.up.dtype), self.up, self.shift)) @ self.down + self.bias

    def forward(
        self, x: Tensor, state: Tensor | None = None, mask: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The sum [R, T], and the state [R, 1]: the sum after the last token."""
        step = self.evidence(x).float().clamp(-self.limit, self.limit) - self.drift
        before = None if state is None else state[:, 0]
        sums = page(step, self.threshold + self.room, before, mask, starts, self.threshold if self.hold else None)
        return sums, sums[:, -1:]

    def amplitude(self, statistic: Tensor) -> Tensor:
        """s - threshold, from 0 to 1."""
        return (statistic - self.threshold).clamp(0.0, 1.0)

    def fit(self, rows: Iterable[GateRows], seed: int) -> None:
        """Fit the evidence by logistic regression on both sides' tokens, and set the threshold.

        The threshold is the one at which four times the share of the subject's tokens that are missed and the share of the
        others that are touched (they, or a token before them in their document, opened the gate) add up to least, at
        most a seventh of the others being touched. Both shares are of documents that a fit had not seen. One token alone
        never opens the gate: the threshold is no lower than the most that one can say.
        """
        sides = _sides(rows)
        sums = [torch.empty(0)] * 2
        kept = [torch.zeros(len(side.folds)) for side in sides]
        for fold in range(FOLDS):
            self._learn(*(side.x[side.folds != fold] for side in sides), seed=seed)
            for side, evidence in zip(sides, kept, strict=True):
                at = side.folds == fold
                evidence[at] = self._evidence_of(side.x[at])
        for number, (side, evidence) in enumerate(zip(sides, kept, strict=True)):
            limit, drift = float(self.limit), float(self.drift)
            step = evidence.view(side.starts.shape).clamp(-limit, limit) - drift
            sums[number] = step
        self._learn(*(side.x for side in sides), seed=seed)
        self.threshold.fill_(self._best(*sums, *(side.starts for side in sides)))
        self.fitted.copy_(self.threshold)

    def _learn(self, others: Tensor, subject: Tensor, seed: int) -> None:
        """Fit the network to tokens [n, D] of both sides, that count alike."""
        random = torch.Generator().manual_seed(seed)
        both = torch.cat([others, subject]).float()
        mean, scale = both.mean(0), both.std(0) + 1e-6
        del both
        width = others.shape[1]
        up = torch.randn(HIDDEN, width, generator=random) * width**-0.5
        network = [up, torch.zeros(HIDDEN), torch.randn(HIDDEN, generator=random) * HIDDEN**-0.5, torch.zeros(())]
        network = [part.requires_grad_() for part in network]
        optimizer = torch.optim.AdamW(network, lr=RATE, weight_decay=1e-2)
        target = torch.cat([torch.zeros(TOKENS), torch.ones(TOKENS)])
        steps = max(STEPS[0], min(STEPS[1], min(len(others), len(subject)) // EACH))
        with torch.enable_grad():
            for number in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = RATE * (1 - number / steps)
                drawn = [
                    part[torch.randint(len(part), (TOKENS,), generator=random)].float() for part in (others, subject)
                ]
                x = (torch.cat(drawn) - mean) / scale
                score = F.silu(F.linear(x, network[0], network[1])) @ network[2] + network[3]
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(score, target).backward()
                optimizer.step()
        up, shift, down, bias = (part.detach() for part in network)
        up = up / scale
        for name, value in (("up", up), ("shift", shift - up @ mean), ("down", down), ("bias", bias)):
            getattr(self, name).copy_(value)

    def _best(self, others: Tensor, subject: Tensor, others_start: Tensor, subject_starts: Tensor) -> float:
        """The threshold for the steps [R, T] of both sides at which their errors, weighed, add up to least."""
        endless, number = torch.tensor(torch.inf), others_start.cumsum(1)
        told = page(others, endless, None, None, others_start)
        felt = torch.cat([_running_most(row, document) for row, document in zip(told, number, strict=True)])
        felt, seen = (
            torch.sort(felt).values,
            torch.sort(page(subject, endless, None, None, subject_starts).flatten()).values,
        )
        best, chosen = torch.inf, LIMIT
        for share in torch.linspace(LEAST, MOST, 20):
            threshold = max(LIMIT, float(felt[min(len(felt) - 1, int(share * len(felt)))]))
            if self.hold:
                at = torch.tensor(threshold)
                sums = page(subject, at + float(self.room), None, None, subject_starts, at)
                missed = float((sums <= threshold).float().mean())
            else:
                missed = int(torch.searchsorted(seen, threshold, right=True)) / len(seen)
            touched = 1 - int(torch.searchsorted(felt, threshold, right=True)) / len(felt)
            if MISSED * missed + touched <= best:
                best, chosen = MISSED * missed + touched, threshold
        return chosen

    @torch.no_grad()
    def _evidence_of(self, x: Tensor) -> Tensor:
        """Evidence of tokens [n, D], on the CPU."""
        return torch.cat(
            [self.evidence(part.to(self.up.device).float()).float().cpu() for part in x.split(1 << 14)]
            or [torch.empty(0)]
        )


def page(
    step: Tensor,
    cap: Tensor,
    before: Tensor | None,
    mask: Tensor | None = None,
    starts: Tensor | None = None,
    hold: Tensor | None = None,
) -> Tensor:
    """Page's sums s_t = min(cap, max(0, s_{t-1}) + step_t) of each row [R, T], all at once.

    Each token is a map x -> clamp(x + a, low, high); such maps compose to one of their kind, so a scan of log2 T rounds
    finds them all, and no partial sum outgrows the cap. Pads change nothing; a start forgets what was before.

    With `hold`, a sum that a positive step brings above it is the cap. A map then has two more numbers: above `edge` it is
    `top`. Such maps compose to one of their kind too, for they never fall: what is below an edge never passes what is above.

    Args:
        step: [R, T], float32.
        cap: the largest sum, a number, above any step.
        before: [R], the sum before the first token; None for zero.
        mask: [R, T], False on pads.
        starts: [R, T], True where a document begins.
        hold: a number below the cap; None: no sum is held.
    """
    a, low, high = step, torch.minimum(step, cap), cap.expand_as(step)
    edge = top = torch.full_like(step, torch.inf)
    if hold is not None:
        up, cap = step > 0, cap.expand_as(step)
        edge, top = torch.where(up, hold - step, edge), torch.where(up, cap, top)
        low = torch.where(up & (step > hold), cap, low)
    if mask is not None:
        a = torch.where(mask, a, 0.0)
        low, high = torch.where(mask, low, -torch.inf), torch.where(mask, high, torch.inf)
        edge, top = torch.where(mask, edge, torch.inf), torch.where(mask, top, torch.inf)
    if starts is not None:
        first = low if mask is None else torch.where(mask, low, 0.0)
        a, low, high = torch.where(starts, 0.0, a), torch.where(starts, first, low), torch.where(starts, first, high)
        edge, top = torch.where(starts, torch.inf, edge), torch.where(starts, torch.inf, top)
    maps, reach = (a, low, high, edge, top), 1
    while reach < step.shape[1]:
        joined = _after([part[:, :-reach] for part in maps], [part[:, reach:] for part in maps], hold is not None)
        maps = tuple(torch.cat([part[:, :reach], new], 1) for part, new in zip(maps, joined, strict=True))
        reach *= 2
    a, low, high, edge, top = maps
    start = torch.zeros_like(a[:, :1]) if before is None else before[:, None].to(a)
    sums = torch.clamp(start + a, low, high)
    return sums if hold is None else torch.where(start > edge, top, sums)


def _after(first: Sequence[Tensor], then: Sequence[Tensor], held: bool) -> tuple[Tensor, ...]:
    """The map that does one map of `page` and then another."""
    (a, low, high, edge, top), (by, least, most, limit, value) = first, then
    moved = a + by, torch.clamp(low + by, least, most), torch.clamp(high + by, least, most)
    if not held:
        return *moved, edge, top
    crossing = torch.where(high > limit, torch.minimum(edge, limit - a), edge)
    crossing = torch.where(low > limit, -torch.inf, crossing)
    return *moved, crossing, torch.where(top > limit, value, torch.clamp(top + by, least, most))


def _sides(rows: Iterable[GateRows]) -> tuple[Side, Side]:
    """The rows' tokens in half precision, others first and then the subject's, in folds of whole documents."""
    sides: list[Side] = []
    batches = list(rows)
    for subject in (False, True):
        mine = [batch for batch in batches if batch.subject == subject]
        documents = torch.cat([batch.documents.cpu().flatten() for batch in mine])
        numbers = torch.unique(documents)
        if len(numbers) >= 2 * FOLDS:
            folds = torch.searchsorted(numbers, documents) % FOLDS
        else:  # one long text: its stretches
            folds = torch.arange(documents.numel()) * FOLDS // documents.numel()
        x = torch.cat([batch.x.detach().to("cpu", torch.float16).flatten(0, 1) for batch in mine])
        sides.append(Side(x, torch.cat([batch.starts.cpu().flatten() for batch in mine])[None], folds))
    return sides[0], sides[1]


def _running_most(row: Tensor, document: Tensor) -> Tensor:
    """The largest sum so far within each document of a row [T]."""
    return torch.cat([torch.cummax(part, 0).values for part in apart(row, document)])


@dataclass(frozen=True)
class Document(GateMethod):
    """A sequential test, fitted before training; opens some tokens after the subject begins and shuts some ten after it ends.

    `hold`: it stays open through tokens that say nothing, as a chat template's after a short question. `by_turn`: each turn of
    the user's is judged by itself; in `generate` a prompt's last one is judged as a whole, and earlier ones are read without the
    module.

    Source: Page 1954, "Continuous inspection schemes", Biometrika 41; ours on a language model's activations. See
    `DocumentGate`.

    Measured: `tiny`, 3 seeds, 100,000 tokens: of general text 95% of the worst sort's tokens (French) and 86% (PubMed) stay
    bit-equal; it opens 5 and 44 tokens after the subject begins, however much stood before, and shuts after 9 and 15. Page:
    gates.
    """

    hold: bool = False
    by_turn: bool = False

    name: ClassVar[str] = "document"

    def module(self, site: Site) -> DocumentGate:
        """The gate that reads what enters a site."""
        return DocumentGate(site, self.hold, self.by_turn)
