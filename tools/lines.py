"""Count the lines of src, recipes and benchmarks, room by room, with and without the systems that came since a commit.

    python tools/lines.py                  since 38a88e7, where version 0.1 became 0.2
    python tools/lines.py --files          and every file that counts as a new system

A file counts as new where it is one of a system that was not there in any form (`NEW`), and so do the classes and functions that
such a system needs in other files (`PARTS`); what was moved, split or grew counts as old. Lines that a new system added inside
functions that were there before are not told apart: the old ones are rather too many than too few.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("src", "recipes", "benchmarks")
NEW = {
    "forgetting": "removing/* forgetters/* cli/forget.py",
    "combining several into one": "combiners/* combining/combine.py combining/parts.py combining/common_gate.py cli/combine.py",
    "compressing": "compressing/* compressors/* cli/compress.py core/formed.py core/fewer_units.py core/low_rank.py "
    "core/ternary.py kinds/ternary_units.py kinds/low_rank_units.py",
    "writing facts": "editing/* writes/* cli/edit.py",
    "routing": "routing/* routers/* cli/route.py",
    "remembering text": "remembering/* modulefile/remembered.py",
    "further kinds": "kinds/ffn_skip.py kinds/delta_product.py kinds/mlp_memory.py kinds/soft_tokens.py kinds/ffa_lora.py "
    "core/text_slots.py bases/mixing.py bases/around.py",
    "retention": "penalties/penalty.py penalties/ewc.py penalties/osft.py penalties/ilora.py writing/guards.py "
    "writing/moments.py core/moments.py modulefile/side.py",
    "drift": "measuring/measures/drift.py",
    "methods of other packages": "core/brought.py",
    "studying and teaching": "exercises/* teaching/* cli/study.py cli/teach.py text/formats/* text/chunks.py "
    "text/documents.py text/sentences.py text/words.py text/blocks.py text/teaching.py "
    "writing/teacher.py writing/shards.py writing/studied.py writing/lessons.py writing/rounds.py "
    "objectives/on_policy.py objectives/over_top_k.py objectives/reverse_kl.py plug/prefixed.py recipes/handbook*.py "
    "recipes/invented_people.py recipes/replay_teacher.py",
    "answers about documents": "measuring/asking/answers.py measuring/asking/asked.py measuring/asking/leakage.py "
    "measuring/measures/answers.py measuring/measures/questions.py",
    "serving": "serving/* cli/serve.py cli/studio.py plug/continuing.py",
    "studies of methods": "recipes/methods_*.py",
}
#: classes and functions in files that are not all new
PARTS = {
    "bases/reading.py": "BaseReader.layer_outputs BaseReader.changed BaseReader.residuals",
    "cli/generate.py": "_routed",
    "cli/merge.py": "_check_gates",
    "combining/merge.py": "_without_gates ways_for",
    "core/adapter.py": "Own AroundAdapter HeadAdapter",
    "core/call.py": "Call.note_for mark_recalled recalled_in",
    "core/card.py": "CombinedModule CombinedRecord",
    "core/contracts.py": "Kind.joined Kind.of_units Kind.of_factors Kind.memory Kind.blank Kind.restored",
    "core/module.py": "KnowledgeModule.side_of KnowledgeModule.keep_beside",
    "core/registry.py": "Methods brought_by",
    "core/standing.py": "gate_told",
    "core/units.py": "FewerUnits",
    "kinds/locas_mlp.py": "LocasMLP.of_units",
    "kinds/lora.py": "LoRA.joined LoRA.of_factors",
    "kinds/neutral_residues.py": "NeutralResidues.joined",
    "modulefile/modelcard.py": "_combined",
    "plug/base.py": "Base.remember",
    "plug/frozen.py": "Frozen.asked Frozen.text_memories Frozen.with_recalled",
    "plug/machinery.py": "_check_recalled _at_head",
    "plug/selection.py": "Selection.of_prompt _check_around",
    "writing/step.py": "Stepper.row_gradient Stepper._by_stream Stepper._guarded Stepper._states",
}


def system_of(path: str) -> str | None:
    """The new system that a file belongs to; None where it is an old one."""
    inner = path.removeprefix("src/addenda/")
    return next((name for name, files in NEW.items() if any(fnmatch(inner, one) for one in files.split())), None)


def room_of(path: str) -> str:
    """The folder that a file is counted under."""
    return "/".join(Path(path).parts[: 3 if path.startswith("src") else 1])


def parts_of(path: str) -> int:
    """Lines of a file's new parts, as it lies here."""
    names = PARTS.get(path.removeprefix("src/addenda/"), "").split()
    total = 0
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body if names else ():
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for front, one in [("", node), *((f"{getattr(node, 'name', '')}.", part) for part in inner)]:
            if f"{front}{getattr(one, 'name', '')}" in names:
                total += (one.end_lineno or one.lineno) - one.lineno + 1
    return total


def git(*words: str) -> str:
    """What git says."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def then(commit: str) -> dict[str, int]:
    """Lines by file at a commit."""
    files = git("ls-tree", "-r", "--name-only", commit, *PLACES).splitlines()
    return {file: git("show", f"{commit}:{file}").count("\n") for file in files if file.endswith(".py")}


def now() -> dict[str, int]:
    """Lines by file as they lie here."""
    files = [file for place in PLACES for file in (ROOT / place).rglob("*.py")]
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8").count("\n") for file in files}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", default="38a88e7", help="the commit to compare with")
    parser.add_argument("--files", action="store_true", help="list the files of new systems too")
    given = parser.parse_args()
    before, here = then(given.since), now()
    new = {file: system for file in here if file not in before and (system := system_of(file)) is not None}
    rooms = {
        "then": Counter[str](), "now": Counter[str](), "new": Counter[str](), "left": Counter[str](),
    }  # fmt: skip
    for file, count in before.items():
        rooms["then"][room_of(file)] += count
    for file, count in here.items():
        rooms["now"][room_of(file)] += count
        part = count if file in new else parts_of(file)
        rooms["new"][room_of(file)] += part
        rooms["left"][room_of(file)] += count - part
    print(f"{'lines of':<32}{given.since:>10}{'now':>10}{'new':>10}{'without':>10}")
    for room in sorted(rooms["then"] | rooms["now"]):
        print(f"{room:<32}" + "".join(f"{counts[room]:>10,}" for counts in rooms.values()))
    print(f"{'all':<32}" + "".join(f"{counts.total():>10,}" for counts in rooms.values()))
    for name in NEW:
        print(f"  {name}: {sum(here[file] for file, system in new.items() if system == name):,}")
    print(f"  parts of other files: {sum(parts_of(file) for file in here if file not in new):,}")
    for file in sorted(new) if given.files else ():
        print(f"  {here[file]:>5} {file} ({new[file]})")


if __name__ == "__main__":
    main()
