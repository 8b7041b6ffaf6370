"""Composition: five modules on five subjects, trained apart and plugged together; what each keeps, who disturbs whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import addenda
from addenda.plugging import Base
from addenda.scoring import score
from recipes.common import load, precision, study_texts
from recipes.frontier import save, with_t_interval
from recipes.records import device, write_record
from recipes.studies import neutral_residues, page, registers
from recipes.studies.page import grouped, table
from recipes.studies.plan import Records, Scale, of_part, rates
from recipes.studies.run import LENGTH, ROWS, SHARE, SHUFFLE, Run, corpus_of, held_out, kind_of

STUDY = "composition"
SUBJECTS = ("pubmed", "french", "law", "book", "people-100")
TOKENS = 400_000
#: the methods, by the study whose sweep chose their rates
FROM = {
    "lora": neutral_residues, "neutral-token": neutral_residues, "neutral-context": neutral_residues,
    "neutral": registers, "joint": registers,
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
    base, names = load(attn_implementation="eager"), run.subjects
    for name in names:
        one = replace(run, subject=name)
        base.new(name, kind_of(one, base), seed=run.seed)
        addenda.train(
            base, name, corpus=corpus_of(one, base), replay=study_texts().replay, replay_share=SHARE, tokens=run.tokens,
            lr=run.lr, seed=run.seed, log=False, precision=precision(), batch_rows=ROWS, length=LENGTH,
            shuffle_tokens=SHUFFLE, **run.settings,
        )  # fmt: skip
    bare = {name: loss(base, (), name, run.held) for name in (*names, "general")}
    own = {name: loss(base, (name,), name, run.held) for name in names}
    found = {
        "bare": bare,
        "alone": own,
        "together": {name: loss(base, names, name, run.held) for name in (*names, "general")},
        "general": {name: loss(base, (name,), "general", run.held) for name in names},
        #: what is lost on the row's subject when the column's module is on beside its own
        "pairs": [[own[a] if a == b else loss(base, (a, b), a, run.held) for b in names] for a in names],
        #: what is lost on the row's subject with the column's module alone
        "strangers": [[own[a] if a == b else loss(base, (b,), a, run.held) for b in names] for a in names],
        "parameters": base.modules[names[0]].size(),
    }
    write_record(
        records / f"{run.id}.json", {"run": asdict(run)} | found | {"base": base.fingerprint, "device": device()}
    )
    return run.id


def loss(base: Base, on: Sequence[str], name: str, tokens: int) -> float:
    """The loss on a subject's held-out text with some modules on, nats per token."""
    with base.using(dict.fromkeys(on, 1.0)):
        return score(base, list(held_out(name, False)), tokens=tokens // 2, length=LENGTH, precision=precision()).nats


def report(records: Records, folder: Path) -> str:
    """Tables as Markdown, and a heat map for each method, written to `folder`."""
    found = of_part(records, STUDY, "together")
    groups = grouped(found, lambda run: run["method"])
    heads = (
        "method",
        "runs",
        "parameters of one",
        *(f"{name}: alone, with all" for name in SUBJECTS),
        "share kept",
        "forgotten by one",
        "by all five",
    )
    cells = (page.parameters, *(_both(name) for name in SUBJECTS), _kept, _lost_by_one, _lost_by_all)
    pairs = ("method", "runs", "one more module beside it adds", "a stranger's module alone adds")
    parts = [
        (
            "Gain in nats on each subject: its module alone, and all five plugged at weight 1",
            table(heads, groups, cells),
        ),
        ("Interference, nats on a subject's text", table(pairs, groups, (_beside, _stranger))),
    ]
    if groups:
        _draw(groups, folder)
    return page.written(parts, found)


def _gains(record: dict[str, Any], which: str) -> dict[str, float]:
    return {name: record["bare"][name] - record[which][name] for name in record["alone"]}


def _both(name: str) -> page.Cell:
    def cell(found: Records) -> str:
        alone, together = (page.mean_of(found, lambda one, w=w: _gains(one, w)[name])[0] for w in ("alone", "together"))
        return f"{alone:.3f}, {together:.3f}"

    return cell


def _kept(found: Records) -> str:
    shares = [sum(_gains(one, "together").values()) / sum(_gains(one, "alone").values()) for one in found]
    return with_t_interval(shares, 2, -math.inf)


def _lost_by_one(found: Records) -> str:
    return with_t_interval(
        [float(np.mean(list(one["general"].values()))) - one["bare"]["general"] for one in found], 3, -math.inf
    )


def _lost_by_all(found: Records) -> str:
    return with_t_interval([one["together"]["general"] - one["bare"]["general"] for one in found], 3, -math.inf)


def beside(record: dict[str, Any]) -> np.ndarray:
    """What the column's module adds to the loss on the row's subject beside the row's own module [N, N]; 0 on the diagonal."""
    own = np.array([record["alone"][name] for name in record["run"]["subject"].split("+")])
    return np.array(record["pairs"]) - own[:, None]


def _off(matrix: np.ndarray) -> float:
    return float(matrix[~np.eye(len(matrix), dtype=bool)].mean())


def _beside(found: Records) -> str:
    return with_t_interval([_off(beside(one)) for one in found], 3, -math.inf)


def _stranger(found: Records) -> str:
    """A module on a text that is not its own, with no other: what unrelated requests pay."""
    values = []
    for one in found:
        bare = np.array([one["bare"][name] for name in one["run"]["subject"].split("+")])
        values.append(_off(np.array(one["strangers"]) - bare[:, None]))
    return with_t_interval(values, 3, -math.inf)


def _draw(groups: dict[str, Records], folder: Path) -> None:
    figure, panels = page.canvas(len(groups), 3.4, 3.6)
    means = {method: np.mean([beside(one) for one in found], axis=0) for method, found in groups.items()}
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
