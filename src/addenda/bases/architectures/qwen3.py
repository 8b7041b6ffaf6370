"""Qwen3: as Llama, with key norms."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
