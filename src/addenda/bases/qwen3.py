"""Qwen3, with key norms."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
