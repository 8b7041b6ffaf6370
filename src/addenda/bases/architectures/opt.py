"""OPT: no FFN module of its own, flattened rows, learned positions."""

from addenda.bases.architecture import Architecture, FFNPaths

TABLE = Architecture(
    layers="model.decoder.layers",
    input_norm="self_attn_layer_norm",
    ffn=("fc1", "fc2"),
    units=FFNPaths(up="fc1", gate=None, down="fc2", activation="activation_function", size="ffn_dim"),
    ffn_norm="final_layer_norm",
    inner="model.decoder",  # the language model calls it directly, past OPTModel
    rotary=False,
)
