"""OLMo 2: norms after attention and FFN, none before."""

from addenda.bases.architecture import Architecture

TABLE = Architecture(input_norm=None, ffn_norm=None, ffn_post="post_feedforward_layernorm")
