"""A frozen model as training, measuring and prompts see it: its sizes and sites, its fingerprint, its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from addenda.bases.fingerprint import Identity, identity
from addenda.bases.host import Host, check_its_own
from addenda.bases.reading import BaseReader
from addenda.bases.wrappers import plain_name, unwrapped
from addenda.core.call import Collector, Watch, mark_recalled
from addenda.core.card import BaseRecord
from addenda.core.errors import AddendaError, SelectionError
from addenda.core.modes import own_modes
from addenda.core.site import Anatomy, Seam
from addenda.plug.choosing import Choosing
from addenda.plug.freeze import Freeze
from addenda.plug.machinery import watching
from addenda.remembering.text_memory import TextMemory
from addenda.text.prompting import bare_ids, check_ids, prepared


class Frozen(Choosing):
    """What a base is, but for plugging: everything that reads a base, and changes nothing of it, asks this of it."""

    def __init__(self, model: nn.Module, tokenizer: Any = None, name: str | None = None) -> None:
        self.tokenizer = tokenizer
        if isinstance(model, nn.Module):
            check_its_own(unwrapped(model))
        self.host = Host(model)
        # DDP hands nothing on that transformers' models can do; torch.compile and FSDP do
        self.model: Any = model if hasattr(model, "config") else self.host.model
        loaded_from = getattr(self.host.config, "_name_or_path", "")
        # a local path is nobody else's business: its last part will do
        loaded_from = Path(loaded_from).name if Path(loaded_from).is_dir() else loaded_from
        self.name = name or loaded_from or self.anatomy.model_type
        self.reader = BaseReader(self.host)
        super().__init__()
        #: the version of the base's weights, and what they are
        self._identity: tuple[int, Identity] | None = None
        self._first: str | None = None
        self._freeze = Freeze(self.host.model)

    def frozen(self) -> Any:
        """No base parameter wants a gradient inside the block; every flag is put back after the last such block."""
        return self._freeze

    def watching(
        self, collector: Collector | None = None, documents: Tensor | None = None, observer: Any = None
    ) -> Any:
        """For a block of forwards: collect penalties, give document ids [B, T], or observe what runs at each site."""
        return watching(Watch(collector, documents, observer))

    @property
    def device(self) -> torch.device:
        """Where token ids go in."""
        return self.host.device()

    @property
    def vocabulary(self) -> int:
        """How many token ids the model has embeddings for."""
        return self.host.vocabulary()

    @property
    def context(self) -> int | None:
        """The longest text in tokens that the model has positions for, as its configuration says; None: nothing."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @property
    def anatomy(self) -> Anatomy:
        """Sizes and sites, as kinds may know them."""
        return self.host.anatomy

    @property
    def fingerprint(self) -> str:
        """The base's fingerprint, computed once, and anew after its weights were written to or its embeddings resized."""
        return self._known().fingerprint

    def _known(self) -> Identity:
        version = self.host.version()
        if self.host.resized() or self._identity is None or self._identity[0] != version:
            self._identity = version, identity(self.model)
            self._first = self._first or self._identity[1].fingerprint
        return self._identity[1]

    @property
    def first_fingerprint(self) -> str:
        """The fingerprint that the base had when it was asked for first: at its first module, at the latest."""
        return self._first or self.fingerprint

    def record(self) -> BaseRecord:
        """What a card says of this base."""
        known = self._known()
        return BaseRecord(
            name=self.name,
            model_type=self.anatomy.model_type,
            fingerprint=known.fingerprint,
            parameters=self.anatomy.parameters,
            architecture=known.fields,
            body=known.body,
        )

    def tokenize(self, text: str, *, system: str | None = None, raw: bool | None = True) -> Tensor:
        """Token ids [T] of a text that is to be gone on with: the tokenizer's bos if it wants one, and no closing token.

        Args:
            text: a text; or, in the chat's form, what the user asks.
            system: in the chat's form, what the model is told first.
            raw: the text as it stands; False: in the chat's form; None: as the base was trained.

        Raises:
            AddendaError: the base was attached without a tokenizer, or its chat template refuses the text.
            DataError: the model has no embedding for a token.
        """
        told = prepared(self._reads(), text, system=system, raw=raw)[0]
        ids = torch.tensor(told, dtype=torch.long, device="cpu")  # whatever the caller's default device
        check_ids(ids, self.vocabulary)
        return ids

    def after(self, text: str) -> Tensor:
        """Token ids [T] of a text that goes on with a prompt: nothing is put before it or after.

        Raises:
            AddendaError: the base was attached without a tokenizer.
            DataError: the model has no embedding for a token.
        """
        ids = torch.tensor(bare_ids(self._reads(), text), dtype=torch.long, device="cpu")
        check_ids(ids, self.vocabulary)
        return ids

    @own_modes()
    def prompts(self, texts: Sequence[str], *, system: str | None = None, raw: bool | None = None) -> dict[str, Tensor]:
        """Prompts for `base.model.generate(**base.prompts([...]))`: `input_ids` and `attention_mask`, both [B, T].

        In the chat's form where the model has learned one; padded on the left, whatever the tokenizer's own side is, so that
        every answer begins at column T.

        Args:
            texts: B prompts.
            system: what the model is told first, in the chat's form.
            raw: True: the texts as they stand; False: in the chat's form; None: as the base was trained.

        Raises:
            AddendaError: as `tokenize`; or there is no text, or one has no token.
        """
        if isinstance(texts, str) or not texts:
            raise AddendaError("prompts takes a list of texts, at least one")
        rows = [
            self.asked(text, system=system, raw=raw, number=number, count=len(texts))
            for number, text in enumerate(texts)
        ]
        if not all(map(len, rows)):
            raise AddendaError("a prompt has no token; give a text to continue")
        ids = pad_sequence(rows, batch_first=True, padding_side="left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
        pad = self.tokenizer.pad_token_id
        ids = ids.masked_fill(mask == 0, 0 if pad is None or pad >= self.vocabulary else pad)
        return {
            "input_ids": mark_recalled(ids.to(self.device), self.text_memories()),
            "attention_mask": mask.to(self.device),
        }

    def asked(
        self, text: str, *, system: str | None = None, raw: bool | None = None, number: int = 0, count: int = 1
    ) -> Tensor:
        """Token ids [T] of prompt `number` of `count`, with what the text memories that it selects recall for it before it.

        Raises:
            AddendaError: as `tokenize`.
            SelectionError: a text memory has another weight than 1.
        """
        told = self.with_recalled(text, number, count)
        return mark_recalled(self.tokenize(told, system=system, raw=raw), self.text_memories())

    def text_memories(self) -> frozenset[str]:
        """The names of those that are selected."""
        held = self._modules
        return frozenset(name for name in self.selection.names() if name in held and held[name].memory is not None)

    def with_recalled(self, text: str, number: int = 0, count: int = 1) -> str:
        """A prompt after what the text memories that it selects recall for it, in name order; itself where there are none."""
        memories = self.text_memories()
        if not memories:
            return text

        def tokens(said: str) -> int:
            return len(self._reads()(said, add_special_tokens=False, verbose=False)["input_ids"])

        chosen = self.selection.of_prompt(number, count)
        found: list[str] = []
        for name in sorted(memories & chosen.keys()):
            module, weight = self._modules[name], chosen[name]
            assert module.memory is not None
            if weight != 1.0:
                raise SelectionError(
                    f"'{name}' is text in the window, or it is not: its weight is 1 or 0; got {weight:g}"
                )
            kind = cast("TextMemory", module.kind)
            window = (
                kind.window if self.context is None else min(kind.window, self.context // 2)
            )  # an answer needs room
            budget = window - tokens("\n\n".join([*found, "", text]))
            found.append(kind.recall(module.memory, text, budget, tokens) if budget > 0 else "")
        return "\n\n".join(filter(None, [*found, text]))

    def submodules(self) -> dict[str, nn.Module]:
        """The model's submodules by path, without the names that wrappers add."""
        return {plain_name(path): module for path, module in self.host.model.named_modules()}

    def refusal(self, seam: Seam) -> str | None:
        """Why the model cannot host what stands at a seam; None where it can."""
        return self.host.refusal(seam)

    def _reads(self) -> Any:
        if self.tokenizer is None:
            raise AddendaError("this call takes text, and the base has no tokenizer: addenda.attach(model, tokenizer)")
        return self.tokenizer
