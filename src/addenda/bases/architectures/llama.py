"""Llama: the table that most later architectures share."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
