"""A real model learns French: neutral residues against LoRA of equal size and tokens, and what else each of them moves.

    python -m recipes.smollm2_french --dry-run                      # the cells, what is done, how many minutes each takes
    python -m recipes.smollm2_french                                # cells that have no record yet, then the page
    python -m recipes.smollm2_french --methods default lora --seeds 0 1 2
    python -m recipes.smollm2_french --rate lora=1e-3 default=3e-3  # these rates in place of a sweep
    python -m recipes.smollm2_french --report                       # the page of the records there are

60,000 tokens of French novels into SmolLM2-135M-Instruct, in steps of two rows of 256. Rates are chosen by what a sweep gains
on pages of novels and of documentation, as many of each, that nothing is reported on. A cell is one method at one rate and
seed: it leaves a record, and goes on from its checkpoints where it was interrupted. A method is measured on held-out novels
and on French documentation of Python (what it learns), on WikiText-2 (loss, KL from the bare base, tokens left bit-equal), on
general chats (answers that change) and on the zero-shot questions that come with the package.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from addenda.core.errors import AddendaError
from addenda.core.registry import build_kind, plain_options
from addenda.measuring.asking.chats import GENERAL, TOKENS, answers, asked_of, paired
from addenda.measuring.asking.zero_shot import fitting, right
from addenda.measuring.asking.zero_shot import paired as scored
from addenda.measuring.looking.disturbance import disturbance
from addenda.plug.base import Base
from addenda.plug.scoring import Score
from recipes.common import load, losses, study_texts
from recipes.french_texts import SUBJECT, held_out
from recipes.gates import delays, prompts_live
from recipes.records import Records, grouped, stamp
from recipes.studies import page
from recipes.studies.plan import SWEEP, Scale, Way, edges, of_part, rates
from recipes.studies.run import LENGTH, WORK, Run, corpus_of, finished, kind_of, learn, triple
from recipes.study import conduct, parser_of
from recipes.tables import table

STUDY, MAIN = "smollm2_french", "methods"
#: tokens that a subject has lasted where the gate's delay is measured
LASTED = (128, 512)
#: methods by name: kind, options, and the rates of the sweep; `default` is what a user gets who asks for nothing
GATED, LORA = (1e-3, 3e-3, 1e-2), (3e-4, 1e-3, 3e-3)
WAYS: dict[str, Way] = {
    "default": Way("NeutralResidues", {}, {}, GATED),
    "small-start": Way("NeutralResidues", {"init": "small"}, {}, GATED),
    "context": Way("NeutralResidues", {"gate": "context", "init": "he"}, {}, GATED),
    "token": Way("NeutralResidues", {"gate": "token", "init": "he"}, {}, GATED),
    "lora": Way("LoRA", {}, {}, LORA),
    "gated-lora": Way("LoRA", {}, {}, LORA, gate="document"),
}
#: tokens a second on two cores of a CPU with bf16 instructions: trained on, read, and of the chats
TRAINED, READ = 250, 400


@dataclass(frozen=True)
class Cell(Run):
    """A run of this study: `where` is the base, `replay` what stands for the old domain, `each` questions of each set."""

    where: str = "smollm2"
    replay: str = "general_train"
    each: int = 100
    chats: int = 60

    @property
    def minutes(self) -> float:
        """What it is expected to take on two cores."""
        read = self.held if self.part == SWEEP else 5 * self.held + 128 * 4 * self.each + 82 * self.chats
        return (self.tokens / TRAINED + read / READ) / 60


# --- what is planned --------------------------------------------------------------------------------------------------


def cell(given: argparse.Namespace, method: str, **more: Any) -> Cell:
    """A cell of a method; its options are written out, so that a default that changes later is another cell."""
    way = WAYS[method]
    options: dict[str, Any] = {"extra": given.extra} | dict(way.options)
    if way.kind != "LoRA":
        options = plain_options(build_kind(way.kind, options))
    return Cell(
        STUDY, method=method, subject=SUBJECT, kind=way.kind, options=options,
        settings=dict(way.settings) | {"batch_rows": given.rows}, held=given.held, gate=way.gate,
        where=given.base, replay=given.replay, each=given.questions, chats=given.chats, **more,
    )  # fmt: skip


def sweep(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every rate of every method that was given none, once, on fewer tokens."""
    for method in given.methods:
        for lr in () if method in given.rate else WAYS[method].rates:
            yield cell(given, method, part=SWEEP, lr=lr, tokens=given.sweep_tokens)


def then(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every method at its rate, seed after seed; none whose sweep is not done."""
    swept = {cell.id for cell in sweep(given, records)}
    mine = [record for record in records if record["run"]["part"] != SWEEP or record["id"] in swept]
    ways = {name: WAYS[name] for name in given.methods if name not in given.rate}
    chosen = rates(mine, STUDY, ways, SUBJECT, Scale()) | given.rate
    if given.dry_run and (lack := [name for name in given.methods if name not in chosen]):
        print(f"rates of {', '.join(lack)} are chosen by the sweep; listed is the middle one")
        chosen |= {name: WAYS[name].rates[1] for name in lack}
    for seed in given.seeds:
        for method in given.methods:
            if method in chosen:
                yield cell(given, method, part=MAIN, lr=chosen[method], tokens=given.tokens, seed=seed)


# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bare:
    """What the bare base gets: losses by text, answers to the chats, and right answers."""

    losses: dict[str, Score]
    said: list[list[int]]
    right: Any


@cache
def base_of(where: str) -> Base:
    """The base of all cells of a process."""
    return load(where)


@cache
def bare(where: str, held: int, each: int, chats: int, swept: bool) -> Bare:
    """What the bare base gets of what a cell is measured on: of one of the sweep its loss alone."""
    base = base_of(where)
    texts = {name: held_out(name) for name in (("choosing",) if swept else ("novels", "python_docs", "wikitext2"))}
    found = losses(base, texts, tokens=held, length=LENGTH)
    if swept:
        return Bare(found, [], None)
    with base.off():
        return Bare(found, answers(base, asked_of(GENERAL, chats)[1]), right(base, fitting(base, each)))


def execute(run: Cell, records: Path) -> str:
    """Train a cell's module, measure it, write the record."""
    base, swept = base_of(run.where), run.part == SWEEP
    before, facts = bare(run.where, run.held, run.each, run.chats, swept), stamp(run, base)
    module = base.new("m", kind_of(run, base), seed=run.seed, gate=run.gate)
    try:
        replay = study_texts().replay if run.replay == "wikipedia" else run.replay
        report = learn(run, base, "m", corpus_of(run, base), replay, WORK / run.id / "m")
        result: dict[str, Any] = {"id": run.id, "parameters": module.size(), "seconds": report.seconds}
        now = losses(base, {name: held_out(name) for name in before.losses}, "m", tokens=run.held, length=LENGTH)
        gains = {name: triple(before.losses[name].minus(score)) for name, score in now.items() if name != "wikitext2"}
        result["gains"] = {SUBJECT: gains["choosing"]} if swept else gains
        if not swept:
            result["forgetting"] = triple(now["wikitext2"].minus(before.losses["wikitext2"]))
            result |= moved(run, base, before)
    finally:
        base.unplug("m")
    return finished(run, records, result | facts)


def moved(run: Cell, base: Base, before: Bare) -> dict[str, Any]:
    """What the module moves besides its subject."""
    change = disturbance(base, "m", held_out("wikitext2"), tokens=run.held, length=128)
    name, chats = asked_of(GENERAL, run.chats)
    with base.using("m"):
        said, rightly = answers(base, chats), right(base, asked := fitting(base, run.each))
    talked = paired(base, name, chats, before.said, said, tokens=TOKENS).as_dict()
    talked["answers"] = [answer for answer in talked["answers"] if answer["parts_at"] is not None][:10]
    gate = {}
    if base.modules["m"].gate is not None:
        changes = {str(n): delays(base, held_out("novels"), held_out("wikitext2"), n) for n in LASTED}
        gate = {"gate": {"prompts": prompts_live(base, SUBJECT), "delays": changes}}
    return gate | {
        "kl": change.kl.as_dict(), "kl_worst": change.worst, "untouched": change.untouched.as_dict(), "chats": talked,
        "questions": scored(asked, before.right, rightly).as_dict(),
    }  # fmt: skip


# --- what is told -----------------------------------------------------------------------------------------------------


def gates(groups: dict[Any, Records]) -> list[str]:
    """When the gates open and shut, in medians over runs, and how many short prompts are live by their last token."""
    rows = []
    for name, mine in groups.items():
        told = [record["gate"] for record in mine if "gate" in record]
        if told:
            after = (
                "; ".join(f"{median(gate['delays'][str(n)][end] for gate in told):.0f} (after {n:,})" for n in LASTED)
                for end in ("opens", "shuts")
            )
            live = (", ".join(str(gate["prompts"][side]) for gate in told) for side in ("on", "off"))
            rows.append((name, *after, " / ".join(live)))
    heads = "method | opens after, tokens | shuts after, tokens | prompts live, on the subject / off it, of ten"
    return table(heads, rows)


def ends(key: str, *inside: str) -> Any:
    """A reader of value and interval of what a record has under a key."""

    def read(record: dict[str, Any]) -> list[float]:
        interval = record[key]
        for name in inside:
            interval = interval[name]
        return [interval[name] for name in ("value", "low", "high")]

    return read


def tasks_apart(records: Records) -> list[str]:
    """Sets and all of them: right answers of the bare base, and what each method adds, in points, over seeds."""
    groups = grouped(records, lambda run: run["method"])
    rows = []
    first = records[0]["questions"]
    for at, row in [(n, entry) for n, entry in enumerate(first["sets"]) if entry["usual"]] + [(None, first["pooled"])]:

        def added(record: dict[str, Any], at: int | None = at) -> list[float]:
            entry = record["questions"]["pooled"] if at is None else record["questions"]["sets"][at]
            return [100 * entry["change"][name] for name in ("value", "low", "high")]

        cells = [page.told(mine, added, 1) for mine in groups.values()]
        told = [row["name"], row["metric"], str(row["questions"]), f"{row['off']['value']:.1%}", *cells]
        rows.append(told)
    return table(["set", "metric", "questions", "bare base", *groups], rows)


def of_lora(records: Records, name: str, value: Any) -> page.Cell:
    """A mean as a share of LoRA's mean, of the same seeds."""
    lora = {record["run"]["seed"]: value(record) for record in records if record["run"]["method"] == "lora"}

    def told(mine: Records) -> str:
        both = [(value(record), lora[record["run"]["seed"]]) for record in mine if record["run"]["seed"] in lora]
        less = sum(b for _, b in both)
        return f"{sum(a for a, _ in both) / less:.2f}" if less else "-"

    return told


def report(records: Records, folder: Path) -> str:
    """The tables of the records."""
    runs = of_part(records, STUDY, MAIN)
    if not runs:
        return ""
    groups = grouped(runs, lambda run: run["method"])
    learned = page.table(
        ("method", "runs", "rate", "parameters", "novels, nats gained", "of LoRA's", "documentation, nats gained", "of LoRA's"),
        groups,
        (
            page.rate, page.parameters,
            page.gain_of("novels"), of_lora(runs, "novels", lambda record: record["gains"]["novels"][0]),
            page.gain_of("python_docs"), of_lora(runs, "docs", lambda record: record["gains"]["python_docs"][0]),
        ),
    )  # fmt: skip
    kl, shares = ends("kl"), (0.0, 1.0)
    moved_ = page.table(
        ("method", "runs", "loss on WikiText-2", "KL from the base", "of LoRA's", "tokens left bit-equal", "chat answers changed",
         "within 16 tokens", "zero-shot, points"),
        groups,
        (
            page.forgotten,
            lambda mine: page.told(mine, kl, 4), of_lora(runs, "kl", lambda record: record["kl"]["value"]),
            lambda mine: page.told(mine, ends("untouched"), 3, shares),
            lambda mine: page.told(mine, ends("chats", "changed"), 2, shares),
            lambda mine: page.told(mine, ends("chats", "early"), 2, shares),
            lambda mine: page.told(
                mine, lambda record: [100 * v for v in ends("questions", "pooled", "change")(record)], 1
            ),
        ),
    )  # fmt: skip
    swept = grouped(of_part(records, STUDY, SWEEP), lambda run: (run["method"], f"{run['lr']:g}"))
    tried = page.table(("method", "lr", "runs", "gain, nats"), swept, (page.own_gain,))
    return page.written(
        [
            ("What is learned of French", learned),
            ("What else is moved", moved_),
            ("The gate", gates(groups)),
            ("Zero-shot questions, points added", tasks_apart(runs)),
            ("Sweep", page.noted(tried, edges(records, STUDY))),
        ],
        runs,
    )


# --- the command line -------------------------------------------------------------------------------------------------


def named_rates(given: Sequence[str]) -> dict[str, float]:
    """Rates by method.

    Raises:
        AddendaError: a word is no METHOD=RATE.
    """
    try:
        chosen = {method: float(rate) for method, rate in (pair.split("=") for pair in given)}
    except ValueError:
        raise AddendaError(f"--rate takes METHOD=RATE, such as lora=1e-3; got {' '.join(given)}") from None
    if unknown := chosen.keys() - WAYS.keys():
        raise AddendaError(f"there is no method {', '.join(sorted(unknown))}; methods are {', '.join(WAYS)}")
    return chosen


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was given on the command line."""
    parser = parser_of(__doc__, tokens=60_000, sweep_tokens=15_000)
    parser.add_argument("--methods", nargs="+", default=["default", "lora"], choices=list(WAYS))
    parser.add_argument("--only", choices=(SWEEP, MAIN), help="only the sweep, or only what is reported")
    parser.add_argument("--rate", nargs="+", default=[], metavar="METHOD=RATE", help="in place of a sweep")
    parser.add_argument(
        "--replay", default="general_train", help="text that stands for the old domain: a file or sample, or wikipedia"
    )
    parser.add_argument("--extra", type=float, default=0.1, help="size of a module, as a share of the base")
    parser.add_argument("--rows", type=int, default=2, help="of 256 tokens, in a step")
    parser.add_argument("--held", type=int, default=12_000, help="tokens scored of each held-out text")
    parser.add_argument("--questions", type=int, default=100, help="zero-shot questions of each of four sets")
    parser.add_argument("--chats", type=int, default=60, help="general chats")
    parser.add_argument("--base", default="smollm2", help="a name, a folder, or a hub id")
    given = parser.parse_args(words)
    given.rate = named_rates(given.rate)
    return given


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then the page."""
    given = arguments(words)
    stages = [stage for part, stage in ((SWEEP, sweep), (MAIN, then)) if given.only in (None, part)]
    conduct(STUDY, given, stages, execute, report)


if __name__ == "__main__":
    main()
