"""Qwen2."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
