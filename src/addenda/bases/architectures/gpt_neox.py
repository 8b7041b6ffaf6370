"""GPT-NeoX: attention and FFN side by side on one residual."""

from addenda.bases.architecture import Architecture, FFNPaths

TABLE = Architecture(
    layers="gpt_neox.layers",
    attention="attention",
    units=FFNPaths(up="mlp.dense_h_to_4h", gate=None, down="mlp.dense_4h_to_h"),
)
