"""Greedy tokens by CTranslate2, converted in float32: MODEL PROMPTS STEPS -> one JSON line."""

import json
import sys
import tempfile

import ctranslate2
from ctranslate2.converters import TransformersConverter
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
prompts, steps = json.loads(sys.argv[2]), int(sys.argv[3])
with tempfile.TemporaryDirectory() as folder:
    TransformersConverter(sys.argv[1]).convert(folder, force=True)
    generator = ctranslate2.Generator(folder, device="cpu", compute_type="float32")
    tokens = []
    for prompt in prompts:
        found = generator.generate_batch(
            [tokenizer.convert_ids_to_tokens(prompt)],
            max_length=steps,
            min_length=steps,
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=[],
        )
        tokens.append(found[0].sequences_ids[0])
print(json.dumps({"version": ctranslate2.__version__, "tokens": tokens}))
