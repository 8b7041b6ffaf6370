"""The text of the embedded base's card, from its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HEAD = """---
language: en
license: cc-by-sa-4.0
library_name: transformers
pipeline_tag: text-generation
---

# tiny: the embedded base of Addenda

A small language model of general English, so that the demo, the tests and the studio run anywhere,
offline, in seconds. **It is too small to reason**: it writes plausible English, knows little, and its
answers must not be relied upon. It is here to be frozen, and to have knowledge modules plugged into it.
"""

DATA = """
## Data, licences, credits

| text | licence | credit |
| --- | --- | --- |
| English Wikipedia articles of 2015 (`wikipedia_en`, three parts of four) | CC BY-SA 3.0 | Wikipedia contributors (1) |
| OpenStax textbooks | CC BY 4.0 | OpenStax, Rice University. Access for free at openstax.org |
| English novels up to 1925 | public domain in the United States | `computationalstylistics/100_english_novels` |

(1) An article is `https://en.wikipedia.org/?curid=<id>`, its id in `documents.jsonl.gz`.

`documents.jsonl.gz` lists every document: file, id, the first 16 hexadecimal digits of the sha256 of its
text, and how many of its paragraphs were dropped. The weights are offered under CC BY-SA 4.0, the terms
of the most demanding of these sources.

## What it was never trained on

Biomedical articles (`pubmed`), French, law, `long_books`, `dialogue`, `squad`, `wikitext2`, the question
sets (`mmlu`, `pubmedqa`, `multiple_choice`, `known_facts`, `locomo`), every `valid` file, and the
fourth part of `wikipedia_en` (`train_3`). Of the training documents, every paragraph that shares a run of
13 words (case and punctuation aside) with any of those files was dropped. Encyclopedia and textbooks do
speak of medicine and law in their own words: those subjects are not unknown to it, those texts are.
Text that differs in a word every dozen words is not caught by this rule.
"""


def _losses(card: dict) -> str:
    lines = [
        "| held-out text | nats per token | bits per byte | tokens |",
        "| --- | --- | --- | --- |",
    ]
    for name, loss in card["losses"].items():
        lines.append(f"| {name} | {loss['nats_per_token']:.3f} | {loss['bits_per_byte']:.3f} | {loss['tokens']:,} |")
    return "\n".join(lines)


def _dropped(card: dict) -> str:
    lines = ["| file | documents | paragraphs | dropped |", "| --- | --- | --- | --- |"]
    for name, row in card["corpus"]["sources"].items():
        lines.append(f"| {name} | {row['documents']:,} | {row['paragraphs']:,} | {row['dropped']:,} |")
    return "\n".join(lines)


def readme(card: dict[str, Any], config: PretrainedConfig) -> str:
    """The card in Markdown."""
    s = card["settings"]
    state = (
        ""
        if card["finished"]
        else (f"\n**An intermediate checkpoint**: {card['tokens_seen']:,} of {card['tokens_planned']:,} tokens.\n")
    )
    heads = f"{config.num_attention_heads} heads"
    if getattr(config, "num_key_value_heads", None):
        heads += f", {config.num_key_value_heads} key/value heads"
    architecture = type(config).__name__.removesuffix("Config")
    return f"""{HEAD}{state}
{architecture} architecture, {card["parameters"]:,} parameters: {config.num_hidden_layers} layers, hidden size
{config.hidden_size}, {heads}, tied embeddings, vocabulary {config.vocab_size:,} (byte-level BPE),
context {config.max_position_embeddings:,}. Weights in bfloat16.

## Training

- {card["tokens_seen"]:,} tokens seen, {card["unique_tokens_seen"]:,} of them different;
  the corpus has {card["corpus_tokens"]:,}. {s["batch"]:,} tokens a step;
  sequences of {s["short"]}, for the last {s["long_share"]:.0%} of the run {s["long"]:,}.
- Packed rows: `<|bos|>` text `<|eos|>` one after the other, attention crosses documents.
- Muon for the matrices ({s["lr_matrix"]:g}), AdamW for embeddings and norms ({s["lr_other"]:g}); warm-up, stable,
  linear decay over the last {s["decay_share"]:.0%}. bfloat16 over float32 masters.
- {card["train_seconds"] / 60:.0f} minutes on two CPU cores with bfloat16 matrix units, shared with other work.
- Training loss at the end: {card["train_loss"]} nats per token.

Made by

```
python -m addenda.tiny.recipe --data DATA --work WORK --tokens {s["tokens"]} --out OUT
```

and the same command with more tokens makes a better one.

## Held-out losses

By the recipe's own evaluation: each text is cut into pieces of 511 tokens, each opened by `<|bos|>`.

{_losses(card)}

The two samples are those that come with the package. Machine-readable: `card.json`.
{DATA}
{_dropped(card)}

## Tokens

`<|bos|>` opens every text (the tokenizer adds it), `<|eos|>` ends a document, `<|pad|>` pads. `<|user|>`
and `<|assistant|>` serve the chat template only: the base has never seen them in training.
"""
