"""Open book: a text's own keys and values, page by page, and beside linear layers a LoRA that learns to use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from addenda.core.beside_linear import ProductKind
from addenda.core.contracts import Adapter, AttentionAdapter, ChoosingAdapter, Reader
from addenda.core.site import Anatomy, Seam, Site
from addenda.core.state import KeyValues
from addenda.core.text_slots import SharedSlots

#: how sharply pages are told apart, and lines of a page: chosen on questions about handbooks that no figure is told of
PAGES, LINES = 12.0, 2.0


class Text(AttentionAdapter):
    """Keys and values [2, G, S, K] of a text at one layer, which nothing trains; the first is a sink where all are seen."""

    def __init__(self, count: int, kv_heads: int, head_dim: int, *, chosen: bool) -> None:
        super().__init__()
        self.chosen, self.sinks = chosen, 0 if chosen else 1
        self.register_buffer("text", torch.zeros(2, kv_heads, count, head_dim))
        self.text: Tensor

    def key_values(self) -> KeyValues:
        """Keys and values [G, S, K]."""
        return self.text[0], self.text[1]


class Contents(ChoosingAdapter):
    """Which page a question is about, and which of its lines: those whose tokens are nearest to the question's, token for token.

    How near a token is to a line, or a page, is the largest cosine between it and their tokens. For a page it says that, times
    how far the nearest page is above the mean of all: a token that every page has says nothing. For a line it says how far it is
    above the page's heading, its first line, times how far the page's nearest line is above the heading and above the mean: what
    the heading has too does not tell lines apart. What a turn's tokens say adds up. A page's share of attention is a softmax
    over pages; in a page lines come after the best of them by what was said, and the heading is always in view. Nothing is
    trained: both sides are what the base's FFN, or attention where it has none, is given.
    """

    seam = Seam.ATTENTION

    def __init__(self, count: int, pages: int, lines: int, width: int) -> None:
        super().__init__()
        self.sizes = pages, lines
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("tokens", torch.zeros(count, width))
        self.register_buffer("line_of", _even(count, lines))
        self.register_buffer("page_of", _even(lines, pages))
        self.mean: Tensor
        self.tokens: Tensor
        self.line_of: Tensor
        self.page_of: Tensor

    def take(self, x: Tensor, lines: Tensor, pages: Tensor) -> None:
        """Learn the text's tokens [S, D] as the base reads them, the line of each [S], and the page of each line [n]."""
        self.mean.copy_(x.float().mean(0))
        self.tokens.copy_(F.normalize(x.float() - self.mean.float(), dim=-1))
        self.line_of.copy_(lines)
        self.page_of.copy_(pages)

    def choose(
        self, x: Tensor, state: Tensor | None = None, mask: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The logarithm of each slot's share [R, T, S], and what was said for each page and line so far [R, n]."""
        heading = F.pad(self.page_of.diff() != 0, (1, 0), value=True)
        said = self._said(x, heading)
        if mask is not None:
            said = torch.where(mask.unsqueeze(-1), said, 0.0)
        total = said.cumsum(1)
        earlier = torch.zeros_like(total) if state is None else state.unsqueeze(1).expand_as(total)
        if starts is None:
            total = total + earlier
        else:  # what was said before the last start is taken off; before the first one the state counts
            last = torch.where(starts, torch.arange(1, x.shape[1] + 1, device=x.device), 0).cummax(1).values
            off = F.pad(total, (0, 0, 1, -1)).gather(1, (last - 1).clamp(min=0).unsqueeze(-1).expand_as(total))
            total = torch.where((last > 0).unsqueeze(-1), total - off, total + earlier)
        of_pages, of_lines = total.split(list(self.sizes), -1)
        best = self._of_pages(of_lines.masked_fill(heading, -torch.inf), -torch.inf)
        behind = torch.where(heading, 0.0, of_lines - best)
        share = (PAGES * of_pages).log_softmax(-1)[..., self.page_of] + LINES * behind
        return share[..., self.line_of], total[:, -1]

    def _said(self, x: Tensor, heading: Tensor) -> Tensor:
        """What each token x [R, T, D] says for each page and each line [R, T, n]; lines that are a `heading` are told [n]."""
        asked = F.normalize(x.float() - self.mean.float(), dim=-1).to(self.tokens.dtype)
        lines = _most((asked @ self.tokens.T).float(), self.line_of, self.sizes[1])
        pages = _most(lines, self.page_of, self.sizes[0])
        for_pages = pages * (pages.amax(-1, keepdim=True) - pages.mean(-1, keepdim=True))
        body = ~heading
        above = self._of_pages(lines.masked_fill(body, -1.0))
        counted = torch.zeros_like(pages[0, 0]).scatter_add(0, self.page_of, body.to(pages.dtype)).clamp(min=1.0)
        sums = torch.zeros_like(pages).scatter_add(-1, self.page_of.expand_as(lines), lines * body)
        usual = torch.maximum((sums / counted)[..., self.page_of], above)
        best = self._of_pages(lines.masked_fill(heading, -1.0))
        for_lines = (lines - above).clamp(min=0.0) * (best - usual).clamp(min=0.0)
        return torch.cat([for_pages, for_lines * body], -1)

    def _of_pages(self, said: Tensor, least: float = -1.0) -> Tensor:
        """For each line the largest value [..., n] of a line of its page."""
        return _most(said, self.page_of, self.sizes[0], least)[..., self.page_of]


@dataclass(frozen=True)
class OpenBook(ProductKind, SharedSlots):
    """The first `count` tokens of a text as frozen keys and values, and a LoRA of `rank` that is trained with them in view.

    The model then answers with the text before its eyes, and nothing of the text in its window. `alpha`, `targets` and `rslora`
    are the LoRA's. Its size grows with the text: on SmolLM2 46 kB a token, and 20 MB for a LoRA of rank 16.

    With `pages` and `lines`, how many the text has of them, each page is read by itself, and a token sees the page, and of it the
    lines, that its turn asks for (`Contents`, a fifth of the way up; text and LoRA stand above). The text is read with what the
    LoRA has learned by then: one that has learned to read elsewhere reads the pages too.

    Source: ours, of three: Eyuboglu et al. 2025, "Cartridges", arXiv:2506.06266, whose start this keeps as it is; Hu et al.
    2021, "LoRA", arXiv:2106.09685; and, for the choice of a page, the late interaction of Khattab and Zaharia 2020, "ColBERT",
    arXiv:2004.12832. Training with the source in view is that of Zhang et al. 2024, "RAFT", arXiv:2403.10131.

    Measured: SmolLM2, two handbooks of 1,400 words, 93 hard questions on each, 80,000 tokens of exercises, without pages: 0.24
    [0.18, 0.31] are answered rightly, by a LoRA alone 0.09, with the handbook in the window 0.11 (page: answers). By pages, after
    practice on other texts and not trained on the handbook: 0.68 of 72 plain questions, without practice 0.25 (one handbook).
    Page: reading.
    """

    count: int = 1024
    rank: int = 16
    pages: int = 0
    lines: int = 0

    seam: ClassVar[Seam] = Seam.ATTENTION
    default_lr: ClassVar[float] = 1e-3
    peft_names: ClassVar[Mapping[str, str]] = {}
    init: ClassVar[str] = "text"
    least: ClassVar[int] = 2

    def __post_init__(self) -> None:
        SharedSlots.__post_init__(self)
        ProductKind.__post_init__(self)
        if self.pages and not self.lines:
            object.__setattr__(self, "lines", self.pages)
        self.check(
            self.pages == self.lines == 0 or 1 <= self.pages <= self.lines <= self.count,
            f"there are no pages, or one at least, as many lines and as many tokens (count); got pages={self.pages}, "
            f"lines={self.lines}, count={self.count}",
        )

    @property
    def takes_pages(self) -> bool:
        """Where it is made for pages."""
        return self.pages > 0

    def adapters(self, anatomy: Anatomy) -> Mapping[str, Adapter]:
        """The text at each attention module, a product beside each target linear layer; with pages, above their contents."""
        made: dict[str, Adapter] = {}
        if self.pages:
            entry = Seam.FFN if anatomy.at(Seam.FFN) else Seam.ATTENTION
            contents = next(site for site in anatomy.at(entry) if site.layer >= anatomy.layers // 5)
            made[contents.key] = Contents(self.count, self.pages, self.lines, contents.d_in)
            anatomy = _above(anatomy, contents)
        for site in anatomy.at(Seam.ATTENTION):
            made[site.key] = Text(self.count, anatomy.kv_heads, anatomy.head_dim, chosen=bool(self.pages))
        return made | dict(super().adapters(anatomy))

    def start(self, adapters: Mapping[str, Adapter], ids: Tensor, reader: Reader) -> None:
        """Take over keys and values of the first `count` tokens, as base and products read them.

        `ids` is [T], or with pages [T, 3]: a token, its line and its page, counted through the text. Of a text with pages that
        are not told they are about equal.

        Raises:
            AddendaError: the text is too short, or has other pages or lines than the options say.
        """
        self.check_text(ids)
        tokens, lines, pages = self._laid_out(ids[: self.count])
        parts = tokens.split(torch.bincount(pages).tolist())
        with torch.no_grad():
            read = [reader.key_values(part, adapters) for part in parts]
            for key, adapter in adapters.items():
                if isinstance(adapter, Text):
                    layer = int(key.split(".")[1])
                    keys, values = (torch.cat([part[layer][side] for part in read], 1) for side in (0, 1))
                    adapter.text.copy_(torch.stack([keys, values]))
                elif isinstance(adapter, Contents):
                    x = torch.cat([reader.inputs([key], part)[key] for part in parts])
                    adapter.take(x, lines, pages.new_zeros(self.lines).scatter(0, lines, pages))

    def _laid_out(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, and the line and the page of each, [T] each."""
        if ids.dim() == 1:
            lines = _even(len(ids), max(self.lines, 1))
            return ids, lines, _even(max(self.lines, 1), max(self.pages, 1))[lines]
        tokens, lines, pages = ids.unbind(1)
        found = int(pages.max()) + 1, int(lines.max()) + 1
        self.check(
            found == (self.pages, self.lines),
            f"the text has {found[0]:,} pages of {found[1]:,} lines in all, and it was made for {self.pages:,} and "
            f"{self.lines:,}",
        )
        return tokens, lines, pages


def _even(count: int, parts: int) -> Tensor:
    """The part [count] of each, all parts being about as large."""
    return torch.arange(count) * parts // count


def _most(said: Tensor, owner: Tensor, owners: int, least: float = -1.0) -> Tensor:
    """The largest of each owner's [..., n], of values [..., m] that have the owners [m]; `least` where there is none."""
    found = said.new_full((*said.shape[:-1], owners), least)
    return found.scatter_reduce(-1, owner.expand_as(said), said, "amax")


def _above(anatomy: Anatomy, contents: Site) -> Anatomy:
    """An anatomy with the sites of the layers above alone."""
    return replace(anatomy, sites=tuple(site for site in anatomy.sites if site.layer > contents.layer))
