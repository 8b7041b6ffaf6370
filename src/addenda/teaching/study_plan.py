"""The plan of a study: its chunks, what is mined from them and what will be asked, and what that costs."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import torch

from addenda.core.errors import AddendaError
from addenda.exercises.exercise import Ask, Chunk, Generated, Made, Message, Mined
from addenda.measuring.conducting.foretold import two_digits
from addenda.plug.continuing import continued
from addenda.plug.scoring import pace_of
from addenda.remote.answerer import Answerer
from addenda.remote.store import key_of
from addenda.teaching.gain import PAIRS
from addenda.teaching.reading import QUESTIONS, TOKENS
from addenda.teaching.study_set import OWN, held_out_questions, own_questions
from addenda.teaching.study_settings import StudySettings
from addenda.telling.progress import about
from addenda.text.chunks import LEAST, identity
from addenda.text.chunks import chunks as cut
from addenda.text.documents import documents as read
from addenda.text.words import content_words

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens that a chat template puts around a question and its answer
AROUND = 24
#: a team's question belongs to the chunk that has this share of its words, weighed by how rare they are
BELONGS = 0.5


class Joins(Protocol):
    """Joins the exercises of an earlier version's set to new ones."""

    def joined(self, new: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The records of the set, and those of what is no longer so."""
        ...


@dataclass(frozen=True)
class StudyPlan:
    """What a study will do. `asks` has what `asked`, a teacher, is asked, with the kind that asks; tokens are estimates.

    `update` has the exercises that an earlier version's set gives for chunks that are not studied anew.
    """

    base: str
    documents: dict[str, int]
    chunks: dict[str, Chunk]
    mined: tuple[Made, ...]
    own: tuple[Made, ...]
    held_out: tuple[tuple[Message, ...], ...]
    asks: tuple[tuple[str, Ask], ...]
    asked: Answerer | None
    teacher: str | None
    remote: bool
    settings: StudySettings
    seed: int
    asked_tokens: int
    said_tokens: int
    scored_tokens: int
    seconds: float
    update: Joins | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        same = ("base", "documents", "teacher", "seed", "asked_tokens", "said_tokens", "scored_tokens", "seconds")
        counts = {"chunks": len(self.chunks), "mined": len(self.mined), "own": len(self.own), "asks": len(self.asks)}
        return (
            {name: getattr(self, name) for name in same} | counts | {"kinds": dict(Counter(m.kind for m in self.mined))}
        )

    def __str__(self) -> str:
        count = len(self.documents)
        lines = [
            f"study: {count} document{'s' * (count != 1)}, {len(self.chunks):,} chunks, {len(self.mined):,} exercises mined"
        ]
        if self.own:
            lines[0] += f", {len(self.own):,} of your own"
        if self.asks:
            where = "" if self.remote else ", if it reads well enough"
            lines.append(
                f"  {self.teacher} is asked {len(self.asks):,} times{where}: about {two_digits(self.asked_tokens):,} tokens to "
                f"read and {two_digits(self.said_tokens):,} to write at most; answers are stored, and never asked for again"
            )
        if self.scored_tokens:
            lines.append(
                f"  scoring answers with their chunk and without: about {two_digits(self.scored_tokens):,} tokens"
            )
        took = f"  time: {about(self.seconds)} on this machine, as timed just now"
        lines.append(took + (", and what the teacher takes" if self.remote and self.asks else ""))
        return "\n".join(lines)


def plan_of(
    base: Base, documents: Any, settings: StudySettings, *, seed: int, teacher: Answerer | None, remote: bool,
    questions: str | Path | None, held_out: str | Path | None,
) -> StudyPlan:  # fmt: skip
    """Read, cut and mine the documents, and count what is to be asked and scored.

    Raises:
        DataError: a document, the questions or the held-out ones cannot be read.
        AddendaError: the base has no tokenizer.
    """
    if base.tokenizer is None:
        raise AddendaError("a study reads text, and the base has no tokenizer: addenda.attach(model, tokenizer)")
    found = read(documents)
    room = settings.chunk_tokens if base.context is None else max(LEAST, min(settings.chunk_tokens, base.context // 2))
    chunks = {chunk.id: chunk for chunk in cut(found, base.tokenizer, room)}
    own = tuple(_own(questions, chunks)) if questions is not None else ()
    held = held_out_questions(held_out) if held_out is not None else ()
    mined, asks = _exercises(list(chunks.values()), settings, seed, teacher is not None)
    if not (mined or asks or own):
        raise AddendaError("no exercise can be made of the documents: no kind of exercise finds anything in them")
    cost = _cost(base, chunks, mined, own, asks, settings, remote)
    per_document = Counter(chunk.document for chunk in chunks.values())
    return StudyPlan(
        base=base.name, documents=dict(per_document), chunks=chunks, mined=tuple(mined), own=own, held_out=held, asks=tuple(asks),
        asked=teacher, teacher=teacher.name if teacher is not None and asks else None, remote=remote,
        settings=settings, seed=seed, **cost,
    )  # fmt: skip


def studied_anew(base: Base, plan: StudyPlan, names: Set[str], update: Joins) -> StudyPlan:
    """The plan with exercises of those chunks alone that an earlier version did not have; `update` gives the others."""
    new = {name: chunk for name, chunk in plan.chunks.items() if name in names}
    mined = tuple(one for one in plan.mined if not new.keys().isdisjoint(one.chunks))
    asks = tuple(one for one in plan.asks if not new.keys().isdisjoint(one[1].chunks))
    cost = _cost(base, new, mined, plan.own, asks, plan.settings, plan.remote)
    return replace(plan, mined=mined, asks=asks, teacher=plan.teacher if asks else None, update=update, **cost)


def draw_for(seed: int, name: str, chunk: Chunk) -> Random:
    """What an exercise draws from: of a chunk that says the same always the same, whatever else is studied."""
    return Random(f"{seed} {name} {identity(chunk.headings, chunk.text)}")


def _exercises(
    chunks: Sequence[Chunk], settings: StudySettings, seed: int, ask: bool
) -> tuple[list[Made], list[tuple[str, Ask]]]:
    mined: list[Made] = []
    asks: list[tuple[str, Ask]] = []
    methods = settings.methods()
    for chunk in chunks:
        for name, method in methods.items():
            draw = draw_for(seed, name, chunk)
            if isinstance(method, Mined):
                mined += method.mine(chunk, chunks, draw)
            elif isinstance(method, Generated) and ask:
                asks += [(name, one) for one in method.asks(chunk, chunks, draw)]
    return mined, asks


def _own(file: str | Path, chunks: Mapping[str, Chunk]) -> list[Made]:
    """A team's own questions, each with the chunk that it belongs to, if there is one."""
    told = {name: content_words("\n".join([*chunk.headings, chunk.text])) for name, chunk in chunks.items()}
    often = Counter(word for found in told.values() for word in found)
    made: list[Made] = []
    for messages, named in own_questions(file):
        if named is not None and named not in chunks:
            named = None
        chunk = named or _belongs(content_words("\n".join(said["content"] for said in messages)), told, often)
        made.append(Made(messages, OWN, () if chunk is None else (chunk,)))
    return made


def _belongs(found: set[str], told: Mapping[str, set[str]], often: Mapping[str, int]) -> str | None:
    """The chunk with most of some words; None where none has enough of them."""
    weights = {word: math.log(1 + len(told) / (often.get(word, 0) + 0.5)) for word in found}
    whole = sum(weights.values())
    scores = {name: sum(weights[word] for word in found & known) for name, known in told.items()}
    best = max(scores, key=scores.__getitem__, default=None)
    return best if best is not None and scores[best] >= BELONGS * whole > 0 else None


def plan_identity(plan: StudyPlan, base: Base) -> dict[str, Any]:
    """What a resumption must agree with."""
    return {
        "base": base.fingerprint,
        "documents": key_of([identity(chunk.headings, chunk.text) for chunk in plan.chunks.values()]),
        "seed": plan.seed,
        "teacher": dict(plan.asked.identity) if plan.asked is not None and plan.asks else None,
        "questions": key_of([[list(made.messages), made.chunks] for made in plan.own]),
        "held_out": key_of([list(messages[:-1]) for messages in plan.held_out]),
        **plan.settings.plain(),
    }


# --- cost ------------------------------------------------------------------------------------------------------------


def _cost(
    base: Base, chunks: Mapping[str, Chunk], mined: Sequence[Made], own: Sequence[Made], asks: Sequence[tuple[str, Ask]],
    settings: StudySettings, remote: bool,
) -> dict[str, Any]:  # fmt: skip
    """Tokens to ask, to be said and to score, and the seconds that they take here."""
    size = dict(zip(chunks, _count(base, [chunk.read for chunk in chunks.values()]), strict=True))
    scored = [*{answer_of(one): one for one in mined}.values(), *own] if settings.gain else []
    spoken = sum(tokens_of(base, scored))
    mean = 2 * spoken // max(1, len(scored))
    reads = 2 * spoken + sum(size.values()) if scored else 0  # a chunk is read once for many answers
    reads += mean * (min(PAIRS, len(scored)) + (len(asks) if settings.gain else 0))
    prompts = _count(base, ["\n".join(said["content"] for said in one.messages) for _, one in asks])
    asked, said = sum(prompts) + AROUND * len(asks), sum(one.tokens for _, one in asks)
    seconds = reads / pace_of(base) if reads else 0.0
    if asks and not remote:
        tested = min(QUESTIONS, len(mined))
        seconds += (asked + tested * (settings.chunk_tokens + AROUND)) / pace_of(base) + (
            said + tested * TOKENS
        ) / writing_pace(base)
    return {"asked_tokens": asked, "said_tokens": said, "scored_tokens": reads, "seconds": seconds}


def answer_of(made: Made) -> tuple[tuple[str, ...], str]:
    """What several wordings of one question have in common: their chunks and their answer."""
    return made.chunks, made.answer


def writing_pace(base: Base) -> float:
    """Tokens a second that the base writes on this machine, several answers at a time, from a second or so."""
    draw, pace = torch.Generator().manual_seed(0), 0.0
    prompts = [torch.randint(base.vocabulary, (24,), generator=draw) for _ in range(16)]
    with base.off():
        for tokens in (2, 8):
            began = time.perf_counter()
            said = continued(base, prompts, tokens=tokens, padded=True)
            pace = max(map(len, said)) * len(said) / (time.perf_counter() - began) or pace
    return max(pace, 1.0)


def tokens_of(base: Base, exercises: Sequence[Made]) -> list[int]:
    """About how many tokens each exercise has, as the base reads it."""
    return tokens_said(base, [made.messages for made in exercises])


def tokens_said(base: Base, conversations: Sequence[Sequence[Message]]) -> list[int]:
    """About how many tokens each conversation has, as the base reads it."""
    spoken = _count(base, ["\n".join(said["content"] for said in messages) for messages in conversations])
    return [count + AROUND for count in spoken]


def _count(base: Base, texts: Sequence[str]) -> list[int]:
    if not texts:
        return []
    return [len(ids) for ids in base.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]
