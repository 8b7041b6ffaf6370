"""docs/format.md says what the code does: every field with its default, every limit, every refusal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from addenda.core import files
from addenda.core.card import BaseRecord, Card, DataRecord, Measure, TrainingRecord
from addenda.core.contracts import Kind
from addenda.core.registry import kinds
from addenda.kinds.cartridge import Cartridge
from addenda.kinds.locas_mlp import LocasMLP
from addenda.kinds.lora import LoRA
from addenda.kinds.neutral_residues import NeutralResidues
from addenda.kinds.registers import Registers
from addenda.modulefile import peft_format, tensorfile
from hostile.forge import anatomy, module_of

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
TABLES = {
    "The card": Card,
    "`base`": BaseRecord,
    "An entry of `training`": TrainingRecord,
    "An entry of `data`": DataRecord,
    "An entry of `measures`": Measure,
}


def rows(heading: str) -> dict[str, str]:
    """Field and default in the table under a heading."""
    section = PAGE.split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    return dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section, flags=re.MULTILINE))


@pytest.mark.parametrize("heading", TABLES)
def test_every_field_stands_in_its_table_with_its_default(heading: str) -> None:
    record: type[BaseModel] = TABLES[heading]
    told = rows(heading)
    assert list(told) == list(record.model_fields)
    for name, field in record.model_fields.items():
        if field.is_required():
            assert told[name] == "required", name
        elif name != "created":
            assert json.loads(told[name].strip("`")) == field.get_default(call_default_factory=True), name


def test_every_limit_and_dtype_is_told() -> None:
    for limit in (f"{tensorfile.MAX_HEADER:,}", f"{files.MAX_JSON:,}", f"{files.MAX_DEPTH} deep"):
        assert limit in PAGE
    assert f"at most {tensorfile.MAX_AXES} axes" in PAGE
    assert all(f"`{code}`" in PAGE for code in tensorfile.DTYPES)


def test_every_option_of_peft_that_is_refused_is_told() -> None:
    assert all(f"`{option}`" in PAGE for option in peft_format._REFUSED)


@pytest.mark.parametrize(
    "kind",
    [
        Registers(count=2, gate="neutral"),
        Registers(count=2, gate="context"),
        Cartridge(count=2, init="text"),
        NeutralResidues(width=2),
        LoRA(rank=1),
        *(cls() for cls in kinds().values()),
    ],
    ids=str,
)
def test_every_tensor_of_every_kind_is_told(kind: Kind) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{type(kind).__name__}` |"))
    for name, tensor in module_of(kind, anatomy(6, gated=not isinstance(kind, LocasMLP))).tensors().items():
        told = PAGE if name.startswith("gate.") else row
        assert f"`{name if name.startswith('gate.') else name.rsplit('.', 1)[-1]}`" in told
        assert isinstance(tensor, torch.Tensor)
