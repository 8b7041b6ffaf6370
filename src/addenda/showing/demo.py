"""The demo: the main job on real text, measured, proved and written up in one call."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda import tiny
from addenda.bases.fingerprint import fingerprint
from addenda.core.errors import AddendaError
from addenda.core.files import replace_text
from addenda.core.registry import build_kind
from addenda.measuring.looking.activity import Activity, activity
from addenda.modulefile import storage
from addenda.plug.base import load_base
from addenda.plug.scoring import fast_precision
from addenda.showing.columns import Column, Measuring
from addenda.showing.demo_report import Check, DemoReport
from addenda.showing.foretelling import pace_of, stages
from addenda.showing.replies import Prompt, Reply, opened, replies
from addenda.showing.scenes import SCENES, Scene, scene_of
from addenda.showing.texts import mixed, openings, short_prompts
from addenda.telling.interrupts import Interrupts, Stopped
from addenda.telling.progress import Progress, about, tick
from addenda.writing.checkpoint import run_folder
from addenda.writing.report import TrainReport
from addenda.writing.train import train

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: columns of the replies
BASE, LORA, MODULE = "base", "LoRA", "module on"
#: there while a demo is not finished: what it was asked to do
UNFINISHED = "unfinished.json"
#: what tells that the modules in a folder were left by a demo, and may be made anew
FINISHED = "demo.json"
#: share of the tokens that is replay
REPLAY = 0.1


def demo(
    out: str | Path | None = None,
    *,
    scene: Scene | str | None = None,
    tokens: int | None = None,
    seed: int = 0,
    quick: bool = False,
    picture: str | Path | None = None,
    base: Base | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> DemoReport:
    """Teach a base a subject, by a neutral-residues module and by a LoRA of equal size, compare them, and switch them off.

    The texts, their held-out parts and the questions come with the package. Both modules are saved in `out`, each as soon as it
    is trained, with `report.html`. A demo that was interrupted goes on where it stood when it is called again with the same
    `out` and settings; one that is finished is done anew. The base is given back as it was, and that is checked bit by bit.

    Args:
        out: folder for the modules and the page; default: `runs/demo`, and `runs/demo-<base>` for other bases than `tiny`.
        scene: what is taught and asked, one of `SCENES` or a name of theirs; default: that of the base.
        tokens: that each module is trained on, replay included.
        seed: of modules, data order and drawn text.
        quick: a fraction of it all; shows that everything runs and nothing else.
        picture: also write the picture of what was learned and what was moved there, `.png` or `.svg`.
        base: with a tokenizer; default: the scene's own.
        tell: told, line by line, what is being done.

    Raises:
        AddendaError: `out` cannot be used, holds an unfinished demo of other settings or modules that no demo left; the tokens
            do not make a step, there is no such scene, or `base` has modules of these names. `Stopped` after a signal.
    """
    began = time.perf_counter()
    drawing = None if picture is None else Path(picture)
    if drawing is not None and drawing.suffix not in (".png", ".svg"):
        raise AddendaError(f"a picture is a .png or .svg file; got {drawing}")
    if isinstance(scene, str) and scene not in SCENES:
        raise AddendaError(f"there is no scene '{scene}'; there are: {', '.join(SCENES)}")
    chosen = SCENES[scene] if isinstance(scene, str) else scene
    own = base is None
    if base is None:
        base = load_base("tiny" if chosen is None else chosen.base, dtype=torch.float32)
    chosen = scene_of(base.name) if chosen is None else chosen
    folder = Path(out) if out is not None else default_folder(base.name)
    folder.mkdir(parents=True, exist_ok=True)
    work = _Work(base, chosen, folder, tokens=tokens, seed=seed, quick=quick, tell=tell)
    try:
        with Interrupts("stopping; the same command goes on where it stood"):
            report = work.run(began)
    except Stopped as stopped:
        kept = f"what was trained is kept in {folder}, and the same command goes on where it stood"
        raise Stopped(f"stopped by {stopped.signal}; {kept}", stopped.signal) from None
    finally:
        work.leave()
        if own:
            base.detach()
    from addenda.showing.page import write_page

    write_page(report, drawing)
    work.finish()
    return report


def default_folder(base: str) -> Path:
    """Where the demo of a base goes."""
    return Path("runs") / ("demo" if base == "tiny" else f"demo-{Path(base).name}")


class _Work:
    """The demo's steps on one base."""

    def __init__(
        self,
        base: Base,
        scene: Scene,
        folder: Path,
        *,
        tokens: int | None,
        seed: int,
        quick: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.base, self.scene, self.folder, self.seed, self.quick, self.tell = base, scene, folder, seed, quick, tell
        self.size = scene.quick if quick else scene.full
        self.tokens = self.size.tokens if tokens is None else tokens
        self.held = Measuring(base, scene, self.size, seed)
        self.before = set(base.modules)
        self.resume = self._begun()

    def run(self, began: float) -> DemoReport:
        """Everything but the page."""
        base, scene = self.base, self.scene
        print_before = fingerprint(base.model)
        self._foretell()
        with base.off():
            bare = self.held.logits()
        with Progress(f"measuring {base.name} as it is", by_ticks=True):
            columns = [self.held.bare()]
        runs = self._train()
        rank = base.modules[scene.rival].kind.rank  # type: ignore[attr-defined]
        for label, role, name in ((f"LoRA, rank {rank}", "second", scene.rival), (MODULE, "first", scene.module)):
            with Progress(f"measuring {base.name} with {name}", by_ticks=True):
                columns.append(self.held.on(label, role, name))
        with Progress(f"measuring {base.name} with all switched off", by_ticks=True):
            columns.append(self.held.off("module off"))
        checks = list(self._off_is_off(bare, columns))
        replied = self._replied()
        names = (scene.general, scene.subject)
        text, bounds = mixed(scene.held_out_general, scene.held_out, names, self.seed)
        seen = activity(base, scene.module, text)
        sorts = ((scene.subject, scene.subject.lower()), (scene.general, "general"))
        short = {sort: opened(base, scene.module, short_prompts(name)) for sort, name in sorts}
        saved = self._save({scene.module: columns[2], scene.rival: columns[1]})
        cards = {name: storage.described(base.modules[name]) for name in saved}
        checks += self._round_trip(saved[scene.module])
        self.leave()
        checks.append(Check(torch.equal(bare, self.held.logits()), "unplugged, the logits are the base's, bit for bit"))
        same = fingerprint(base.model) == print_before
        checks.append(Check(same, f"the base's fingerprint is what it was: {print_before[:16]}…"))
        checks.append(_learned(columns[2], scene, self.quick))
        return DemoReport(
            scene=scene,
            base=base.name,
            columns=tuple(columns),
            checks=tuple(checks),
            replies=replied,
            cards=cards,
            runs=runs,
            seen=seen,
            bands=_bands(seen, text, bounds),
            short=short,
            facts=self._facts(runs),
            seconds=time.perf_counter() - began,
            page=self.folder / "report.html",
            modules=saved,
        )

    def _foretell(self) -> None:
        """Tell what is about to be done, and how long it will take here."""
        parts = list(stages(self.held, pace_of(self.held), self.tokens, len(self._prompts()), self._precision()))
        self.tell(f"{self.base.name} is about to learn {self.scene.taught}, on {self._device()}, into {self.folder}:")
        for what, seconds in parts:
            self.tell(f"  {what}: about {about(seconds)}")
        whole = about(sum(seconds for _, seconds in parts))
        self.tell(f"  in all about {whole}; stop it whenever you like: the same command goes on where it stood")

    # -- training ----------------------------------------------------------------------------------------------

    def _train(self) -> dict[str, TrainReport]:
        base, scene, size, runs = self.base, self.scene, self.size, {}
        module = base.new(scene.module, build_kind("NeutralResidues", {"extra": scene.extra}), seed=self.seed)
        base.new(scene.rival, build_kind("LoRA", {}).of_size(module.size(), base.anatomy), seed=self.seed)
        for name in (scene.module, scene.rival):
            kept, count = base.modules[name], base.modules[name].size()
            self.tell(f"training {name}: {type(kept.kind).__name__}, {count:,} parameters, {self.tokens:,} tokens")
            run = train(
                base,
                name,
                corpus=tiny.sample(scene.corpus),
                replay=tiny.sample(scene.replay),
                replay_share=REPLAY,
                tokens=self.tokens,
                seed=self.seed,
                batch_rows=size.batch_rows,
                length=size.length,
                precision=self._precision(),
                out=self.folder / name,
                resume=self.resume,
            )
            if run.resumed_from is not None:
                self.tell(f"{name} went on from step {run.resumed_from} of {run.steps} of the interrupted demo")
            runs[name] = run
        return runs

    def _precision(self) -> str:
        """`bf16` where the scene trains so and the device computes it fast."""
        return fast_precision(self.base.device) if self.scene.half else "fp32"

    def _recipe(self) -> dict[str, Any]:
        """What must be the same for an interrupted demo to go on."""
        return {
            "base": self.base.fingerprint,
            "scene": self.scene.base,
            "tokens": self.tokens,
            "seed": self.seed,
            "quick": self.quick,
            "precision": self._precision(),
        }

    def _begun(self) -> bool:
        """Whether an interrupted demo stands in the folder, to be gone on with; else what an earlier one left is cleared away.

        Raises:
            AddendaError: it was asked for something else.
        """
        mark = self.folder / UNFINISHED
        if mark.is_file():
            before = json.loads(mark.read_text(encoding="utf-8"))
            if before != self._recipe():
                other = ", ".join(
                    f"{key} {before.get(key)}" for key, value in self._recipe().items() if before.get(key) != value
                )
                raise AddendaError(
                    f"{self.folder} holds an interrupted demo of other settings ({other}): the same command as then goes on "
                    "with it; another --out, or removing the folder, starts anew"
                )
            self.tell(f"going on with the interrupted demo in {self.folder}")
            return True
        if (self.folder / FINISHED).is_file():
            self._clear()
        for place in self._places():
            if place.exists() and not (self.folder / FINISHED).is_file():
                raise AddendaError(f"'{place}' is there, and no demo left it; it is left as it is. Give another --out")
        replace_text(mark, json.dumps(self._recipe(), indent=1) + "\n")
        return False

    def _places(self) -> Iterator[Path]:
        """The folders that a demo makes: modules and their runs."""
        for name in (self.scene.module, self.scene.rival):
            yield from (self.folder / name, run_folder(self.folder / name))

    def _clear(self) -> None:
        for name in (self.scene.module, self.scene.rival):
            shutil.rmtree(run_folder(self.folder / name), ignore_errors=True)

    def finish(self) -> None:
        """Remove what only an interrupted demo needs."""
        self._clear()
        (self.folder / UNFINISHED).replace(self.folder / FINISHED)

    def _save(self, columns: dict[str, Column]) -> dict[str, Path]:
        """Save the modules with what was measured of them."""
        for name, column in columns.items():
            self.base.modules[name].card.measures = list(column.measures())
        return {name: self.base.modules[name].save(self.folder / name) for name in columns}

    def _replied(self) -> tuple[Reply, ...]:
        """What each column writes after each prompt."""
        prompts, told = self._prompts(), list[Reply]()
        columns = {BASE: None, LORA: self.scene.rival, MODULE: self.scene.module}
        with Progress("writing on from prompts", len(prompts), "prompts") as shown:
            for reply in replies(self.base, prompts, columns, tokens=self.size.written, seed=self.seed):
                told.append(reply)
                shown.update(len(told))
                tick()
        return tuple(told)

    def _prompts(self) -> list[Prompt]:
        scene, count = self.scene, self.size.prompts
        on = [Prompt(scene.subject, text, True) for text in openings(scene.held_out, count)]
        off = [Prompt(scene.general, text, False) for text in openings(scene.held_out_general, count)]
        return on + off + [Prompt("chat", text, False, chat=True) for text in scene.asked]

    # -- proving -----------------------------------------------------------------------------------------------

    def _off_is_off(self, bare: Tensor, columns: list[Column]) -> Iterator[Check]:
        with self.base.using({self.scene.module: 1.0}):
            on = self.held.logits()
        yield Check(not torch.equal(bare, on), "switched on, the module changes the logits")
        with self.base.off():
            off = self.held.logits()
        count = f"{bare.shape[0] * bare.shape[1]} tokens x {bare.shape[2]:,} logits"
        yield Check(
            torch.equal(bare, off), f"switched off, the logits are the base's, bit for bit (torch.equal, {count})"
        )
        yield Check(
            columns[-1].equals(columns[0]),
            "switched off, every held-out document's loss is the base's, to the last bit",
        )

    def _round_trip(self, saved: Path) -> Iterator[Check]:
        name = self.scene.module
        with self.base.using({name: 1.0}):
            before = self.held.logits()
        self.base.unplug(name)
        with warnings.catch_warnings(action="ignore"):  # that the base is what it was is a check of its own
            self.base.plug(saved, name=name, check="warn")
        with self.base.using({name: 1.0}):
            after = self.held.logits()
        yield Check(
            torch.equal(before, after), "saved and plugged again, the module gives the same logits, bit for bit"
        )

    def _facts(self, runs: dict[str, TrainReport]) -> dict[str, str]:
        base, scene, size, held = self.base, self.scene, self.size, self.held
        run = next(iter(runs.values()))
        speeds = ", ".join(f"{name} {run.seconds:.0f} s" for name, run in runs.items())
        command = "addenda demo" + ("" if base.name == "tiny" else f" --base {base.name}")
        command += f" --tokens {self.tokens} --seed {self.seed}" + (" --quick" if self.quick else "")
        measured = f"{held.subject.count()} pieces of {scene.subject} and {held.general.count()} of {scene.general} text that no "
        measured += f"module was trained on, {size.length} tokens at a time; predictions compared on the first "
        measured += f"{held.shortest} tokens of each"
        if held.chats:
            measured += f"; {len(held.chats[1])} general chats; {len(held.asked)} zero-shot questions"
        return {
            "command": command,
            "base": f"{base.name}: {base.anatomy.model_type}, {base.anatomy.parameters:,} parameters, "
            f"fingerprint {base.fingerprint[:16]}…",
            "trained on": f"{run.tokens:,} tokens each, {run.steps} steps of {size.batch_rows} x {size.length}; "
            f"{1 - REPLAY:.0%} sample {scene.corpus}, {REPLAY:.0%} replay of {scene.replay}",
            "measured on": measured,
            "seed": f"{self.seed}, one run each",
            "device": f"{self._device()}, {str(base.host.dtype()).removeprefix('torch.')}, trained in {self._precision()}, "
            f"torch {torch.__version__}",
            "training time": speeds,
        }

    def _device(self) -> str:
        device = self.base.device
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        count = torch.get_num_threads()
        return f"{device.type.upper()}, {count} thread{'s' * (count > 1)}"

    def leave(self) -> None:
        """Unplug what the demo plugged."""
        for name in [name for name in self.base.modules if name not in self.before]:
            self.base.unplug(name)


def _learned(column: Column, scene: Scene, quick: bool) -> Check:
    change = column.learned
    assert change is not None
    seen = f"{change.nats:+.3f} nats per token [{change.low:+.3f}, {change.high:+.3f}]"
    return Check(
        change.nats > 0 if quick else change.low > 0, f"the module learned of held-out {scene.subject} text: {seen}"
    )


def _bands(seen: Activity, text: str, bounds: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """How many tokens each part of the mixed text has; `bounds` are (name, where it ends in the text)."""
    counts, at, part = [0] * len(bounds), 0, 0
    for word in seen.tokens:
        while part < len(bounds) - 1 and at >= bounds[part][1]:
            part += 1
        counts[part] += 1
        at += len(word)
    return tuple((name, count) for (name, _), count in zip(bounds, counts, strict=True))
