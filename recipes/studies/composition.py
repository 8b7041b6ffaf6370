"""Composition: five modules on five subjects, trained apart and plugged together; what each keeps, who disturbs whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from addenda.plug.scoring import Score, score
from recipes.common import load, precision, study_texts
from recipes.drawing import canvas, save
from recipes.records import Records, grouped, stamp
from recipes.studies import neutral_residues, page, registers
from recipes.studies.page import table
from recipes.studies.plan import Scale, of_part, rates
from recipes.studies.run import LENGTH, WORK, Run, corpus_of, finished, held_out, kind_of, learn, triple
from recipes.studies.run import execute as execute_run
from recipes.tables import table as plain
from recipes.tables import with_t_interval

STUDY = "composition"
SUBJECTS = ("pubmed", "french", "law", "book", "people-100")
TOKENS = 300_000
#: the methods, by the study whose sweep chose their rates
FROM = {
    "lora": neutral_residues, "neutral-token": neutral_residues, "neutral-context": neutral_residues,
    "joint": registers, "neutral": registers,
}  # fmt: skip


def sweep(scale: Scale) -> Iterator[Run]:
    """None of its own: rates are those that other studies' sweeps chose on PubMed."""
    return iter(())


def then(records: Records, scale: Scale) -> Iterator[Run]:
    """Every method, all five subjects in one run."""
    few = ("lora", "neutral-context") if scale.thin else tuple(FROM)
    for seed, method in product(scale.seeds, few):
        study = FROM[method]
        lr = rates(records, study.STUDY, study.WAYS, "pubmed", scale).get(method)
        if lr is not None:
            told = f"registers-{method}" if study is registers else method
            yield scale.run(
                study.WAYS[method], STUDY, "together", told, "+".join(SUBJECTS), lr=lr, seed=seed, tokens=TOKENS
            )


def execute(run: Run, records: Path) -> str:
    """Train a module on each subject, plug them all, measure, write the record."""
    base, names, work = load(attn_implementation="eager"), run.subjects, WORK / run.id
    for name in names:
        single = replace(run, subject=name)
        base.new(name, kind_of(single, base), seed=run.seed)
        learn(single, base, name, corpus_of(single, base), study_texts().replay, work / name)

    def scored(on: Sequence[str], name: str) -> Score:
        """Half of what other studies score: there are many pairs."""
        with base.using(dict.fromkeys(on, 1.0)):
            return score(base, list(held_out(name, False)), tokens=run.held // 2, length=LENGTH, precision=precision())

    bare = {name: scored((), name) for name in (*names, "general")}
    own, together = {name: scored((name,), name) for name in names}, {name: scored(names, name) for name in bare}
    result = {
        "gains": {
            name: {"alone": triple(bare[name].minus(own[name])), "together": triple(bare[name].minus(together[name]))}
            for name in names
        },
        "forgetting": {
            "one": {name: triple(scored((name,), "general").minus(bare["general"])) for name in names},
            "all": triple(together["general"].minus(bare["general"])),
        },
        #: what the column's module adds to the loss on the row's subject beside the row's own
        "beside": [[0.0 if a == b else scored((a, b), a).nats - own[a].nats for b in names] for a in names],
        #: what the column's module alone adds to the loss on the row's subject
        "strangers": [[(own[a] if a == b else scored((b,), a)).nats - bare[a].nats for b in names] for a in names],
        "parameters": base.modules[names[0]].size(),
    }
    return finished(run, records, result | stamp(run, base))


def work(run: Run, folder: Path) -> str:
    """Make a run of whatever study, whose records are in `folder`: what `python -m` calls `__main__` can be sent nowhere."""
    return (execute if run.study == STUDY else execute_run)(run, folder)


def report(records: Records, folder: Path) -> str:
    """Tables as Markdown, and a heat map for each method, written to `folder`."""
    runs = of_part(records, STUDY, "together")
    groups = grouped(runs, lambda run: run["method"])
    heads = (
        "method", "runs", "parameters of one", "share of all gains kept", "forgotten by one", "by all five",
        "one more module beside it adds", "a stranger's module alone adds",
    )  # fmt: skip
    cells = (page.parameters, _kept, _lost_by_one, _lost_by_all, _mean_of("beside"), _mean_of("strangers"))
    by_subject = {(method, name): group for method, group in groups.items() for name in SUBJECTS}
    parts = [
        (
            "Five modules trained apart at the rate chosen on PubMed, all plugged at weight 1",
            table(heads, groups, cells),
        ),
        ("Gain in nats on each subject", _subjects(by_subject)),
    ]
    if groups:
        _draw(groups, folder)
    return page.written(parts, runs)


def _subjects(groups: dict[tuple[str, str], Records]) -> list[str]:
    """Gains by method and subject, of the subject's module alone and with the others."""
    rows = []
    for (method, name), group in groups.items():
        told = (page.told(group, lambda record, w=w, n=name: record["gains"][n][w]) for w in ("alone", "together"))
        rows.append((method, name, len(group), *told))
    return plain("method | subject | runs | its module alone | with all five", rows)


def _kept(records: Records) -> str:
    return with_t_interval([_total(record, "together") / _total(record, "alone") for record in records], 2, -math.inf)


def _total(record: dict[str, Any], which: str) -> float:
    return sum(gain[which][0] for gain in record["gains"].values())


def _lost_by_one(records: Records) -> str:
    return with_t_interval(
        [float(np.mean([lost[0] for lost in record["forgetting"]["one"].values()])) for record in records], 3, -math.inf
    )


def _lost_by_all(records: Records) -> str:
    return page.told(records, lambda record: record["forgetting"]["all"])


def _mean_of(key: str) -> page.Cell:
    """The mean of a matrix, but for its diagonal: what unrelated requests pay, or who shares the base."""

    def off(record: dict[str, Any]) -> float:
        matrix = np.array(record[key])
        return float(matrix[~np.eye(len(matrix), dtype=bool)].mean())

    return lambda records: with_t_interval([off(record) for record in records], 3, -math.inf)


def _draw(groups: dict[str, Records], folder: Path) -> None:
    figure, panels = canvas(len(groups), 3.4, 3.6)
    means = {method: np.mean([record["beside"] for record in group], axis=0) for method, group in groups.items()}
    most = max(float(np.abs(matrix).max()) for matrix in means.values()) or 1.0
    for at, (axes, (method, matrix)) in enumerate(zip(panels, means.items(), strict=True)):
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-most, vmax=most)
        for (row, column), value in np.ndenumerate(matrix):
            if row != column:
                axes.text(
                    column,
                    row,
                    f"{value:+.2f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if abs(value) > most * 0.6 else "black",
                )
        axes.set_xticks(range(len(SUBJECTS)), SUBJECTS, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(SUBJECTS)), SUBJECTS if at == 0 else [""] * len(SUBJECTS), fontsize=8)
        axes.set_title(method, fontsize=10)
    figure.colorbar(image, ax=panels, shrink=0.7, label="nats added on the row's text")
    figure.suptitle("What the column's module adds beside the row's own", fontsize=10)
    save(figure, folder / STUDY)
