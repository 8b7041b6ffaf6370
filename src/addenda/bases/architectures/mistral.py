"""Mistral, with sliding windows."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
