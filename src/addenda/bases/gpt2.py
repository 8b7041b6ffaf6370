"""GPT-2: Conv1D layers and learned positions."""

from addenda.bases.architecture import Architecture

TABLE = Architecture(layers="transformer.h", attention="attn", input_norm="ln_1", rotary=False)
