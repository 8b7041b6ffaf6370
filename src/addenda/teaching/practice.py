"""Practice: a base learns to answer from a page in front of it, once, on other texts; every module that reads begins there."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.files import cache_folder
from addenda.core.module import KnowledgeModule, unused
from addenda.core.registry import build_kind, options_of, written
from addenda.core.site import Seam
from addenda.modulefile.storage import load_module
from addenda.plug.cost import cost_of
from addenda.telling.progress import about
from addenda.text.prompting import marks
from addenda.tiny.paragraphs import paragraphs
from addenda.writing.checkpoint import folders, run_folder
from addenda.writing.train import train

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: the reader that is none
NOTHING = "none"
#: questions on a paragraph at most; on one in so many paragraphs one question is another's, and what is then said
QUESTIONS, MISSING, UNTOLD = 8, 3, "The text does not say."
#: of a run; seconds that a probe of its speed takes
LENGTH, ROWS, PROBE = 1024, 2, 2.0
#: the role of what stands before a conversation, and what a chat template begins with to let it
_PAGE = "page"
_BEFORE = "{%- if messages[0]['role'] == 'page' -%}{{- messages[0]['content'] -}}{%- set messages = messages[1:] -%}{%- endif -%}"


class Practice:
    """The practice of a base for one kind of module that reads, where its weights are kept, and what it costs.

    What is learned is a LoRA with the products of the kind's own. A paragraph stands before each conversation, as a page stands
    before it in a module of that kind; then come questions on it, some of them on another paragraph.
    """

    def __init__(self, base: Base, kind: Kind, sites: Sequence[str]) -> None:
        targets = {site.key for site in base.anatomy.at(Seam.LINEAR)}
        self.base = base
        self.kind = build_kind(
            "LoRA", {"rank": options_of(kind)["rank"], "targets": [key for key in sites if key in targets]}
        )
        with _pages_first(base.tokenizer):
            self.records = conversations(base.tokenizer)
            self.tokens = sum(_tokens(base.tokenizer, record) for record in self.records)
        told = [base.fingerprint, written(self.kind), self.tokens, LENGTH, ROWS, *(one.id for one in paragraphs())]
        digest = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
        self.folder: Path = cache_folder("readers") / digest
        self.seconds = 0.0
        if not self.done:
            self.seconds = self.tokens / cost_of(base, self.kind, seconds=PROBE).training

    def __str__(self) -> str:
        if self.done:
            return f"practice: {self.base.name} has learned to read, on other texts; kept in {self.folder}"
        took = f"{self.tokens:,} tokens, {about(self.seconds)}, once for this base; kept in {self.folder}"
        return f"practice: {self.base.name} learns to read first, on other texts: {took}"

    @property
    def done(self) -> bool:
        """Whether it is learned and kept."""
        return (self.folder / "card.json").is_file()

    def learned(self, log: bool = True) -> Path:
        """The folder of what is learned; learns it first where it is not there, or goes on where that was interrupted."""
        if not self.done:
            name = unused("reading", self.base.modules)
            self.base.new(name, self.kind)
            try:
                with _pages_first(self.base.tokenizer):
                    train(
                        self.base, name, corpus=self.records, tokens=max(self.tokens, LENGTH * ROWS), length=LENGTH,
                        batch_rows=ROWS, isolate=True, out=self.folder, resume=bool(folders(run_folder(self.folder))), log=log,
                    )  # fmt: skip
            finally:
                self.base.unplug(name)
        return self.folder


def begin_from(base: Base, module: KnowledgeModule, folder: str | Path) -> None:
    """Give a module the products of one that has learned to read, before it reads its text.

    Raises:
        FileError: nothing is there, or it is for another base.
        AddendaError: it has none that this module has room for.
    """
    reader, mine = load_module(Path(folder), base), module.tensors()
    same = {key: tensor for key, tensor in reader.tensors().items() if key in mine and mine[key].shape == tensor.shape}
    if not same:
        raise AddendaError(
            f"'{folder}' ({written(reader.kind)}) has no product that {written(module.kind)} has room for; give the folder "
            "of a LoRA of the same rank, or reader='none'"
        )
    with torch.no_grad():
        module.load_tensors(mine | {key: tensor.to(mine[key]) for key, tensor in same.items()})
    module.card.training = list(reader.card.training)


def conversations(tokenizer: Any) -> list[dict[str, Any]]:
    """What is practised: a paragraph and questions on it a record; without a chat template one question."""
    draw, known, made = random.Random("practice"), paragraphs(), list[dict[str, Any]]()
    opens = tokenizer.decode(marks(tokenizer)[0])
    for at, one in enumerate(known):
        pairs = draw.sample(one.questions, min(QUESTIONS, len(one.questions)))
        if at % MISSING == 0:
            pairs.insert(draw.randrange(len(pairs) + 1), (draw.choice(known[at - 1].questions)[0], UNTOLD))
        page = f"{opens}{one.text}\n\n"
        if getattr(tokenizer, "chat_template", None) is None:
            page = page.removeprefix(opens)  # it is put there by the tokenizer
            made += [{"prompt": f"{page}Question: {asked}\nAnswer:", "completion": f" {said}"} for asked, said in pairs]
            continue
        roles = ("user", "assistant")
        spoken = [{"role": role, "content": said} for pair in pairs for role, said in zip(roles, pair, strict=True)]
        made.append({"messages": [{"role": _PAGE, "content": page}, *spoken]})
    return made


def _tokens(tokenizer: Any, record: dict[str, Any]) -> int:
    if "prompt" in record:
        return len(tokenizer(record["prompt"] + record["completion"])["input_ids"])
    return len(tokenizer(tokenizer.apply_chat_template(record["messages"], tokenize=False))["input_ids"])


@contextmanager
def _pages_first(tokenizer: Any) -> Iterator[None]:
    """Let the chat template take a page, as it stands, before a conversation."""
    before = getattr(tokenizer, "chat_template", None)
    if not isinstance(before, str):
        yield
        return
    tokenizer.chat_template = _BEFORE + before
    try:
        yield
    finally:
        tokenizer.chat_template = before
