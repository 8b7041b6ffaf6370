"""Llama."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
