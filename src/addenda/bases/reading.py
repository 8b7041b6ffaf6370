"""The base reading for its modules: registers run through its layers, text read for its states, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from addenda.bases.hooks import first_of, of_this_thread
from addenda.bases.host import Host
from addenda.core.call import RUNTIME, running
from addenda.core.contracts import Adapter, AddingAdapter, AttentionAdapter
from addenda.core.modes import eagerly, evaluating, own_modes
from addenda.core.module import KnowledgeModule
from addenda.core.site import Seam, Site
from addenda.core.state import KeyValues
from addenda.core.units import Units

#: tokens read at a time where a text is longer
ROW = 512


#: from what enters a site and what leaves it to what shall leave it
Change = Callable[[Tensor | None, Tensor], Tensor]


class _Enough(Exception):
    """Ends a forward once what was looked for is known."""


class BaseReader:
    """Reads through a host with every module off. Implements `contracts.Reader` and materialises registers."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._arguments: tuple[Any, list[dict[str, Any]]] | None = None

    @torch.no_grad()
    def hidden_states(self, ids: Tensor) -> list[Tensor]:
        """The residual stream that enters each layer, [T, D] per layer, for token ids [T]."""
        # not output_hidden_states=True: it would leave transformers' capturing hooks in the base for good
        seen: list[Tensor] = []

        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append((args[0] if args else kwargs["hidden_states"])[0])

        with ExitStack() as stack, running(None), evaluating(self.host.model):
            for layer in self.host.layers:
                stack.callback(layer.register_forward_pre_hook(of_this_thread(note), with_kwargs=True).remove)
            self.host.inner(input_ids=self._row(ids), attention_mask=self._row(torch.ones_like(ids)), use_cache=False)
        return seen

    @contextmanager
    def layer_outputs(self) -> Iterator[list[Tensor]]:
        """What each layer gives on [B, T, D] in the block's one forward, with whatever is selected and its gradient."""
        seen: list[Tensor] = []

        def note(_: nn.Module, __: Any, out: Any) -> None:
            seen.append(out[0] if isinstance(out, tuple) else out)

        with ExitStack() as stack:
            stack.enter_context(eagerly())
            for layer in self.host.layers:
                stack.callback(layer.register_forward_hook(of_this_thread(note)).remove)
            yield seen

    @contextmanager
    def changed(self, changes: Mapping[str, Change]) -> Iterator[None]:
        """For forwards of a block, what leaves some sites is what their changes make of it.

        Args:
            changes: by site key, from what enters (None where that is given by name alone) and what leaves, [B, T, D], to what
                shall leave.
        """

        def hook(change: Change) -> Any:
            def note(_: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
                y = out[0] if isinstance(out, tuple) else out
                made = change(args[0] if args else None, y)
                return (made, *out[1:]) if isinstance(out, tuple) else made

            return note

        with ExitStack() as stack:
            stack.enter_context(eagerly())
            for key, change in changes.items():
                part = self.host.submodule(self.host.site(key).path)
                stack.callback(part.register_forward_hook(of_this_thread(hook(change))).remove)
            yield

    @torch.no_grad()
    def entries(self, sites: Sequence[Site], ids: Tensor, **extra: Tensor) -> dict[str, Tensor]:
        """What enters each of some sites [R, T, D], by key, for rows of token ids [R, T], and what else the base is given.

        The layers above the last site are not run.
        """
        seen: dict[str, Tensor] = {}

        def note(key: str) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                x = args[0] if args else kwargs["hidden_states"]
                seen[key] = x.reshape(*ids.shape, -1)  # OPT flattens rows
                if len(seen) == len(sites):
                    raise _Enough

            return hook

        with ExitStack() as stack, running(None), evaluating(self.host.model):
            stack.enter_context(eagerly())
            for site in sites:
                entry = self.host.submodule(site.entry)
                stack.callback(entry.register_forward_pre_hook(of_this_thread(note(site.key)), with_kwargs=True).remove)
            stack.enter_context(suppress(_Enough))
            self.host.inner(input_ids=ids.to(self._device()), use_cache=False, **extra)
        return seen

    @torch.no_grad()
    def residuals(self, sites: Sequence[str], ids: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The residual stream [T, D] before and after each of some FFNs, by key, for token ids [T]."""
        longest = getattr(self.host.config, "max_position_embeddings", None) or ROW
        before: dict[str, list[Tensor]] = {key: [] for key in sites}
        after: dict[str, list[Tensor]] = {key: [] for key in sites}

        def enters(key: str) -> Any:
            return lambda _, args, kwargs: before[key].append(first_of(args, kwargs).flatten(0, -2))

        def leaves(key: str, post: nn.Module | None) -> Any:
            def hook(_: nn.Module, __: Any, y: Tensor) -> None:
                after[key].append(before[key][-1] + (y if post is None else post(y)).flatten(0, -2))

            return hook

        with ExitStack() as stack, running(None), evaluating(self.host.model):
            stack.enter_context(eagerly())
            for site in map(self.host.site, sites):
                norm, ffn = self.host.ffn_norm(site.layer), self.host.submodule(site.path)
                reads = self.host.submodule(site.entry) if norm is None else norm
                post = self.host.ffn_post(site.layer)
                hook = of_this_thread(enters(site.key))
                stack.callback(reads.register_forward_pre_hook(hook, with_kwargs=True).remove)
                stack.callback(ffn.register_forward_hook(of_this_thread(leaves(site.key, post))).remove)
            for row in ids.split(min(ROW, longest)):
                self.host.inner(input_ids=self._row(row), use_cache=False)
        return {key: (torch.cat(before[key]), torch.cat(after[key])) for key in sites}

    def inputs(self, sites: Sequence[str], ids: Tensor) -> dict[str, Tensor]:
        """What enters each of some sites [T, D], by key, for token ids [T], read in rows that fit the base's context."""
        longest = getattr(self.host.config, "max_position_embeddings", None) or ROW
        parts = [
            self.entries([self.host.site(key) for key in sites], row[None]) for row in ids.split(min(ROW, longest))
        ]
        return {key: torch.cat([part[key][0] for part in parts]) for key in sites}

    def units(self, layer: int) -> Units:
        """The hidden units of a layer's FFN, as they are in the base."""
        return self.host.units(layer)

    @torch.no_grad()
    def key_values(self, ids: Tensor, beside: Mapping[str, Adapter] | None = None) -> list[KeyValues]:
        """Keys and values [G, T, K] per layer for token ids [T], the text standing just before position zero.

        Where positions are learned rather than rotary there is nothing before zero: the text then starts at zero. What adding
        adapters among `beside`, by site key, add is added.
        """
        adding = {key: _added_by(a) for key, a in (beside or {}).items() if isinstance(a, AddingAdapter)}
        cache, extra = DynamicCache(), {}
        if self.host.table.rotary:
            extra["position_ids"] = torch.arange(-len(ids), 0, device=self._device())[None]
        with running(None), evaluating(self.host.model), self.changed(adding):
            self.host.inner(input_ids=self._row(ids), past_key_values=cache, use_cache=True, **extra)
        layers: list[Any] = cache.layers
        return [(layer.keys[0], layer.values[0]) for layer in layers]

    def materialise(self, module: KnowledgeModule) -> dict[str, KeyValues]:
        """Keys and values [G, S, K] of an attention module at each of its sites, with a gradient where one is wanted.

        States stand before the text and attend causally among themselves, so they do not depend on it.
        """
        key_values: dict[str, KeyValues] = {}
        carry: Tensor | None = None
        with running(None):
            for site in self.host.anatomy.at(Seam.ATTENTION):
                if site.key.replace(".", "/") not in module.adapters:
                    continue
                adapter = module.adapter(site.key)
                if not isinstance(adapter, AttentionAdapter):  # it chooses among the slots above
                    continue
                given = adapter.key_values()
                if given is None:
                    # layers may be on several devices, and each adapter is where its layer is
                    states = adapter.states(carry if carry is None else carry.to(adapter.device))
                    assert states is not None
                    given, carry = self._project(site.layer, states, adapter)
                key_values[site.key] = given
        return key_values

    def _project(self, number: int, states: Tensor, adapter: AttentionAdapter) -> tuple[KeyValues, Tensor | None]:
        """Keys and values of states [S, D] at a layer, and the layer's output on them where the adapter carries it."""
        layer, attention = self.host.layers[number], self.host.attention_of(number)
        norm = self.host.input_norm(number)
        x = states.to(self.host.dtype())[None]
        arguments = self._layer_arguments()[number]
        before, RUNTIME.capture = RUNTIME.capture, []
        RUNTIME.passing = None if adapter.normalise else norm
        try:
            if adapter.carries:
                mask = _causal(x)
                with _plain(layer):
                    out = layer(x, **arguments["layer"], attention_mask=mask)
                carry = (out[0] if isinstance(out, tuple) else out)[0]
            else:
                x = norm(x) if norm is not None and adapter.normalise else x
                attention(x, **arguments["attention"], attention_mask=_causal(x))
                carry = None
            return RUNTIME.capture[-1], carry
        finally:
            RUNTIME.capture, RUNTIME.passing = before, None

    def prepare(self) -> None:
        """Record what layers are called with, so that compiled code finds it known."""
        self._layer_arguments()

    def _layer_arguments(self) -> list[dict[str, Any]]:
        """What each layer and its attention are called with at position zero, where rotation is the identity.

        Recorded from the base's own forward on one token, so no architecture needs code of its own.
        """
        key = (self.host.dtype(), self._device())
        if self._arguments is not None and self._arguments[0] == key:
            return self._arguments[1]
        seen: list[dict[str, Any]] = [{} for _ in self.host.layers]
        drop = {"attention_mask", "hidden_states"}

        def note(number: int, part: str) -> Any:
            def hook(_: nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
                kept = {k: v for k, v in kwargs.items() if k not in drop and "past" not in k}
                seen[number][part] = kept | {"use_cache": False} if "use_cache" in kwargs else kept

            return hook

        with ExitStack() as stack, own_modes(), torch.no_grad(), running(None), evaluating(self.host.model):
            for number, layer in enumerate(self.host.layers):
                handle = layer.register_forward_pre_hook(note(number, "layer"), with_kwargs=True)
                stack.callback(handle.remove)
                attention = self.host.attention_of(number)
                handle = attention.register_forward_pre_hook(note(number, "attention"), with_kwargs=True)
                stack.callback(handle.remove)
            token = torch.ones(1, 1, dtype=torch.long, device=self._device())
            self.host.inner(input_ids=token, attention_mask=token, use_cache=False)
        self._arguments = (key, seen)
        return seen

    def _row(self, ids: Tensor) -> Tensor:
        return ids.to(self._device())[None]

    def _device(self) -> torch.device:
        """Where token ids go in; the CPU where the embedding is not in memory."""
        device = self.host.device()
        return device if device.type != "meta" else torch.device("cpu")


def _added_by(adapter: AddingAdapter) -> Change:
    """The change that an adapter makes beside its site."""

    def change(x: Tensor | None, y: Tensor) -> Tensor:
        assert x is not None
        return adapter(x.view(1, -1, x.shape[-1]), y.view(1, -1, y.shape[-1]))[0].view(y.shape)  # OPT flattens rows

    return change


def _causal(x: Tensor) -> Tensor:
    """An additive causal mask [1, 1, S, S] for states x [1, S, D]: the same for every implementation."""
    slots = x.shape[1]
    mask = torch.full((slots, slots), torch.finfo(x.dtype).min, dtype=x.dtype, device=x.device)
    return mask.triu(1)[None, None]


@contextmanager
def _plain(layer: nn.Module) -> Iterator[None]:
    """Run a layer without gradient checkpointing: keys and values leave it."""
    checkpointing = layer.__dict__.get("gradient_checkpointing")
    if checkpointing:
        layer.gradient_checkpointing = False  # type: ignore[assignment]
    try:
        yield
    finally:
        if checkpointing:
            layer.gradient_checkpointing = checkpointing  # type: ignore[assignment]
