"""The registry: methods are found by stage and name, in this package and in any other that names its module."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import addenda
from addenda.cli.application import build as app
from addenda.core import registry
from addenda.core.errors import AddendaError
from addenda.core.registry import asked_for
from addenda.optimizers.adamw import AdamW
from addenda.optimizers.optimizer import OptimizerMethod
from pico import pico, pico_tokenizer

#: one throw-away method of every stage, as somebody else would write them, all in one file here
THROWAWAY = '''
"""Methods of another package."""
from dataclasses import dataclass
from typing import ClassVar
import torch
from addenda.combiners.combiner import Combiner
from addenda.compressors.compressor import Compressor
from addenda.core.contracts import AddingAdapter, Kind
from addenda.core.gate import Gate, GateMethod
from addenda.core.site import Seam
from addenda.core import card
from addenda.exercises.exercise import Made, Mined, chat
from addenda.forgetters.forgetter import Forgetter, Rule, hinge, mean
from addenda.measuring.conducting.measure import Measure, Opened, Reading, Table, option
from addenda.objectives.objective import Objective
from addenda.optimizers.optimizer import OptimizerMethod
from addenda.remembering.text_memory import TextMemory
from addenda.routers.router import Router
from addenda.penalties.penalty import Penalty
from addenda.writes.write_rule import WriteRule, Writing
from addenda.text.texts import texts


class Shift(AddingAdapter):
    seam = Seam.FFN

    def __init__(self, width):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(width))

    def delta(self, x):
        return self.shift.to(x.dtype).expand(x.shape)


@dataclass(frozen=True)
class Shifts(Kind):
    """A learned vector added to each FFN's output."""

    most: int = 3
    seam: ClassVar[Seam] = Seam.FFN
    default_lr: ClassVar[float] = 1e-2

    def adapters(self, anatomy):
        return {site.key: Shift(site.d_out) for site in anatomy.at(Seam.FFN)[: self.most]}


class AlwaysGate(Gate):
    taught, turns, fresh = False, False, False

    def begin(self):
        pass

    def fit(self, rows, seed):
        pass

    def forward(self, x, state=None, mask=None, starts=None):
        ones = torch.ones(x.shape[:2])
        return ones, ones[:, -1:]

    def amplitude(self, statistic):
        return torch.where(statistic > self.threshold, statistic, 0.0)


@dataclass(frozen=True)
class Always(GateMethod):
    """Always open.

    Source: nobody.
    """

    name: ClassVar[str] = "always"

    def module(self, site):
        return AlwaysGate(site)


@dataclass(frozen=True)
class Half(Objective):
    """Half of what the token costs."""

    name: ClassVar[str] = "halved"

    def cost(self, logits, targets, taught=()):
        return 0.5 * torch.nn.functional.cross_entropy(logits, targets, reduction="none")


@dataclass(frozen=True)
class Signs(OptimizerMethod):
    """Steps of one size."""

    pace: float = 1.0
    name: ClassVar[str] = "signs"

    def over(self, groups, lr):
        return torch.optim.SGD(groups, lr=lr * self.pace)


@dataclass(frozen=True)
class First(Compressor):
    """The first of a LoRA's ranks."""

    keep: int = 1
    name: ClassVar[str] = "first"

    def compress(self, whole):
        both = {key: adapter.factors() for key, adapter in whole.adapters.items()}
        return whole.kind.of_factors({key: (b[:, : self.keep], a[: self.keep]) for key, (b, a) in both.items()})


@dataclass(frozen=True)
class Largest(Combiner):
    """At each place the number that is largest once it is weighed."""

    name: ClassVar[str] = "largest"

    def combine(self, parts):
        for name in parts[0].vectors:
            total = sum(part.weight for part in parts)
            weighed = torch.stack([part.weight / total * part.vectors[name] for part in parts])
            yield name, weighed.gather(0, weighed.abs().argmax(0, keepdim=True))[0]


class Ascent(Rule):
    def __init__(self, parameters, lr):
        self.parameters, self.optimizers = parameters, {"up": torch.optim.Adam(parameters.values(), lr=lr)}

    def step(self, forget, retain):
        kept = mean(retain)
        self.apply("up", {name: gradient + 0.5 * kept[name] for name, gradient in forget.items()})


@dataclass(frozen=True)
class Up(Forgetter):
    """Up the forget text's loss, and down that of the rest."""

    name: ClassVar[str] = "up"

    def cost(self, losses, bare):
        return hinge(losses, bare, None)

    def over(self, module, parameters, lr):
        return Ascent(parameters, lr)


@dataclass(frozen=True)
class Frugal(Penalty):
    """Half of each step is taken back."""

    name: ClassVar[str] = "frugal"

    def fit(self, module, earlier):
        return {f"last.{name}": p.detach().clone() for name, p in module.learning().items()}

    @torch.no_grad()
    def after_step(self, module, state):
        for name, p in module.learning().items():
            p.lerp_(state[f"last.{name}"], 0.5)
            state[f"last.{name}"].copy_(p)


class Leaping(Writing):
    def __init__(self, module, pace):
        self.module, self.pace = module, pace

    @torch.no_grad()
    def apply(self, tokens):
        for p in self.module.learning().values():
            if p.grad is not None:
                p.sub_(self.pace.lr * p.grad.sign())
            p.grad = None


@dataclass(frozen=True)
class Leap(WriteRule):
    """A step of one size in every parameter."""

    name: ClassVar[str] = "leap"

    def over(self, module, pace):
        return Leaping(module, pace)


@dataclass(frozen=True)
class Loudest(Router):
    """Prompts whose first layer is as loud as the subject's."""

    name: ClassVar[str] = "loudest"

    def sites(self, module, anatomy):
        return [anatomy.at(Seam.FFN)[0].key]

    def features(self, module, inputs, mask):
        (x,) = inputs.values()
        return ((x.norm(dim=-1) * mask).sum(1) / mask.sum(1)).unsqueeze(-1)

    def learn(self, subject, general):
        return {"loudness": subject.mean()}

    def distances(self, keys, features):
        return (features[:, 0] - keys["loudness"]).abs()


@dataclass(frozen=True)
class Last(TextMemory):
    """The last text alone."""

    name: ClassVar[str] = "last"
    window: int = 64

    def blank(self):
        return {"texts": []}

    def restored(self, held):
        return dict(held)

    def take(self, held, text):
        return {"texts": [*held["texts"], text]}

    def turns(self, held):
        return len(held["texts"])

    def recall(self, held, prompt, budget, count):
        return held["texts"][-1] if held["texts"] and count(held["texts"][-1]) <= budget else ""


@dataclass(frozen=True)
class Endings(Mined):
    """The last words of a passage.

    Source: nobody.
    """

    name: ClassVar[str] = "endings"

    def mine(self, chunk, others, draw):
        last = chunk.text.strip().rstrip(".").split(".")[-1].strip()
        if chunk.headings and len(last.split()) > 2:
            yield Made(chat(f"{chunk.headings[-1]}: …?", f"{last}."), "endings", (chunk.id,))


@dataclass(frozen=True)
class Surprise(Measure):
    """The largest loss of one text, with the modules."""

    name: ClassVar[str] = "surprise"

    surprise: object = option("Text that may surprise.", "text", "--surprising")
    most: int = option("Texts that are read.", "number", default=2)
    json: bool = option("A flag that is taken.", "switch")

    def open(self, acting):
        opened = texts(self.surprise)
        return Opened([record["text"] for record in opened][: self.most], {"surprise": opened})

    def reads(self, acting, opened):
        yield Reading("surprise", 16 * len(opened.inputs))

    def run(self, acting, opened):
        base = acting.base
        rows = [base.tokenize(text)[None, :16] for text in opened.inputs]
        with base.using(acting.weights), torch.no_grad():
            return {"nats": max(float(base.model(input_ids=ids, labels=ids).loss) for ids in rows), "texts": len(rows)}

    def rows(self, found, base, label):
        yield Table("Surprise", ["", "nats"], [[label, f"{found['nats']:.2f} [most]"]])

    def record(self, found, sources):
        yield card.Measure(name="surprise", value=found["nats"], n=found["texts"])
'''


def install(site: Path) -> None:
    """Lay the package down as an installer does: it brings methods, and no file of Addenda knows it."""
    info = site / "throwaway-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "throwaway.py").write_text(THROWAWAY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: throwaway\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[addenda.methods]\nthrowaway = throwaway\n")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is installed."""
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry.methods.cache_clear()
    yield
    monkeypatch.undo()
    registry.methods.cache_clear()


NAMES = {
    "kind": "Shifts",
    "gate": "always",
    "objective": "halved",
    "optimizer": "signs",
    "combiner": "largest",
    "forgetter": "up",
    "penalty": "frugal",
    "compressor": "first",
    "router": "loudest",
    "write": "leap",
    "text memory": "last",
    "measure": "surprise",
    "exercise": "endings",
}


def test_every_stage_has_a_throwaway() -> None:
    assert NAMES.keys() == {stage for stage in registry.STAGES if registry.methods(stage)}


@pytest.mark.usefixtures("elsewhere")
def test_methods_of_another_package_are_listed_and_act() -> None:
    listed = {(method.stage, method.name): method for method in addenda.list_methods()}
    assert set(NAMES.items()) <= listed.keys()
    assert listed["gate", "always"].source == "nobody."
    assert listed["optimizer", "signs"].options == {"pace": 1.0}
    told = json.loads(CliRunner().invoke(app(), ["methods", "--json"]).stdout)["methods"]
    assert {"signs", "Shifts"} <= {method["name"] for method in told}
    assert "A learned vector added to each FFN's output." in CliRunner().invoke(app(), ["methods", "kind"]).stdout
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", registry.build_kind("shifts", {"most": 2}), gate="always")
    texts = ["the patients were given insulin and the dose was raised twice. " * 6] * 8
    addenda.train(
        base, "m", corpus=texts, tokens=512, length=32, log=False, objective="halved", optimizer="signs(pace=2.0)",
        penalty="frugal",
    )  # fmt: skip
    assert bool(module.tensors()["layers.1.ffn.shift"].any())
    assert module.card.training[-1].settings["optimizer"] == "signs(pace=2.0)"
    assert module.card.training[-1].settings["penalty"] == [{"name": "frugal"}]
    other = ["the river ran past the old mill and the children sang as they walked home. " * 6] * 8
    report = addenda.forget(
        base, "m", forget=texts, retain=other, method="up", tokens=512, length=32, lr=0.1, log=False
    )
    assert (report.method, module.card.training[-1].objective) == ("up", "forget: up")


@pytest.mark.usefixtures("elsewhere")
def test_a_write_rule_of_another_package_writes() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    text, kind = "some words to read " * 20, addenda.LoRA(rank=2)
    report = addenda.memorize(base, "m", text=text, kind=kind, write="leap", lr=1e-2, window=48, chunk=16, log=False)
    assert report.texts["m"].gain() > 0.01  # type: ignore[operator]
    assert base.modules["m"].card.training[-1].settings["write"] == "leap"


@pytest.mark.usefixtures("elsewhere")
def test_a_router_of_another_package_routes() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=2))
    texts = ["the patients were given insulin and the dose was raised twice. " * 6] * 8
    other = ["an old mill by the river, and a lane. " * 9] * 8
    addenda.learn_route(base, "m", corpus=texts, general=other, router="loudest")
    assert addenda.route(base, texts[:2], "loudest", at_most=1).selections == [{"m": 1.0}] * 2


@pytest.mark.usefixtures("elsewhere")
def test_a_text_memory_of_another_package_recalls(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", registry.build_kind("last", {}))
    base.remember("m", "the first", "the second")
    with base.using("m"):
        said = base.tokenizer.decode(base.prompts(["and?"], raw=True)["input_ids"][0])
    assert "the second\n\nand?" in said
    assert "the first" not in said
    assert addenda.attach(pico("llama"), pico_tokenizer()).plug(module.save(tmp_path / "m")).memory == module.memory


@pytest.mark.usefixtures("elsewhere")
def test_a_measure_of_another_package_is_asked_for_runs_shows_and_is_recorded(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    texts = ["the river ran past the old mill", "the dose was raised", "the children sang as they walked"]
    with pytest.raises(AddendaError, match="most must be a whole number from 1; got 0"):
        addenda.evaluate(base, surprise=texts, most=0)
    alone = addenda.evaluate(base, surprise=texts)
    assert alone.surprise["texts"] == 2
    assert addenda.evaluate(base, {"a": texts}).surprise is None
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    base.new("m", addenda.LoRA(rank=2)).save(tmp_path / "m")
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))

    def call(*words: str | Path) -> str:
        given = ["evaluate", "--base", tmp_path / "base", "--plug", tmp_path / "m", *words]
        done = CliRunner().invoke(app(), [str(word) for word in given])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "--surprising" in call("--help")
    asked = ("--surprising", tmp_path / "texts.jsonl", "--most", "1")
    told = json.loads(call(*asked, "--json"))
    assert told["surprise"]["texts"] == 1
    shown = call(*asked, "--save")
    assert f"{told['surprise']['nats']:.2f} [most]" in shown
    (kept,) = json.loads((tmp_path / "m" / "card.json").read_text())["measures"]
    assert (kept["name"], kept["value"]) == ("surprise", told["surprise"]["nats"])


@pytest.mark.usefixtures("elsewhere")
def test_an_exercise_of_another_package_is_studied(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    told = {"mill.md": "# The mill\n\nThe river ran past the mill. The children sang as they walked home.\n"}
    report = addenda.study(base, told, out=tmp_path / "study", exercises=["endings"], ask=False, gain=False, log=False)
    assert report.kinds == {"endings": 1}


@pytest.mark.usefixtures("elsewhere")
def test_a_compressor_of_another_package_compresses() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=4))
    small = addenda.compress(base, "m", "first(keep=2)", text=["the dose was raised twice"])
    assert (small.name, small.kind) == ("m-first", addenda.LoRA(rank=2, alpha=2.0))


@pytest.mark.usefixtures("elsewhere")
def test_a_module_of_another_packages_kind_is_saved_and_loaded(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    module = base.new("m", registry.build_kind("Shifts", {}), gate="always")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    folder = module.save(tmp_path / "m")
    assert json.loads((folder / "card.json").read_text())["gate"] == {"name": "always", "read_at": "early"}
    back = addenda.attach(pico("llama"), pico_tokenizer()).plug(folder)
    assert all(torch.equal(tensor, back.tensors()[name]) for name, tensor in module.tensors().items())


#: by stage, a command in which a method of it is asked for by a name that there is not; M is a module's folder
WRONG = {
    "kind": "train new --corpus pubmed_train --tokens 1000 --kind nosuch",
    "gate": "train new --corpus pubmed_train --tokens 1000 --kind LoRA --gate nosuch",
    "objective": "train new --corpus pubmed_train --tokens 1000 --objective nosuch",
    "penalty": "train new --corpus pubmed_train --tokens 1000 --set penalty=nosuch",
    "optimizer": "train new --corpus pubmed_train --tokens 1000 --set optimizer=nosuch",
    "router": "route hello --plug M --router nosuch",
    "combiner": "combine M N --method nosuch --out new",
    "compressor": "compress M --method nosuch --text pubmed_valid --out new",
    "text memory": "chat --remember new --memory-kind nosuch",
    "forgetter": "forget M --forget pubmed_valid --retain general_valid --method nosuch --out new",
    "write": "memorize new --text general_train --set write=nosuch",
    "exercise": "study text.md --exercises nosuch --out new",
}


@pytest.mark.usefixtures("elsewhere")
def test_each_verb_tells_them_where_a_name_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WRONG.keys() | {"measure"} == NAMES.keys()  # a measure is no name: it is asked for by its first option
    base = addenda.load_base("tiny")
    for name in ("M", "N"):
        base.new(name.lower(), addenda.LoRA(rank=1), seed=len(name)).save(tmp_path / name)
    base.detach()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.md").write_text("# Mill\n\nThe river ran past the mill.\n")
    for stage, words in WRONG.items():
        answer = CliRunner().invoke(app(), words.split())
        told = f"no ({stage}|kind) is called 'nosuch'; there are .*{NAMES[stage]}"
        assert re.search(told, " ".join(answer.output.split())), (words, answer.output)
        assert answer.exit_code == 2
        assert not (tmp_path / "new").exists()


ROOT = Path(__file__).parents[2]


def suite(stage: str) -> str:
    """Where the tests stand that every method of a stage has to pass, whatever it is."""
    folder = registry.STAGES[stage].folder.split("/")[0]
    return "tests/conformance" if stage == "kind" else f"tests/{folder}/test_conformance.py"


def in_suites(site: Path, *words: str) -> str:
    """What pytest says in a process of its own, where the package is installed, of the suites' tests of its methods alone."""
    install(site)
    path = os.pathsep.join([str(site), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        " or ".join(NAMES.values()),
        *words,
    ]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_each_stage_s_suite_finds_them(tmp_path: Path) -> None:
    """With no other file touched; the laws are a kind's suite."""
    found = in_suites(tmp_path / "site", "--collect-only", *map(suite, NAMES))
    for stage, name in NAMES.items():
        tests = re.findall(rf"^{re.escape(suite(stage))}\S*::\S*\b{name.lower()}\b\S*\]$", found, re.MULTILINE)
        assert tests, f"{suite(stage)} does not know {name}"
    laws = set(re.findall(r"^tests/conformance/test_law(\d+)\S*\bshifts\b", found, re.MULTILINE))
    assert laws >= {"01", "02", "04", "05", "06", "09", "11", "12"}, laws  # others go through all kinds in one test


@pytest.mark.slow
def test_they_pass_their_stages_suites(tmp_path: Path) -> None:
    passed = re.search(r"(\d+) passed", in_suites(tmp_path / "site", *map(suite, NAMES)))
    assert passed
    assert int(passed[1]) > 100


def test_without_the_package_its_methods_are_not_there() -> None:
    for stage, name in NAMES.items():
        with pytest.raises(AddendaError, match=f"no {stage} is called '{name}'; there are "):
            registry.named(stage, name)
    with pytest.raises(AddendaError, match="there is no stage 'gates'.*did you mean 'gate'"):
        addenda.list_methods("gates")


@pytest.mark.usefixtures("elsewhere")
def test_two_methods_of_one_name_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import throwaway

    monkeypatch.setattr(throwaway.Signs, "name", "adamw")
    registry.methods.cache_clear()
    told = "two methods of the stage 'optimizer' are called 'adamw': in addenda.optimizers.adamw and throwaway"
    with pytest.warns(UserWarning, match=f"{told}, by the entry point 'throwaway'.*; the second is left out"):
        assert registry.methods("optimizer")["adamw"] is AdamW
    assert registry.named("optimizer", "galore")  # others are not touched
    with pytest.raises(AddendaError, match=f"{told}.*remove one of them"):
        registry.named("optimizer", "AdamW")


#: what other packages do wrong: the file, the entry point's value after its name, and what is said of it
BROKEN = {
    "raises": ("raise RuntimeError('boom')", "", "cannot be loaded .RuntimeError: boom."),
    "a name that is gone": ("from addenda.core.contracts import NoSuchName", "", "cannot be loaded .ImportError"),
    "no such package": ("import nonexistent_thing", "", "needs the module 'nonexistent_thing', which is not installed"),
    "ends the program": ("import sys\nsys.exit(3)", "", "cannot be loaded .SystemExit: 3"),
    "no such class": ("", ":Gone", "cannot be loaded .AttributeError"),
    "malformed": ("", " is not a name!", "cannot be loaded"),
    "a plain value": ("thing = 5", ":thing", "is neither a method's class nor a module that defines one"),
    "nothing": ("x = 1", "", "is neither a method's class nor a module that defines one"),
    "a class of its own": ("class Other: pass", ":Other", "Other stands at none of the stages kind, gate"),
    "no dataclass": ("class Opt(OptimizerMethod):\n  def over(self, groups, lr): pass", "", "Opt is no frozen dataclass"),
    "half": ("@dataclass(frozen=True)\nclass Half(OptimizerMethod):\n  rank: int = 3", "", "Half lacks over"),
    "a name with a dot": (
        "@dataclass(frozen=True)\nclass Dot(AdamW):\n  name = 'adamw.slow'", "",
        "Dot is called 'adamw.slow'; a name has letters, digits, - and _, and is no stage's",
    ),
    "a stage's name": (
        "@dataclass(frozen=True)\nclass Stage(AdamW):\n  name = 'router'", "", "Stage is called 'router'; .* is no stage's",
    ),
    "an odd default": (
        "@dataclass(frozen=True)\nclass Odd(AdamW):\n  kept: object = torch.float32\n  name = 'odd'", "",
        "Odd has an option 'kept' whose default is no plain value",
    ),
    "an odd factory": (
        "@dataclass(frozen=True)\nclass Odd(AdamW):\n  n: object = field(default_factory=set)\n  name = 'odd'", "",
        "Odd has an option 'n' whose default is no plain value",
    ),
}  # fmt: skip
IMPORTS = """
import torch
from dataclasses import dataclass, field
from addenda.optimizers.adamw import AdamW
from addenda.optimizers.optimizer import OptimizerMethod
"""


def installed(monkeypatch: pytest.MonkeyPatch, site: Path, name: str, code: str, value: str = "") -> None:
    """A package that is installed, whose entry point `mine` is its module, or what `value` adds to that."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(IMPORTS + code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[addenda.methods]\nmine = {name}{value}\n")
    monkeypatch.syspath_prepend(str(site))
    registry.methods.cache_clear()


@pytest.mark.parametrize("case", BROKEN)
def test_what_a_package_breaks_is_told_and_left_out(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    code, value, said = BROKEN[case]
    name = f"broken_{list(BROKEN).index(case)}"
    request.addfinalizer(registry.methods.cache_clear)
    installed(monkeypatch, tmp_path, name, code, value)
    told = f"the entry point 'mine' .group addenda.methods. of the package '{name}': .*{said}"
    with pytest.warns(UserWarning, match=f"{told}.*it is left out") as warned:
        assert {"adamw", "galore"} <= registry.methods("optimizer").keys()
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        assert set(registry.methods("gate")) == {"context", "document"}
        assert asked_for(OptimizerMethod, "galore(rank=2)").called() == "galore"
        json.dumps([method.as_dict() for method in addenda.list_methods()], allow_nan=False)
    with pytest.raises(AddendaError, match=f"no optimizer is called 'half'; there are adamw.*; {told}"):
        registry.named("optimizer", "half")
    monkeypatch.undo()


def test_what_is_whole_beside_what_is_broken_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(registry.methods.cache_clear)
    code = """
@dataclass(frozen=True)
class Shared(OptimizerMethod):
    names: list = field(default_factory=list)
    most: float = float("inf")
class One(Shared):
    name = "one"
    def over(self, groups, lr): return torch.optim.SGD(groups, lr=lr)
@dataclass(frozen=True)
class Half(OptimizerMethod):
    name = "half"
"""
    installed(monkeypatch, tmp_path, "half_whole", code)
    with pytest.warns(UserWarning, match="Half lacks over") as warned:
        assert "one" in registry.methods("optimizer")
    assert len(warned) == 1
    listed = next(method for method in addenda.list_methods("optimizer") if method.name == "one")
    assert listed.options == {"names": [], "most": float("inf")}
    monkeypatch.undo()


def test_a_list_of_entry_points_that_cannot_be_read_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(registry.methods.cache_clear)
    installed(monkeypatch, tmp_path / "bad", "unreadable", "")
    (tmp_path / "bad" / "unreadable-1.0.dist-info" / "entry_points.txt").write_text("[addenda.methods]\nno value\n")
    good = "@dataclass(frozen=True)\nclass Fine(AdamW):\n  name = 'fine'"
    installed(monkeypatch, tmp_path / "good", "readable", good)
    with pytest.warns(UserWarning, match="the entry points of the package 'unreadable' cannot be read"):
        assert "fine" in registry.methods("optimizer")
    monkeypatch.undo()


@pytest.mark.parametrize(
    "words",
    [
        "galore(rank=16)()", "galore(rank=4)(rank=8)", "galore(rank=1, rank=2)", "galore(rank=4).x", "galore(rank=4)[0]",
        "galore(**{'rank': 4})", "galore(rank=4) # or 8", "galore(rank=4) if 1 else 2", "galore(rank=4, *[1])",
        "galore(rank=4), galore(rank=8)", "galore(rank=2+2)",
    ],
)  # fmt: skip
def test_options_in_words_drop_nothing(words: str) -> None:
    with pytest.raises(
        AddendaError, match=r"options of optimizer are written as in x\(rank=16, by='text'\), each once; got"
    ):
        asked_for(OptimizerMethod, words)


def test_true_is_no_number() -> None:
    for words, said in (
        ("galore(rank=True)", "galore: rank is a number, and not True"),
        ("galore(scale=True)", "galore: scale is a number, and not True"),
        ("adamw(beta2=False)", "adamw: beta2 is a number, and not False"),
    ):
        with pytest.raises(AddendaError, match=said):
            asked_for(OptimizerMethod, words)
    with pytest.raises(AddendaError, match="LoRA: rank is a number, and not True"):
        registry.build_kind("LoRA", {"rank": True})
    assert registry.build_kind("LoRA", {"rank": 2, "rslora": True}) == addenda.LoRA(rank=2, rslora=True)
    assert asked_for(OptimizerMethod, "galore( rank = 16, )") == asked_for(OptimizerMethod, "galore(rank=16)")


@pytest.mark.parametrize("name", ["token", "sigmoid"])
def test_an_option_of_a_kind_that_is_taken_for_a_gate_says_whose_it_is(name: str) -> None:
    told = rf"'{name}' is an option of NeutralResidues itself: NeutralResidues\(gate='{name}'\), or --set gate={name}"
    with pytest.raises(AddendaError, match=told):
        registry.named("gate", name)
    with pytest.raises(AddendaError) as refused:
        registry.named("gate", "tokens")
    assert "option of" not in str(refused.value)


@pytest.mark.usefixtures("elsewhere")
def test_a_card_keeps_which_package_its_kind_came_from(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    folder = base.new("m", registry.build_kind("Shifts", {})).save(tmp_path / "m")
    made = registry.brought_by(registry.kind_named("Shifts"))
    assert made is not None
    assert json.loads((folder / "card.json").read_text())["versions"]["kind"] == made
    assert registry.brought_by(registry.kind_named("LoRA")) is None


def test_a_module_of_a_kind_that_is_not_here_says_what_to_install(tmp_path: Path) -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer())
    folder = base.new("m", addenda.LoRA(rank=2)).save(tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    card["kind"], card["versions"]["kind"] = "Shifts", "my-package 0.1"
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(
        AddendaError, match="no kind is called 'Shifts'.*made with the package 'my-package 0.1': install that"
    ):
        addenda.attach(pico("llama"), pico_tokenizer()).plug(folder)
