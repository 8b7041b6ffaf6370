"""Spectrum: how many directions a module's hidden units use, beside its host's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from addenda.core import card
from addenda.measuring.conducting.measure import Acting, Measure, Opened, Reading, Table, option
from addenda.measuring.looking.pieces import long_enough
from addenda.measuring.looking.spectrum import LENGTH, TOKENS, Health, Spectrum, spectrum

#: sites of a module that are shown one by one
MOST_SITES = 12


@dataclass(frozen=True)
class Spectra(Measure):
    """How many directions the hidden units of each module use on a text, beside those of its host.

    Source: NerVE, ICLR 2026.
    """

    name: ClassVar[str] = "spectrum"
    place: ClassVar[int] = 90
    of_modules: ClassVar[bool] = True
    nothing: ClassVar[Any] = {}

    spectrum: Any = option("Text: how many directions the modules' units use, beside the base's.")

    def open(self, acting: Acting) -> Opened:
        text = long_enough(acting.base, self.spectrum, LENGTH)
        return Opened(text, {"spectrum": text}, {"spectrum": text.name})

    def reads(self, acting: Acting, opened: Opened) -> Iterator[Reading]:
        yield Reading("spectrum", TOKENS * len(acting.weights))

    def run(self, acting: Acting, opened: Opened) -> dict[str, list[Health]]:
        return {name: spectrum(acting.base, name, opened.inputs) for name in acting.weights}

    def record(self, found: Mapping[str, Sequence[Health]], sources: Mapping[str, str]) -> Iterator[card.Measure]:
        """The four numbers, means over the module's sites, with the host's beside its own units', and of how many dimensions.

        And the least of one site: one that has collapsed is lost in a mean.
        """
        text = sources.get("spectrum", "texts")
        for sites in found.values():
            for part, what in (("module", "units"), ("added", "what is added")):
                pairs = [
                    (mine, site.host if part == "module" else None)
                    for site in sites
                    if (mine := getattr(site, part)) is not None
                ]
                yield from _means(what, pairs, text)

    def rows(self, found: Mapping[str, Sequence[Health]], base: str, label: str) -> Iterator[Table]:
        for name, sites in found.items():
            shown = _telling(sites)
            yield Table(
                f"Directions that '{name}' uses, beside its host: participation ratio of dimensions (spectral entropy, early "
                "enrichment, shift by the non-linearity)",
                ["site", "host's units", "its units", "what it adds"],
                [[site.site, *map(_used, (site.host, site.module, site.added))] for site in shown],
                f"the least, the middle and the most of {len(sites)} sites; --json has all" if len(sites) > len(shown) else None,
            )  # fmt: skip


def _means(what: str, pairs: Sequence[tuple[Spectrum, Spectrum | None]], text: str) -> Iterator[card.Measure]:
    """Lines of a card, from spectra with their hosts'."""
    for name, unit in (("participation", "directions"), ("entropy", "nats"), ("early", "share"), ("shift", "nats")):
        mine, theirs = (
            [value for one in spectra if one is not None and (value := getattr(one, name)) is not None]
            for spectra in ([mine for mine, _ in pairs], [host for _, host in pairs])
        )
        if mine:
            yield card.Measure(
                name=f"spectrum of {what}, {name}", value=sum(mine) / len(mine), unit=f"{unit}, mean over sites",
                n=len(mine), on=text, reference=sum(theirs) / len(theirs) if len(theirs) == len(mine) else None,
            )  # fmt: skip
    if pairs:
        least, host = min(pairs, key=lambda pair: pair[0].participation)
        yield card.Measure(
            name=f"spectrum of {what}, least participation", value=least.participation,
            unit=f"of {least.dimensions} directions", n=len(pairs), on=text,
            reference=None if host is None else host.participation,
        )  # fmt: skip


def _telling(sites: Sequence[Health]) -> list[Health]:
    """All sites, or of more than a screen takes the one with the least directions, the middle one and the one with the most."""
    if len(sites) <= MOST_SITES:
        return list(sites)
    ranked = sorted(sites, key=lambda site: -1.0 if site.added is None else site.added.participation)
    return [ranked[0], ranked[len(ranked) // 2], ranked[-1]]


def _used(directions: Spectrum | None) -> str:
    if directions is None:
        return "-"
    shift = "" if directions.shift is None else f", {directions.shift:.3f}"
    used = f"{directions.participation:.1f} of {directions.dimensions}"
    return f"{used} ({directions.entropy:.2f}, {directions.early:.2f}{shift})"
