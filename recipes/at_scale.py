"""What the studies on real checkpoints share: their data, a plan that can be read before anything is loaded, the run."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import addenda
from addenda import tiny
from addenda.bases.devices import own_device
from addenda.bases.host import Host
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, DataError
from addenda.core.registry import options_of
from addenda.core.site import Anatomy
from addenda.core.standing import adapters_of, gate_for
from addenda.text.texts import texts
from addenda.writing.settings import settings_from
from addenda.writing.validation import is_forgetting
from recipes.common import data_folder


@dataclass(frozen=True)
class Source:
    """A text by where it may be found: files under `ADDENDA_DATA`, first to last and read anew each time, else on the hub."""

    name: str
    files: tuple[str, ...]
    hub: str | None = None

    @property
    def paths(self) -> list[Path]:
        """Where its files would be."""
        return [data_folder() / file for file in self.files]

    @property
    def here(self) -> bool:
        """Whether all its files are."""
        return all(path.exists() for path in self.paths)

    def find(self, given: str | None = None) -> Any:
        """What `addenda.train` reads: `given` if it was given, this if its files are there, else the hub's name.

        Raises:
            DataError: it is nowhere to be found.
        """
        if given is not None:
            return given
        if not self.here and self.hub is None:
            raise DataError(f"no '{self.name}': set ADDENDA_DATA to a folder that holds {', '.join(self.files)}")
        return self if self.here else self.hub

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self.paths:
            yield from texts(path)

    def __str__(self) -> str:
        size = sum(path.stat().st_size for path in self.paths)
        return f"{', '.join(map(str, self.paths))} ({size / 2**20:.1f} MiB as they lie)"


PUBMED = Source("pubmed", ("pubmed/abstracts_train.jsonl.gz", "pubmed/fulltext_train.jsonl.gz"), "common-pile/pubmed")
PUBMED_VALID = Source("pubmed-valid", ("pubmed/abstracts_valid.jsonl.gz",))
WIKIPEDIA_VALID = Source("wikipedia-valid", ("wikipedia_en/valid.jsonl.gz",))
#: what both studies take
SETTINGS: dict[str, Any] = {"clip": 1.0, "precision": "bf16", "gradient_checkpointing": True, "checkpoint_every": 100}


@dataclass(frozen=True)
class Study:
    """One configuration of a published method, for any base."""

    kind: Kind
    subjects: dict[str, Source]
    general: Source
    general_share: float
    steps: int
    rows: int
    length: int
    lr: float
    settings: dict[str, Any]
    #: rows of one forward pass, on all devices together; the rest of `rows` is accumulated
    rows_at_once: int = 2
    #: where each number comes from, and which are ours
    notes: tuple[str, ...] = ()
    held_out: dict[str, Source] = field(default_factory=dict)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step, both streams."""
        return self.accumulate * self.rows_at_once * self.length

    @property
    def accumulate(self) -> int:
        """Forward passes of a step."""
        return max(1, math.ceil(self.rows / self.rows_at_once))

    @property
    def tokens(self) -> int:
        """Tokens of a run."""
        return self.steps * self.tokens_per_step

    def train_settings(self) -> dict[str, Any]:
        """What `addenda.train` takes beside data, tokens and learning rate; checked."""
        sizes = {"length": self.length, "batch_rows": self.rows_at_once, "accumulate": self.accumulate}
        settings_from(sizes | self.settings)
        return sizes | self.settings


def options_for(prog: str, description: str | None, base: str, subjects: list[str]) -> argparse.ArgumentParser:
    """The options that all these studies have."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default=base, help=f"`tiny`, a folder or a hub id; default {base}")
    parser.add_argument("--subjects", nargs="+", choices=subjects, default=subjects)
    parser.add_argument("--corpus", help="text to learn in place of the subject's own: a file, folder or hub data set")
    parser.add_argument("--general", help="general text in place of the study's own")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the modules, one for each subject")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved plan and stop; loads no weights")
    parser.add_argument("--steps", type=int, help="fewer or more steps than the study's")
    parser.add_argument("--length", type=int, help="tokens of a row")
    parser.add_argument("--rows", type=int, help="rows of a step")
    parser.add_argument("--rows-at-once", type=int, help="rows of a forward pass, on all devices together")
    parser.add_argument("--validation-tokens", type=int, default=50_000, help="tokens scored of each held-out text")
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--dtype", default="bfloat16", help="of the base; the module trains in float32")
    parser.add_argument("--device", help="default: cuda where there is one")
    return parser


def changed(study: Study, options: argparse.Namespace) -> Study:
    """The study with what the command line changed, said in its notes."""
    names = ("steps", "length", "rows", "rows_at_once")
    asked = {name: value for name in names if (value := getattr(options, name)) is not None}
    told = tuple(f"changed on the command line: {name} {value}" for name, value in asked.items())
    return replace(study, **asked, notes=study.notes + told)


def outline(base: str) -> tuple[Anatomy, int, Any]:
    """Anatomy, context and config of a base by name, from its config alone: no weights are read.

    Raises:
        AddendaError: no config can be read under that name, or the architecture is not supported.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(tiny.path() if base == "tiny" else base)
    except (OSError, ValueError) as error:
        raise AddendaError(f"cannot read the config of '{base}': {str(error).splitlines()[0]}") from None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return Host(model).anatomy, getattr(config, "max_position_embeddings", 2**20), config


def plan(study: Study, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that a run would do, as plain data."""
    anatomy, context, config = outline(options.base)
    study = replace(study, length=min(study.length, context))
    with torch.device("meta"):
        adapters, gate = adapters_of(study.kind, anatomy, gate_for(study.kind))
    parts = [*adapters.values(), *([] if gate is None else [gate])]
    size = sum(p.numel() for part in parts for p in part.parameters())
    return {
        "base": options.base,
        "architecture": anatomy.model_type,
        "base_parameters": anatomy.parameters,
        "kind": type(study.kind).__name__,
        "options": options_of(study.kind),
        "module_parameters": size,
        "extra": round(size / anatomy.parameters, 5),
        "steps": study.steps,
        "rows": study.accumulate * study.rows_at_once,
        "length": study.length,
        "tokens_per_step": study.tokens_per_step,
        "tokens": study.tokens,
        "lr": study.lr,
        "general_share": study.general_share,
        "settings": study.train_settings(),
        "memory": memory(study, anatomy, config, size, options.dtype),
        "data": {name: _where(source, options.corpus) for name, source in study.subjects.items()}
        | {"general": _where(study.general, options.general)},
        "notes": study.notes,
    }


def _where(source: Source, given: str | None) -> str:
    try:
        place = source.find(given)
    except DataError as error:
        return f"missing: {error}"
    if place is source:
        return str(source)
    return f"{place} (given)" if given is not None else f"{place} (on the hub, not looked at)"


def memory(study: Study, anatomy: Anatomy, config: Any, size: int, dtype: str) -> dict[str, float]:
    """An estimate in GiB of what training holds at once, part by part; real peaks are some tenths higher.

    `module`: parameters, gradients and AdamW's two moments in float32. `activations`: the input of each layer, and one
    layer's inside, with gradient checkpointing; else the inside of every layer (2 bytes a number; attention's scores
    are not held). `logits`: one chunk of them, forward and backward.
    """
    gib, number = 2**30, 2 if dtype != "float32" else 4
    tokens, width = study.rows_at_once * study.length, anatomy.width
    ffn = getattr(config.get_text_config(), "intermediate_size", None) or 4 * width
    inside = tokens * (10 * width + 3 * ffn + 3 * size / (3 * width * anatomy.layers)) * 2
    kept = tokens * width * 2 * anatomy.layers + inside
    held = kept if study.settings.get("gradient_checkpointing") else inside * anatomy.layers
    bytes_ = {"base": anatomy.parameters * number, "module": size * 16, "activations": held, "logits": 2 * 2**23 * 4}
    parts = {name: count / gib for name, count in bytes_.items()}
    return {name: round(value, 3) for name, value in {**parts, "total": sum(parts.values())}.items()}


def show(resolved: dict[str, Any]) -> None:
    """Print a plan."""
    for key, value in resolved.items():
        if isinstance(value, dict):
            print(f"{key}:", *(f"  {name}: {told(part)}" for name, part in value.items()), sep="\n")
        elif isinstance(value, tuple):
            print(f"{key}:", *(f"  - {part}" for part in value), sep="\n")
        else:
            print(f"{key}: {told(value)}")


def told(value: Any) -> str:
    """A value as it is printed, a large number with its thousands apart."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def main(study: Study, options: argparse.Namespace) -> int:
    """Run a study from the command line: 0, or 2 where the user has something to mend."""
    try:
        run(changed(study, options), options)
    except AddendaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(study: Study, options: argparse.Namespace) -> list[addenda.TrainReport]:
    """Train one module for each subject; a finished one is kept, an interrupted one goes on."""
    resolved = plan(study, options)
    show(resolved)
    if options.dry_run:
        return []
    device = own_device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    base = addenda.load_base(options.base, dtype=getattr(torch, options.dtype))
    base.model.to(device)
    study = replace(study, length=resolved["length"])
    reports = []
    for name in options.subjects:
        out = options.out / name
        if (out / "card.json").exists():
            print(f"{out}: finished before, kept")
            continue
        base.new(name, study.kind, seed=options.seed)
        held_out = {
            key: text for key, text in study.held_out.items() if text.here and (key == name or is_forgetting(key))
        }
        settings = study.train_settings()
        if not held_out:  # then there is nothing to validate on every so many steps
            settings.pop("validate_every", None)
        report = addenda.train(
            base, name, corpus=study.subjects[name].find(options.corpus), replay=study.general.find(options.general),
            replay_share=study.general_share, tokens=study.tokens, lr=study.lr, seed=options.seed, out=out,
            resume=out.with_name(f"{out.name}.run").exists(), validation=held_out or None,
            validation_tokens=options.validation_tokens, **settings,
        )  # fmt: skip
        base.unplug(name)
        out.with_name(f"{out.name}.json").write_text(
            json.dumps({"plan": resolved, "report": report.as_dict()}, indent=1, default=str) + "\n", encoding="utf-8"
        )
        print(report)
        reports.append(report)
    return reports
