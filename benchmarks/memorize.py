"""Time and memory of memorizing: a write against plain scoring of the same window, by kind and width; growth with the text.

    python -m benchmarks.memorize                                  # everything, on tiny
    python -m benchmarks.memorize --pairs 15 --docs docs/results   # writes memorize.json and memorize.md

Times are medians over interleaved pairs of the ratio of two times, with 95% intervals; `noise` is plain scoring against
itself. Peak memory is that of a whole `memorize` call in a process of its own, as the kernel counts it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from recipes.tables import joined, write_tables
from recipes.tables import table as lines_of

from addenda.comparing.peak import RESET, STATUS, resident
from benchmarks.timing import compare, whole

WINDOWS, CHUNK = (512, 1024, 2048), 256
#: tokens of a text, and how many times as many
TEXT, TIMES = 4096, (1, 4, 16)


def memories() -> dict[str, tuple[Any, bool]]:
    """Kinds by name, and whether they are kept quiet on replay."""
    import addenda

    widths = {f"locas r{rank}": (addenda.LocasGLU(rank, scale=16.0), False) for rank in (16, 64, 128)}
    upper = {"locas r64, upper half": (addenda.LocasGLU(64, scale=16.0, layers=(3, 4, 5)), False)}
    return widths | upper | {
        "locas r64, quiet": (addenda.LocasGLU(64, scale=16.0), True),
        "locas r32, quiet": (addenda.LocasGLU(32, scale=16.0), True),
        "templora r16": (addenda.LoRA(16), False),
    }  # fmt: skip


def times(pairs: int) -> list[dict[str, Any]]:
    """A write over plain scoring of the same window, for every kind and window."""
    import addenda
    from addenda.text.encoding import Encoder
    from addenda.text.texts import texts
    from addenda.writing.memory_settings import MemorySettings
    from addenda.writing.packing import Feed, Stream
    from addenda.writing.reading import Reading
    from addenda.writing.writer import Writer

    base = addenda.load_base("tiny", dtype=torch.float32)
    encoder = Encoder(base.tokenizer, base.model.get_input_embeddings().weight.shape[0])
    found: list[dict[str, Any]] = []
    for window in WINDOWS:
        reading = Reading(texts("pubmed_train"), encoder, chunk=CHUNK, window=window)
        chunk = next(chunk for chunk in reading.chunks() if len(chunk.ids) == window)
        for name, (kind, quiet) in memories().items():
            if base.new("m", kind).awaits_text:
                base.start_from_text("m", torch.from_numpy(chunk.ids).long())
            settings = MemorySettings(window=window, chunk=CHUNK)
            replay = (
                Feed(Stream(texts("general_train"), encoder, length=settings.replay_tokens, code=1)) if quiet else None
            )
            writer = Writer(base, ("m",), {"m": kind.default_lr}, settings, replay)
            base.modules["m"].float().train()
            rows = [("m", chunk)]
            plain, write = whole(partial(_plain, writer, rows)), whole(partial(_write, writer, rows))
            with base.frozen():
                if name == "locas r16":
                    found.append({"window": window, "memory": "noise"} | compare(plain, plain, pairs).plain())
                ratio = compare(plain, write, pairs)
            found.append({"window": window, "memory": name} | ratio.plain() | {"size": base.modules["m"].size()})
            base.unplug("m")
            print(json.dumps(found[-1]), flush=True)
    return found


def _plain(writer: Any, rows: Any, _: Any) -> None:
    writer.bare(rows)


def _write(writer: Any, rows: Any, _: Any) -> None:
    writer.take(rows, write=True)


def peaks() -> list[dict[str, Any]]:
    """Peak memory of memorizing texts of growing length, each in a process of its own; nothing where the kernel is mute."""
    if not STATUS.exists():
        return []
    found: list[dict[str, Any]] = []
    for times_ in TIMES:
        command = [sys.executable, "-m", "benchmarks.memorize", "--child", str(TEXT * times_)]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(json.dumps(found[-1]), flush=True)
    return found


def child(tokens: int) -> None:
    """Memorize a text of so many tokens from a file, and print the peak, in MiB."""
    import tempfile

    import addenda
    from addenda.text.texts import texts

    torch.set_num_threads(1)
    base = addenda.load_base("tiny", dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.txt"
        with file.open("w", encoding="utf-8") as out:
            left = tokens
            while left > 0:
                for record in texts("pubmed_train"):
                    ids = base.tokenizer(record["text"], verbose=False)["input_ids"][:left]
                    out.write(base.tokenizer.decode(ids, skip_special_tokens=True) + "\n")
                    left -= len(ids)
                    if left <= 0:
                        break
        RESET.write_text("5", encoding="ascii")
        report = addenda.memorize(base, "m", text=file, window=512, chunk=CHUNK, log=False, baseline=False)
    print(json.dumps({"tokens": report.tokens, "peak": round(resident("VmHWM"), 1)}))


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    head = f"A write of {CHUNK} tokens over plain scoring of the same window, on tiny ({found['device']})."
    timed = (
        (
            one["window"], one["memory"], f"{one['size']:,}" if "size" in one else "",
            f"{one['median']:.2f} [{one['low']:.2f}, {one['high']:.2f}]", one["pairs"],
        )
        for one in found["times"]
    )  # fmt: skip
    most = (
        (f"{o['tokens']:,}", f"{o['peak']:,.0f}", f"{o['peak'] / found['peaks'][0]['peak']:.3f}")
        for o in found["peaks"]
    )
    times_ = lines_of("window | memory | parameters | time ratio [95% interval] | pairs", timed)
    peaks_ = lines_of("tokens of the text | peak memory, MiB | over that of the shortest", most)
    return joined([[head], times_, peaks_])


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memorize", description=__doc__)
    parser.add_argument("--pairs", type=int, default=9, help="interleaved pairs behind each ratio")
    parser.add_argument("--docs", type=Path, help="folder for memorize.json and memorize.md")
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["times", "peaks"],
        choices=["times", "peaks"],
        help="only these; of the others what the folder has is kept",
    )
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child is not None:
        child(options.child)
        return 0
    torch.set_num_threads(1)
    measured: dict[str, Any] = {}
    if "times" in options.parts:
        measured["times"] = times(options.pairs)
    if "peaks" in options.parts:
        measured["peaks"] = peaks()
    kept = None if options.docs is None else options.docs / "memorize.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if kept is not None and kept.exists() else {}
    found: dict[str, Any] = {"times": [], "peaks": []} | before | measured | {"torch": torch.__version__}
    found["device"] = f"{platform.machine()} CPU, one thread, float32"
    print(table(found))
    if options.docs is not None:
        (options.docs / "memorize.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        write_tables(options.docs / "memorize.md", table(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
