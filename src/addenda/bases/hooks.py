"""Replaced forwards: how a base's submodules meet the modules at work, and how they are given back untouched.

Replacing `forward` on the instance is seen by torch.compile and keeps state_dict keys, classes and hooks of others.
"""

from __future__ import annotations

import functools
import inspect
import threading
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from addenda.bases.around import BaseOutput, stand_around
from addenda.bases.attention import choice_among
from addenda.core.call import RUNTIME, Call, Share, running
from addenda.core.contracts import AddingAdapter, ChoosingAdapter, ClassifyingAdapter, ReplacingAdapter
from addenda.core.contribution import Contribution
from addenda.core.errors import AddendaError
from addenda.core.modes import compiling, own_modes
from addenda.core.site import Site
from addenda.core.state import Piece, RowStates, select_rows, spread

Forward = Callable[..., Any]


def of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that forwards of other threads pass by: they share the base, and are not what is read."""
    mine = threading.get_ident()

    def only(*given: Any) -> Any:
        return hook(*given) if threading.get_ident() == mine else None

    return only


class Replaced:
    """One replaced forward. `undo` gives the old one back, or, where another library has wrapped ours since, goes quiet.

    It is a bound method: a deep copy of the module carries it along bound to the copy, which then computes bare, by its
    own class and weights. (A plain function would be shared, and compute with the original's weights in silence.)
    """

    def __init__(self, module: nn.Module, make: Callable[[Forward, Replaced], Forward], name: str = "forward") -> None:
        self.module, self.name, self.live = module, name, True
        self.before = module.__dict__.get(name)
        original = getattr(module, name)
        ours = make(original, self)

        def method(this: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if this is not module:
                return getattr(type(this), name)(this, *args, **kwargs)
            return ours(*args, **kwargs)

        functools.update_wrapper(method, original)
        signature = inspect.signature(original)
        this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[this, *signature.parameters.values()]
        )
        self.ours = types.MethodType(method, module)
        setattr(module, name, self.ours)

    def undo(self) -> None:
        """Give the forward back."""
        self.live = False
        if self.module.__dict__.get(self.name) is not self.ours:
            return
        if self.before is None:
            delattr(self.module, self.name)
        else:
            setattr(self.module, self.name, self.before)


def first_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a submodule was given first."""
    return args[0] if args else next(iter(kwargs.values()))


def hook_output(module: nn.Module, sites: list[Site], post: nn.Module | None = None) -> Replaced:
    """Let adapters of `sites`, all standing at `module`, change its output, or stand around it.

    `post` is the norm that the layer puts what it gives through.
    """

    def make(original: Forward, me: Replaced) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            call = RUNTIME.call
            if call is None or not me.live:
                return original(*args, **kwargs)
            y = None
            for site in sites:
                x = call.entry.pop(site.key) if site.entry != site.path else first_of(args, kwargs)
                around = [share for share in call.shares if site.key in share.module.around]
                if y is None and not (around and site.entry == site.path):
                    y = original(*args, **kwargs)
                y = apply_at(call, site, x, y, around, original, post)
            return y

        return forward

    return Replaced(module, make)


def hook_entry(module: nn.Module, *keys: str) -> Replaced:
    """Remember the input of `module` under keys: of FFN sites whose output is another module's, or the residual stream."""

    def make(original: Forward, me: Replaced) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            call = RUNTIME.call
            if call is not None and me.live:
                for key in keys:
                    call.entry[key] = first_of(args, kwargs)
            return original(*args, **kwargs)

        return forward

    return Replaced(module, make)


def hook_attention(module: nn.Module, site: Site) -> Replaced:
    """Remember the input of an attention module, and read the gate of a module that stands there."""

    def make(original: Forward, me: Replaced) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            call = RUNTIME.call
            if call is not None and me.live:
                x = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
                call.entry[site.key] = x
                if not compiling():
                    call.go_to(x.device)
                read_gates(call, site, x)
                for share in call.shares:
                    adapter = share.module.adapters._modules.get(site.key.replace(".", "/"))
                    if isinstance(adapter, ChoosingAdapter):
                        if not compiling():
                            follow(adapter, x.device)
                        _choosing(call, share, site, adapter, x)
            return original(*args, **kwargs)

        return forward

    return Replaced(module, make)


def hook_norm(module: nn.Module) -> Replaced:
    """Let the input norm of a layer hand on what it is given while registers that enter un-normalised pass it."""

    def make(original: Forward, me: Replaced) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if RUNTIME.passing is module and me.live:
                return first_of(args, kwargs)
            return original(*args, **kwargs)

        return forward

    return Replaced(module, make)


def read_gates(call: Call, site: Site, x: Tensor) -> None:
    """Compute the gates of modules that stand at `site`, once per call, from its input x [B, T, D].

    No gradient goes through x: it is the base's own. Checkpointing gives it one, and kernels choose by that how they compute.
    """
    x = x.detach()
    for share in call.shares:
        gate = share.module.gate
        if gate is None or gate.site != site.key:
            continue
        if not compiling() and gate.threshold.device != x.device:
            with own_modes():
                gate.to(x.device)
        before: Tensor | None = call.states.get(share.name)
        rows, mask = share.rows, call.mask_of(share)
        state = before if before is None or rows is None else select_rows(before, rows)
        statistic, state = gate(call.rows_of(x, share), state, mask, call.starts_of(share, gate.by_turn))
        value = gate.amplitude(statistic)
        if (
            gate.by_turn and call.heard is not None
        ):  # a prompt's last turn is judged as one, as the gate stands at its end
            value = torch.where(call.rows_of(call.heard, share), 0.0, value[:, -1:])
        value = (value if mask is None else torch.where(mask, value, 0.0)).unsqueeze(-1)
        if gate.taught:
            call.collect_gate(share, (statistic - gate.threshold).unsqueeze(-1))
        if call.recomputing:
            continue  # the value computed at forward is the one the layers above were given
        call.gates[share.name] = value
        state = state.detach()  # what is kept for the next call is no part of this graph
        call.next_states[share.name] = state if rows is None else spread(state, rows, before, call.batch)
        call.observe(share, site.key, gate=value, statistic=statistic)


def follow(adapter: Any, device: torch.device) -> None:
    """Move an adapter to the device of its site: the base may be moved after the module was plugged."""
    if adapter.device != device:
        with own_modes():
            adapter.to(device)


def apply_at(
    call: Call, site: Site, x: Tensor, y: Tensor | None, around: list[Share], compute: Callable[[Tensor], Tensor],
    post: nn.Module | None = None,
) -> Tensor:  # fmt: skip
    """The output of a site, what stands around it asked first, with every selected module's contribution added, in name order.

    `y` is the site's own output; None: it is not run yet, and `compute` gives it.
    """
    shape = x.shape if y is None else y.shape
    if len(shape) == 2:  # OPT hands its FFN flattened rows
        x, y = x.view(call.batch, call.length, -1), None if y is None else y.view(call.batch, call.length, -1)
    if not compiling():
        call.go_to(x.device)
    read_gates(call, site, x)
    key = site.key.replace(".", "/")
    if around:
        for share in around:
            follow(share.module.adapters._modules[key], x.device)
        y = stand_around(call, site, around, BaseOutput(compute, x, y, post))
    assert y is not None
    for share in call.shares:
        adapter = share.module.adapters._modules.get(key)  # a ModuleDict's own methods take longer
        if adapter is None:
            continue
        if not compiling():
            follow(adapter, y.device)
        if isinstance(adapter, AddingAdapter):
            y = _adding(call, share, site, adapter, x, y)
        elif isinstance(adapter, ReplacingAdapter):
            y = _replacing(call, share, site, adapter, x, y)
        elif isinstance(adapter, ChoosingAdapter):
            _choosing(call, share, site, adapter, x)
    return call.given_on(y).view(shape)


def _adding(call: Call, share: Share, site: Site, adapter: AddingAdapter, x: Tensor, y: Tensor) -> Tensor:
    """y [B, T, D] with one adding adapter's contribution on the share's rows."""
    weight, rows = call.weight_of(share), share.rows
    watched = call.collector is not None or call.observer is not None
    if rows is None and not watched:
        return adapter(x, y, weight=weight)[0]
    part = x if rows is None else x.index_select(0, rows)
    contribution = adapter.contribution(part, weight=weight)
    if watched:
        if contribution is not None:
            call.collect_delta(share, contribution.delta, contribution.index)
        if call.collector is not None and isinstance(adapter, ClassifyingAdapter):
            call.collect_classified(share, adapter.classified(part))
        call.observe(share, site.key, contribution=contribution, shape=part.shape[:2], x=part)
    return y if contribution is None else contribution.add_to(y, rows)


def _replacing(call: Call, share: Share, site: Site, adapter: Any, x: Tensor, y: Tensor) -> Tensor:
    """y [B, T, D] as a replacing adapter returns it for the share's rows, its state kept for the next call."""
    key, numbers = (share.name, site.key), share.numbers(call.batch)
    before: RowStates | None = call.states.get(key)
    weight = call.weight_of(share)
    kept: list[Piece] = []
    for rows, state in [(numbers, None)] if before is None else before.of(numbers):
        narrow, scale = share, weight
        if rows != numbers:
            narrow = replace(share, rows=call.index_of(rows, y.device))
            if isinstance(weight, Tensor):
                scale = weight[[numbers.index(row) for row in rows]]
        part, entered = call.rows_of(y, narrow), call.rows_of(x, narrow)
        told = {"mask": call.mask_of(narrow), "starts": call.starts_of(narrow)}
        new, state = adapter(entered, part, weight=scale, state=state, **told)
        new = new.to(y.dtype)
        if isinstance(scale, Tensor):
            new = torch.where(scale != 0, new, part)
        if call.collector is not None or call.observer is not None:
            call.collect_delta(narrow, new - part)
            call.observe(narrow, site.key, contribution=Contribution(new - part), shape=part.shape[:2], x=entered)
        y = new if narrow.rows is None else y.index_copy(0, narrow.rows, new)
        if state is not None:
            kept.append((rows, state.detach() if isinstance(state, Tensor) else state))
    if kept and not call.recomputing:
        call.next_states[key] = RowStates(kept if before is None else kept + before.others(numbers))
    return y


def _choosing(call: Call, share: Share, site: Site, adapter: ChoosingAdapter, x: Tensor) -> None:
    """Let an adapter say which slots each token of the share's rows sees; as with gates no gradient goes through x."""
    if call.recomputing:
        return
    key, rows = (share.name, site.key), share.rows
    before: Tensor | None = call.states.get(key)
    state = before if before is None or rows is None else select_rows(before, rows)
    told = call.mask_of(share), call.starts_of(share, by_turn=True)
    bias, state = adapter.choose(call.rows_of(x.detach(), share), state, *told)
    call.choices[share.name] = choice_among(bias)
    call.next_states[key] = state if rows is None else spread(state, rows, before, call.batch)
    call.observe(share, site.key, chosen=bias)


def keep_call_in_checkpoints(layers: list[nn.Module]) -> None:
    """Make gradient checkpointing recompute each layer under the selection that its forward saw.

    Raises:
        AddendaError: reentrant checkpointing would lose the gradient of a penalty, of a context gate or of registers.
    """
    for layer in layers:
        function = layer.__dict__.get("_gradient_checkpointing_func")
        if function is None:
            continue
        if _reentrant(function) and RUNTIME.call is not None:
            _refuse_reentrant(RUNTIME.call)
        if not getattr(function, "keeps_call", False):
            layer._gradient_checkpointing_func = _keeping(function)  # type: ignore[assignment]


def give_checkpoints_back(layers: list[nn.Module]) -> None:
    """Undo `keep_call_in_checkpoints`."""
    for layer in layers:
        function = layer.__dict__.get("_gradient_checkpointing_func")
        if getattr(function, "keeps_call", False):
            layer._gradient_checkpointing_func = function.wrapped  # type: ignore[union-attr]


def _refuse_reentrant(call: Call) -> None:
    """Refuse what crosses from layer to layer outside of the hidden states: the reentrant kind cuts it off there."""
    crossing = None if call.collector is None else "the local neutrality loss"
    for share in call.shares:
        if share.module.gate is not None:
            crossing = f"the context gate of '{share.name}'"
        elif any(getattr(adapter, "carries", False) for adapter in share.module.adapters.values()):
            crossing = f"'{share.name}', whose registers run through the layers,"
    if crossing is not None:
        raise AddendaError(
            f"{crossing} needs gradient checkpointing with use_reentrant=False: "
            "model.gradient_checkpointing_enable({'use_reentrant': False})"
        )


def _reentrant(function: Any) -> bool:
    inner = getattr(function, "wrapped", function)
    return bool(getattr(inner, "keywords", {}).get("use_reentrant", False))


def _keeping(function: Callable[..., Any]) -> Callable[..., Any]:
    def checkpointed(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = RUNTIME.call
        done = False

        def once(*a: Any, **k: Any) -> Any:
            nonlocal done
            recomputing, done = done, True
            with running(call, recomputing=recomputing):
                return run(*a, **k)

        return function(once, *args, **kwargs)

    checkpointed.keeps_call = True  # type: ignore[attr-defined]
    checkpointed.wrapped = function  # type: ignore[attr-defined]
    return checkpointed
