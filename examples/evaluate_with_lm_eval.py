"""Evaluate with lm-eval: several modules against one loaded base, question by question.

    ADDENDA_DATA=../shared/data python examples/evaluate_with_lm_eval.py --plug runs/pubmed runs/law --tasks mmlu_anatomy piqa

The question sets are those of the folder that `ADDENDA_DATA` names. For lm-evaluation-harness's own tasks:

    addenda lm-eval run --model addenda --model_args base=tiny,plug=runs/pubmed,modules=pubmed --tasks lambada_openai
"""

from __future__ import annotations

import argparse
import sys

import addenda


def main() -> None:
    """Plug, ask, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="tiny", help="a name, a folder, or a hub id")
    parser.add_argument("--plug", nargs="*", default=[], help="folders of modules; none makes a small one on the spot")
    parser.add_argument("--tasks", nargs="+", default=["mmlu_anatomy", "piqa"])
    parser.add_argument("--limit", type=int, help="questions of each task; default all")
    parser.add_argument("--quick", action="store_true", help="a few questions only")
    given = parser.parse_args()

    base = addenda.load_base(given.base)
    names = [base.plug(folder).name for folder in given.plug]
    if not names:
        base.new("medicine", addenda.NeutralResidues())
        tokens = 8_192 if given.quick else 200_000
        addenda.train(base, "medicine", corpus="pubmed_train", replay="general_train", replay_share=0.1, tokens=tokens)
        names = ["medicine"]

    limit = 4 if given.quick else given.limit
    for task in addenda.evaluate_tasks(base, given.tasks, {name: name for name in names}, limit=limit):
        print(f"{task.task}, {task.questions} questions, by guessing {task.chance:.0%}: the base {task.base.value:.1%}")
        for name, change in task.difference.items():
            print(f"  {name}: {task.on[name].value:.1%}, {change.value:+.1%} [{change.low:+.1%}, {change.high:+.1%}]")


if __name__ == "__main__":
    try:
        main()
    except addenda.AddendaError as error:
        sys.exit(f"error: {error}")
