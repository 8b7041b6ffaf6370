"""GPT-NeoX: attention and FFN side by side on one residual."""

from addenda.bases.architecture import Architecture

TABLE = Architecture(layers="gpt_neox.layers", attention="attention")
