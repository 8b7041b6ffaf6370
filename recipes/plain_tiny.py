"""A base with plain FFNs, made from `tiny`: its attention and words in a GPT-NeoX, its gated FFNs fitted by ReLU ones.

    python -m recipes.plain_tiny --out runs/plain_tiny              # about an hour of a core; resumable
    python -m recipes.plain_tiny --out runs/plain_tiny --tokens 0   # the fitted model as it is

For studies of what needs plain FFNs (`LocasMLP`); it is not shipped. Where `tiny` divides by the root mean square, GPT-NeoX
divides by the standard deviation, and a ReLU FFN can only come near a gated one: so each layer's FFN is first fitted to what
the gated one gives on general text, then the whole is trained on general text for a while.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import addenda
from addenda.core.activations import activation
from addenda.text.encoding import Encoder
from addenda.text.texts import texts
from addenda.writing.plain import PlainTraining
from recipes.common import keep_pages, load, losses, place, precision, study_texts

#: hidden units of an FFN; with two matrices in place of three, about as many numbers as `tiny` has there
UNITS = 1536
#: tokens of general text that FFNs are fitted on, and their steps
TOKENS, STEPS, BATCH = 60_000, 1500, 512
LENGTH, ROWS = 256, 8


def config_of(tiny: Any) -> Any:
    """A GPT-NeoX of the embedded base's sizes, with plain FFNs and every dimension of a head rotated."""
    from transformers import GPTNeoXConfig

    return GPTNeoXConfig(
        vocab_size=tiny.vocab_size, hidden_size=tiny.hidden_size, num_hidden_layers=tiny.num_hidden_layers,
        num_attention_heads=tiny.num_attention_heads, intermediate_size=UNITS, hidden_act="relu",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        max_position_embeddings=tiny.max_position_embeddings, layer_norm_eps=tiny.rms_norm_eps, use_parallel_residual=False,
        tie_word_embeddings=True, attention_dropout=0.0, hidden_dropout=0.0, bos_token_id=tiny.bos_token_id,
        eos_token_id=tiny.eos_token_id, pad_token_id=tiny.pad_token_id,
    )  # fmt: skip


@torch.no_grad()
def converted(tiny: Any) -> Any:
    """All of the embedded base's model but its FFNs, in a GPT-NeoX."""
    from transformers import GPTNeoXForCausalLM

    torch.manual_seed(0)
    model: Any = GPTNeoXForCausalLM(config_of(tiny.config)).float()
    width, heads = tiny.config.hidden_size, tiny.config.num_attention_heads
    model.gpt_neox.embed_in.weight.copy_(tiny.model.embed_tokens.weight)
    model.gpt_neox.final_layer_norm.weight.copy_(tiny.model.norm.weight)
    for theirs, ours in zip(tiny.model.layers, model.gpt_neox.layers, strict=True):
        ours.input_layernorm.weight.copy_(theirs.input_layernorm.weight)
        ours.post_attention_layernorm.weight.copy_(theirs.post_attention_layernorm.weight)
        attention = theirs.self_attn
        parts = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        by_head = [part.view(-1, tiny.config.head_dim, width) for part in parts]
        # one key and value for each head, where several share one; and a head's three side by side
        by_head = [part.repeat_interleave(heads // len(part), 0) for part in by_head]
        ours.attention.query_key_value.weight.copy_(torch.cat(by_head, 1).reshape(-1, width))
        ours.attention.dense.weight.copy_(attention.o_proj.weight)
        for bias in (ours.attention.query_key_value.bias, ours.attention.dense.bias):
            bias.zero_()
    return model


def observed(base: addenda.Base, source: Any) -> list[tuple[Tensor, Tensor]]:
    """For each layer what enters its FFN, and what that gives, on the first tokens of a text: [T, D] each."""
    by_layer: list[list[tuple[Tensor, Tensor]]] = [[] for _ in base.model.model.layers]
    hooks = [
        layer.mlp.register_forward_hook(lambda _, args, out, kept=kept: kept.append((args[0].flatten(0, 1), out.flatten(0, 1))))
        for layer, kept in zip(base.model.model.layers, by_layer, strict=True)
    ]  # fmt: skip
    encoder, read = Encoder(base.tokenizer, base.vocabulary), 0
    with torch.no_grad():
        for document in encoder.documents(texts(source)):
            for part in torch.from_numpy(document.ids).long().split(LENGTH):
                base.model.model(input_ids=part[None].to(base.device))
                read += len(part)
            if read >= TOKENS:
                break
    for hook in hooks:
        hook.remove()
    return [(torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])) for pairs in by_layer]


def fit(ffn: Any, x: Tensor, y: Tensor) -> float:
    """Fit a plain FFN to outputs `y` of inputs `x`, both [T, D]; returns the share of their variance that it leaves out."""
    held = len(x) // 20
    phi = activation("relu")
    assert phi is not None
    into, out = ffn.dense_h_to_4h, ffn.dense_4h_to_h
    nn.init.normal_(into.weight, std=1 / float(x.norm(dim=-1).mean()))
    for parameter in (into.bias, out.weight, out.bias):
        nn.init.zeros_(parameter)
    optimizer = torch.optim.AdamW(ffn.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows = torch.randint(held, len(x), (BATCH,), generator=draw).to(x.device)
        loss = F.mse_loss(ffn(x[rows]), y[rows]) / y.var()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        return float((ffn(x[:held]) - y[:held]).square().sum() / (y[:held] - y[:held].mean(0)).square().sum())


def made() -> tuple[addenda.Base, list[float]]:
    """The base with fitted FFNs, and what each fit left out."""
    tiny = load()
    model = converted(tiny.model).to(place())
    pairs = observed(tiny, study_texts().replay)
    left = [fit(layer.mlp, *pair) for layer, pair in zip(model.gpt_neox.layers, pairs, strict=True)]
    return addenda.attach(model, tiny.tokenizer), left


def general_texts(data: Path) -> list[str]:
    """General English: encyclopedia, textbooks, novels."""
    names = ("wikipedia_en/train_0.jsonl.gz", "openstax/train.jsonl.gz", "novels_en/train.jsonl.gz")
    documents: list[str] = []
    for name in (name for name in names if (data / name).exists()):
        documents += [record["text"][:60_000] for record in islice(texts(data / name), 2000)]
    return documents


def main() -> None:
    """Convert, fit, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/plain_tiny"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tokens", type=int, default=1_000_000, help="tokens trained on after the fit")
    parser.add_argument("--lr", type=float, default=1e-3)
    given = parser.parse_args()
    keep_pages()
    base, left = made()
    print("left out of each layer's FFN:", ", ".join(f"{share:.1%}" for share in left), flush=True)
    held = study_texts()
    if given.tokens:
        general = general_texts(given.data) or [record["text"] for record in texts(held.replay)]
        PlainTraining(
            base.model, base.tokenizer, general, held.replay, lr=given.lr, seed=0, rows=ROWS, length=LENGTH,
            precision=precision(), work=given.out.with_name(f"{given.out.name}.run"),
        ).run(given.tokens)  # fmt: skip
    for name, score in losses(base, held.held_out, tokens=20_000, length=LENGTH, precision=precision()).items():
        print(f"{name}: {score.nats:.3f} nats per token")
    base.model.save_pretrained(given.out)
    base.tokenizer.save_pretrained(given.out)


if __name__ == "__main__":
    main()
