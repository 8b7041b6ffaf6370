"""Add a language without forgetting: French for an English base, beside LoRA of the same size.

python examples/add_a_language.py --corpus texts_de.jsonl --held-out held_out_de.jsonl
"""

from __future__ import annotations

import argparse
import sys

import addenda

SHARE = 0.2  # of the base's parameters


def main() -> None:
    """Train both, then score both languages with neither, one, and the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    parser.add_argument("--corpus", default="french_train", help="text in the new language")
    parser.add_argument("--held-out", default="french_valid", help="more of it")
    parser.add_argument("--replay", default="general_train", help="text in the old one")
    parser.add_argument("--general", default="general_valid", help="more of that")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    given = parser.parse_args()
    tokens = 12_000 if given.quick else given.tokens

    base = addenda.load_base(given.base)
    rank = addenda.LoRA.rank_for(round(SHARE * base.anatomy.parameters), base.anatomy)
    ways = {"neutral": addenda.NeutralResidues(extra=SHARE), "lora": addenda.LoRA(rank=rank)}
    for name, kind in ways.items():
        base.new(name, kind)
        addenda.train(
            base, name, corpus=given.corpus, replay=given.replay, replay_share=0.1, tokens=tokens, lr=kind.default_lr
        )

    texts = {"new language": given.held_out, "old language": given.general}
    for name in ways:
        found = addenda.evaluate(base, texts, name, tokens=10_000)
        told = ", ".join(f"{t.name} {t.off.nats:.2f} -> {t.on.nats:.2f}" for t in found.texts if t.on is not None)
        print(f"{name} ({base.modules[name].size():,} parameters), nats per token: {told}")


if __name__ == "__main__":
    try:
        main()
    except addenda.AddendaError as error:
        sys.exit(f"error: {error}")
