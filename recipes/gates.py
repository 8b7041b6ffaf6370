"""Gates: what the default module learns, keeps and leaves alone behind each gate, beside a LoRA of equal size.

    python -m recipes.gates --dry-run                         # the cells that have no record yet
    python -m recipes.gates                                   # makes them, then the tables of docs/results/gates.md
    python -m recipes.gates --tokens 2000000 --ways document small-start lora   # which start; hours: see `make long`
    python -m recipes.gates --base smollm2 --tokens 20000 --ways document --seeds 0  # the same on a real model
    python -m recipes.gates --report                          # the tables of the records there are

On `tiny`, French novels or PubMed as the subject, the shipped general sample as replay. Each cell is one way, subject and
seed. Wikipedia, textbooks, novels and contracts are reported apart. A change of subject is 128 to 1,856 tokens of one side
followed by 192 of the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

import addenda
from addenda.plug.base import Base
from addenda.showing.texts import short_prompts
from recipes.common import data_folder, documents, gained, hash_of, load, losses, taught
from recipes.records import Named, Records, recorded, stamp
from recipes.studies.subjects import subject
from recipes.study import conduct, parser_of
from recipes.tables import over, table

WAYS: dict[str, dict[str, Any] | None] = {
    "document": {"gate": "document"},
    "context": {"gate": "context"},
    "token": {"gate": "token"},
    "small-start": {"gate": "document", "init": "small"},
    "lora": None,
}
SUBJECTS = ("pubmed", "french")
#: general text that is reported apart: its file, and the characters of a piece
GENERAL = {
    "wikipedia": ("wikipedia_en/valid", 1500),
    "textbooks": ("openstax/valid", 1500),
    "novels": ("novels_en/valid", 1500),
    "contracts": ("law/contracts_valid", 1500),
}
LENGTH, SIZE, HELD = 256, 0.2, 16_000
SCORED: dict[str, Any] = {"tokens": HELD, "length": LENGTH}
LASTED = (128, 512, 1856)  # the last fills the window of `tiny`
#: the share that a gate is calibrated to on one general text
STRICT = 0.99


@dataclass(frozen=True)
class Cell(Named):
    """One way of learning a subject."""

    FRONT = ("way", "subject", "seed")

    way: str
    subject: str
    seed: int
    tokens: int
    where: str = "tiny"


@cache
def general(name: str) -> list[str]:
    """Held-out pieces of one kind of general text, spread over its documents."""
    file, size = GENERAL[name]
    pieces: list[str] = []
    texts = documents(data_folder() / f"{file}.jsonl.gz")
    each = max(8, 240 // len(texts))
    for text in texts:
        pieces += [text[at : at + size] for at in range(0, len(text), max(size, len(text) // each))]
    return sorted((piece for piece in pieces if len(piece) == size), key=hash_of)[:120]


def make(cell: Cell, folder: Path) -> str:
    """Train, measure, write the record."""
    base, chosen = load(cell.where), subject(cell.subject)
    options = WAYS[cell.way]
    kind: Any = addenda.NeutralResidues(extra=SIZE, **(options or {}))
    if options is None:
        kind = addenda.LoRA().of_size(base.new("m", kind, seed=cell.seed).size(), base.anatomy)
        base.unplug("m")
    report = taught(base, "m", kind, chosen.corpus, seed=cell.seed, tokens=cell.tokens)
    module, held = base.modules["m"], {cell.subject: list(chosen.held), **{name: general(name) for name in GENERAL}}
    bare = losses(base, held, **SCORED)
    record = stamp(cell, base) | {"parameters": module.size(), "seconds": report.seconds}
    record["gains"] = gained(bare, losses(base, held, "m", **SCORED))
    if module.gates():
        record |= _left_alone(base, module, cell.subject, held, bare)
    return recorded(cell, folder, record)


def _left_alone(base: Base, module: Any, name: str, held: dict[str, list[str]], bare: dict[str, Any]) -> dict[str, Any]:
    """What a gated module leaves bit-equal, when it opens and shuts, and what is left of its gain once it is calibrated."""
    equal = {
        text: float(addenda.neutral_share(base, "m", held[text], lengths=[LENGTH], tokens=HELD)) for text in GENERAL
    }
    alone: dict[str, Any] = {"equal": equal}
    if module.gate is not None:
        alone |= {"threshold": float(module.gate.threshold), "prompts": prompts_live(base, name)}
        alone["delays"] = {str(lasted): delays(base, held[name], general("wikipedia"), lasted) for lasted in LASTED}
    others = documents(data_folder() / "wikipedia_en/train_3.jsonl.gz")
    strict = addenda.calibrate(base, "m", others[:200], share=STRICT, lengths=[LENGTH], tokens=20_000)
    gain = gained(bare, losses(base, {name: held[name]}, "m", **SCORED))[name]
    return alone | {"strict": {"gain": gain, "share": float(strict.measured)}}


def _open(base: Base, ids: torch.Tensor) -> torch.Tensor:
    """Where the module's gate is open [T] on token ids [T]."""
    seen: list[torch.Tensor] = []

    def note(share: Any, site: str, **facts: Any) -> None:
        if isinstance(facts.get("gate"), torch.Tensor):
            seen.append(facts["gate"][0, :, 0] > 0)

    with torch.no_grad(), base.using("m"), base.watching(observer=note):
        base.model.base_model(input_ids=ids[None].to(base.device), use_cache=False)
    return seen[0].cpu()


def prompts_live(base: Base, name: str) -> dict[str, int]:
    """Of ten short prompts on the subject, and ten off it, how many are live by their last token."""
    mine = {"pubmed": "medical"}.get(name, name)
    live = {
        sort: sum(int(_open(base, base.tokenize(text))[-1]) for text in short_prompts(sort))
        for sort in (mine, "general")
    }
    return {"on": live[mine], "off": live["general"]}


def delays(base: Base, subject_: Sequence[str], other: Sequence[str], lasted: int) -> dict[str, float]:
    """Median tokens after a change of subject until the gate opens, and until it shuts; 192 where it did not.

    Counted are the pairs of texts where the gate was rightly shut, or open, on the last token before the change.
    """
    after, pairs = 192, 20
    opened: list[float] = []
    shut: list[float] = []
    for number in range(pairs):
        on, off = (partial(_beginning, base, texts, number * 3) for texts in (subject_, other))
        for before, then, wanted, counts in ((off, on, True, opened), (on, off, False, shut)):
            at = _open(base, torch.cat([before(lasted), then(after)]))[-after - 1 :] == wanted
            if not at[0]:
                counts.append(float(at[1:].nonzero()[0]) if bool(at.any()) else float(after))
    return {
        "opens": median(opened or [float(after)]), "shuts": median(shut or [float(after)]), "opened": len(opened),
        "shut": len(shut), "pairs": pairs,
    }  # fmt: skip


def _beginning(base: Base, texts: Sequence[str], first: int, tokens: int) -> torch.Tensor:
    """So many tokens from the beginning of a text on, and of those after it where it is short."""
    parts: list[torch.Tensor] = []
    while sum(len(part) for part in parts) < tokens:
        parts.append(base.tokenize(texts[first % len(texts)]))
        first += 1
    return torch.cat(parts)[:tokens]


# --- what is told -----------------------------------------------------------------------------------------------------


def report(records: Records, folder: Path) -> str:
    """The tables, one for each subject and number of tokens."""
    parts = []
    for where, tokens in sorted({(r["run"]["where"], r["run"]["tokens"]) for r in records}, reverse=True):
        for name in SUBJECTS:
            mine = [
                r for r in records if [r["run"][key] for key in ("where", "subject", "tokens")] == [where, name, tokens]
            ]
            if mine:
                parts.append(f"### {name} into {where}, {tokens:,} tokens\n\n" + "\n".join(_table(mine, name)))
    devices = sorted({record["device"] for record in records})
    return "\n\n".join([*parts, f"Computed on {'; '.join(devices)}."]) + "\n" if parts else ""


def _table(records: Records, name: str) -> list[str]:
    """One row a way: means over seeds, with their range."""
    lora = {r["run"]["seed"]: r["gains"][name][0] for r in records if r["run"]["way"] == "lora"}
    heads = [
        "way",
        "seeds",
        "gain",
        "of LoRA's",
        *(f"forgot, {text}" for text in GENERAL),
        "left bit-equal, worst first",
    ]
    heads += ["opens / shuts after", "prompts live, on / off", f"gain kept at {STRICT:.0%}"]
    rows = []
    for way in WAYS:
        if mine := [r for r in records if r["run"]["way"] == way]:
            share = [r["gains"][name][0] / lora[r["run"]["seed"]] for r in mine if r["run"]["seed"] in lora]
            forgot = (over([-r["gains"][text][0] for r in mine], 4) for text in GENERAL)
            gain = over([r["gains"][name][0] for r in mine])
            rows.append(
                (way, len(mine), gain, over(share, 2), *forgot, *_of_gate([r for r in mine if "equal" in r], name))
            )
    return table(heads, rows)


def _of_gate(mine: Records, name: str) -> list[str]:
    """The cells that only gated ways have."""
    if not mine:
        return ["-"] * 4
    equal = {text: [r["equal"][text] for r in mine] for text in GENERAL}
    order = sorted(equal, key=lambda text: sum(equal[text]))
    left = [r["strict"]["gain"][0] / r["gains"][name][0] for r in mine]
    delays, prompts = "-", "-"
    if "delays" in mine[0]:
        delays = "; ".join(
            f"{lasted}: "
            + " / ".join(f"{median(r['delays'][str(lasted)][end] for r in mine):.0f}" for end in ("opens", "shuts"))
            for lasted in LASTED
        )
        prompts = " / ".join(over([r["prompts"][side] for r in mine], 0) for side in ("on", "off"))
    return ["; ".join(f"{text} {over(equal[text], 3)}" for text in order), delays, prompts, over(left, 2)]


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every way of every subject, seed after seed; 100,000 tokens take some three minutes of one core."""
    for seed in given.seeds:
        for name in given.subjects:
            yield from (Cell(way, name, seed, given.tokens, given.base) for way in given.ways)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells that have no record yet, then the tables."""
    parser = parser_of(__doc__, tokens=100_000)
    parser.add_argument("--ways", nargs="+", default=["document", "lora"], choices=list(WAYS))
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    conduct("gates", parser.parse_args(words), [cells], make, report)


if __name__ == "__main__":
    main()
