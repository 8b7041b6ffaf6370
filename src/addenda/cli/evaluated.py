"""Tables of what `addenda evaluate` measured, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from addenda.core.card import ENOUGH
from addenda.telling.changes import TOO_FEW, counted, interval_of, learned_or_forgot

if TYPE_CHECKING:
    from addenda.measuring.asking.chats import OnChats
    from addenda.measuring.asking.edits import EditScores
    from addenda.measuring.asking.recall import Recall
    from addenda.measuring.asking.three_settings import ThreeSettings
    from addenda.measuring.asking.zero_shot import ZeroShot
    from addenda.measuring.conducting.evaluate import Evaluation
    from addenda.measuring.conducting.harness import OnTask
    from addenda.measuring.looking.disturbance import Disturbance
    from addenda.measuring.looking.spectrum import Health, Spectrum
    from addenda.plug.scoring import Difference, Score
    from addenda.telling.intervals import Interval


#: sites of a module that are shown one by one
MOST_SITES = 12


def table_of(title: str, *columns: str) -> Table:
    """An empty table: words to the left in its first column, numbers to the right in all others."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def share(interval: Interval | None, sign: str = "") -> str:
    """A share in percent with its interval; a dash where it was not measured."""
    if interval is None or not interval.n:
        return "-"
    text = f"{interval.value:{sign}.1%}"
    return text if interval.n < ENOUGH else f"{text} \\[{interval.low:{sign}.1%}, {interval.high:{sign}.1%}]"


def texts(evaluation: Evaluation, label: str) -> Table:
    """Held-out loss of each text."""
    more = [f"with {label}", "change"] if evaluation.modules else []
    table = table_of(
        f"Held-out loss, nats per token [95% interval]: {evaluation.base}", "text", "base", *more, "perplexity"
    )
    for text in evaluation.texts:
        off, on, change = text.off, text.on, text.difference
        read = f"{counted(off.documents, 'document')}\n{counted(off.tokens, 'token')}"
        row = [f"{text.name}\n{read}", _loss(off)]
        perplexity = f"{off.perplexity:,.2f}"
        if on is not None and change is not None:
            row += [_loss(on), _change(change)]
            perplexity += f", then {on.perplexity:,.2f}"
        table.add_row(*row, f"{perplexity}\n{off.bits_per_byte:.3f} bits/byte")
    if any(text.off.documents < ENOUGH for text in evaluation.texts):
        table.caption = f"below {ENOUGH} documents there are {TOO_FEW}"
    return table


def _loss(loss: Score) -> str:
    """A loss with its interval below it, which few documents do not have."""
    if loss.documents < ENOUGH:
        return f"{loss.nats:.4f}"
    return f"{loss.nats:.4f}\n\\[{loss.low:.4f}, {loss.high:.4f}]"


def _change(change: Difference) -> str:
    """What was learned or forgotten, with its interval below it."""
    word = learned_or_forgot(change.nats, 4)
    if change.documents < ENOUGH:
        return word
    return f"{word}\n{escape(interval_of(change.nats, change.low, change.high, 4))}"


def tasks(results: Sequence[OnTask], label: str) -> Table:
    """Accuracy of each task."""
    on = any(task.on for task in results)
    more = [f"with {label}", "change"] if on else []
    table = table_of(
        "Accuracy [95% interval over questions]",
        "task", "metric", "questions", "chance", "best constant answer", "base", *more,
    )  # fmt: skip
    for task in results:
        cells = [
            task.task,
            task.metric,
            f"{task.questions:,}",
            f"{task.chance:.1%}",
            f"{task.constant:.1%}",
            share(task.base),
        ]
        if on:
            cells += [share(task.on["modules"]), share(task.difference["modules"], "+")]
        table.add_row(*cells)
    return table


def recall(recalled: Recall, label: str) -> Table:
    """Recall before and after."""
    of = "" if recalled.facts == recalled.told else f" of {recalled.told:,}"
    title = f"Closed-book recall of {recalled.facts:,}{of} facts [95% interval over people]"
    table = table_of(title, "", "base", *([f"with {label}"] if recalled.gain is not None else []))

    def row(name: str, before: Interval | None, after: Interval | None) -> None:
        table.add_row(name, share(before), *([share(after)] if recalled.gain is not None else []))

    row(f"true answer likeliest (chance {recalled.chance:.0%})", recalled.chosen_before, recalled.chosen_after)
    row("written word for word", recalled.exact_before, recalled.exact_after)
    if recalled.gain is not None and recalled.per_megabyte is not None:
        row("change, paired", None, recalled.gain)
        row("same choice about people no text tells of", None, recalled.kept)
        table.add_row(
            "facts more for each MB of modules", "-", f"{recalled.per_megabyte:+.1f} ({recalled.megabytes:.2f} MB)"
        )
    return table


def settings(asked: ThreeSettings) -> Table:
    """Shares by setting, and their differences."""
    title = f"{asked.questions:,} questions in three settings, chance {asked.chance:.0%} [95% interval over people]"
    table = table_of(title, "setting", "true answer likeliest")
    told = {
        "closed": "closed: parameters alone", "offline": "offline: passages of the snapshot",
        "online": "online: passages of the current texts", "oracle": "oracle: the very text in the window",
    }  # fmt: skip
    for name, interval in asked.shares.items():
        table.add_row(told[name], share(interval))
    for change in asked.changes:
        table.add_row(
            f"{change.second} less {change.first}", f"{share(change.difference, '+')}, p {change.p:.3g} (Holm)"
        )
    if asked.stale is not None:
        table.add_row("of what changed since: offline says what was true then", share(asked.stale))
    holds = asked.certificate.rollback["holds"]
    table.add_row("everything unplugged: the base is what it was, bit for bit", "yes" if holds else "NO")
    return table


def edits(scores: EditScores, label: str) -> Table:
    """Reliability, generality, locality."""
    on = scores.reliability is not None
    table = table_of(
        f"{scores.edits:,} edits [95% interval over edits]", "", "base", *([f"with {label}"] if on else [])
    )
    rows = (
        ("reliability: the new answer is likelier", scores.reliability_before, scores.reliability),
        ("generality: in other words too", scores.generality_before, scores.generality),
        ("locality: the same choice about others", None, scores.locality),
    )
    for name, before, after in rows:
        table.add_row(name, share(before), *([share(after)] if on else []))
    return table


def neutrality(changes: Sequence[Disturbance]) -> Table:
    """What changed on other text, a column for each, the one that is moved most first."""
    table = table_of(
        "What changed on other text [95% interval over documents]",
        "",
        *(f"{change.on}\n{counted(change.kl.n, 'document')}\n{change.tokens:,} tokens" for change in changes),
    )

    def row(name: str, tell: Callable[[Disturbance], str]) -> None:
        table.add_row(name, *map(tell, changes))

    row("KL from the bare base, nats per token", _divergence)
    row("the same, of the document moved most", lambda change: f"{change.worst:.5f}")
    row("tokens left bit-equal", lambda change: share(change.untouched))
    row("same likeliest next token", lambda change: share(change.agree))
    row("change of a logit: mean, largest", lambda change: f"{change.mean:.4f}, {change.largest:.3f}")
    row(
        "residual stream after a layer, relative: least, most",
        lambda change: f"{min(change.by_layer):.2%}, {max(change.by_layer):.2%}",
    )
    return table


def _divergence(change: Disturbance) -> str:
    kl = change.kl
    return f"{kl.value:.5f}" + ("" if kl.n < ENOUGH else f" \\[{kl.low:.5f}, {kl.high:.5f}]")


#: changed answers that are shown
SHOWN = 3


def chats(on_chats: OnChats, label: str) -> Iterator[Table]:
    """How many answers changed, and some that did."""
    from addenda.measuring.asking.chats import (
        EARLY,  # not above: it brings torch, and a table is shown when that is there
    )

    table = table_of(
        f"Answers to {on_chats.on} that are not the same as the bare base's [95% interval over chats]", "", ""
    )
    table.add_row(f"of {on_chats.changed.n:,} chats, {on_chats.tokens} tokens each", share(on_chats.changed))
    table.add_row(f"within the first {EARLY} tokens", share(on_chats.early))
    yield table
    changed = [answer for answer in on_chats.answers if answer.parts_at is not None]
    if changed:
        some = table_of("Some of them", "asked", "base", label)
        for column in some.columns:
            column.justify, column.overflow = "left", "fold"
        for answer in changed[:SHOWN]:
            some.add_row(*map(escape, (answer.said, answer.off, answer.on)))
        yield some


def questions(zero_shot: ZeroShot, label: str) -> Table:
    """Right answers of each set by its usual metric, and of all."""
    on = zero_shot.pooled.on is not None
    table = table_of(
        "Zero-shot questions answered rightly [95% interval over questions]",
        "set", "metric", "questions", "chance", "base", *([f"with {label}", "change"] if on else []),
    )  # fmt: skip
    for row in (*(row for row in zero_shot.sets if row.usual), zero_shot.pooled):
        cells = [row.name, row.metric, f"{row.questions:,}", f"{row.chance:.0%}", share(row.off)]
        table.add_row(*cells, *([share(row.on), share(row.change, "+")] if on else []))
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


def _spectrum(directions: Spectrum | None) -> str:
    if directions is None:
        return "-"
    shift = "" if directions.shift is None else f", {directions.shift:.3f}"
    used = f"{directions.participation:.1f} of {directions.dimensions}"
    return f"{used} ({directions.entropy:.2f}, {directions.early:.2f}{shift})"
