"""Compare: every method at one budget, its learning rate chosen on validation text, measured alike, with seeds and intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from addenda.bases.devices import usable_device
from addenda.comparing.comparison import Comparison
from addenda.comparing.composition import Composed, attends, compose, parts_of
from addenda.comparing.judging import judged_runs, share_of, unwritten
from addenda.comparing.making import Sources
from addenda.comparing.methods import DEFAULT, METHODS, Method, check_installed, methods_named
from addenda.comparing.overlap import Overlap, check_held_out, overlap_of
from addenda.comparing.page import write_page
from addenda.comparing.remarks import remarks_on
from addenda.comparing.rows import Failed, Row, reached, row_of
from addenda.comparing.settings import CompareSettings
from addenda.comparing.sweep import Sweep, planned, rungs, swept
from addenda.comparing.work import NEWER, Plan, Work, halves, plain, where
from addenda.core.errors import DataError, TrainingError
from addenda.core.files import kept_json, replace_text
from addenda.core.settings import checked
from addenda.plug.base import Base, load_base
from addenda.plug.scoring import pace_of
from addenda.telling.interrupts import Stopped
from addenda.telling.progress import about, shown
from addenda.text.texts import texts


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
    dtype: torch.dtype | None = torch.float32,
    device: str | torch.device | None = None,
    tell: Callable[[str], None] = lambda text: None,
    advance: Callable[[int, int], None] = lambda done, planned: None,
    **settings: Any,
) -> Comparison:
    """Give a base the same text in every way there is, and measure what each learns, forgets and costs.

    Each method that trains has the same tokens, rows and validation text; its learning rate is chosen by what it learns of half
    of the held-out text, and all is reported on the other half. Three rates are tried, on a quarter of the tokens; of four and
    more the better half goes on to twice the tokens, until one is left. Every run leaves a record in `out`: what has one is not
    made again, and an interrupted one resumes; methods that were compared in `out` before, on the same texts in the same way, are
    shown beside those that are asked for. A method that fails, as at a rate that diverges, is reported as failed.

    Args:
        base: by name: `tiny`, a folder, a hub id. (By name, for fine-tuning loads it afresh.)
        corpus: text to learn, whatever `addenda.train` reads.
        learning: held-out text of the same subject.
        forgetting: held-out text of what the base knew before.
        replay: text that stands for what the base knew before, for the methods that read some.
        unrelated: text of other subjects, on which a method should change nothing; default: `forgetting`.
        methods: names in `comparing.methods`.
        out: folder for records, modules, `comparison.json`, plots and `report.html`.
        dtype: of the base, for every method; None: the checkpoint's own. What is trained is float32.
        device: where everything runs; default: a GPU if there is one.
        tell: told, line by line, what is being done.
        advance: told after each run of a method how many tokens were trained on and scored by now, and how many are planned
            (what is composed is not counted).
        settings: see `comparing.settings.CompareSettings`.

    Raises:
        DataError: a text cannot be read, is empty, or held-out text stands in what is trained on (unless `allow_overlap`).
        AddendaError: an unknown method or setting, a package that a method needs is missing, or the device cannot be used.
    """
    chosen = checked(CompareSettings, "compare", settings)
    named = methods_named(methods)
    check_installed(named)
    loaded = _loaded(base, dtype, device)
    source = _sources(corpus, replay, learning, forgetting, unrelated)
    overlaps = _overlaps(loaded, source, learning, chosen)
    if chosen.compose:
        parts_of(source.corpus, chosen.compose)  # too few documents are told before anything is trained
    work = Work(base, loaded, source, chosen, Path(out), tell, Plan(0, advance))
    comparison = _compared(work, _with_earlier(work, named), overlaps)
    replace_text(work.out / "comparison.json", json.dumps(comparison.as_dict(), indent=1, allow_nan=False) + "\n")
    write_page(comparison)
    return comparison


def _sources(corpus: Any, replay: Any, learning: Any, forgetting: Any, unrelated: Any) -> Sources:
    choosing, reported = halves(learning)
    general = texts(forgetting)
    source = Sources(
        corpus=texts(corpus), replay=None if replay is None else texts(replay), choosing=choosing, learning=reported,
        forgetting=general, unrelated=general if unrelated is None else texts(unrelated),
    )  # fmt: skip
    for text in (source.corpus, source.replay, source.forgetting, source.unrelated):
        if text is not None and next(iter(text), None) is None:
            raise DataError(f"'{text.name}' is empty: it holds no text")
    return source


def _with_earlier(work: Work, methods: list[Method]) -> list[Method]:
    """The methods, and those that `out` has rows of already, where texts and settings are the same."""
    path = work.out / "comparison.json"
    if not path.exists():
        return methods
    kept = kept_json(path)
    same = {"settings": plain(work.settings.plain()), "data": work.data | where(work.base), "base": work.base.name}
    earlier = dict(kept.get("settings", {}))
    if isinstance(earlier.get("questions"), int):  # what a version before 0.3 called the zero-shot questions
        earlier["zero_shot"] = earlier.pop("questions")
    kept["settings"] = NEWER | earlier
    if any(kept.get(key) != value for key, value in same.items()):
        work.tell(f"{work.out} has a comparison of other texts or settings: its page is replaced, its records stay")
        return methods
    names = {method.name for method in methods}
    return methods + [METHODS[row["method"]] for row in kept["rows"] if row["method"] not in names]


def _compared(work: Work, methods: Sequence[Method], overlaps: Sequence[Overlap]) -> Comparison:
    """All that was found."""
    work.plan.tokens = planned(methods, work.settings)
    watched = shown()
    if watched is not None:
        watched.say(_foretold(work, methods))
        watched.begin(total=work.plan.tokens)
    bare = work.record(methods[0], None, 0, 0, final=True)
    runs, failed, sweeps = _all(work, methods)
    judged = None if work.judge is None else judged_runs(work.judge, work.questions, runs)
    equal = equal_gain(runs)
    rows = tuple(
        row_of(
            METHODS[name], sweeps[name].rate, made, bare, None if equal is None else equal[1], share_of(judged, name)
        )
        for name, made in runs.items()
    )
    composed, apart = _composed(work, rows) if work.settings.compose else ((), ())
    return Comparison(
        base=work.base.name,
        rows=rows,
        sweeps={name: {f"{rate:.3g}": loss for rate, loss in sweep.tried.items()} for name, sweep in sweeps.items()},
        composed=composed,
        facts=_facts(work, overlaps, bare, equal),
        settings=work.settings.plain(),
        out=work.out,
        edges={name: sweep.edge for name, sweep in sweeps.items() if sweep.edge is not None},
        failed=(*failed, *apart),
        apart=work.sources.apart,
        remarks=(
            *remarks_on(rows, work.settings, bare["learning"]["counts"], work.sources.replay is not None, overlaps),
            *([] if judged is None else unwritten(runs)),
        ),
        data=work.data | where(work.base),
        judged=judged,
    )


def _foretold(work: Work, methods: Sequence[Method]) -> str:
    """What will be done and how long that takes, in words, for whoever watches."""
    chosen = work.settings
    trained = [method for method in methods if method.rates]
    tried = (count for method in trained for _, count in rungs(chosen, len(method.sweep(chosen.rates))))
    final = len(chosen.seeds) * len(trained)
    runs = final + sum(tried)
    pace = pace_of(work.base)
    written = sum(bool(one.accepted) for one in work.questions) * (final + len(methods) - len(trained))
    judging = "" if work.judge is None else f". {work.judge.name} is asked about up to {written:,} answers"
    return (
        f"comparing {len(methods)} methods on {work.base.name}, of which {len(trained)} train: {runs} runs of up to "
        f"{chosen.tokens:,} tokens, each scored on {chosen.held_tokens:,} of each held-out text; about "
        f"{about(work.plan.tokens / pace)} at {pace:,.0f} tokens read a second, as timed on this machine just now. Runs that "
        f"have a record in {work.out} are not made again{judging}"
    )


def _loaded(name: str, dtype: torch.dtype | None, device: str | torch.device | None) -> Base:
    """The base, on a device on which something can be computed."""
    place = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    base = load_base(name, dtype=dtype)
    base.model.to(place)
    return base


def _overlaps(base: Base, source: Sources, learning: Any, settings: CompareSettings) -> list[Overlap]:
    """How much of the held-out texts stands in what is trained on.

    Raises:
        DataError: too much, and that was not allowed.
    """
    held = {"learning": learning, "forgetting": source.forgetting}
    held |= {"other queries": source.unrelated} if source.apart else {}
    overlaps = overlap_of(base, source.corpus, held)
    if source.replay is not None:
        overlaps += overlap_of(base, source.replay, held, "replay")
    if not settings.allow_overlap:
        check_held_out(overlaps)
    return overlaps


def equal_gain(runs: Mapping[str, Sequence[dict[str, Any]]]) -> tuple[str, float] | None:
    """The gated module that learned most, and the gain that all its runs reached in their validations; None where none did."""
    gains = {name: reached(made) for name, made in runs.items() if METHODS[name].gated}
    best = max(gains, key=gains.__getitem__, default=None)
    return None if best is None or gains[best] <= 0 else (best, gains[best])


def _all(
    work: Work, methods: Sequence[Method]
) -> tuple[dict[str, list[dict[str, Any]]], tuple[Failed, ...], dict[str, Sweep]]:
    """The records of every method's runs, or why there are none, and what its sweep found."""
    settings, sweeps = work.settings, dict[str, Sweep]()
    made: dict[str, list[dict[str, Any]]] = {}
    failed: list[Failed] = []
    for number, method in enumerate(methods, 1):
        sweep = sweeps[method.name] = swept(work, method, settings)
        if sweep.failed is not None:
            failed.append(Failed(method.name, None, None, sweep.failed))
        else:
            runs = _final(work, method, sweep.rate)
            if isinstance(runs, Failed):
                failed.append(runs)
            else:
                made[method.name] = runs
        work.plan.reach(planned(methods[:number], settings))
    return made, tuple(failed), sweeps


def _final(work: Work, method: Method, rate: float | None) -> list[dict[str, Any]] | Failed:
    """The records of a method's runs at its rate, one for each seed; the first failure ends them."""
    settings, runs = work.settings, []
    for seed in settings.seeds if method.rates else settings.seeds[:1]:
        record = work.record(method, rate, settings.tokens if method.rates else 0, seed, final=True)
        if "failed" in record:
            return Failed(method.name, rate, seed, record["failed"])
        runs.append(record)
    return runs


def _composed(work: Work, rows: Sequence[Row]) -> tuple[tuple[Composed, ...], tuple[Failed, ...]]:
    """Modules of each method that trains some, trained apart and plugged together; attention kinds also among distractors."""
    composed: list[Composed] = []
    failed: list[Failed] = []
    source = work.sources
    for method, rate in ((METHODS[row.method], row.rate) for row in rows if METHODS[row.method].how == "module"):
        assert rate is not None
        given = (work.base, method, source.corpus, source.replay, work.settings)
        for among in (False, True) if attends(method, work.base, work.settings) else (False,):
            try:
                composed.append(
                    compose(*given, rate=rate, out=work.out / "composition", distractors=among, tell=work.tell)
                )
            except Stopped:
                raise
            except TrainingError as error:  # a part may diverge where the whole corpus did not
                failed.append(Failed(f"{method.name} in parts", rate, work.settings.seeds[0], str(error)))
    return tuple(composed), tuple(failed)


def _facts(
    work: Work, overlaps: Sequence[Overlap], bare: dict[str, Any], equal: tuple[str, float] | None
) -> dict[str, str]:
    source, chosen = work.sources, work.settings
    base, device = work.base, work.base.device
    scored = {
        name: f"{len(counts := bare[name]['counts'])} documents, {sum(counts):,} tokens"
        for name in ("learning", "forgetting")
    }
    shared = {
        f"of {overlap.held} text in the {overlap.trained}": f"{overlap.share:.2%} of the runs of 13 tokens; "
        f"{overlap.copied} of {overlap.documents} documents are copied"
        for overlap in overlaps
    }
    at = {} if equal is None else {"equal gain": f"{equal[1]:.3f} nats per token, what every run of {equal[0]} reached"}
    return (
        {
            "base": f"{base.name}, {base.anatomy.parameters:,} parameters, {str(base.model.dtype).removeprefix('torch.')}",
            "corpus": source.corpus.name,
            "replay": "none" if source.replay is None else f"{source.replay.name}, share {chosen.replay_share:g}",
            "learning measured on": f"{source.learning.name}: {scored['learning']} (rates chosen on {source.choosing.name})",
            "forgetting measured on": f"{source.forgetting.name}: {scored['forgetting']}",
            "unrelated": source.unrelated.name if source.apart else "none given: the text of forgetting",
            "tokens": f"{chosen.trained:,} in {chosen.steps:,} steps, for each method that trains",
            "seeds": ", ".join(map(str, chosen.seeds)),
            "device": f"CPU, {torch.get_num_threads()} threads"
            if device.type == "cpu"
            else torch.cuda.get_device_name(device),
        }
        | at
        | shared
    )
