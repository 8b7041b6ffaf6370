"""SmolLM3, some layers without rotary position."""

from addenda.bases.architecture import Architecture

TABLE = Architecture()
