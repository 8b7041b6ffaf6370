"""Greedy tokens by llama.cpp, weights and cache in float32: MODEL.gguf PROMPTS STEPS -> one JSON line."""

import json
import sys

import llama_cpp

prompts, steps = json.loads(sys.argv[2]), int(sys.argv[3])
model = llama_cpp.Llama(
    sys.argv[1],
    n_ctx=1024,
    type_k=llama_cpp.GGML_TYPE_F32,
    type_v=llama_cpp.GGML_TYPE_F32,
    logits_all=True,
    verbose=False,
)
tokens = []
for prompt in prompts:
    model.reset()
    model.eval(prompt)
    found: list[int] = []
    for _ in range(steps):
        found.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval([found[-1]])
    tokens.append(found)
print(json.dumps({"version": llama_cpp.__version__, "tokens": tokens}))
