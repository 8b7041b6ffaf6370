"""A fingerprint tells bases apart by what they compute, and by nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig

import addenda
from addenda.bases.fingerprint import FIELDS, UNUSUAL, fingerprint
from pico import ARCHS, pico, random_ids

# GPT-2's own names for what is hashed under the common ones
SYNONYMS = "n_embd n_head n_layer".split()
# What no architecture's fingerprint holds. Each is altered below on every architecture that has it.
SEEN_IN_PARAMETERS = """attention_bias mlp_bias add_cross_attention _remove_final_layer_norm enable_bias
    layer_norm_elementwise_affine word_embed_proj_dim decoder_sparse_step mlp_only_layers moe_intermediate_size
    num_local_experts num_experts""".split()
# what layers read is layer_types, sliding_window and no_rope_layers; the config writes these into them
FOLDED = "max_window_layers use_sliding_window no_rope_layer_interval _sliding_window_pattern".split()
TRAINING = """attention_dropout attn_pdrop embd_pdrop resid_pdrop hidden_dropout dropout layerdrop initializer_range
    init_std router_aux_loss_coef""".split()
OTHER_HEADS = """summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    classifier_dropout is_decoder""".split()
# of the order of the same arithmetic, of what is put out beside the logits, or of when generation ends
ELSE = """bos_token_id eos_token_id pad_token_id use_cache output_router_logits pretraining_tp reorder_and_upcast_attn""".split()
# the longest context: seen in learned positions, hashed where rotary ones are stretched to it
LONGEST = "max_position_embeddings original_max_position_embeddings n_positions".split()
HARMLESS = {*SEEN_IN_PARAMETERS, *FOLDED, *TRAINING, *OTHER_HEADS, *ELSE, *LONGEST}


def fields(config: PreTrainedConfig) -> set[str]:
    """What a config's class adds to every config."""
    return set(config.to_dict()) - set(PreTrainedConfig().to_dict())


def altered(value: Any) -> Any:
    """Another value, None where none is known."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 0.25 + value / 2 if isinstance(value, float) else None


@pytest.mark.parametrize("arch", ARCHS)
def test_every_field_of_an_architecture_is_hashed_or_named(arch: str) -> None:
    assert fields(pico(arch).config) <= {*FIELDS, *UNUSUAL, *HARMLESS, *SYNONYMS}


@pytest.mark.parametrize("arch", ARCHS)
def test_what_is_not_hashed_changes_nothing(arch: str) -> None:
    base, ids = pico(arch), random_ids(2, 12)
    logits, names = base(ids).logits, {name: p.shape for name, p in base.named_parameters()}
    for name in sorted(fields(base.config) & HARMLESS):
        value = altered(getattr(base.config, name))
        if value is None:
            continue
        other = pico(arch, **{name: value})
        if names != {name: p.shape for name, p in other.named_parameters()}:
            assert name in SEEN_IN_PARAMETERS + LONGEST
        elif name not in FOLDED:
            assert torch.equal(logits, other(ids).logits), name
            assert fingerprint(other) == fingerprint(base), name
        elif not torch.equal(logits, other(ids).logits):
            assert fingerprint(other) != fingerprint(base), name


class Stand(nn.Module):
    """A model that is one parameter and a config."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**({"rope_parameters": None} | given))
        self.weight = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize("name", [*FIELDS, *UNUSUAL])
def test_every_hashed_field_matters(name: str) -> None:
    one, other = ({"rope_type": "a"}, {"rope_type": "b"}) if name == "rope_parameters" else (3, 4)
    assert len({fingerprint(Stand(**given)) for given in ({}, {name: one}, {name: other})}) == 3


def test_a_new_default_changes_nothing() -> None:
    assert fingerprint(Stand(**UNUSUAL)) == fingerprint(Stand(**dict.fromkeys(UNUSUAL))) == fingerprint(Stand())
    assert fingerprint(Stand(not_yet_thought_of=1)) == fingerprint(Stand())


def stretched(most: int) -> dict[str, Any]:
    """Rotary embeddings stretched to a context of `most`."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    return {"rope_parameters": rope, "original_max_position_embeddings": 64, "max_position_embeddings": most}


SIBLINGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "experts per token": ("qwen3_moe", {"num_experts_per_tok": 1}, {"num_experts_per_tok": 2}),
    "weights of experts": ("qwen3_moe", {"norm_topk_prob": False}, {"norm_topk_prob": True}),
    "Gemma's activation": ("gemma2", {"hidden_activation": "gelu_pytorch_tanh"}, {"hidden_activation": "relu"}),
    "both ways": ("gemma3", {"use_bidirectional_attention": False}, {"use_bidirectional_attention": True}),
    "scaled by layer": ("gpt2", {}, {"scale_attn_by_inverse_layer_idx": True}),
    "not scaled": ("gpt2", {}, {"scale_attn_weights": False}),
    "stretched": ("phi3", stretched(128), stretched(256)),
}


@pytest.mark.parametrize("pair", SIBLINGS)
def test_equal_parameters_and_another_function(pair: str) -> None:
    arch, one, other = SIBLINGS[pair]
    models, ids = [pico(arch, **given) for given in (one, other)], random_ids(2, 12)
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))
    assert not torch.equal(*(m(ids).logits for m in models))
    assert fingerprint(models[0]) != fingerprint(models[1])


@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt2"])
def test_float32_and_bfloat16_loads_have_one_fingerprint(arch: str, tmp_path: Any) -> None:
    from transformers import AutoModelForCausalLM

    pico(arch, dtype=torch.bfloat16).save_pretrained(tmp_path)
    loads = [AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    assert fingerprint(loads[0]) == fingerprint(loads[1]) == fingerprint(pico(arch, dtype=torch.bfloat16))


def test_one_weight_matters_and_its_last_bits_do_not() -> None:
    model = pico("llama")
    before, weight = fingerprint(model), model.get_output_embeddings().weight
    with torch.no_grad():
        weight.copy_(weight.bfloat16().float())
    assert fingerprint(model) == before
    with torch.no_grad():
        weight[0, 0] += 1.0
    assert fingerprint(model) != before


def test_the_embedded_base_keeps_its_fingerprint() -> None:
    """Modules and records of people hold it; only a new embedded base changes it."""
    expected = "ad079ae2f778fefafc7a8bed5389342cf46aad0811eee2585adb474d68f4b976"
    assert addenda.load_base("tiny").fingerprint == expected
