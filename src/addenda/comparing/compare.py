"""Compare: every method at one budget, its learning rate chosen on validation text, measured alike, with seeds and intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from addenda.comparing.composition import Composed, attends, compose
from addenda.comparing.methods import DEFAULT, METHODS, Method, methods_named
from addenda.comparing.overlap import SHARE, shared
from addenda.comparing.settings import CompareSettings
from addenda.comparing.work import Plan, Sources, Work, cost_of, halves
from addenda.core.errors import AddendaError, DataError
from addenda.files import replace_text
from addenda.intervals import Interval, of_ratio
from addenda.plugging import Base, load_base
from addenda.texts import Texts, texts
from addenda.writing.settings import checked


@dataclass(frozen=True)
class Row:
    """One method: what it learned, forgot and moved, in nats per token against the base, and what it takes.

    Means over seeds; intervals are over documents, of these means, paired with the base; `by_seed` has each seed's learning and
    forgetting. `prefill` and `decode` are times over the bare base's; `extra_tokens` are read for each window.
    """

    method: str
    said: str
    rate: float | None
    learned: Interval
    forgotten: Interval
    moved: float
    kl: float | None
    untouched: float | None
    by_seed: tuple[tuple[float, float], ...]
    parameters: int
    bytes: int
    seconds: float
    peak_megabytes: float | None
    extra_tokens: int
    prefill: float
    decode: float
    curve: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class Comparison:
    """The rows of a comparison, the sweep behind each chosen rate, and what all had in common; `page` shows it."""

    base: str
    rows: tuple[Row, ...]
    sweeps: dict[str, dict[str, float]]
    composed: tuple[Composed, ...]
    facts: dict[str, str]
    settings: dict[str, Any]
    out: Path

    @property
    def page(self) -> Path:
        """The report to look at."""
        return self.out / "report.html"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self) | {"out": str(self.out), "page": str(self.page)}


def compare(
    base: str = "tiny",
    *,
    corpus: Any,
    learning: Any,
    forgetting: Any,
    replay: Any = None,
    unrelated: Any = None,
    methods: Sequence[str] = DEFAULT,
    out: str | Path = "runs/compare",
    dtype: torch.dtype = torch.float32,
    tell: Callable[[str], None] = lambda text: None,
    advance: Callable[[int, int], None] = lambda done, planned: None,
    **settings: Any,
) -> Comparison:
    """Give a base the same text in every way there is, and measure what each learns, forgets and costs.

    Each method that trains has the same tokens, rows and validation text; its learning rate is chosen by what it learns of half
    of the held-out text, in rungs (the better half of the rates goes on to twice the tokens), and all is reported on the other
    half. Every run leaves a record in `out`: what has one is not made again, and an interrupted one resumes.

    Args:
        base: by name: `tiny`, a folder, a hub id. (By name, for fine-tuning loads it afresh.)
        corpus: text to learn, whatever `addenda.train` reads.
        learning: held-out text of the same subject.
        forgetting: held-out text of what the base knew before.
        replay: text that stands for what the base knew before, for the methods that read some.
        unrelated: text of other queries, on which a method had better do nothing; default: `forgetting`.
        methods: names in `comparing.methods`.
        out: folder for records, modules, `comparison.json`, plots and `report.html`.
        dtype: of the base.
        tell: told, line by line, what is being done.
        advance: told after each run of a method how many tokens were trained on and scored by now, and how many are planned
            (what is composed is not counted).
        settings: see `comparing.settings.CompareSettings`.

    Raises:
        DataError: a text cannot be read, is empty, or held-out text stands in the corpus (unless `allow_overlap`).
        AddendaError: an unknown method or setting, or a package is missing.
    """
    chosen = checked(CompareSettings, "compare", settings)
    named = methods_named(methods)
    loaded = load_base(base, dtype=dtype)
    choosing, reported = halves(learning)
    source = Sources(
        corpus=texts(corpus), replay=None if replay is None else texts(replay), choosing=choosing, learning=reported,
        forgetting=texts(forgetting), unrelated=texts(forgetting if unrelated is None else unrelated),
    )  # fmt: skip
    overlap = _overlap(loaded, source.corpus, texts(learning), chosen)
    work = Work(base, loaded, source, chosen, Path(out), tell, Plan(planned(named, chosen), advance))
    rows, sweeps = _all(work, named)
    composed = _composed(work, rows) if chosen.compose else ()
    found = Comparison(loaded.name, rows, sweeps, composed, _facts(work, overlap), chosen.plain(), work.out)
    replace_text(work.out / "comparison.json", json.dumps(found.as_dict(), indent=1, default=float) + "\n")
    from addenda.comparing.page import write_page

    write_page(found)
    return found


def _overlap(base: Base, corpus: Texts, learning: Texts, settings: CompareSettings) -> float:
    """The share of held-out runs of 13 tokens that stand in the corpus.

    Raises:
        DataError: they are too many, and that was not allowed.
    """
    overlap = shared(base, corpus, learning)
    if overlap > SHARE and not settings.allow_overlap:
        raise DataError(
            f"{overlap:.1%} of the runs of 13 tokens of '{learning.name}' stand in '{corpus.name}' too: it is not held out. "
            "Measure on other text, or allow it (allow_overlap)"
        )
    return overlap


def _all(work: Work, methods: Sequence[Method]) -> tuple[tuple[Row, ...], dict[str, dict[str, float]]]:
    """Every method's row, and what its sweep found."""
    settings, rows, sweeps = work.settings, [], {}
    bare = work.record(methods[0], None, 0, 0, final=True)
    for method in methods:
        rate, sweeps[method.name] = _chosen(work, method, settings)
        seeds, tokens = (settings.seeds, settings.tokens) if method.rates else (settings.seeds[:1], 0)
        runs = [work.record(method, rate, tokens, seed, final=True) for seed in seeds]
        rows.append(_row(method, rate, runs, bare))
    return tuple(rows), sweeps


def _composed(work: Work, rows: Sequence[Row]) -> tuple[Composed, ...]:
    """Modules of each method that trains some, trained apart and plugged together; attention kinds also among distractors."""
    found: list[Composed] = []
    source = work.sources
    for method, rate in ((METHODS[row.method], row.rate) for row in rows if METHODS[row.method].how == "module"):
        assert rate is not None
        given = (work.base, method, source.corpus, source.replay, work.settings)
        found += [
            compose(*given, rate=rate, out=work.out / "composition", distractors=among, tell=work.tell)
            for among in ((False, True) if attends(method, work.base, work.settings) else (False,))
        ]
    return tuple(found)


def _chosen(work: Work, method: Method, settings: CompareSettings) -> tuple[float | None, dict[str, float]]:
    """The rate that learned most, by successive halving, and what each learned at its last rung."""
    if not method.rates:
        return None, {}
    middle = len(method.rates) // 2
    rates = sorted(method.rates, key=lambda one: abs(method.rates.index(one) - middle))[: settings.rates]
    seen: dict[str, float] = {}
    for tokens, _ in rungs(settings, len(rates)):
        losses = {rate: work.record(method, rate, tokens, settings.seeds[0], final=False)["choosing"] for rate in rates}
        seen |= {f"{rate:.3g}": loss for rate, loss in losses.items()}
        rates = sorted(rates, key=lambda rate: losses[rate] if np.isfinite(losses[rate]) else np.inf)[
            : max(1, len(rates) // 2)
        ]
    return rates[0], seen


def rungs(settings: CompareSettings, rates: int) -> Iterator[tuple[int, int]]:
    """Tokens, and how many rates are tried on them, of each rung of a sweep of so many rates."""
    tokens = max(settings.batch_rows * settings.length, round(settings.tokens * settings.rung))
    while rates > 1:
        yield tokens, rates
        rates, tokens = max(1, rates // 2), min(settings.tokens, 2 * tokens)


def planned(methods: Sequence[Method], settings: CompareSettings) -> int:
    """Tokens that all runs train on and score, those that have a record included."""
    total = cost_of(0, settings, final=True)  # the bare base, once more
    for method in methods:
        seeds = len(settings.seeds) if method.rates else 1
        total += seeds * cost_of(settings.tokens if method.rates else 0, settings, final=True)
        for tokens, count in rungs(settings, min(settings.rates, len(method.rates))):
            total += count * cost_of(tokens, settings, final=False)
    return total


def _row(method: Method, rate: float | None, runs: Sequence[dict[str, Any]], bare: dict[str, Any]) -> Row:
    learned = [_against(bare["learning"], run["learning"]) for run in runs]
    forgotten = [_against(run["forgetting"], bare["forgetting"]) for run in runs]

    def mean(key: str) -> float:
        return float(np.mean([run[key] for run in runs]))

    moved = [run["unrelated"] for run in runs]
    return Row(
        method=method.name,
        said=method.said,
        rate=rate,
        learned=_over_seeds(learned, bare["learning"]),
        forgotten=_over_seeds(forgotten, bare["forgetting"]),
        moved=float(np.mean([one["nats"] for one in moved])),
        kl=float(np.mean([one["kl"] for one in moved])) if "kl" in moved[0] else None,
        untouched=float(np.mean([one["untouched"] for one in moved])) if "untouched" in moved[0] else None,
        by_seed=tuple(
            (_nats(a, bare["learning"]), _nats(b, bare["forgetting"])) for a, b in zip(learned, forgotten, strict=True)
        ),
        parameters=runs[0]["parameters"],
        bytes=runs[0]["bytes"],
        seconds=mean("seconds"),
        peak_megabytes=None if runs[0]["peak_megabytes"] is None else max(run["peak_megabytes"] for run in runs),
        extra_tokens=runs[0]["extra_tokens"],
        prefill=float(np.median([run["cost"][0] for run in runs])),
        decode=float(np.median([run["cost"][1] for run in runs])),
        curve=tuple(runs[0]["curve"]),
    )


def _against(more: dict[str, Any], less: dict[str, Any]) -> np.ndarray:
    """The difference of two scores' sums [documents]."""
    if more["counts"] != less["counts"]:
        raise AddendaError("two runs were scored on different documents; remove their records")
    return np.array(more["sums"]) - np.array(less["sums"])


def _nats(sums: np.ndarray, of: dict[str, Any]) -> float:
    return float(sums.sum() / np.sum(of["counts"]))


def _over_seeds(sums: Sequence[np.ndarray], of: dict[str, Any]) -> Interval:
    """The mean over seeds with its interval over documents."""
    return of_ratio(np.mean(sums, axis=0), np.array(of["counts"], float))


def _facts(work: Work, overlap: float) -> dict[str, str]:
    source, chosen = work.sources, work.settings
    device = work.base.device
    return {
        "base": f"{work.base.name}, {work.base.anatomy.parameters:,} parameters",
        "corpus": source.corpus.name,
        "replay": "none" if source.replay is None else f"{source.replay.name}, share {chosen.replay_share:g}",
        "learning measured on": f"{source.learning.name} (rates chosen on {source.choosing.name})",
        "forgetting measured on": source.forgetting.name,
        "unrelated": source.unrelated.name,
        "held-out runs of 13 tokens in the corpus": f"{overlap:.2%}",
        "tokens": f"{chosen.tokens:,} for each method that trains",
        "seeds": ", ".join(map(str, chosen.seeds)),
        "device": f"CPU, {torch.get_num_threads()} threads"
        if device.type == "cpu"
        else torch.cuda.get_device_name(device),
    }
