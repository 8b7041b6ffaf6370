"""What is measured: bases, copies that share their weights, the kinds at their benchmark sizes, and PEFT's LoRA."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import addenda
from addenda import tiny
from addenda.core.contracts import Kind
from addenda.core.module import KnowledgeModule
from addenda.plug.base import Base
from addenda.text.texts import texts

#: share of the base's parameters that modules of FFN and linear kinds add: the paper's for neutral residues
EXTRA = 0.2
#: slots of a memory beside each FFN
MEMORY = 64
#: slots of registers and cartridges
SLOTS = 128

#: 148M parameters, of which 123M are read for each token: the embedding of the input is not
LLAMA_150M: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2560,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}

#: the size at which the benchmark itself is tested
LLAMA_PICO = LLAMA_150M | {
    "vocab_size": 8192,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
}

MODELS = ("tiny", "150m", "pico")


def bare(name: str, dtype: torch.dtype) -> Any:
    """The bare model: the embedded base, or random weights of a stated size. No gradients."""
    if name == "tiny":
        from addenda.bases.load import load_model

        model = load_model("tiny", dtype)[0]
    else:
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(**{"150m": LLAMA_150M, "pico": LLAMA_PICO}[name])
        model = LlamaForCausalLM(config).to(dtype)
    return model.eval().requires_grad_(False)


def twin(model: nn.Module) -> Any:
    """A copy of a model with modules of its own and the same weights in memory."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def kinds(base: Base) -> dict[str, Kind]:
    """Every kind at its benchmark size; those beside the FFN and linear layers have about equal parameters."""
    budget = round(EXTRA * base.anatomy.parameters)
    return {
        "neutral": addenda.NeutralResidues(extra=EXTRA, gate="token"),
        "neutral-context": addenda.NeutralResidues(extra=EXTRA, gate="context"),
        "parallel": addenda.ParallelAdapter(extra=EXTRA),
        "lora": addenda.LoRA(rank=addenda.LoRA.rank_for(budget, base.anatomy)),
        "registers": addenda.Registers(count=SLOTS),
        "registers-avg": addenda.Registers(count=SLOTS, mode="avg"),
        "registers-neutral": addenda.Registers(count=SLOTS, gate="neutral"),
        "registers-context": addenda.Registers(count=SLOTS, gate="context"),
        "cartridge": addenda.Cartridge(count=SLOTS),
    }


def folding(base: Base) -> dict[str, Kind]:
    """Kinds that fold: a LoRA of the size above, and a memory as `memorize` makes it."""
    return {"lora": kinds(base)["lora"], "locas": addenda.LocasGLU(rank=MEMORY, init="random")}


def plugged(base: Base, name: str, kind: Kind, seed: int = 0) -> KnowledgeModule:
    """A module in which nothing is zero any more, as after training: zeros could be faster than numbers."""
    module = base.new(name, kind, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    module.requires_grad_(False)
    return module.to(base.host.dtype()) if base.host.dtype() != torch.float32 else module


def peft_lora(model: nn.Module, budget: int) -> Any:
    """PEFT's LoRA on every linear layer but the head, in place, at the rank whose size comes nearest to `budget`."""
    from peft import LoraConfig, get_peft_model

    anatomy = addenda.attach(model).anatomy
    rank = addenda.LoRA.rank_for(budget, anatomy)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    wrapped = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return wrapped.eval()


def text_ids(which: str, count: int) -> Tensor:
    """The first `count` token ids [count] of the shipped held-out samples, `on` (medical) or `off` (general).

    They come from the embedded base's tokenizer, for the random-weight models too.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.path())
    ids: list[int] = []
    for record in texts(tiny.sample({"on": "pubmed_valid", "off": "general_valid"}[which])):
        ids += tokenizer(record["text"], truncation=False, verbose=False)["input_ids"]
        if len(ids) >= count:
            return torch.tensor(ids[:count])
    raise ValueError(f"the samples hold {len(ids)} tokens; asked for {count}")
