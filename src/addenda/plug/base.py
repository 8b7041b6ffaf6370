"""The base and its plug: modules made available, selected, and taken out again without a trace."""

from __future__ import annotations

import warnings
import weakref
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from addenda.bases.load import load_model
from addenda.bases.wrappers import unwrapped
from addenda.core.card import Card
from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError, UnsupportedError
from addenda.core.gate import GateMethod
from addenda.core.modes import own_modes
from addenda.core.module import KnowledgeModule, check_name, plugged
from addenda.core.registry import options_of, recorded
from addenda.core.standing import adapters_of, gate_for
from addenda.modulefile import storage
from addenda.modulefile.hub import resolve
from addenda.modulefile.peft_format import is_peft_folder, load_peft
from addenda.plug import selection as selecting
from addenda.plug.foreign import plug_cost
from addenda.plug.frozen import Frozen
from addenda.plug.selection import NOTHING, Names
from addenda.plug.trainable import OpenTrainables, Trainable
from addenda.remembering.text_memory import TextMemory
from addenda.text.records import check_unicode

_attached: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Base]] = weakref.WeakKeyDictionary()


def attach(model: nn.Module, tokenizer: Any = None, name: str | None = None) -> Base:
    """Attach to a loaded transformers causal LM; nothing about it changes until a module is plugged.

    Attaching again to a model that is attached gives the same base. What torch.compile, DDP, FSDP or accelerate wrapped is
    looked through.

    Args:
        model: as `AutoModelForCausalLM.from_pretrained` gives it; any dtype, device, quantisation or device map.
        tokenizer: its tokenizer, for the calls that take text.
        name: what cards call the base; default: where it was loaded from.

    Raises:
        AddendaError: it is not a causal LM of transformers, PEFT has rewritten it, or its weights are nowhere (meta).
        UnsupportedError: its architecture is not supported; says which are.
    """
    inside = unwrapped(model) if isinstance(model, nn.Module) else model
    known_base = _attached.get(inside) if isinstance(inside, nn.Module) else None
    base = known_base() if known_base is not None else None
    if base is None:
        base = Base(model, tokenizer, name)
        _attached[inside] = weakref.ref(base)
    elif tokenizer is not None:
        base.tokenizer = tokenizer
    return base


def load_base(name: str | Path = "tiny", dtype: torch.dtype | str | None = None, **options: Any) -> Base:
    """Load a base by name and attach to it: `tiny`, `smollm2`, `gemma3`, a `.gguf` file, a folder, or a hub id.

    `dtype` is the checkpoint's own if None, of `tiny` and GGUF files float32; `options` go to transformers'
    `from_pretrained`. The numbers of a GGUF file are made plain ones; its tokenizer and chat template come from it.

    Raises:
        AddendaError: nothing can be loaded under that name.
    """
    with own_modes(device=False):
        model, tokenizer, label = load_model(name, dtype, **options)
    return attach(model, tokenizer, label)


class Base(Frozen):
    """A frozen model with its sites. Made by `attach` or `load_base`; `model` and `tokenizer` are what was given."""

    def __init__(self, model: nn.Module, tokenizer: Any = None, name: str | None = None) -> None:
        super().__init__(model, tokenizer, name)
        self._trainables = OpenTrainables(self)

    def __repr__(self) -> str:
        plugged = (
            ", ".join(f"{name} ({type(m.kind).__name__})" for name, m in self._modules.items()) or "nothing plugged"
        )
        return f"Base({self.name}: {self.anatomy.model_type}, {self.anatomy.parameters:,} parameters; {plugged})"

    # -- making modules available ------------------------------------------------------------------------------

    def new(
        self, name: str, kind: Kind, *, gate: str | GateMethod | None = None, text: str | None = None, seed: int = 0
    ) -> KnowledgeModule:
        """A fresh module of a kind, available under `name` and not selected.

        Args:
            name: `[a-z0-9][a-z0-9._-]{0,63}`.
            kind: e.g. `addenda.NeutralResidues(extra=0.2)`.
            gate: what the whole module stands behind, whatever its kind: `"document"`, or a gate with its options. Adapters that
                run before it is known are left out: those below the layer where it reads.
            text: for kinds that start from text; without it they start at their first `train` call.
            seed: of the random part of the start.

        Raises:
            AddendaError: the name is taken or not a name, the seed is no seed, the options do not fit this base, or the module
                cannot start from the text; nothing is left plugged.
            UnsupportedError: this base cannot host the kind; says why.
        """
        self._free(name)
        if not isinstance(kind, Kind):
            what = f"the class {kind.__name__}" if isinstance(kind, type) else repr(kind)
            raise AddendaError(f"kind is one with its options, e.g. addenda.LoRA(rank=8); got {what}")
        if not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise AddendaError(f"seed is a whole number from 0 to 2**63 - 1; got {seed!r}")
        method = gate_for(kind, gate)
        refusal = self.refusal(kind.seam)
        if refusal is not None:
            raise UnsupportedError(f"{type(kind).__name__} on {self.name}: {refusal}")
        if text is not None and not kind.starts_from_text:
            raise AddendaError(f"{kind} does not start from text; leave text out or choose init='text'")
        ids = None if text is None else self.tokenize(text)
        with own_modes(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # a GPU's random state is the caller's
            record = self.record()  # first: it notices embeddings that were resized
            told = None if method is None or kind.module_gate is not None else recorded(method)
            card = Card(name=name, kind=type(kind).__name__, config=options_of(kind), gate=told, base=record)
            adapters, made = adapters_of(kind, self.anatomy, method)
            module = KnowledgeModule(name, kind, adapters, card, made)
            self._machinery.place(module)
            kind.prepare({key: module.adapter(key) for key in module.sites()}, self.reader)
        module.awaits_text = kind.starts_from_text  # anew: what it took from the base was no text
        if ids is not None:
            self._start(module, ids)
        self._insert(module)
        return module

    def start_from_text(self, name: str, ids: Tensor) -> None:
        """Start a module that awaits text from token ids [T], read by the base with every other module off.

        Ids that are laid out in pages [T, 3] (`addenda.text.pages.laid_out`) are taken as they are by kinds that have pages.
        """
        self._start(self._modules[name], ids)

    def _start(self, module: KnowledgeModule, ids: Tensor) -> None:
        if ids.dim() == 2 and not module.kind.takes_pages:
            ids = ids[:, 0]
        with own_modes():
            module.kind.start({key: module.adapter(key) for key in module.sites()}, ids, self.reader)
        module.awaits_text = False

    def remember(self, name: str, *texts: str) -> None:
        """Let a text memory take in turns or documents, one after the other.

        Raises:
            AddendaError: no such module is plugged, or it is none.
        """
        module = plugged(self._modules, name)
        if module.memory is None:
            raise AddendaError(
                f"'{name}' ({type(module.kind).__name__}) is no text memory, as addenda.HEMA() is; "
                "addenda.memorize writes a text into it"
            )
        held = module.memory
        for text in texts:
            check_unicode("a text", text)
            held = cast("TextMemory", module.kind).take(held, text)
        module.memory = held

    def plug(
        self,
        folder: str | Path,
        name: str | None = None,
        revision: str | None = None,
        *,
        check: str = "error",
        text: Any = None,
    ) -> KnowledgeModule:
        """Make a saved module available, from a folder, else from the hub. It is not selected.

        Args:
            folder: a module's folder, a PEFT LoRA folder, or a hub id.
            name: under which name; default: the card's.
            revision: of the hub repository.
            check: what to do where the card's base is not this one: "error", or "warn" for a copy of it: in float16, quantised,
                dequantised.
            text: with "warn": on which to measure what the module does here (`addenda.plug_cost`); a second warning tells it.

        Raises:
            FileError: nothing is there, or it is malformed, or made for another base; lists everything wrong.
            AddendaError: the name is taken.
        """
        if check not in ("error", "warn"):
            raise AddendaError(f"check is 'error' or 'warn'; got {check!r}")
        if text is not None and check != "warn":
            raise AddendaError("text is for check='warn': what the module does on it, on a base that is not its own")
        source = resolve(folder, revision)
        with own_modes():
            if is_peft_folder(source):
                module = load_peft(source, self, name=name)
            else:
                module = storage.load_module(source, self, name=name, check=check)
        self._free(module.name)
        self._machinery.place(module)
        self._insert(module)
        if text is not None and module.card.base.fingerprint != self.fingerprint:
            self._tell_cost(module.name, text)
        return module

    def _tell_cost(self, name: str, text: Any) -> None:
        try:
            warnings.warn(f"module '{name}': {plug_cost(self, name, text)}", UserWarning, stacklevel=3)
        except BaseException:  # a text that cannot be read, or a warning that is an error
            self.unplug(name)
            raise

    def unplug(self, name: str) -> None:
        """Take a module out. What it hooked is given back, and it leaves the default selection.

        Where another thread or task has it selected, the next forward there is a SelectionError.

        Raises:
            AddendaError: no such module is plugged.
        """
        plugged(self._modules, name)
        for trainable in self._trainables.naming(name):
            trainable.close()
        del self._modules[name]
        if name in self._selected.get().names():
            self._select(self._selected.get().without(name))
        self._machinery.refit()

    def detach(self) -> None:
        """Unplug everything and let go of the model, which is then what it was before `attach`, to every thread."""
        for name in list(self._modules):
            self.unplug(name)
        self._select(NOTHING)
        self._machinery.close()
        _attached.pop(self.host.model, None)

    # -- for training and measuring ----------------------------------------------------------------------------

    def trainable(self, name: str, alongside: Names = ()) -> Trainable:
        """An `nn.Module` with the model's forward and config whose parameters are the module's alone.

        For Trainer, DDP, accelerate: see `Trainable`. The base is frozen until it is closed, unplugged or detached.
        """
        self._checked(selecting.for_all({name: 1.0}, alongside))
        return Trainable(self, name, selecting.weights_of(alongside), self._trainables)

    # -- inside ------------------------------------------------------------------------------------------------

    def _free(self, name: str) -> None:
        if check_name(name) in self._modules:
            raise AddendaError(
                f"a module '{name}' is plugged already; unplug it first, or take another name (NAME=FOLDER)"
            )

    def _insert(self, module: KnowledgeModule) -> None:
        module.writer = storage.save_module
        self._modules[module.name] = module
        try:
            self._machinery.refit()
        except BaseException:
            del self._modules[module.name]
            raise
