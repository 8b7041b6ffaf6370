"""Study: the hackathon's register modules, PubMed, Wikipedia and law, on a base of about 2B parameters.

    python -m recipes.registers_2b --dry-run                                   # what would be done, on which data
    python -m recipes.registers_2b --base HuggingFaceTB/SmolLM2-1.7B --out runs/registers
    torchrun --nproc-per-node 8 -m recipes.registers_2b --rows-at-once 16
    python -m recipes.registers_2b --base tiny --subjects pubmed --steps 2 --rows 2 --length 128

Interrupted, it goes on where it was when called again; finished modules are kept.

Source: "Modular LLMs: Learning with Registers" (Boissin, Hervier, Picard, Sprauel 2025), github.com/thib-s/lingua-modular:
its model card, `modular_pubmed_1B.yaml`, `smollm2_modular_law.yaml` and the Slurm script of the PubMed module. From there:
1024 registers per layer, mode avg, AdamW at 3e-3 with weight decay 0.033, clip 1.0, 400 steps of rows of 4096 tokens,
2 rows on each of 32 devices (64 rows, 262,144 tokens, a step: 105M in all), bfloat16, cosine to 1e-6 of the peak, 99%
subject and 1% FineWeb-Edu. (The configurations of Wikipedia and law have no general text, and that of law for their own
base says 4000 steps; here all three are trained alike.)

Differs: registers stand before the text at both ends, take the input norm (`--unnormalised` leaves it out, as there),
and keep no place in the text's positions. Their base is not public, so the default is SmolLM2-1.7B, on which they trained
their law module. Their warm-up of 5000 steps never ends within 400: the rate rises in a straight line to 2.4e-4, less
than a tenth of what the card says. Here it peaks at 3e-3 after a twentieth of the run; `--published-warmup` does as
they did. Weight decay leaves vectors alone (this kind has none). No number of theirs is there to be met: their table of
results is empty.
"""

from __future__ import annotations

import addenda
from recipes import at_scale
from recipes.at_scale import PUBMED, PUBMED_VALID, SETTINGS, WIKIPEDIA_VALID, Source, Study, options_for

SUBJECTS = {
    "pubmed": PUBMED,
    # train_3 is what `tiny` has not seen
    "wikipedia": Source("wikipedia", ("wikipedia_en/train_3.jsonl.gz",), "wikimedia/wikipedia:20231101.en:train"),
    "law": Source(
        "law", ("law/contracts_train.jsonl.gz", "law/statutes_train.jsonl.gz"), "common-pile/caselaw_access_project"
    ),
}
GENERAL = Source("general", ("openstax/train.jsonl.gz",), "HuggingFaceFW/fineweb-edu:sample-10BT:train")
HELD_OUT = {
    "pubmed": PUBMED_VALID,
    "wikipedia": WIKIPEDIA_VALID,
    "law": Source("law-valid", ("law/contracts_valid.jsonl.gz", "law/statutes_valid.jsonl.gz")),
    "forgetting-general": Source("openstax-valid", ("openstax/valid.jsonl.gz",)),
}
PEAK, STEPS, WARMUP = 3e-3, 400, 5000


def study(published_warmup: bool = False, unnormalised: bool = False) -> Study:
    """The hackathon's configuration, with the schedule that its card suggests or the one that its files give."""
    warmup = 1.0 if published_warmup else 0.05
    settings = SETTINGS | {"weight_decay": 0.033, "local": 0.0, "warmup": warmup, "floor": 1e-6, "validate_every": 50}
    return Study(
        kind=addenda.Registers(count=1024, mode="avg", init="zeros", gate="joint", normalise=not unnormalised),
        subjects=SUBJECTS, general=GENERAL, held_out=HELD_OUT, settings=settings,
        general_share=0.01, steps=STEPS, rows=64, length=4096,
        lr=PEAK * STEPS / WARMUP if published_warmup else PEAK,
        notes=(
            "theirs: 1024 registers, avg, lr 3e-3, weight decay 0.033, clip 1.0, 400 steps, 64 rows of 4096, 1% general, bf16",
            "theirs, as published: warm-up of 5000 steps, so a straight rise to 2.4e-4" if published_warmup
            else "ours: warm-up of a twentieth of the run (theirs, 5000 steps, would not end within it)",
            "ours: gradient checkpointing; the data sets named on the hub; validation texts",
        ),
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Plan or run the study."""
    parser = options_for("python -m recipes.registers_2b", __doc__, "HuggingFaceTB/SmolLM2-1.7B", list(SUBJECTS))
    parser.add_argument(
        "--published-warmup", action="store_true", help="the learning rate as the published files have it"
    )
    parser.add_argument("--unnormalised", action="store_true", help="registers enter attention without the input norm")
    options = parser.parse_args(argv)
    return at_scale.main(study(options.published_warmup, options.unnormalised), options)


if __name__ == "__main__":
    raise SystemExit(main())
