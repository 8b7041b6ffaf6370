"""Phi-3, with fused gate and up projections."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
