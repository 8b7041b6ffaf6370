"""Plain transformers, in a process that never imports addenda: logits and greedy tokens of checkpoints.

python plain.py REQUEST.pt ANSWER.pt      # REQUEST: [(folder, ids [B, T], new tokens)]
"""

from __future__ import annotations

import sys

import torch
from transformers import AutoModelForCausalLM


def main(request: str, answer: str) -> None:
    found = []
    for folder, ids, new in torch.load(request, weights_only=True):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        with torch.no_grad():
            logits = model(ids).logits
            tokens = model.generate(ids[:1], max_new_tokens=new, do_sample=False, eos_token_id=None) if new else None
        found.append((logits, tokens, str(model.dtype), sum(p.numel() for p in model.parameters())))
    assert "addenda" not in sys.modules
    torch.save(found, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
