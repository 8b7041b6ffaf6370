"""Gemma 3 text models, with mixed windows; post-norms stand after what a site sees."""

from addenda.bases.architecture import Architecture, Units

TABLE = Architecture(units=Units(activation="hidden_activation"))
