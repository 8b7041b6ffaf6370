"""`addenda lm-eval`: lm-evaluation-harness's own command, with the model `addenda` known to it."""

from __future__ import annotations

import sys

import typer

#: every word goes to lm-eval, its own `--help` too
PASSES_ON = True


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness: all words go to its own command, which knows the model `addenda` here.

    `--model_args` names a base and modules: `base=tiny,plug=runs/pubmed+runs/law,modules=pubmed+law@0.5`.

    Example: `addenda lm-eval run --model addenda --model_args base=tiny,plug=runs/pubmed --tasks lambada_openai`
    """
    from lm_eval.__main__ import cli_evaluate

    import addenda.measuring.conducting.harness  # noqa: F401 - makes the model known

    words = context.args or ["--help"]
    before, sys.argv = sys.argv, ["addenda lm-eval", *words]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
