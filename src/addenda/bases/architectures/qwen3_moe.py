"""Qwen3-MoE: attention is hosted; its experts are not one FFN, so FFN kinds are refused."""

from addenda.bases.architecture import Architecture
from addenda.core.site import Seam

TABLE = Architecture(
    units=None,
    refuses={
        Seam.FFN: "the FFN of Qwen3-MoE is a router over experts kept as 3-D parameters; a side FFN beside it is not "
        "tested yet. Registers, Cartridge and LoRA on the attention projections are hosted",
    },
)
