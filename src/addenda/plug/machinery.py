"""The machinery between a base and its modules: hooks fitted to what is plugged, a call made for each forward."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from addenda.bases.around import residual_of
from addenda.bases.attention import AttentionSwitch
from addenda.bases.cache import keep_states, states_in
from addenda.bases.fusing import Fusion, hook_fused
from addenda.bases.hooks import (
    Forward,
    Replaced,
    follow,
    give_checkpoints_back,
    hook_attention,
    hook_entry,
    hook_norm,
    hook_output,
    keep_call_in_checkpoints,
)
from addenda.bases.host import Host
from addenda.bases.mixing import hook_head, hook_notes, with_notes
from addenda.bases.reading import BaseReader
from addenda.core.call import RUNTIME, Call, Share, Watch, recalled_in
from addenda.core.contracts import AttentionAdapter, HeadAdapter
from addenda.core.errors import UnsupportedError
from addenda.core.gate import starts_of
from addenda.core.logits import Finish
from addenda.core.modes import compiling, own_modes
from addenda.core.module import KnowledgeModule
from addenda.core.site import Seam, Site
from addenda.core.state import KeyValues
from addenda.plug.selection import Selection, astray
from addenda.plug.turns import SAID, begun, heard, last_turn, turn_mark
from addenda.text.prompting import check_ids

#: transformers' continuous batching, by the names of what starts it
_IN_A_THREAD = ("generate_batch", "init_continuous_batching")


class Plugs(Protocol):
    """What the machinery asks of a base: its modules, and what is chosen of them in this thread or task."""

    host: Host
    reader: BaseReader
    tokenizer: Any
    #: a plain dict: compilers trace no other
    _modules: dict[str, KnowledgeModule]

    @property
    def selection(self) -> Selection: ...  # noqa: D102
    @property
    def fusion(self) -> Fusion | None: ...  # noqa: D102
    @property
    def astray(self) -> bool: ...  # noqa: D102


class Machinery:
    """Fits hooks to what is plugged, and makes a `Call` for each forward of the base."""

    def __init__(self, base: Plugs) -> None:
        self.base = base
        self.host = base.host
        self._fitted: dict[tuple[str, str], Replaced | AttentionSwitch] = {}
        self._slots: dict[str, tuple[Any, dict[str, KeyValues]]] = {}
        # made in any thread or task, and not given up there: some context or block still holds them
        self._alive: weakref.WeakSet[Selection] = weakref.WeakSet()
        #: fusions that some block, or a context copied inside it, still holds
        self.fusions: weakref.WeakSet[Fusion] = weakref.WeakSet()
        #: the token ids with which the user begins to speak, where a gate asks for them
        self._mark: tuple[int, ...] = ()
        self._closed = False
        self._refitting = threading.RLock()

    # -- hooks -------------------------------------------------------------------------------------------------

    def selected(self, chosen: Selection) -> None:
        """Note a selection. While one that is not empty lives, forwards are looked at even if nothing is plugged.

        Else a thread whose module was unplugged by another, or whose rows do not fit, would get the bare base in silence.
        """
        if not chosen.empty and not self._closed:
            self._alive.add(chosen)
        if not self.base._modules and bool(self._alive) != bool(self._fitted):
            self.refit()

    def fuse(self, fusion: Fusion) -> None:
        """Hook the matrices that a fusion has copies of, for as long as anything holds it."""
        with self._refitting:
            self.fusions.add(fusion)
            self._refit()

    def close(self) -> None:
        """Take every hook off, whatever is selected anywhere."""
        self._closed = True
        self._alive.clear()
        self.fusions.clear()
        self.refit()

    def refit(self) -> None:
        """Put hooks where plugged modules need them and nowhere else."""
        with self._refitting:
            self._refit()

    def _refit(self) -> None:
        wanted = self._wanted()
        by_turn = any(module.by_turn for module in self.base._modules.values())
        self._mark = turn_mark(self.base.tokenizer) if by_turn else ()
        gone = [key for key in self._fitted if key not in wanted]
        # two of ours may stand on one submodule (OPT's fc1): off from the top down, then back what stays
        places = {id(self._fitted[key].module) for key in gone}
        for key in [key for key in reversed(self._fitted) if id(self._fitted[key].module) in places]:
            self._fitted.pop(key).undo()
        for key, fit in wanted.items():
            if key not in self._fitted:
                self._fitted[key] = fit()
        if not wanted:
            give_checkpoints_back(self.host.layers)
        if any(part == "switch" for part, _ in self._fitted):
            self.base.reader.prepare()  # while nothing is being compiled
        for name in [name for name in self._slots if name not in self.base._modules]:
            del self._slots[name]

    def place(self, module: KnowledgeModule) -> None:
        """Put each adapter of a module, and its gate, on the device of its site."""
        with own_modes():
            for key in module.sites():
                follow(module.adapter(key), self.host.device_at(self.host.site(key).path))
            if module.gate is not None:
                module.gate.to(self.host.device_at(self.host.site(module.gate.site).path))

    def _wanted(self) -> dict[tuple[str, str], Any]:
        host, wanted = self.host, {}
        modules = self.base._modules.values()
        fused = dict.fromkeys(path for fusion in list(self.fusions) for path in fusion.matrices)
        if not modules and not self._alive and not fused:
            return {}
        wanted["call", ""] = lambda: Replaced(host.inner, self._around_forward)
        wanted["generate", ""] = lambda: Replaced(host.model, self._around_generate, "generate")
        for name in _IN_A_THREAD:
            if hasattr(host.model, name):
                wanted["batching", name] = partial(Replaced, host.model, self._around_batching, name)
        touched = {key for module in modules for key in module.sites()}
        touched |= {module.gate.site for module in modules if module.gate is not None}
        outputs: dict[str, list[Site]] = {}
        for site in host.anatomy.sites:
            if site.key not in touched:
                continue
            submodule = host.submodule(site.path)
            if site.seam is Seam.HEAD:
                wanted["head", site.key] = partial(hook_head, submodule, host.anatomy.width, Finish.of(host.config))
                for key in sorted({adapter.reads for adapter in _at_head(modules, site)}):
                    place = host.site(key)
                    wanted["notes", key] = partial(hook_notes, host.submodule(place.entry), place, site)
                continue
            if site.seam is Seam.ATTENTION:
                wanted["input", site.key] = partial(hook_attention, submodule, site)
                wanted["switch", site.key] = partial(AttentionSwitch, submodule, site)
                norm = host.input_norm(site.layer)
                if norm is not None and any(_enters_unnormalised(other, site) for other in modules):
                    wanted["norm", site.key] = partial(hook_norm, norm)
                continue
            if any(site.key in module.around for module in modules):
                norm = host.ffn_norm(site.layer)
                if norm is not None:
                    wanted["residual", site.key] = partial(hook_entry, norm, residual_of(site.key))
            # several sites may share one submodule (LoRA on OPT's fc2, its FFN's exit): linear ones come first
            outputs.setdefault(site.path, []).append(site)
            if site.entry != site.path:
                wanted["entry", site.key] = partial(hook_entry, host.submodule(site.entry), site.key)
        for path, sites in outputs.items():
            sites.sort(key=lambda site: site.seam is Seam.FFN)
            keys = "+".join(site.key for site in sites)
            wanted["output", keys] = partial(hook_output, host.submodule(path), sites, host.ffn_post(sites[0].layer))
        for path in fused:
            wanted["fused", path] = partial(hook_fused, host.submodule(path), path, lambda: self.base.fusion)
        return wanted

    # -- calls -------------------------------------------------------------------------------------------------

    def _around_forward(self, original: Forward, me: Replaced) -> Forward:
        positions = {name: number for number, name in enumerate(inspect.signature(original).parameters)}

        def find(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            at = positions.get(name, len(args))
            return kwargs[name] if name in kwargs else args[at] if at < len(args) else None

        def forward(*args: Any, **kwargs: Any) -> Any:
            chosen = self.base.selection
            if not me.live or RUNTIME.call is not None or RUNTIME.bare:
                return original(*args, **kwargs)
            if chosen.empty and self.base.astray:
                raise astray()
            fusion = self.base.fusion
            if fusion is not None and not compiling():
                fusion.refresh()
            if fusion is not None or chosen.empty:
                return original(*args, **kwargs)
            tokens = find("input_ids", args, kwargs)
            self._check_ids(tokens)
            tokens = find("inputs_embeds", args, kwargs) if tokens is None else tokens
            cache = find("past_key_values", args, kwargs)
            marks = {name: find(name, args, kwargs) for name in ("attention_mask", "position_ids", "cu_seq_lens_q")}
            call = self._call(chosen, tokens, cache, **marks)
            if not call.shares:  # the rows were counted, and none selects anything
                return original(*args, **kwargs)
            RUNTIME.call = call
            try:
                if self.host.inner.training and torch.is_grad_enabled():
                    keep_call_in_checkpoints(self.host.layers)
                out = with_notes(call, original(*args, **kwargs))
            finally:
                RUNTIME.call = None
            if call.next_states:
                kept = cache if cache is not None else getattr(out, "past_key_values", None)
                keep_states(kept, call.next_states, call.batch)
            return out

        return forward

    def _check_ids(self, ids: Any, anywhere: bool = False) -> None:
        """Say what is wrong with ids beyond the embeddings; on a GPU, which would have to be waited for, once a `generate`."""
        if compiling() or type(ids) is not Tensor or ids.is_floating_point() or ids.is_meta or not ids.numel():
            return
        if anywhere or ids.device.type == "cpu":
            check_ids(ids, self.host.vocabulary())

    def _call(
        self, chosen: Selection, tokens: Tensor, cache: Any, attention_mask: Any, position_ids: Any, cu_seq_lens_q: Any
    ) -> Call:
        batch, length = tokens.shape[0], tokens.shape[1]
        shares: list[Share] = chosen.shares(self.base._modules, batch, RUNTIME.prompts, tokens.device)
        if any(share.module.memory is not None for share in shares):
            _check_recalled(shares, RUNTIME.recalled | recalled_in(tokens))
            shares = [share for share in shares if share.module.memory is None]
        stateful = False
        for share in shares:
            if share.module.kind.seam is Seam.ATTENTION:
                share.key_values = self._key_values(share.module)
            stateful = stateful or share.module.stateful
        mask = _real(attention_mask, length, cache) if stateful else None
        states = states_in(cache) if stateful else {}
        starts = None
        if stateful and RUNTIME.watch.documents is not None:
            starts = starts_of(RUNTIME.watch.documents)
        elif stateful:
            starts = _packed(position_ids, cu_seq_lens_q, tokens)
        call = Call(shares, batch, length, mask, states, RUNTIME.watch, starts)
        if self._mark and any(share.module.by_turn for share in shares) and not tokens.is_floating_point():
            call.turns, said = begun(tokens, self._mark, states.get(SAID))
            call.next_states |= {SAID: said} if said.shape[1] else {}
            if RUNTIME.last_turns is not None:
                start = 0 if cache is None else cache.get_seq_length()
                call.heard = heard(RUNTIME.last_turns, batch, length, start)
        return call

    def _key_values(self, module: KnowledgeModule) -> dict[str, KeyValues]:
        """A module's keys and values, computed anew only where its parameters, or the base's weights or place, changed."""
        if compiling():
            return self.base.reader.materialise(module)
        if torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters()):
            self.place(module)
            return self.base.reader.materialise(module)  # not kept: that would hold the graph
        version = (module.version(), self.host.version(), self.host.dtype(), self.host.device())
        kept = self._slots.get(module.name)
        if kept is None or kept[0] != version:
            self.place(module)
            version = (module.version(), *version[1:])
            with torch.no_grad(), own_modes():
                kept = (version, self.base.reader.materialise(module))
            self._slots[module.name] = kept
        return kept[1]

    def _around_generate(self, original: Forward, me: Replaced) -> Forward:
        def generate(inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
            given = next((kwargs[n] for n in ("input_ids", "inputs_embeds") if kwargs.get(n) is not None), inputs)
            self._check_ids(given, anywhere=True)
            if me.live and self.base.astray:
                if kwargs.get("streamer") is not None:
                    kwargs["streamer"].end()  # who reads from it, mostly in another thread, would wait for ever
                raise astray()
            before = RUNTIME.prompts, RUNTIME.recalled, RUNTIME.last_turns
            RUNTIME.prompts, RUNTIME.recalled = 1 if given is None else len(given), recalled_in(given)
            RUNTIME.last_turns = None
            if self._mark and isinstance(given, Tensor) and given.dim() == 2 and not given.is_floating_point():
                RUNTIME.last_turns = last_turn(given, self._mark)
            try:
                return original(inputs, *args, **kwargs)
            finally:
                RUNTIME.prompts, RUNTIME.recalled, RUNTIME.last_turns = before

        return generate

    def _around_batching(self, original: Forward, me: Replaced) -> Forward:
        def batching(*args: Any, **kwargs: Any) -> Any:
            if me.live and (not self.base.selection.empty or self.base.astray):
                raise UnsupportedError(
                    f"{original.__name__} runs the model in a thread of its own, many prompts in one row, where no module acts; "
                    "call model.generate, or `with base.off():` around it for the bare base"
                )
            return original(*args, **kwargs)

        return batching


def _check_recalled(shares: list[Share], recalled: frozenset[str]) -> None:
    """Refuse token ids that text memories were not asked for: they would read as if the memory were off."""
    for share in shares:
        if share.module.memory is not None and share.name not in recalled:
            raise UnsupportedError(
                f"'{share.name}' is text in the window, which these token ids do not begin with: give the model what "
                "base.prompts([...]) returns under the same selection, as it is, or leave the memory out of the selection"
            )


def _at_head(modules: Iterable[KnowledgeModule], site: Site) -> Iterator[HeadAdapter]:
    """What modules have at the head."""
    for module in modules:
        adapter = module.adapters._modules.get(site.key)
        if isinstance(adapter, HeadAdapter):
            yield adapter


def _enters_unnormalised(module: KnowledgeModule, site: Site) -> bool:
    """Whether a module's registers run through a layer without its input norm."""
    adapter = module.adapters._modules.get(site.key.replace(".", "/"))
    return isinstance(adapter, AttentionAdapter) and adapter.carries and not adapter.normalise


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Watch the forwards of a block, in this thread."""
    before, RUNTIME.watch = RUNTIME.watch, watch
    try:
        yield
    finally:
        RUNTIME.watch = before


def _packed(position_ids: Any, cu_seq_lens: Any, tokens: Tensor) -> Tensor | None:
    """Where the documents of packed rows begin [B, T], as transformers marks them; None where it says nothing.

    Positions that start again at zero, or do not go on, begin a document; so do FlashAttention's sequence bounds.
    """
    batch, length = tokens.shape[:2]
    if cu_seq_lens is not None:
        at = torch.arange(length, device=cu_seq_lens.device)
        return torch.isin(at, cu_seq_lens).expand(batch, length)
    if not isinstance(position_ids, Tensor) or position_ids.dim() != 2 or position_ids.shape[1] != length:
        return None
    starts = position_ids == 0
    starts[:, 1:] |= position_ids[:, 1:] <= position_ids[:, :-1]
    return starts.expand(batch, length)


def _real(attention_mask: Any, length: int, cache: Any) -> Tensor | None:
    """Which of the current tokens [B, T] are real, from whatever form of mask the model was given; None for all."""
    if isinstance(attention_mask, dict):  # one mask per layer type, as generate prepares them for static caches
        attention_mask = next((mask for mask in attention_mask.values() if mask is not None), None)
    if attention_mask is None:
        return None
    if attention_mask.dim() == 2:
        return attention_mask[:, -length:].bool()
    # [B, 1, T, Tk]: a token is real where it may see itself
    at = torch.arange(length, device=attention_mask.device)
    start: int | Tensor = 0 if cache is None else cache.get_seq_length()
    if isinstance(start, Tensor):  # of a static cache: not to be waited for
        start = start.to(at.device, non_blocking=True)
    seen = attention_mask[:, 0, at, (start + at).clamp(max=attention_mask.shape[-1] - 1)]
    return seen if seen.dtype == torch.bool else seen == 0
