"""Adapt a base to your corpus: train a module, measure it, calibrate its gate, keep it.

python examples/adapt_to_your_corpus.py --corpus papers.jsonl --held-out held_out.jsonl --out runs/papers
"""

from __future__ import annotations

import argparse
import sys

import addenda
from addenda.text.texts import texts


def main() -> None:
    """Train, measure, calibrate, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    parser.add_argument("--corpus", default="pubmed_train", help="what is to be learned")
    parser.add_argument("--held-out", default="pubmed_valid", help="text of the same kind that is not in it")
    parser.add_argument("--replay", default="general_train", help="what the base should stay silent on")
    parser.add_argument("--general", default="general_valid", help="held-out text of that kind, two documents or more")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--out", default="runs/example")
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    given = parser.parse_args()
    tokens = 12_000 if given.quick else given.tokens

    base = addenda.load_base(given.base)
    base.new("mine", addenda.NeutralResidues())
    report = addenda.train(base, "mine", corpus=given.corpus, replay=given.replay, replay_share=0.1, tokens=tokens)
    print(report)

    # raise the gate's threshold until nine of ten general tokens are left as they are: not on the replay, on which the gate has
    # learned to be shut, but on one half of the held-out general text, so that the other half is new to it in what is reported
    general = list(texts(given.general))
    chosen_on, reported_on = general[::2], texts(general[1::2], name="general, every other document")
    print(addenda.calibrate(base, "mine", chosen_on, share=0.9, tokens=4_000))

    # what it learned and what it forgot, paired on the same documents
    held_out = {"subject": given.held_out, "general": reported_on}
    found = addenda.evaluate(base, held_out, "mine", neutrality=reported_on, tokens=10_000)
    for text in found.texts:
        assert text.difference is not None
        print(
            f"{text.name}: {text.difference.nats:+.3f} nats [{text.difference.low:+.3f}, {text.difference.high:+.3f}]"
        )
    assert found.neutrality is not None
    print(f"general tokens left bit-equal: {found.neutrality[0].untouched.value:.1%}")

    addenda.record(base, found)  # into the card, and so into the README of the folder
    base.modules["mine"].save(given.out)
    print(
        f"kept in {given.out}; addenda generate 'some tens of words of your subject' --plug {given.out} --side-by-side"
    )


if __name__ == "__main__":
    try:
        main()
    except addenda.AddendaError as error:
        sys.exit(f"error: {error}")
