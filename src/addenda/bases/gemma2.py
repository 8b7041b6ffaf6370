"""Gemma 2, with soft caps and eager attention; post-norms stand after what a site sees."""

from addenda.bases.architecture import Architecture, Units

TABLE = Architecture(units=Units(activation="hidden_activation"))
