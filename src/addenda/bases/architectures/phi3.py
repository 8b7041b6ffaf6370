"""Phi-3, with fused gate and up projections."""

from addenda.bases.architecture import Architecture, FFNPaths

TABLE = Architecture(units=FFNPaths(up="mlp.gate_up_proj", gate="mlp.gate_up_proj"))
