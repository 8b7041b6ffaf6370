"""Modules as a combiner sees them: whether they are alike, their task vectors by name, and the way back into a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from addenda.combiners.combiner import Combiner, Part
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.module import KnowledgeModule
from addenda.core.moments import OWNER, Moment, named, read
from addenda.core.registry import options_of
from addenda.telling.progress import tick


class Looked(Mapping[str, Tensor]):
    """Tensors that are computed whenever they are looked at, by name."""

    def __init__(self, names: Sequence[str], compute: Callable[[str], Tensor]) -> None:
        self.names, self.compute = list(names), compute

    def __getitem__(self, name: str) -> Tensor:
        return self.compute(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def parameters_of(module: KnowledgeModule) -> dict[str, nn.Parameter]:
    """A module's parameters but its gate's, by the names they have in a file."""
    return {f"{site}.{name}": p for site in module.sites() for name, p in module.adapter(site).named_parameters()}


def fixed_of(module: KnowledgeModule) -> dict[str, Tensor]:
    """The tensors of its adapters that nothing trains."""
    return {f"{site}.{name}": b for site in module.sites() for name, b in module.adapter(site).named_buffers()}


def check_alike(modules: Sequence[KnowledgeModule], start: KnowledgeModule | None) -> None:
    """Refuse modules that no method could combine.

    Raises:
        AddendaError: kinds, options, bases or gates differ, a number is not finite, or a module has nothing yet; names both.
    """
    first = modules[0]
    for other in [*modules[1:], *([] if start is None else [start])]:
        told = [f"'{module.name}' is" for module in (first, other)]
        kinds = [type(module.kind).__name__ for module in (first, other)]
        if kinds[0] != kinds[1]:
            raise AddendaError(f"modules of one kind can be combined: {told[0]} a {kinds[0]}, {told[1]} a {kinds[1]}")
        options = [options_of(module.kind) for module in (first, other)]
        differ = [
            f"{key} {options[0][key]!r} and {options[1][key]!r}"
            for key in options[0]
            if options[0][key] != options[1][key]
        ]
        if differ:
            raise AddendaError(
                f"'{first.name}' and '{other.name}' were made with different options ({'; '.join(differ)}), and modules "
                "of the same options can be combined; train one of them anew"
            )
        if first.card.base.fingerprint != other.card.base.fingerprint:
            raise AddendaError(
                f"'{first.name}' was made for {first.card.base.name} and '{other.name}' for another base "
                f"({other.card.base.name}, fingerprint {other.card.base.fingerprint[:16]}); modules of one base can be combined"
            )
        gates = [
            "no gate" if module.gate is None else f"a {type(module.gate).__name__} at {module.gate.site}"
            for module in (first, other)
        ]
        if gates[0] != gates[1]:
            raise AddendaError(
                f"'{first.name}' stands behind {gates[0]} and '{other.name}' behind {gates[1]}; modules behind gates of one "
                "sort can be combined"
            )
    for module in [*modules, *([] if start is None else [start])]:
        if module.awaits_text:
            raise AddendaError(f"'{module.name}' has not been started from its text yet; train it first")
        broken = [name for name, tensor in module.tensors().items() if not bool(torch.isfinite(tensor).all())]
        if broken:
            raise AddendaError(f"'{module.name}' has numbers that are not finite ({broken[0]}); load or train it anew")


def check_shared(modules: Sequence[KnowledgeModule], start: KnowledgeModule | None) -> None:
    """Refuse modules that differ in what was never trained, and must be the same in all.

    Raises:
        AddendaError: names the first such tensor.
    """

    def shared(module: KnowledgeModule) -> dict[str, Tensor]:
        if start is not None:
            return fixed_of(module)
        return {f"{site}.{name}": t for site in module.sites() for name, t in module.adapter(site).shared().items()}

    wanted = shared(modules[0])
    for other in [*modules[1:], *([] if start is None else [start])]:
        for name, tensor in shared(other).items():
            if not torch.equal(tensor, wanted[name]):
                raise AddendaError(
                    f"{name} of '{modules[0].name}' and '{other.name}' differ, and must be the same for their numbers to add "
                    "up; train modules that begin from the same one (for a frozen A: one seed in the kind's options; for "
                    "thresholds: combine before any of them is calibrated)"
                )


def parts_of(modules: Mapping[KnowledgeModule, float], start: KnowledgeModule | None, method: Combiner) -> list[Part]:
    """The modules with their weights as a combiner sees them.

    Without a start numbers are the adapters' task vectors by site; with one the parameters less the start's, by name.

    Raises:
        AddendaError: the combiner needs moments and a module has none.
        UnsupportedError: adapters of the kind have no task vector.
    """
    parts: list[Part] = []
    for module, weight in modules.items():
        moments = _moments_of(module, start, method.called()) if method.needs_moments else {}
        vectors = _task_vectors(module) if start is None else _changes(module, start)
        parts.append(Part(module.name, weight, vectors, moments))
    if start is None:
        try:
            next(iter(parts[0].vectors.values()))
        except UnsupportedError as error:
            kind = type(next(iter(modules)).kind).__name__
            raise UnsupportedError(
                f"{method.called()} cannot combine {kind} modules: {error}. Give start= (--start), the module that all "
                "of them were trained on from, or choose mean"
            ) from None
    return parts


def _task_vectors(module: KnowledgeModule) -> Looked:
    return Looked(list(module.sites()), lambda site: module.adapter(site).task_vector())


def _changes(module: KnowledgeModule, start: KnowledgeModule) -> Looked:
    ours, before = parameters_of(module), parameters_of(start)
    return Looked(list(ours), lambda name: ours[name].detach().float() - before[name].detach().float())


def _moments_of(module: KnowledgeModule, start: KnowledgeModule | None, method: str) -> Looked:
    moments = read(module.side_of(OWNER))
    ours = parameters_of(module)
    if not ours.keys() <= moments.keys():
        raise AddendaError(
            f"'{module.name}' has no second moments beside it, which {method} needs: train it again, for `train` keeps them, "
            "or choose another method"
        )

    def at(site: str) -> Tensor:
        adapter = module.adapter(site)
        mine = {name: moments[f"{site}.{name}"] for name, _ in adapter.named_parameters()}
        return adapter.task_moments(mine).to(adapter.device)

    if start is None:
        return Looked(list(module.sites()), at)
    return Looked(list(ours), lambda name: moments[name].full(ours[name].shape).to(ours[name].device))


@torch.no_grad()
def add_up(made: KnowledgeModule, modules: Sequence[KnowledgeModule], shares: Sequence[float]) -> None:
    """Make a module what a weighted sum of others adds, exactly."""
    for site in made.sites():
        made.adapter(site).add_up([(share, m.adapter(site)) for share, m in zip(shares, modules, strict=True)])
        tick()


@torch.no_grad()
def fill(made: KnowledgeModule, combined: Iterator[tuple[str, Tensor]], start: KnowledgeModule | None) -> float:
    """Give a module what a combiner made; returns the share of its squares for which it has no room."""
    lost, whole = 0.0, 0.0
    before = {} if start is None else parameters_of(start)
    for name, tensor in combined:
        if start is None:
            adapter = made.adapter(name)
            adapter.set_task_vector(tensor)
            lost += float((tensor - adapter.task_vector()).double().square().sum())
            whole += float(tensor.double().square().sum())
        else:
            parameters_of(made)[name].copy_(before[name] + tensor)
        tick()
    return lost / whole if whole else 0.0


@torch.no_grad()
def take_fixed(made: KnowledgeModule, of: KnowledgeModule, start: KnowledgeModule | None) -> None:
    """Give a module what its parents were never trained in."""
    if start is not None:
        for name, tensor in fixed_of(made).items():
            tensor.copy_(fixed_of(of)[name])
    for site in made.sites():
        for name, tensor in of.adapter(site).shared().items():
            made.adapter(site).get_buffer(name).copy_(tensor)


def mean_moments(made: KnowledgeModule, modules: Mapping[KnowledgeModule, float]) -> dict[str, Tensor]:
    """Mean second moments of modules of the same size, for the next combination; nothing where one of them has none."""
    known = [(read(module.side_of(OWNER)), weight) for module, weight in modules.items()]
    names, total = parameters_of(made), sum(abs(weight) for _, weight in known)
    if not all(names.keys() <= moments.keys() for moments, _ in known):
        return {}

    def mean(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([abs(w) / total * t for t, (_, w) in zip(tensors, known, strict=True)]).sum(0)

    result: dict[str, Moment] = {}
    for name in names:
        of = [moments[name] for moments, _ in known]
        columns = [moment.columns for moment in of if moment.columns is not None]
        result[name] = Moment(mean([moment.rows for moment in of]), mean(columns) if columns else None)
    return named(result)
