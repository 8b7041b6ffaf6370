"""OPT: no FFN module of its own, flattened rows, learned positions."""

from addenda.bases.architecture import Architecture

TABLE = Architecture(
    layers="model.decoder.layers",
    input_norm="self_attn_layer_norm",
    ffn=("fc1", "fc2"),
    inner="model.decoder",  # the language model calls it directly, past OPTModel
    rotary=False,
)
