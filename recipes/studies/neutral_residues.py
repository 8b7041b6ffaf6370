"""Neutral Residues against fine-tuning, LoRA and plain adapters of equal size; what each part of the method is for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.drawing import COLOURS, canvas, dress, save
from recipes.records import Records, grouped
from recipes.studies import page
from recipes.studies.page import table
from recipes.studies.plan import Scale, Way, edges, of_part, rates
from recipes.studies.plan import sweep as plan_sweep
from recipes.studies.run import FULL, Run

STUDY = "neutral_residues"
SIZE = {"extra": 0.2}
WAYS = {
    "full": Way(FULL, {}, {}, (1e-4, 3e-4, 1e-3, 3e-3)),
    "lora": Way("LoRA", SIZE, {}, (1e-3, 3e-3, 5e-3)),
    "adapter": Way("ParallelAdapter", SIZE, {}, (1e-3, 3e-3, 1e-2)),
    "neutral-token": Way("NeutralResidues", SIZE | {"gate": "token"}, {}, (1e-3, 3e-3, 1e-2)),
    "neutral-context": Way("NeutralResidues", SIZE | {"gate": "context"}, {}, (1e-3, 3e-3, 1e-2)),
}
#: the paper's case, and ours
FRENCH, PUBMED = "french", "pubmed"
THREE = "pubmed+french+law"
#: compared where every one of the five would be too many
FEW = ("lora", "neutral-token", "neutral-context")
TOKENS, ABLATED = 1_000_000, 500_000
BUDGETS, TEXTS = (125_000, 250_000), (50_000,)
#: whose other start is tried on both subjects with all tokens, and that start
GATED, HE = ("neutral-token", "neutral-context"), {"init": "he"}
METHOD = "relu, local loss (the method)"
#: what the method has of what is changed
OWN = {"local loss": "1", "replay share": "0.1", "start": "small", "extra parameters": "20%"}
#: what is changed of the token-gated method, by group and name: fields of a run
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "gate": {
        "none, local loss": {"kind": "ParallelAdapter", "settings": {"local": 1.0}},
        "sigmoid, cross-entropy": {"options": {"gate": "sigmoid"}},
        METHOD: {},
        "context": {"options": {"gate": "context"}},
    },
    "local loss": {f"{weight:g}": {"settings": {"local": weight}} for weight in (0.0, 0.1, 10.0)},
    "replay share": {f"{share:g}": {"replay_share": share} for share in (0.0, 0.01, 0.5)},
    "start": {"He": {"options": HE}},
    "extra parameters": {f"{extra:.0%}": {"options": {"extra": extra}} for extra in (0.05, 0.1, 0.4)},
}


def sweep(scale: Scale) -> Iterator[Run]:
    """Every method's rates on both subjects."""
    return plan_sweep(STUDY, WAYS, (PUBMED, FRENCH), scale)


def then(records: Records, scale: Scale) -> Iterator[Run]:
    """Methods on both subjects, gated ones from He's start too, three at once, ablations, budgets, less text."""
    chosen = {name: rates(records, STUDY, WAYS, name, scale) for name in (PUBMED, FRENCH)}
    french = chosen[FRENCH]
    few, texts = ("gate",) if scale.thin else tuple(CHANGES), () if scale.thin else TEXTS
    for seed in scale.seeds:
        for name, lrs in chosen.items():
            for method, lr in lrs.items():
                yield scale.run(WAYS[method], STUDY, "methods", method, name, lr=lr, seed=seed, tokens=TOKENS)
                if method in GATED and not scale.thin:
                    yield scale.run(
                        WAYS[method], STUDY, "starts", method, name, lr=lr, seed=seed, tokens=TOKENS, options=HE
                    )
        yield from _ablations(french, scale, seed, few)
        for method in (way for way in ("full", *FEW) if way in chosen[PUBMED]):
            yield scale.run(
                WAYS[method], STUDY, "three", method, THREE, lr=chosen[PUBMED][method], seed=seed, tokens=TOKENS
            )
        for method in (way for way in FEW if way in french):
            more: dict[str, Any] = {"lr": french[method], "seed": seed}
            for tokens in () if scale.thin else BUDGETS:
                yield scale.run(WAYS[method], STUDY, "budgets", method, FRENCH, tokens=tokens, **more)
            for text in texts:
                more["corpus_tokens"] = scale.tokens(text)
                yield scale.run(WAYS[method], STUDY, "texts", method, FRENCH, tokens=ABLATED, **more)


def _ablations(chosen: dict[str, float], scale: Scale, seed: int, groups: tuple[str, ...]) -> Iterator[Run]:
    """One thing changed of the token-gated method, at its rate; a plain adapter and a context gate at theirs."""
    own = {"none, local loss": "adapter", "context": "neutral-context"}
    for group in groups:
        changes = CHANGES[group]
        for told, change in changes.items():
            lr = chosen.get(own.get(told, "neutral-token"))
            if lr is None:
                continue
            way = WAYS["neutral-token"]
            if change.get("kind"):
                way = WAYS["adapter"]
            yield scale.run(
                way, STUDY, group, told, FRENCH, lr=lr, seed=seed, tokens=ABLATED,
                **{key: value for key, value in change.items() if key != "kind"},
            )  # fmt: skip


def report(records: Records, folder: Path) -> str:
    """Tables as Markdown, and the figure, written to `folder`."""
    _draw(records, folder)
    parts = (_methods, _starts, _three, _ablated, _read_less, _swept)
    tables = [titled for part in parts for titled in part(records)]
    return page.written(tables, of_part(records, STUDY, "methods", *CHANGES))


Titled = Iterator[tuple[str, list[str]]]
HEADS = ("runs", "gain, nats", "forgotten, nats", "general tokens left bit-equal")
CELLS = (page.own_gain, page.forgotten, page.untouched)


def _methods(records: Records) -> Titled:
    for name in (FRENCH, PUBMED):
        runs = [record for record in of_part(records, STUDY, "methods") if record["run"]["subject"] == name]
        runs.sort(key=lambda record: list(WAYS).index(record["run"]["method"]))
        by_method = grouped(runs, lambda run: run["method"])
        groups = {(method, page.rate(mine), page.parameters(mine)): mine for method, mine in by_method.items()}
        heads = ("method", "lr", "parameters", *HEADS, "training, s", "prefill, decode")
        cells = (*CELLS, page.seconds, page.cost)
        yield f"English base to {name}, {_tokens(runs)} tokens", table(heads, groups, cells)


def _starts(records: Records) -> Titled:
    """He's start beside the paper's; nothing where it was not tried."""
    runs = of_part(records, STUDY, "starts")
    if not runs:
        return
    runs += [record for record in of_part(records, STUDY, "methods") if record["run"]["method"] in GATED]
    groups = grouped(
        runs, lambda run: (run["subject"], run["method"], "He's" if "init" in run["options"] else "small, the paper's")
    )
    ordered = dict(sorted(groups.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] == "He's")))
    yield f"He's start, {_tokens(runs)} tokens", table(("subject", "method", "start", *HEADS), ordered, CELLS)


def _three(records: Records) -> Titled:
    runs, names = of_part(records, STUDY, "three"), THREE.split("+")
    heads = ("method", "runs", *(f"gain on {name}" for name in names), "forgotten", "left bit-equal")
    cells = (*(page.gain_of(name) for name in names), page.forgotten, page.untouched)
    groups = grouped(runs, lambda run: run["method"])
    yield f"Three subjects in one module, {_tokens(runs)} tokens in all", table(heads, groups, cells)


def _ablated(records: Records) -> Titled:
    runs = of_part(records, STUDY, *CHANGES)
    method = [record for record in runs if record["run"]["part"] == "gate" and record["run"]["method"] == METHOD]
    groups: dict[tuple[str, str], Records] = {}
    for group, changes in CHANGES.items():
        mine = grouped([record for record in runs if record["run"]["part"] == group], lambda run: run["method"])
        if mine and group in OWN and method:
            groups[group, f"{OWN[group]} (the method)"] = method
        groups |= {(group, told): mine[told] for told in changes if told in mine}
    heads = ("what", "set to", "runs", "parameters", *HEADS[1:])
    lines = table(heads, groups, (page.parameters, *CELLS))
    yield f"Ablations of the token gate, French, {_tokens(runs)} tokens", lines


def _read_less(records: Records) -> Titled:
    for title, told, key, runs in (
        ("Smaller budgets, French", "tokens trained on", "tokens", _budgets(records)),
        (
            "Less text, read again and again, French",
            "tokens of text",
            "corpus_tokens",
            of_part(records, STUDY, "texts"),
        ),
    ):
        groups = grouped(runs, lambda run, key=key: (run[key], run["method"]))
        yield title, table((told, "method", *HEADS), dict(sorted(groups.items())), CELLS)


def _swept(records: Records) -> Titled:
    runs = of_part(records, STUDY, "sweep")
    runs.sort(
        key=lambda record: (record["run"]["subject"], list(WAYS).index(record["run"]["method"]), record["run"]["lr"])
    )
    groups = grouped(runs, lambda run: (run["subject"], run["method"], f"{run['lr']:g}"))
    lines = table(("subject", "method", "lr", *HEADS[:3]), groups, CELLS[:2])
    yield f"Sweep, {_tokens(runs)} tokens", page.noted(lines, edges(records, STUDY))


def _budgets(records: Records) -> Records:
    """Runs that differ in the tokens trained on alone."""
    full = [
        r for r in of_part(records, STUDY, "methods") if r["run"]["subject"] == FRENCH and r["run"]["method"] in FEW
    ]
    return of_part(records, STUDY, "budgets") + full


def _tokens(records: Records) -> str:
    return ", ".join(f"{n:,}" for n in sorted({record["run"]["tokens"] for record in records}))


def _draw(records: Records, folder: Path) -> None:
    runs = of_part(records, STUDY, "methods")
    if not runs:
        return
    figure, (*panels, last) = canvas(3)
    for axes, name in zip(panels, (FRENCH, PUBMED), strict=True):
        mine = [record for record in runs if record["run"]["subject"] == name]
        page.marks(axes, grouped(mine, lambda run: run["method"]), page.lost, page.gain)
        dress(
            axes, "forgotten: loss added on general text, nats", "gain, nats", f"{name}: up and to the left is better"
        )
        axes.axvline(0, color="#bbbbbb", lw=0.8)
    panels[0].legend(frameon=False, fontsize=8)
    for method, mine in grouped(_budgets(records), lambda run: run["method"]).items():
        by_tokens = sorted(grouped(mine, lambda run: run["tokens"]).items())
        for value, style, told in ((page.gain, "o-", "gain"), (page.lost, "s--", "forgotten")):
            y = [page.bars(group, value)[0] for _, group in by_tokens]
            last.plot(
                [tokens for tokens, _ in by_tokens],
                y,
                style,
                ms=4,
                color=COLOURS[method],
                label=f"{method}, {told}",
            )
    page.at_values(last, (record["run"]["tokens"] for record in _budgets(records)))
    dress(last, "tokens trained on", "nats", "french: what a budget buys")
    last.legend(frameon=False, fontsize=7)
    save(figure, folder / STUDY)
