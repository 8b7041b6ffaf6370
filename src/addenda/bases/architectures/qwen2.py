"""Qwen2: as Llama, with biases on the projections."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
