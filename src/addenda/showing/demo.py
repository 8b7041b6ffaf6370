"""The demo: the main job on real text, measured, proved and written up in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from addenda import storage, tiny
from addenda.bases.fingerprint import fingerprint
from addenda.core.card import Card
from addenda.core.errors import AddendaError
from addenda.core.state import evaluating
from addenda.kinds.lora import LoRA
from addenda.kinds.neutral_residues import NeutralResidues
from addenda.measuring.activity import Activity, activity
from addenda.plugging import load_base
from addenda.scoring import Difference, Score, score
from addenda.showing.generating import side_by_side
from addenda.showing.texts import held_out, mixed
from addenda.writing.report import TrainReport
from addenda.writing.train import train

if TYPE_CHECKING:
    from addenda.plugging import Base

MODULE, RIVAL = "pubmed", "pubmed-lora"
PROMPTS = (
    ("medical", "The patients were randomly assigned to receive"),
    ("general", "The old house stood at the end of the street, and"),
    ("mixed", "In the history of the town, the hospital was known for"),
)


@dataclass(frozen=True)
class Size:
    """How much the demo does. `characters` are those of each held-out document, medical and general."""

    tokens: int
    batch_rows: int
    length: int
    validations: int
    documents: int | None
    characters: tuple[int, int]
    max_tokens: int


FULL = Size(90_000, 4, 256, 4, None, (600, 1000), 40)
QUICK = Size(6_144, 3, 64, 2, 12, (240, 240), 8)


@dataclass(frozen=True)
class Row:
    """One line of the table: held-out losses, and their paired differences from the base: gained, and lost."""

    label: str
    role: str
    medical: Score
    general: Score
    learned: Difference | None = None
    forgotten: Difference | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain: dict[str, Any] = {"medical": self.medical.as_dict(), "general": self.general.as_dict()}
        for name in ("learned", "forgotten"):
            one: Difference | None = getattr(self, name)
            plain[name] = None if one is None else {"nats": one.nats, "low": one.low, "high": one.high}
        return {"label": self.label, **plain}


@dataclass(frozen=True)
class Check:
    """Something that must hold, and whether it did."""

    passed: bool
    text: str


@dataclass(frozen=True)
class Sample:
    """A prompt and its continuations by column."""

    sort: str
    prompt: str
    texts: dict[str, str]


@dataclass(frozen=True)
class DemoReport:
    """What the demo did, measured and proved; `page` is the report to look at."""

    base: str
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    samples: tuple[Sample, ...]
    cards: dict[str, Card]
    runs: dict[str, TrainReport] = field(repr=False)
    seen: Activity = field(repr=False)
    bands: tuple[tuple[str, int], ...] = field(repr=False)
    facts: dict[str, str]
    seconds: float
    page: Path
    modules: dict[str, Path]

    @property
    def failed(self) -> list[str]:
        """What did not hold."""
        return [check.text for check in self.checks if not check.passed]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "base": self.base,
            "rows": [row.as_dict() for row in self.rows],
            "checks": [{"passed": check.passed, "check": check.text} for check in self.checks],
            "samples": [vars(sample) for sample in self.samples],
            "facts": self.facts,
            "seconds": self.seconds,
            "page": str(self.page),
            "modules": {name: str(folder) for name, folder in self.modules.items()},
        }


def demo(
    out: str | Path = "runs/demo",
    *,
    tokens: int | None = None,
    seed: int = 0,
    quick: bool = False,
    picture: str | Path | None = None,
    base: Base | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> DemoReport:
    """Train a neutral-residues module and a LoRA of equal size on medical text, compare them, and switch them off.

    Everything comes with the package: the base `tiny`, the texts, their held-out parts. Both modules are saved in
    `out`, with `report.html`. The base is given back as it was, and that is checked bit by bit.

    Args:
        out: folder for the modules and the page.
        tokens: that each module is trained on, replay included.
        seed: of modules, data order and drawn text.
        quick: seconds instead of minutes; shows that everything runs and nothing else.
        picture: also write the plot of learning against forgetting there, `.png` or `.svg`.
        base: another base than `tiny`, with a tokenizer.
        tell: told, line by line, what is being done.

    Raises:
        AddendaError: `out` cannot be used, the tokens do not make a step, or `base` has modules of these names.
    """
    began = time.perf_counter()
    size = QUICK if quick else FULL
    folder, drawing = Path(out), None if picture is None else Path(picture)
    if drawing is not None and drawing.suffix not in (".png", ".svg"):
        raise AddendaError(f"a picture is a .png or .svg file; got {drawing}")
    folder.mkdir(parents=True, exist_ok=True)
    own = base is None
    base = load_base("tiny", dtype=torch.float32) if base is None else base
    work = _Work(base, size, tokens or size.tokens, seed, tell)
    try:
        report = work.run(folder, quick, began)
    finally:
        work.leave()
        if own:
            base.detach()
    from addenda.showing.page import write_page

    write_page(report, drawing)
    return report


class _Work:
    """The demo's steps on one base."""

    def __init__(self, base: Base, size: Size, tokens: int, seed: int, tell: Callable[[str], None]) -> None:
        self.base, self.size, self.tokens, self.seed, self.tell = base, size, tokens, seed, tell
        medical, general = size.characters
        self.held = {
            "medical": held_out("pubmed_valid", medical, size.documents, seed),
            "general": held_out("general_valid", general, size.documents, seed),
        }
        self.before = set(base.modules)

    def run(self, folder: Path, quick: bool, began: float) -> DemoReport:
        """Everything but the page."""
        base = self.base
        print_before = fingerprint(base.model)
        with base.off():
            bare = self._logits()
            rows = [self._row("base", "ink", None)]
        kinds, runs = self._train()
        rows.append(self._row(f"LoRA, rank {kinds[RIVAL].rank}", "second", rows[0], RIVAL))
        rows.append(self._row("module on", "first", rows[0], MODULE))
        self.tell("switching the module off again")
        rows.append(self._row("module off", "ink", rows[0]))
        checks = list(self._off_is_off(bare, rows))
        self.tell("continuing prompts")
        samples = self._samples()
        text, bounds = mixed(seed=self.seed)
        seen = activity(base, MODULE, text)
        saved = {name: base.modules[name].save(folder / name) for name in (MODULE, RIVAL)}
        cards = {name: storage.described(base.modules[name]) for name in saved}
        checks += self._round_trip(saved[MODULE], bare)
        self.leave()
        checks.append(Check(torch.equal(bare, self._logits()), "unplugged, the logits are the base's, bit for bit"))
        same = fingerprint(base.model) == print_before
        checks.append(Check(same, f"the base's fingerprint is what it was: {print_before[:16]}…"))
        checks.append(_learned(rows[2], quick))
        return DemoReport(
            base.name,
            tuple(rows),
            tuple(checks),
            samples,
            cards,
            runs,
            seen,
            _bands(seen, text, bounds),
            self._facts(quick, runs),
            time.perf_counter() - began,
            folder / "report.html",
            saved,
        )

    def _train(self) -> tuple[dict[str, Any], dict[str, TrainReport]]:
        base, runs = self.base, {}
        module = base.new(MODULE, NeutralResidues(extra=0.2), seed=self.seed)
        kinds: dict[str, Any] = {MODULE: module.kind}
        kinds[RIVAL] = LoRA(rank=LoRA.rank_for(module.size(), base.anatomy))
        base.new(RIVAL, kinds[RIVAL], seed=self.seed)
        steps = max(1, self.tokens // (self.size.batch_rows * self.size.length))
        for name, kind in kinds.items():
            count = base.modules[name].size()
            self.tell(f"training {name}: {type(kind).__name__}, {count:,} parameters, {self.tokens:,} tokens")
            runs[name] = train(
                base,
                name,
                corpus=tiny.sample("pubmed_train"),
                replay=tiny.sample("general_train"),
                replay_share=0.1,
                tokens=self.tokens,
                seed=self.seed,
                batch_rows=self.size.batch_rows,
                length=self.size.length,
                validation={"medical": self.held["medical"], "forgetting-general": self.held["general"]},
                validation_tokens=None,
                validate_every=-(-steps // self.size.validations),
            )
        return kinds, runs

    def _row(self, label: str, role: str, bare: Row | None, name: str | None = None) -> Row:
        weights = {} if name is None else {name: 1.0}
        with self.base.using(weights):
            medical, general = (score(self.base, text, length=self.size.length) for text in self.held.values())
        if bare is None:
            return Row(label, role, medical, general)
        return Row(label, role, medical, general, bare.medical.minus(medical), general.minus(bare.general))

    def _off_is_off(self, bare: Tensor, rows: list[Row]) -> Iterator[Check]:
        with self.base.using({MODULE: 1.0}):
            on = self._logits()
        yield Check(not torch.equal(bare, on), "switched on, the module changes the logits")
        with self.base.off():
            off = self._logits()
        count = f"{bare.shape[0] * bare.shape[1]} tokens x {bare.shape[2]:,} logits"
        yield Check(
            torch.equal(bare, off), f"switched off, the logits are the base's, bit for bit (torch.equal, {count})"
        )
        first, last = rows[0], rows[-1]
        same = all(
            np.array_equal(a.sums, b.sums) for a, b in ((first.medical, last.medical), (first.general, last.general))
        )
        yield Check(same, "switched off, every held-out document's loss is the base's, to the last bit")

    def _round_trip(self, saved: Path, bare: Tensor) -> Iterator[Check]:
        with self.base.using({MODULE: 1.0}):
            before = self._logits()
        self.base.unplug(MODULE)
        self.base.plug(saved, name=MODULE)
        with self.base.using({MODULE: 1.0}):
            after = self._logits()
        yield Check(
            torch.equal(before, after), "saved and plugged again, the module gives the same logits, bit for bit"
        )

    def _samples(self) -> tuple[Sample, ...]:
        columns: dict[str, Any] = {"base": {}, "LoRA": {RIVAL: 1.0}, "module on": {MODULE: 1.0}}
        written = side_by_side(
            self.base,
            [prompt for _, prompt in PROMPTS],
            columns,
            raw=True,
            max_tokens=self.size.max_tokens,
            temperature=0.7,
            top_k=50,
            repetition_penalty=1.1,
            seed=self.seed,
        )
        return tuple(
            Sample(sort, prompt, {column: one.text for column, one in row.items()})
            for (sort, prompt), row in zip(PROMPTS, written, strict=True)
        )

    @torch.no_grad()
    def _logits(self) -> Tensor:
        """Logits of a padded batch of both sorts of text, under the current selection."""
        base = self.base
        texts = [record["text"] for held in self.held.values() for record in islice(held, 2)]
        rows = [base.tokenize(text)[:96] for text in texts]
        width = max(map(len, rows))
        ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        device = base.device
        with evaluating(base.model):
            return base.model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits

    def _facts(self, quick: bool, runs: dict[str, TrainReport]) -> dict[str, str]:
        base = self.base
        device = base.device
        on = f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
        one = next(iter(runs.values()))
        speeds = ", ".join(f"{name} {run.seconds:.0f} s" for name, run in runs.items())
        command = f"addenda demo --tokens {self.tokens} --seed {self.seed}" + (" --quick" if quick else "")
        size = f"{self.size.batch_rows} x {self.size.length}"
        return {
            "command": command + ("" if base.name == "tiny" else f" --base {base.name}"),
            "base": f"{base.name}: {base.anatomy.model_type}, {base.anatomy.parameters:,} parameters, "
            f"fingerprint {base.fingerprint[:16]}…",
            "trained on": f"{one.tokens:,} tokens each, {one.steps} steps of {size}; "
            "90% sample pubmed_train, 10% replay of general_train",
            "measured on": ", ".join(f"{held.count()} pieces of {name}" for name, held in self.held.items())
            + f" held-out documents, {self.size.length} tokens at a time",
            "seed": f"{self.seed}, one run each",
            "device": f"{on}, {str(base.host.dtype()).removeprefix('torch.')}, torch {torch.__version__}",
            "training time": speeds,
        }

    def leave(self) -> None:
        """Unplug what the demo plugged."""
        for name in [name for name in self.base.modules if name not in self.before]:
            self.base.unplug(name)


def _learned(row: Row, quick: bool) -> Check:
    change = row.learned
    assert change is not None
    seen = f"{change.nats:+.3f} nats per token [{change.low:+.3f}, {change.high:+.3f}]"
    return Check(change.nats > 0 if quick else change.low > 0, f"the module learned of held-out medical text: {seen}")


def _bands(seen: Activity, text: str, bounds: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """How many tokens each part of the mixed text has; `bounds` are (name, where it ends in the text)."""
    counts, at, part = [0] * len(bounds), 0, 0
    for word in seen.tokens:
        while part < len(bounds) - 1 and at >= bounds[part][1]:
            part += 1
        counts[part] += 1
        at += len(word)
    return tuple((name, count) for (name, _), count in zip(bounds, counts, strict=True))
