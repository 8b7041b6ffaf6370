"""Study: Neutral Residues on a base of about 2B parameters, the paper's configuration.

    python -m recipes.neutral_residues_2b --dry-run                            # what would be done, on which data
    python -m recipes.neutral_residues_2b --base google/gemma-2-2b --out runs/neutral
    python -m recipes.neutral_residues_2b --base tiny --subjects french --steps 2 --rows 2 --length 128

Interrupted, it goes on where it was when called again; finished modules are kept.

Source: Signe Talla, Grave, Jegou 2025, "Neutral Residues: Revisiting Adapters for Model Extension", ICML,
arXiv:2410.02744. From there: gated adapters of 20% extra parameters beside each FFN, a ReLU gate per token and layer, the
local L1 loss at weight alpha = 0.01 on original-domain tokens alone, a share p = 0.1 of such tokens (Wikipedia), W_o zero
and the other matrices of variance 1/(dL). The paper has no public code.

Differs and ours: learning rate, number of steps, rows and row length, warm-up and weight decay are ours; we did not take
them from the paper. The base: the paper uses Gemma-2B, whose architecture has no table here; the default is Gemma-2-2B.
The data: French novels from ADDENDA_DATA where they are, or Wikipedia in French, in place of Common Crawl. Another
weight than alpha = 0.01 may suit another base: `--local` changes it. `--gate context` takes our gate.
"""

from __future__ import annotations

import addenda
from recipes import at_scale
from recipes.at_scale import PUBMED, PUBMED_VALID, SETTINGS, WIKIPEDIA_VALID, Source, Study, options_for

SUBJECTS = {
    "french": Source("french", ("french/novels_train.jsonl.gz",), "wikimedia/wikipedia:20231101.fr:train"),
    "pubmed": PUBMED,
}
GENERAL = Source(
    "wikipedia",
    ("wikipedia_en/train_0.jsonl.gz", "wikipedia_en/train_1.jsonl.gz", "wikipedia_en/train_2.jsonl.gz"),
    "wikimedia/wikipedia:20231101.en:train",
)
HELD_OUT = {
    "french": Source("french-valid", ("french/novels_valid.jsonl.gz",)),
    "pubmed": PUBMED_VALID,
    "forgetting-general": WIKIPEDIA_VALID,
}


def study(gate: str = "token", local: float = 0.01) -> Study:
    """The paper's configuration."""
    settings = SETTINGS | {"weight_decay": 0.01, "local": local, "warmup": 0.05, "floor": 0.1, "validate_every": 250}
    return Study(
        kind=addenda.NeutralResidues(extra=0.2, gate="context" if gate == "context" else "token", init="small"),
        subjects=SUBJECTS, general=GENERAL, held_out=HELD_OUT, settings=settings,
        general_share=0.1, steps=4000, rows=64, length=2048, lr=2e-4,
        notes=(
            "the paper's: 20% extra, p = 0.1 of Wikipedia, W_o zero, variance 1/(dL)",
            "the paper's: alpha = 0.01, ReLU gate per token and layer" if local == 0.01 and gate == "token"
            else f"ours: local weight {local}, gate {gate} (the paper's: 0.01, token)",
            "ours: lr 2e-4, 4000 steps of 64 rows of 2048 tokens, warm-up, weight decay, gradient checkpointing, the data sets",
        ),
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Plan or run the study."""
    parser = options_for("python -m recipes.neutral_residues_2b", __doc__, "google/gemma-2-2b", list(SUBJECTS))
    parser.add_argument("--gate", choices=["token", "context"], default="token")
    parser.add_argument("--local", type=float, default=0.01, help="weight of the local neutrality loss")
    options = parser.parse_args(argv)
    return at_scale.main(study(options.gate, options.local), options)


if __name__ == "__main__":
    raise SystemExit(main())
