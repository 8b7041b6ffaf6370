"""Gemma 2, with soft caps and eager attention; post-norms stand after what a site sees."""

from addenda.bases.architecture import Architecture, FFNPaths

TABLE = Architecture(
    units=FFNPaths(activation="hidden_activation"),
    ffn_norm="pre_feedforward_layernorm",
    ffn_post="post_feedforward_layernorm",
)
