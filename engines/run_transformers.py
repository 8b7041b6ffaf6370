"""Greedy tokens by transformers alone: MODEL PROMPTS STEPS -> one JSON line."""

import json
import sys

import torch
import transformers

model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
prompts, steps = json.loads(sys.argv[2]), int(sys.argv[3])
tokens = []
for prompt in prompts:
    ids = torch.tensor([prompt])
    # the mask is given: generate would take what it pads with for padding, wherever it stands
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=steps,
        min_new_tokens=steps,
        eos_token_id=-1,
        pad_token_id=0,
    )
    tokens.append(out[0, len(prompt) :].tolist())
assert "addenda" not in sys.modules
print(json.dumps({"version": transformers.__version__, "tokens": tokens}))
