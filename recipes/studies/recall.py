"""Recall: facts of people that do not exist, told in texts, asked for without them; how many each kind holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipes.drawing import canvas, dress, save
from recipes.records import Records, grouped
from recipes.studies import page
from recipes.studies.page import table
from recipes.studies.plan import Scale, Way, edges, of_part, rates
from recipes.studies.plan import sweep as plan_sweep
from recipes.studies.run import Run

STUDY = "recall"
#: a small share of the base, so that a load can be felt; the slots of the others take what they take
SIZE = {"extra": 0.05}
WAYS = {
    "lora": Way("LoRA", SIZE, {}, (1e-3, 3e-3, 5e-3, 1e-2)),
    "adapter": Way("ParallelAdapter", SIZE, {}, (1e-3, 3e-3, 1e-2, 3e-2)),
    "neutral-token": Way("NeutralResidues", SIZE | {"gate": "token"}, {}, (1e-3, 3e-3, 1e-2, 3e-2)),
    "neutral-context": Way("NeutralResidues", SIZE | {"gate": "context"}, {}, (1e-3, 3e-3, 1e-2, 3e-2)),
    "registers": Way("Registers", {"count": 128, "init": "text"}, {}, (3e-2, 1e-1, 3e-1, 1.0)),
    "cartridge": Way("Cartridge", {"count": 128, "init": "text"}, {}, (1e-2, 3e-2, 1e-1, 3e-1)),
    "locas": Way("LocasGLU", {"rank": 64, "scale": 16.0}, {}, (4e-3, 1.6e-2, 6.4e-2)),
}
#: people told about, and tokens trained on, a dozen times over their texts or more: a load is dropped, not read less often
LOADS = {5: 20_000, 25: 100_000, 100: 400_000, 400: 1_500_000}


def loads(scale: Scale) -> dict[int, int]:
    """The loads that a scale affords, at least the smallest; for a thin one that alone."""
    most = 0 if scale.thin else scale.tokens(max(LOADS.values()))
    return {people: tokens for people, tokens in LOADS.items() if tokens <= most or people == min(LOADS)}


def sweep(scale: Scale) -> Iterator[Run]:
    """Every kind's rates at the smallest load."""
    people, tokens = min(LOADS.items())
    return plan_sweep(STUDY, WAYS, (f"people-{people}",), replace(scale, share=1.0), tokens)


def then(records: Records, scale: Scale) -> Iterator[Run]:
    """Every kind at every load."""
    for seed in scale.seeds:
        for method, lr in rates(records, STUDY, WAYS, f"people-{min(LOADS)}", scale).items():
            for people, tokens in loads(scale).items():
                yield replace(scale, share=1.0).run(
                    WAYS[method], STUDY, "loads", method, f"people-{people}", lr=lr, seed=seed, tokens=tokens
                )


def report(records: Records, folder: Path) -> str:
    """The table as Markdown, and the figure, written to `folder`."""
    runs = of_part(records, STUDY, "loads")
    runs.sort(key=lambda record: (_people(record["run"]), list(WAYS).index(record["run"]["method"])))
    groups = grouped(runs, lambda run: (_people(run), run["method"]))
    heads = (
        "people", "kind", "runs", "parameters", "chosen of ten, without", "with", "written word for word",
        "facts more per 1,000 parameters", "untold questions answered as before", "forgotten, nats",
    )  # fmt: skip
    cells = (
        page.parameters, _share("chosen_before"), _share("chosen_after"), _share("exact_after"), _per_parameters, _share("kept"),
        page.forgotten,
    )  # fmt: skip
    sweeps = sorted(
        of_part(records, STUDY, "sweep"),
        key=lambda record: (list(WAYS).index(record["run"]["method"]), record["run"]["lr"]),
    )
    swept = grouped(sweeps, lambda run: (run["method"], f"{run['lr']:g}"))
    sweep_heads = ("kind", "lr", "runs", "gain, nats", "forgotten, nats")
    tried = table(sweep_heads, swept, (page.own_gain, page.forgotten))
    parts = [
        ("Facts told in texts, asked for without them; five for each of so many people", table(heads, groups, cells)),
        (f"Sweep, {min(LOADS)} people", page.noted(tried, edges(records, STUDY))),
    ]  # fmt: skip
    if groups:
        _draw(groups, folder)
    return page.written(parts, runs)


def _people(run: dict[str, Any]) -> int:
    return int(run["subject"].removeprefix("people-"))


def _share(key: str) -> page.Cell:
    return lambda records: page.told(
        records, lambda record: [record["recall"][key][which] for which in ("value", "low", "high")], within=(0.0, 1.0)
    )


def recalled(record: dict[str, Any]) -> page.Triple:
    """Facts of all that were told that are chosen rightly beyond what the bare base chooses: the share asked stands for all."""
    return [record["recall"]["gain"][which] * record["recall"]["told"] for which in ("value", "low", "high")]


def _per_parameters(records: Records) -> str:
    return page.told(records, lambda record: [1000 * facts / record["parameters"] for facts in recalled(record)])


def _draw(groups: dict[tuple[int, str], Records], folder: Path) -> None:
    """A panel for each load: what each kind recalls of it against what it forgets."""
    loads_ = sorted({people for people, _ in groups})
    figure, panels = canvas(len(loads_))
    for people, axes in zip(loads_, panels, strict=True):
        mine = {kind: groups[people, kind] for kind in WAYS if (people, kind) in groups}
        page.marks(axes, mine, page.lost, recalled)
        axes.axhline(0, color="#bbbbbb", lw=0.8)
        axes.axvline(0, color="#bbbbbb", lw=0.8)
        dress(axes, "forgotten: loss added on general text, nats", "facts recalled beyond what the base guesses",
                  f"{5 * people} facts told: up and to the left is better")  # fmt: skip
    panels[0].legend(frameon=False, fontsize=8)
    save(figure, folder / STUDY)
