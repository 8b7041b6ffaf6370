"""Phi-3, with fused gate and up projections."""

from addenda.bases.architecture import Architecture, Units

TABLE = Architecture(units=Units(up="mlp.gate_up_proj", gate="mlp.gate_up_proj"))
