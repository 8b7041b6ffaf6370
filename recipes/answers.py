"""Answers: how a small model learns a handbook, by what is plugged, what it studies and how long.

    python -m recipes.answers --dry-run     # the cells that have no record yet, with their minutes on two cores
    python -m recipes.answers               # makes them, then the tables of docs/results/answers.md
    python -m recipes.answers --report      # the tables of the records there are
    python -m recipes.answers --about people-25

An invented handbook of 1,400 words (`recipes.handbooks`), of which the model has never read. Exercises are mined from it, a
module is trained on them, and it is asked questions that go round the handbook's words, and plain ones. Each cell is one way, one
number of tokens, one seed, which is the handbook's too. Of invented people (`recipes.invented_people`), the second subject, the
right one of ten answers is chosen as well.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import addenda
from addenda.core.contracts import Kind
from addenda.measuring.asking.answers import answers_to, refuses
from addenda.measuring.asking.asked import Asked, options_of
from addenda.measuring.asking.chats import prompt_of
from addenda.measuring.asking.options import all_likelihoods, first_wins
from addenda.plug.scoring import fast_precision
from addenda.telling.intervals import SHARE, of_mean
from recipes.handbooks import PLAIN, PLAIN_VAIN, VAIN, Handbook, Question, handbook
from recipes.invented_people import FACTS, people
from recipes.records import LATER, Named, Records, grouped, recorded, stamp
from recipes.study import conduct, parser_of
from recipes.tables import joined, over, table, with_interval

#: kinds of exercises that a way leaves out
WAYS: dict[str, tuple[str, ...]] = {
    "bare": (),
    "in the window": (),
    "LoRA": (),
    "LoRA, none reworded": ("reworded",),
    "cartridge": (),
    "LoRA beside the text": (),
    "teach": (),
}
#: tokens of training of each way, and about how many it trains a second on two cores
TOKENS: dict[str, tuple[tuple[int, ...], int]] = {
    "bare": ((0,), 1),
    "in the window": ((0,), 1),
    "LoRA": ((80_000, 320_000), 500),
    "LoRA, none reworded": ((320_000,), 500),
    "cartridge": ((20_000, 80_000, 160_000), 300),
    "LoRA beside the text": ((80_000,), 300),
    "teach": ((0,), 150),  # it reads by pages; records of 80,000 tokens are of the code before
}
#: what is learned; so many of the people are asked for
HANDBOOK, PEOPLE, ASKED = "handbook", ("people-25", "people-100"), 25
ANSWER, GENERAL, SORTS = 48, 4_000, ("direct", "turned", "combined")


@dataclass(frozen=True)
class Cell(Named):
    """One way to learn the handbook of a seed, or its people, with so many tokens."""

    FRONT = ("way", "tokens", "seed")

    way: str
    tokens: int
    seed: int
    base: str = "smollm2"
    about: str = field(default=HANDBOOK, metadata=LATER)

    @property
    def id(self) -> str:
        """The name of its record, without blanks."""
        about = "" if self.about == HANDBOOK else f"{self.about}-"
        return about + super().id.replace(", ", "-").replace(" ", "-")

    @property
    def people(self) -> int:
        """How many people it is about."""
        return 0 if self.about == HANDBOOK else int(self.about.rpartition("-")[2])

    @property
    def minutes(self) -> float:
        """That it takes, with the questions; ten answers are read after the whole window."""
        choosing = self.people / 2 if self.way == "in the window" else self.people / 25
        reading = (
            15 if self.way == "teach" else 0
        )  # replay, the gate's fit, questions; the first on a base practises too
        return 3 + reading + choosing + self.tokens / TOKENS[self.way][1] / 60

    def document(self) -> tuple[Handbook, Sequence[Question]]:
        """What is learned, and what is asked: of many people each fact of so many, from all over the document."""
        if not self.people:
            book = handbook(self.seed)
            return book, book.questions
        book, step = people(self.people, self.seed), max(1, self.people // ASKED)
        told = [one for at, one in enumerate(book.questions[: self.people * FACTS]) if at // FACTS % step == 0]
        return book, [*told, *book.questions[self.people * FACTS :: step]]


def make(cell: Cell, folder: Path) -> str:
    """Study, train, ask, write the record."""
    base, (book, asked) = addenda.load_base(cell.base), cell.document()
    record, began = stamp(cell, base), time.perf_counter()
    if cell.way == "teach":
        modules = ["m"]
        record |= _taught(base, book, cell)
    else:
        modules = _learned(base, book, cell) if cell.tokens else []
    trained = time.perf_counter() - began
    kind = "handbook" if cell.about == HANDBOOK else "document"
    before = f"Answer from this {kind}.\n\n{book.text}" if cell.way == "in the window" else ""
    chats = [[*_system(before), {"role": "user", "content": one.question}] for one in asked]
    with base.using(modules) if modules else base.off():
        said = answers_to(base, chats, ANSWER)
        chosen = _chosen(base, asked, chats)
    right = Counter(one.sort for one, answer in zip(asked, said, strict=True) if one.right(answer))
    record |= {
        "right": dict(right),
        "refused": dict(Counter(one.sort for one, answer in zip(asked, said, strict=True) if refuses(answer))),
        "asked": dict(Counter(one.sort for one in asked)),
        "seconds": trained,
        "parameters": sum(t.numel() for name in modules for t in base.modules[name].tensors().values()),
        "said": [[one.question, answer] for one, answer in zip(asked, said, strict=True)],
    }
    if chosen:
        record["chosen"] = chosen
    if modules:
        found = addenda.evaluate(base, {"general": "general_valid"}, modules, tokens=GENERAL)
        assert found.texts[0].difference is not None
        record["forgotten"] = found.texts[0].difference.nats
    return recorded(cell, folder, record)


def _chosen(base: addenda.Base, asked: Sequence[Question], chats: Sequence[list[dict[str, str]]]) -> list[float]:
    """Of each question with options whether the right one is the likeliest, by likelihood per token."""
    having = [at for at, one in enumerate(asked) if one.options]
    if not having:
        return []
    given = options_of([Asked(tuple(chats[at]), asked[at].options[:1], others=asked[at].options[1:]) for at in having])
    likely = all_likelihoods(base, [(prompt_of(base, chats[having[n]]), options) for n, options in given.items()])
    return [first_wins([option.mean for option in each]) for each in likely]


def _system(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": text}] if text else []


def _learned(base: addenda.Base, book: Handbook, cell: Cell) -> list[str]:
    """Train what a way plugs; the names of what is to be on."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "study"
        addenda.study(base, {book.name: book.text}, out=out, seed=cell.seed, ask=False, gain=False, log=False)
        studied = addenda.load_study(out).records
    corpus = [{"messages": one["messages"]} for one in studied if one["kind"] not in WAYS[cell.way]]
    whole = addenda.Cartridge(count=len(base.tokenize(book.text)), init="text")
    reads = {"cartridge": whole, "LoRA beside the text": addenda.OpenBook(count=whole.count)}
    kind: Kind = reads.get(cell.way, addenda.LoRA(rank=16))
    base.new("m", kind, seed=cell.seed, text=book.text if kind.starts_from_text else None)
    addenda.train(
        base, "m", corpus=corpus, tokens=cell.tokens, seed=cell.seed, isolate=True, length=256, batch_rows=4, log=False,
        precision=fast_precision(base.device),
    )  # fmt: skip
    return ["m"]


def _taught(base: addenda.Base, book: Handbook, cell: Cell) -> dict[str, Any]:
    """Let `teach` do all of it, as one command without options does, and tell what else moved."""
    with tempfile.TemporaryDirectory() as place:
        found = addenda.teach(base, "m", {book.name: book.text}, out=Path(place) / "m", seed=cell.seed, log=False)
    told = found.as_dict()
    kept = ("changed", "after", "leaked", "alone", "forgot", "kind", "bytes", "right", "before")
    return {"taught": {name: told[name] for name in kept}}


def report(records: Records, folder: Path) -> str:
    """What was answered, by way and tokens, of handbooks and of people; and of each whole `teach` what else moved."""
    taught = [record for record in records if "taught" in record]
    return joined([_of_handbooks(records), _of_people(records), _what_moved(taught)])


def _about(record: dict[str, Any]) -> str:
    return record["run"].get("about", HANDBOOK)


def _of_handbooks(records: Records) -> list[str]:
    """What was answered of handbooks."""
    heads = ["way", "tokens", "seeds", "right [95%]", *SORTS, f"refused of {VAIN}", f"{PLAIN} [95%]"]
    heads += [f"refused of {PLAIN_VAIN}", "refused though told", "forgotten, nats", "MB", "minutes"]
    rows: list[Any] = []
    for (at, tokens), mine in _by_way([record for record in records if _about(record) == HANDBOOK]):
        each = [over([_share(one, (sort,)) for one in mine], 2) for sort in SORTS]
        rows.append((at, tokens, len(mine), _pooled(mine, *SORTS), *each, _refused(mine, VAIN), _pooled(mine, PLAIN),
                     _refused(mine, PLAIN_VAIN), _refused(mine, *SORTS, PLAIN), *_cost(mine)))  # fmt: skip
    return table(heads, rows)


def _of_people(records: Records) -> list[str]:
    """What was answered of invented people, in words and by choosing."""
    heads = ["people", "way", "tokens", "seeds", "written right [95%]", "chosen of ten [95%]", f"refused of {VAIN}"]
    heads += ["forgotten, nats", "MB", "minutes"]
    rows: list[Any] = []
    for about in PEOPLE:
        for (at, tokens), mine in _by_way([record for record in records if _about(record) == about]):
            chosen = _mean([value for record in mine for value in record["chosen"]])
            count = about.rpartition("-")[2]
            rows.append(
                (count, at, tokens, len(mine), _pooled(mine, "direct"), chosen, _refused(mine, VAIN), *_cost(mine))
            )
    return table(heads, rows)


def _by_way(records: Records) -> Iterator[tuple[tuple[str, str], Records]]:
    """Records of each way and number of tokens, in the order of ways."""
    order = list(WAYS)
    groups = grouped(records, lambda run: (order.index(run["way"]), run["tokens"]))
    for (at, tokens), mine in sorted(groups.items()):
        yield (order[at], f"{tokens:,}"), mine


def _cost(records: Records) -> tuple[str, str, str]:
    """Forgetting, size and time of training."""
    forgotten = [one["forgotten"] for one in records if "forgotten" in one]
    size = over([one["parameters"] * 4 / 1e6 for one in records], 0)
    return over(forgotten, 3) if forgotten else "", size, over([one["seconds"] / 60 for one in records], 0)


def _what_moved(records: Records) -> list[str]:
    """A table of what `teach` itself told at its end."""
    heads = [
        "handbook",
        "held-out exercises",
        "general chats changed",
        "after a question",
        "speak its words",
        "general text, nats",
    ]
    rows: list[Any] = []
    for record in records:
        told = record["taught"]
        shares = [*told["right"].values()][:1] + [told[name] for name in ("changed", "after", "leaked")]
        rows.append((
            _named(record), *(with_interval((one["value"], one["low"], one["high"]), 2) for one in shares),
            f"{told['forgot']['value']:+.4f}",
        ))  # fmt: skip
    return table(heads, rows)


def _named(record: dict[str, Any]) -> str:
    seed = record["run"]["seed"]
    return f"{seed}" if _about(record) == HANDBOOK else f"{_about(record)}, {seed}"


def _pooled(records: Records, *sorts: str) -> str:
    """The share of all questions of some sorts with an answer that was right; nothing where none was asked."""
    asked = sum(record["asked"].get(sort, 0) for record in records for sort in sorts)
    right = sum(record["right"].get(sort, 0) for record in records for sort in sorts)
    return _mean([1.0] * right + [0.0] * (asked - right))


def _mean(values: Sequence[float]) -> str:
    """A share with its interval over questions."""
    if not values:
        return ""
    found = of_mean(values, within=SHARE)
    return with_interval((found.value, found.low, found.high), 2)


def _share(record: dict[str, Any], sorts: tuple[str, ...]) -> float:
    return sum(record["right"].get(sort, 0) for sort in sorts) / sum(record["asked"][sort] for sort in sorts)


def _refused(records: Records, *sorts: str) -> str:
    """The share of questions of some sorts that were refused, over seeds; nothing where none was asked."""
    counts = [[sum(one[of].get(sort, 0) for sort in sorts) for of in ("refused", "asked")] for one in records]
    shares = [refused / asked for refused, asked in counts if asked]
    return over(shares, 2) if shares else ""


def cells(given: argparse.Namespace, records: Records) -> Iterator[Cell]:
    """Every cell, the quick ones first."""
    every = [
        Cell(way, tokens, seed, given.base, given.about)
        for seed in given.seeds
        for way in given.ways
        for tokens in TOKENS[way][0]
        if tokens <= given.most
    ]
    yield from sorted(every, key=lambda cell: (cell.seed, cell.minutes))


if __name__ == "__main__":
    parser = parser_of(__doc__, seeds=(0,))
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--about", choices=(HANDBOOK, *PEOPLE), default=HANDBOOK, help="what is learned")
    parser.add_argument("--most", type=int, default=10**9, help="tokens of a cell at most")
    conduct("answers", parser.parse_args(), [cells], make, report)
