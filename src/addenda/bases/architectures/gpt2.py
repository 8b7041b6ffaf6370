"""GPT-2: Conv1D layers and learned positions."""

from addenda.bases.architecture import Architecture, FFNPaths

TABLE = Architecture(
    layers="transformer.h",
    attention="attn",
    input_norm="ln_1",
    units=FFNPaths(up="mlp.c_fc", gate=None, down="mlp.c_proj", activation="activation_function", size="n_inner"),
    ffn_norm="ln_2",
    rotary=False,
)
