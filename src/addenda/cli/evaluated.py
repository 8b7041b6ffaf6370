"""Tables of what `addenda evaluate` measured, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from addenda.intervals import Interval
    from addenda.measuring.chats import OnChats
    from addenda.measuring.disturbance import Disturbance
    from addenda.measuring.edits import EditScores
    from addenda.measuring.evaluate import Evaluation
    from addenda.measuring.harness import OnTask
    from addenda.measuring.recall import Recall
    from addenda.measuring.spectrum import Health, Spectrum
    from addenda.measuring.three_settings import ThreeSettings
    from addenda.measuring.zero_shot import ZeroShot
    from addenda.scoring import Difference, Score


#: sites of a module that are shown one by one
MOST_SITES = 12


def table_of(title: str, *columns: str) -> Table:
    """An empty table: words to the left in its first column, numbers to the right in all others."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def share(found: Interval | None, sign: str = "") -> str:
    """A share in percent with its interval; a dash where it was not measured."""
    if found is None or not found.n:
        return "-"
    text = f"{found.value:{sign}.1%}"
    return text if found.n < 2 else f"{text} \\[{found.low:{sign}.1%}, {found.high:{sign}.1%}]"


def texts(found: Evaluation, label: str) -> Table:
    """Held-out loss of each text."""
    more = [f"with {label}", "change (below 0: learned)"] if found.modules else []
    table = table_of(f"Held-out loss, nats per token [95% interval]: {found.base}", "text", "base", *more, "perplexity")
    for text in found.texts:
        off, on, change = text.off, text.on, text.difference
        row = [f"{text.name}\n{off.documents:,} documents\n{off.tokens:,} tokens", _interval(off)]
        perplexity = f"{off.perplexity:,.2f}"
        if on is not None and change is not None:
            row += [_interval(on), _interval(change, "+")]
            perplexity += f", then {on.perplexity:,.2f}"
        table.add_row(*row, f"{perplexity}\n{off.bits_per_byte:.3f} bits/byte")
    return table


def _interval(found: Score | Difference, sign: str = "") -> str:
    """A number with its interval below it, which one document alone does not have."""
    if found.documents < 2:
        return f"{found.nats:{sign}.4f}"
    return f"{found.nats:{sign}.4f}\n\\[{found.low:{sign}.4f}, {found.high:{sign}.4f}]"


def tasks(found: Sequence[OnTask], label: str) -> Table:
    """Accuracy of each task."""
    on = any(one.on for one in found)
    more = [f"with {label}", "change"] if on else []
    table = table_of(
        "Accuracy [95% interval over questions]",
        "task", "metric", "questions", "chance", "best constant answer", "base", *more,
    )  # fmt: skip
    for one in found:
        cells = [
            one.task,
            one.metric,
            f"{one.questions:,}",
            f"{one.chance:.1%}",
            f"{one.constant:.1%}",
            share(one.base),
        ]
        if on:
            cells += [share(one.on["modules"]), share(one.difference["modules"], "+")]
        table.add_row(*cells)
    return table


def recall(found: Recall, label: str) -> Table:
    """Recall before and after."""
    of = "" if found.facts == found.told else f" of {found.told:,}"
    title = f"Closed-book recall of {found.facts:,}{of} facts [95% interval over people]"
    table = table_of(title, "", "base", *([f"with {label}"] if found.gain is not None else []))

    def row(name: str, before: Interval | None, after: Interval | None) -> None:
        table.add_row(name, share(before), *([share(after)] if found.gain is not None else []))

    row(f"true answer likeliest (chance {found.chance:.0%})", found.chosen_before, found.chosen_after)
    row("written word for word", found.exact_before, found.exact_after)
    if found.gain is not None and found.per_megabyte is not None:
        row("change, paired", None, found.gain)
        row("same choice about people no text tells of", None, found.kept)
        table.add_row("facts more for each MB of modules", "-", f"{found.per_megabyte:+.1f} ({found.megabytes:.2f} MB)")
    return table


def settings(found: ThreeSettings) -> Table:
    """Shares by setting, and their differences."""
    title = f"{found.questions:,} questions in three settings, chance {found.chance:.0%} [95% interval over people]"
    table = table_of(title, "setting", "true answer likeliest")
    told = {
        "closed": "closed: parameters alone", "offline": "offline: passages of the snapshot",
        "online": "online: passages of the current texts", "oracle": "oracle: the very text in the window",
    }  # fmt: skip
    for name, one in found.shares.items():
        table.add_row(told[name], share(one))
    for change in found.changes:
        table.add_row(
            f"{change.second} less {change.first}", f"{share(change.difference, '+')}, p {change.p:.3g} (Holm)"
        )
    if found.stale is not None:
        table.add_row("of what changed since: offline says what was true then", share(found.stale))
    holds = found.certificate.rollback["holds"]
    table.add_row("everything unplugged: the base is what it was, bit for bit", "yes" if holds else "NO")
    return table


def edits(found: EditScores, label: str) -> Table:
    """Reliability, generality, locality."""
    on = found.reliability is not None
    table = table_of(f"{found.edits:,} edits [95% interval over edits]", "", "base", *([f"with {label}"] if on else []))
    rows = (
        ("reliability: the new answer is likelier", found.reliability_before, found.reliability),
        ("generality: in other words too", found.generality_before, found.generality),
        ("locality: the same choice about others", None, found.locality),
    )
    for name, before, after in rows:
        table.add_row(name, share(before), *([share(after)] if on else []))
    return table


def neutrality(found: Sequence[Disturbance]) -> Table:
    """What changed on other text, a column for each, the one that is moved most first."""
    table = table_of(
        "What changed on other text [95% interval over documents]",
        "",
        *(f"{one.on}, {one.tokens:,} tokens" for one in found),
    )

    def row(name: str, tell: Callable[[Disturbance], str]) -> None:
        table.add_row(name, *map(tell, found))

    row("KL from the bare base, nats per token", _divergence)
    row("the same, of the document moved most", lambda one: f"{one.worst:.5f}")
    row("tokens left bit-equal", lambda one: share(one.untouched))
    row("same likeliest next token", lambda one: share(one.agree))
    row("change of a logit: mean, largest", lambda one: f"{one.mean:.4f}, {one.largest:.3f}")
    row(
        "residual stream after a layer, relative: least, most",
        lambda one: f"{min(one.by_layer):.2%}, {max(one.by_layer):.2%}",
    )
    return table


def _divergence(found: Disturbance) -> str:
    kl = found.kl
    return f"{kl.value:.5f}" + ("" if kl.n < 2 else f" \\[{kl.low:.5f}, {kl.high:.5f}]")


#: changed answers that are shown
SHOWN = 3


def chats(found: OnChats, label: str) -> Iterator[Table]:
    """How many answers changed, and some that did."""
    from addenda.measuring.chats import EARLY  # not above: it brings torch, and a table is shown when that is there

    table = table_of(
        f"Answers to {found.on} that are not the same as the bare base's [95% interval over chats]", "", ""
    )
    table.add_row(f"of {found.changed.n:,} chats, {found.tokens} tokens each", share(found.changed))
    table.add_row(f"within the first {EARLY} tokens", share(found.early))
    yield table
    changed = [one for one in found.answers if one.parts_at is not None]
    if changed:
        some = table_of("Some of them", "asked", "base", label)
        for column in some.columns:
            column.justify, column.overflow = "left", "fold"
        for one in changed[:SHOWN]:
            some.add_row(*map(escape, (one.said, one.off, one.on)))
        yield some


def questions(found: ZeroShot, label: str) -> Table:
    """Right answers of each set by its usual metric, and of all."""
    on = found.pooled.on is not None
    table = table_of(
        "Zero-shot questions answered rightly [95% interval over questions]",
        "set", "metric", "questions", "chance", "base", *([f"with {label}", "change"] if on else []),
    )  # fmt: skip
    for one in (*(row for row in found.sets if row.usual), found.pooled):
        cells = [one.name, one.metric, f"{one.questions:,}", f"{one.chance:.0%}", share(one.off)]
        table.add_row(*cells, *([share(one.on), share(one.change, "+")] if on else []))
    return table


def spectrum(name: str, sites: Sequence[Health]) -> Table:
    """Directions used, site by site."""
    table = table_of(
        f"Directions that '{name}' uses, beside its host: participation ratio of dimensions (spectral entropy, early enrichment, "
        "shift by the non-linearity)",
        "site", "host's units", "its units", "what it adds",
    )  # fmt: skip
    for site in _telling(sites):
        table.add_row(site.site, _spectrum(site.host), _spectrum(site.module), _spectrum(site.added))
    left = len(sites) - table.row_count
    table.caption = f"the least, the middle and the most of {len(sites)} sites; --json has all" if left else None
    return table


def _telling(sites: Sequence[Health]) -> list[Health]:
    """All sites, or of more than a screen takes the one with the least directions, the middle one and the one with the most."""
    if len(sites) <= MOST_SITES:
        return list(sites)
    ranked = sorted(sites, key=lambda site: -1.0 if site.added is None else site.added.participation)
    return [ranked[0], ranked[len(ranked) // 2], ranked[-1]]


def _spectrum(found: Spectrum | None) -> str:
    if found is None:
        return "-"
    shift = "" if found.shift is None else f", {found.shift:.3f}"
    return f"{found.participation:.1f} of {found.dimensions} ({found.entropy:.2f}, {found.early:.2f}{shift})"
