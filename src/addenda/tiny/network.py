"""The network of the embedded base and the parts that make it train fast on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

ATTENTION = "tiny_block_causal"
QUERY_BLOCK = 256


def make_config(variant: str, vocab_size: int = 8192, **changes: Any) -> PretrainedConfig:
    """The transformers config of a variant: `glu` is Llama, `mlp` is OPT with a ReLU FFN."""
    from transformers import LlamaConfig, OPTConfig

    from .corpus import BOS, EOS, PAD

    ids: dict[str, Any] = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    if variant == "glu":
        sizes: dict[str, Any] = {
            "hidden_size": 384,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "intermediate_size": 1024,
            "num_hidden_layers": 6,
        }
        return LlamaConfig(
            vocab_size=vocab_size,
            tie_word_embeddings=True,
            max_position_embeddings=2048,
            rms_norm_eps=1e-5,
            **ids,
            **{**sizes, **changes},
        )
    if variant == "mlp":
        sizes = {
            "hidden_size": 384,
            "num_attention_heads": 6,
            "ffn_dim": 1536,
            "num_hidden_layers": 6,
        }
        sizes |= changes
        return OPTConfig(
            vocab_size=vocab_size,
            word_embed_proj_dim=sizes["hidden_size"],
            max_position_embeddings=2048,
            dropout=0.0,
            activation_function="relu",
            tie_word_embeddings=True,
            **ids,
            **sizes,
        )
    raise ValueError(f"unknown variant {variant!r}: use glu or mlp")


def make_model(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A freshly initialised float32 model; what writes to the residual stream starts smaller."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    shrink = (2 * config.num_hidden_layers) ** -0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight", "fc2.weight")):
                parameter.mul_(shrink)
    return model


class BlockCausal(torch.autograd.Function):
    """Causal attention: the fused forward of torch, and a backward made of matrix products.

    The fused CPU backward takes a third of the whole step; recomputing the scores block by block
    from the saved log-sum-exp uses the matrix units instead.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Attention of [B, H, T, D] queries over [B, H / groups, T, D] keys and values."""
        groups = q.shape[1] // k.shape[1]
        wide = [t.repeat_interleave(groups, 1) if groups > 1 else t for t in (k, v)]
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, *wide, 0.0, True, scale=scale)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values."""
        q, k, v, out, lse = ctx.saved_tensors
        b, h, t, d = q.shape
        kv = k.shape[1]
        g = h // kv
        delta = (d_out.float() * out.float()).sum(-1).view(b, kv, g, t)
        lse = lse.view(b, kv, g, t)
        q, d_out = q.reshape(b, kv, g, t, d), d_out.reshape(b, kv, g, t, d)
        d_k = torch.zeros(b * kv, t, d, dtype=torch.float32)
        d_v = torch.zeros(b * kv, t, d, dtype=torch.float32)
        d_q = []
        for start in range(0, t, QUERY_BLOCK):
            end = min(start + QUERY_BLOCK, t)
            rows = (b * kv, g * (end - start), d)
            qi = q[:, :, :, start:end].reshape(rows)
            doi = d_out[:, :, :, start:end].reshape(rows)
            ki = k[:, :, :end].reshape(b * kv, end, d)
            vi = v[:, :, :end].reshape(b * kv, end, d)
            shape = (b, kv, g, end - start, end)
            score = torch.bmm(qi, ki.transpose(1, 2)).view(shape).float() * ctx.scale
            future = torch.arange(end)[None] > torch.arange(start, end)[:, None]
            p = torch.exp(score - lse[:, :, :, start:end, None]).masked_fill(future, 0.0)
            d_p = torch.bmm(doi, vi.transpose(1, 2)).view(shape).float()
            d_s = p * (d_p - delta[:, :, :, start:end, None]) * ctx.scale
            flat = (b * kv, g * (end - start), end)
            p, d_s = p.to(q.dtype).view(flat), d_s.to(q.dtype).view(flat)
            d_q.append(torch.bmm(d_s, ki).view(b, kv, g, end - start, d))
            d_k[:, :end] += torch.bmm(d_s.transpose(1, 2), qi)
            d_v[:, :end] += torch.bmm(p.transpose(1, 2), doi)
        grads = [torch.cat(d_q, 3).reshape(b, h, t, d)]
        grads += [x.to(q.dtype).view(b, kv, t, d) for x in (d_k, d_v)]
        return (*grads, None)


def _attend(
    module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    return BlockCausal.apply(q, k, v, scale).transpose(1, 2).contiguous(), None


def use_block_attention(model: PreTrainedModel) -> None:
    """Switches a model to BlockCausal: full rows only, no padding, no cache."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)
    model.set_attn_implementation(ATTENTION)


def head_loss(hidden: Tensor, targets: Tensor, weight: Tensor, chunk: int = 1024) -> tuple[Tensor, ...]:
    """Summed cross-entropy with its gradients for `hidden` and for `weight`, in chunks.

    The logits of a whole batch would be far larger than all other activations together, and are
    needed only here: loss and gradients are taken chunk by chunk in one go.
    """
    loss = torch.zeros((), dtype=torch.float32)
    d_weight = torch.zeros(weight.shape, dtype=torch.float32)
    d_hidden = []
    classes = torch.arange(weight.shape[0])
    for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        logits = (h @ weight.t()).float()
        lse = torch.logsumexp(logits, -1)
        loss = loss + (lse - logits.gather(1, t[:, None])[:, 0]).sum()
        probability = torch.exp(logits - lse[:, None])
        error = (probability - (classes[None] == t[:, None]).float()).to(weight.dtype)
        d_hidden.append(error @ weight)
        d_weight = d_weight + error.t() @ h
    return loss, torch.cat(d_hidden), d_weight
