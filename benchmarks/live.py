"""Live shares: how many tokens a gated module touches at each layer, measured on a trained one, set on a random one.

    python -m benchmarks.live runs/pubmed --out benchmarks/live.json

What a gated module costs depends on how often its gates are open, and on random weights that means nothing. So the
shares are measured on a module trained on the embedded base, on medical text (`on`, the module's domain) and on general
text (`off`), and thresholds are then set so that the same shares of the benchmark's own text are live.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from addenda.core.contracts import GatedAdapter
from addenda.core.contribution import Contribution
from addenda.core.gate import Gate
from addenda.core.module import KnowledgeModule
from addenda.kinds.registers import RegisterAdapter
from addenda.plug.base import Base

#: where shares are looked for when no file is named
DEFAULT = Path(__file__).parent / "live.json"
#: kinds of this benchmark that have gates
GATED = ("neutral", "neutral-context", "registers-neutral", "registers-context")


@dataclass(frozen=True)
class Shares:
    """Live shares by layer, on and off the module's domain, and where they come from."""

    on: list[float]
    off: list[float]
    source: str

    def at(self, where: str, layers: int) -> list[float]:
        """The shares for `layers` layers, by relative height where the numbers of layers differ."""
        known = self.on if where == "on" else self.off
        if len(known) == 1 or layers == 1:
            return [known[0]] * layers
        places = torch.linspace(0, len(known) - 1, layers).tolist()
        return [known[int(p)] + (p - int(p)) * (known[min(int(p) + 1, len(known) - 1)] - known[int(p)]) for p in places]


#: used where no trained module was measured, and said to be so in every result
ASSUMED = {
    "neutral": Shares([0.5], [0.1], "assumed: half of the tokens on the domain, a tenth off it"),
    "neutral-context": Shares([1.0], [0.1], "assumed: every token on the domain, a tenth off it"),
    "registers-neutral": Shares([0.5], [0.1], "assumed: half of the tokens on the domain, a tenth off it"),
    "registers-context": Shares([1.0], [0.1], "assumed: every token on the domain, a tenth off it"),
}


def read_shares(file: Path | None) -> dict[str, Shares]:
    """Shares by kind, from a file that this program wrote, else assumed."""
    file = DEFAULT if file is None and DEFAULT.exists() else file
    measured = {} if file is None else json.loads(file.read_text(encoding="utf-8"))
    return ASSUMED | {kind: Shares(**shares) for kind, shares in measured.items()}


def source_of(record: dict[str, Any], shares: dict[str, Shares]) -> str | None:
    """Where the live shares that a benchmark's record was taken under come from; None where they play no part."""
    section, named = record["section"], record.get("kind") or record.get("b", "")
    if section in ("off", "noise"):
        return None
    kind = "neutral" if section == "plugged" else max((k for k in GATED if k in named), key=len, default=None)
    return None if kind is None else f"{kind}: {shares[kind].source}"


def kind_of(module: KnowledgeModule) -> str:
    """The benchmark's name for a module's kind, of those in `GATED`."""
    options = asdict(module.kind)  # type: ignore[call-overload]
    name = {"NeutralResidues": "neutral", "Registers": "registers"}.get(type(module.kind).__name__, "none")
    name += {"context": "-context", "neutral": "-neutral"}.get(options.get("gate", ""), "")
    if name not in GATED:
        raise ValueError(f"'{module.name}' has no gate whose live share could be measured")
    return name


@dataclass
class Observed:
    """Counts live and seen tokens, from position `start` on, at each site that a module ran at."""

    start: int = 0
    live: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def __call__(self, share: Any, site: str, **facts: Any) -> None:
        """What `base.watching(observer=)` tells of one site."""
        if "contribution" in facts:
            open_ = _open(facts["contribution"], facts["shape"])
        elif "gate" in facts:
            open_ = (facts["gate"] != 0).squeeze(-1)
        else:
            return
        open_ = open_[:, self.start :]
        self.live[site] = self.live.get(site, 0) + int(open_.sum())
        self.seen[site] = self.seen.get(site, 0) + open_.numel()

    def shares(self) -> list[float]:
        """Live shares in the order of the layers."""
        return [self.live[site] / self.seen[site] for site in sorted(self.seen, key=lambda key: int(key.split(".")[1]))]


def _open(contribution: Contribution | None, shape: torch.Size) -> Tensor:
    """Which tokens [R, T] a contribution may change."""
    if contribution is None:
        return torch.zeros(shape, dtype=torch.bool)
    if contribution.index is not None:
        flat = torch.zeros(shape.numel(), dtype=torch.bool).index_fill(0, contribution.index, True)
        return flat.view(shape)
    return torch.ones(shape, dtype=torch.bool) if contribution.live is None else contribution.live.squeeze(-1)


@torch.no_grad()
def measure(base: Base, name: str, ids: Tensor, start: int = 0) -> list[float]:
    """Live shares by layer of a plugged module, alone at weight one, over rows of tokens [B, T] from `start` on."""
    seen = Observed(start)
    with base.using(name), base.watching(observer=seen):
        for row in ids:
            base.model(input_ids=row[None], use_cache=False, logits_to_keep=1)
    return seen.shares()


@torch.no_grad()
def set_live(base: Base, name: str, shares: list[float], ids: Tensor, start: int = 0) -> None:
    """Set a module's thresholds so that `shares` of the tokens from `start` on of `ids` [B, T] are live, layer by layer.

    Done in one forward pass: a layer's threshold is set when its input is known, which the layers below, set already,
    have shaped. The lowest share serves for a context gate, which has one for all layers.
    """
    module = base.modules[name]
    patched = _patched(module, shares, start)
    try:
        with base.using(name):
            base.model(input_ids=ids, use_cache=False, logits_to_keep=1)
    finally:
        for owner, method in patched:
            delattr(owner, method)


def _patched(module: KnowledgeModule, shares: list[float], start: int) -> list[tuple[Any, str]]:
    if module.gate is not None:
        _on_first(module.gate, "forward", shares[0], start)
        return [(module.gate, "forward")]
    found = []
    for key in module.sites():
        adapter, share = module.adapter(key), shares[int(key.split(".")[1])]
        method = "gate" if isinstance(adapter, GatedAdapter) else "mix"
        _on_first(adapter, method, share, start)
        found.append((adapter, method))
    return found


def _on_first(owner: Any, method: str, share: float, start: int) -> None:
    """Let the first call of a gate's method set its threshold."""
    original, done = getattr(owner, method), False

    def setting(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal done
        if not done:
            done = True
            _set(owner, share, x, start)
        return original(x, *args, **kwargs)

    setattr(owner, method, setting)


def _set(owner: Any, share: float, x: Tensor, start: int) -> None:
    scores = _scores(owner, x)[:, start:].flatten().float().sort().values
    count = round(share * len(scores))
    if count == 0:
        threshold = scores[-1] + 1.0
    elif count == len(scores):
        threshold = scores[0] - 1.0
    else:
        threshold = (scores[-count] + scores[-count - 1]) / 2
    owner.threshold.copy_(threshold)


def _scores(owner: Any, x: Tensor) -> Tensor:
    """What a gate cuts at its threshold, [B, T]."""
    if isinstance(owner, Gate):
        owner.threshold.fill_(torch.inf)  # no sum is capped then
        return owner(x)[0]
    if isinstance(owner, GatedAdapter):
        score = owner.score(x)
        assert score is not None
        return score
    return x.to(owner.gate_weight.dtype) @ owner.gate_weight + owner.gate_bias


def randomised(module: KnowledgeModule, seed: int = 0) -> None:
    """Give gates that start the same for every token random weights, so that thresholds can tell tokens apart."""
    generator = torch.Generator().manual_seed(seed)
    gates = [module.gate] if module.gate is not None else []
    weights: list[Tensor] = [tensor for gate in gates for tensor in gate.state_dict().values() if tensor.dim()]
    for key in module.sites():
        adapter = module.adapter(key)
        if isinstance(adapter, RegisterAdapter) and adapter.token_gate:
            weights.append(adapter.gate_weight)
    with torch.no_grad():
        for weight in weights:
            weight.copy_(torch.randn(weight.shape, generator=generator) * len(weight) ** -0.5)


def main(argv: list[str] | None = None) -> int:
    """Measure trained modules and write the file; kinds that are not measured now stay as they are in it."""
    import addenda
    from benchmarks.models import text_ids

    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of modules trained on the embedded base")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--rows", type=int, default=32, help="rows of 512 tokens of each text")
    parser.add_argument("--out", type=Path, default=DEFAULT)
    options = parser.parse_args(argv)
    base = addenda.load_base(options.base, dtype=torch.float32)
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    for folder in options.folders:
        module = base.plug(folder)
        both = {w: measure(base, module.name, text_ids(w, 512 * options.rows).view(-1, 512)) for w in ("on", "off")}
        source = f"measured on {base.name}, module {folder.name}, {options.rows} rows of 512 tokens of each text"
        found[kind_of(module)] = asdict(Shares(**both, source=source))
        base.unplug(module.name)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
