"""The README.md of a module's folder: the hub's model card, rendered from the module's card."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable

from addenda.core.card import ENOUGH, Card, DataRecord, Measure

#: how the names of MMLU's subjects begin
MMLU = "mmlu_"
#: bases that `load_base` knows by name
NAMED = frozenset(("tiny", "smollm2", "gemma3"))
#: gates that read the document so far
READS_ON = frozenset(("context", "document"))
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# licences that the hub knows by name; any other is `other` with its name beside
_LICENCES = frozenset(
    """apache-2.0 mit cc0-1.0 cc-by-4.0 cc-by-3.0 cc-by-2.0 cc-by-sa-4.0 cc-by-sa-3.0 cc-by-nc-4.0 cc-by-nc-sa-4.0
    cc-by-nd-4.0 cc-by-nc-nd-4.0 bsd bsd-2-clause bsd-3-clause gpl-2.0 gpl-3.0 lgpl-3.0 agpl-3.0 mpl-2.0 unlicense
    openrail bigscience-openrail-m odc-by odbl pddl artistic-2.0 gemma llama2 llama3 llama3.1 llama3.2 llama3.3
    unknown""".split()
)


def render(card: Card, source: str | None = None) -> str:
    """The model card; `source` is what a reader should plug: a hub id, else a placeholder for the folder."""
    parts = [
        _front_matter(card),
        f"# {card.name}",
        _plain(card.description) or f"A knowledge module for `{_code(card.base.name)}`.",
        f"`{_code(card.kind)}` · {card.parameters:,} parameters · base `{_code(card.base.name)}` "
        f"({_plain(card.base.model_type)}, {card.base.parameters:,} parameters) · made with Addenda",
        "## Use",
        _usage(card, source or f"path/to/{card.name}"),
        "## Measured",
        _measures([measure for measure in card.measures if not _of_mmlu(measure)]),
        *_mmlu([measure for measure in card.measures if _of_mmlu(measure)]),
        *_combined(card),
        "## Trained on",
        _training(card),
        "The base stays frozen: unplugging the module gives it back bit for bit. `card.json` holds the full record.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(card: Card) -> str:
    """YAML; every free text is a JSON string, which YAML reads as it is."""
    lines = ["library_name: addenda"]
    if _HUB_ID.fullmatch(card.base.name):
        lines += [f"base_model: {card.base.name}", "base_model_relation: adapter"]
    if card.licence:
        name = card.licence.strip().lower()
        lines += (
            [f"license: {name}"] if name in _LICENCES else ["license: other", f"license_name: {_yaml(card.licence)}"]
        )
    lines += [
        "pipeline_tag: text-generation",
        "tags:",
        "- addenda",
        "- knowledge-module",
        f"- {_yaml(card.kind.lower())}",
        *_index(card),
    ]
    return "\n".join(["---", *lines, "---"])


def _usage(card: Card, source: str) -> str:
    plugged = f"base.plug({json.dumps(source)}, name={json.dumps(card.name)})"
    # on a few words that are of no subject a gate may well stay shut
    words = [plugged, 'prompt = base.prompts(["The"])']
    if card.probe:
        comment = "  # some words that it acts on; put yours here"
        words = [
            f"module = {plugged}",
            f"prompt = base.prompts([base.tokenizer.decode(module.probe)], raw=True){comment}",
        ]
    opened = f"with base.using({json.dumps(card.name)}):  # outside the block it is the bare base"
    words = [*words[:-1], opened, f"    {words[-1]}"] if card.memory_sha256 else [*words, opened]
    lines = [
        "```python",
        "import addenda",
        "",
        f"base = addenda.load_base({json.dumps(_loadable(card.base.name))})",
        *words,
        "    print(base.tokenizer.batch_decode(base.model.generate(**prompt, max_new_tokens=40)))",
        "```",
    ]
    notes = []
    if _loadable(card.base.name) != card.base.name:
        notes.append(
            f"`{_code(_loadable(card.base.name))}` stands for where you keep the base, fingerprint "
            f"`{_code(card.base.fingerprint[:16])}`; any other is refused."
        )
    if card.gate_name in READS_ON:
        notes.append(
            "The gate reads the document so far and opens for its subject: after a word or two the module may still be "
            "silent, and the base answers alone."
        )
    return "\n".join(lines) + "".join(f"\n\n{note}" for note in notes)


def _loadable(base: str) -> str:
    """What `load_base` takes for a base that cards call so: its name, a hub id, or, of a folder or file, a path to put in."""
    return (
        base if base in NAMED or _HUB_ID.fullmatch(base) else f"path/to/{base.replace(chr(92), '/').rpartition('/')[2]}"
    )


def _index(card: Card) -> list[str]:
    """The hub's model-index: every measure on a text as a result, but for those of too few documents to tell anything."""
    measures = [m for m in card.measures if m.on and math.isfinite(m.value) and (m.n is None or m.n >= ENOUGH)]
    if not measures:
        return []
    lines = ["model-index:", f"- name: {_yaml(card.name)}", "  results:"]
    for on in dict.fromkeys(measure.on for measure in measures if measure.on):
        lines += ["  - task:", "      type: text-generation", "    dataset:", f"      name: {_yaml(on)}"]
        lines += [f"      type: {_yaml(on)}", "    metrics:"]
        for measure in (measure for measure in measures if measure.on == on):
            lines += [f"    - type: {_yaml(measure.name)}", f"      name: {_yaml(f'{measure.name}, {measure.unit}')}"]
            lines.append(f"      value: {_yaml(measure.value)}")
    return lines


def _of_mmlu(measure: Measure) -> bool:
    return bool(measure.on) and str(measure.on).startswith(MMLU)


def anatomy_first(task: str) -> tuple[bool, str]:
    """What tasks of MMLU are sorted by, as on the model card of the register modules."""
    return task != f"{MMLU}anatomy", task


def _mmlu(measures: list[Measure]) -> list[str]:
    """The table by subject, anatomy first, and the mean over subjects; nothing where none was asked."""
    if not measures:
        return []
    ordered = sorted(measures, key=lambda measure: anatomy_first(str(measure.on)))

    def row(name: str, base: float | None, value: float, interval: str, n: int) -> tuple[str, ...]:
        return (name, "" if base is None else f"{base:.1%}", f"{value:.1%}", interval, f"{n:,}")

    rows = [
        row(str(m.on).removeprefix(MMLU).replace("_", " "), m.reference, m.value, _percents(m), m.n or 0)
        for m in ordered
    ]
    if len(ordered) > 1:
        bare = [m.reference for m in ordered if m.reference is not None]
        rows.append(
            row(
                f"mean of {len(ordered)} subjects", sum(bare) / len(bare) if len(bare) == len(ordered) else None,
                sum(m.value for m in ordered) / len(ordered), "", sum(m.n or 0 for m in ordered),
            )
        )  # fmt: skip
    head = ("subject", "base", "with the module", "95% interval", "questions")
    return ["## MMLU", "Accuracy; four answers a question, so guessing gets 25%.", _table(head, rows)]


def _percents(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return ""
    return f"{measure.low:.1%} to {measure.high:.1%}"


def _measures(measures: list[Measure]) -> str:
    if not measures:
        return "Nothing has been measured yet."
    rows = [
        (
            m.name, _number(m.value), _interval(m), "" if m.reference is None else _number(m.reference), m.unit,
            "" if m.n is None else f"{m.n:,}", m.on or "",
        )
        for m in measures
    ]  # fmt: skip
    return _table(("measure", "value", "95% interval", "the base alone", "unit", "n", "on"), rows)


def _combined(card: Card) -> list[str]:
    """The modules it was made from, and how; nothing where none is told."""
    record = card.combined
    if record is None:
        return []
    method = ", ".join(f"{name} {value}" for name, value in record.method.items() if name != "name")
    told = f"By `{_code(str(record.method.get('name')))}`" + (f" ({_code(method)})" if method else "") + ":"
    rows = [(part.name, f"{part.weight:g}", part.sha256[:12]) for part in record.modules]
    return ["## Combined from", told, _table(("module", "weight", "sha256"), rows)]


def _training(card: Card) -> str:
    rows = [
        (d.name, d.role, _documents(d), d.licence or "", (d.sha256 or "")[:12])
        for run in card.training
        for d in run.data
    ]
    if not card.training:
        return "No training is recorded."
    runs = [
        f"- objective `{_code(run.objective)}`, {run.tokens:,} tokens in {run.steps:,} steps, seed {run.seed}"
        + ("" if run.lr is None else f", learning rate {run.lr:g}")
        + (f" ({_code(str(run.settings['ended']))})" if "ended" in run.settings else "")
        for run in card.training
    ]
    table = _table(("text", "role", "documents", "licence", "sha256"), rows) if rows else ""
    return "\n".join(runs) + ("\n\n" + table if table else "")


def _documents(source: DataRecord) -> str:
    """How many documents a text has, and how many of them were read where not all were."""
    whole = "" if source.documents is None else f"{source.documents:,}"
    return whole if source.read is None else f"{source.read:,} read" + (f" of {whole}" if whole else "")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(map(_plain, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _interval(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return "too few for one" if measure.n is not None and measure.n < ENOUGH else ""
    return f"{_number(measure.low)} to {_number(measure.high)}"


def _yaml(value: str | float) -> str:
    """As JSON, which YAML reads as it is."""
    return json.dumps(value)


def _plain(text: str) -> str:
    """Free text on one line, with what would break a table or open a tag escaped."""
    flat = " ".join(text.split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
