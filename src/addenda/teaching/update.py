"""Update: the next version of a taught module's documents; what is studied anew, what is rehearsed, and what is to be refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from addenda.core.errors import AddendaError
from addenda.core.files import replace_text
from addenda.core.module import KnowledgeModule
from addenda.core.registry import written
from addenda.exercises.exercise import Chunk, Made
from addenda.exercises.refusing import refusal
from addenda.modulefile.storage import digest_of
from addenda.remote.store import key_of
from addenda.teaching.earlier import Earlier
from addenda.teaching.examined import answer_of, conversation, said_in, split, with_answer
from addenda.teaching.gone import Past
from addenda.teaching.repeats import HeldOut
from addenda.teaching.replay import ANSWERED
from addenda.teaching.study_plan import StudyPlan, tokens_said
from addenda.teaching.study_set import WORK, chunks_of, record_of
from addenda.teaching.versions import Changes, Fate, Versions
from addenda.text.words import content_words, words

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: what is new is read so often for once that what is known is: read as often, it would take as long as teaching all of it anew
OFTEN = 8
#: what refusals of facts that are gone are called
GONE = "gone"
#: in a record: that it was taken over from the earlier version's set
TAKEN = "earlier"
#: in a refusal of a fact that is gone: what was answered
WAS = "was"


class Update:
    """What becomes of the exercises of an earlier version, and what of the next one's."""

    def __init__(self, base: Base, earlier: Earlier, plan: StudyPlan, held: int) -> None:
        self.base, self.earlier, self.most, self.seed = base, earlier, held, plan.seed
        self.versions = Versions(earlier.study.chunks, plan.chunks)
        self.changes: Changes = self.versions.changes
        if not (self.changes.new or self.changes.gone):
            raise AddendaError(f"nothing changed: the documents say what '{earlier.module.card.name}' was taught")
        self._barred = HeldOut(plan.held_out)
        self.unsure = 0
        #: the kind starts from the new text, so that all is studied as if for the first time
        self.anew = earlier.module.kind.starts_from_text
        #: the set, and the past, as far as it is told without a teacher
        self.records, self.past = self._joined([record_of(base.tokenizer, one, None) for one in self._mined(plan)])
        self.fresh = [one for one in self.records if not one.get(TAKEN)]
        self.taken = len(self.records) - len(self.fresh)
        self.tokens = self._size(self.records)
        if not self.fresh and not any(not self.changes.new.isdisjoint(ask.chunks) for _, ask in plan.asks):
            raise AddendaError(
                f"{self.changes}, but no exercise can be made of what changed, so there is nothing to learn: give questions of "
                "your own (questions=)"
            )

    def _mined(self, plan: StudyPlan) -> list[Made]:
        return [*plan.own, *(one for one in plan.mined if not self.changes.new.isdisjoint(one.chunks))]

    # -- the set -------------------------------------------------------------------------------------------------

    def joined(self, new: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The set of the next version: what is taken over, what was made of new chunks, what is to be said now; and the past."""
        records, past = self._joined(new)
        return records, [asdict(one) for one in past]

    def _joined(self, new: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Past]]:
        fresh = [dict(one) for one in new]
        by_pair = {_all(one): one for one in fresh}
        by_question = {_question(one): one for one in reversed(fresh)}  # a team's own stand first, and count
        taken: list[dict[str, Any]] = []
        learned: list[tuple[dict[str, Any], dict[str, Any]]] = []
        past: list[Past] = []
        self.unsure = 0
        for old in self._old():
            there = by_question.get(_question(old))
            if (same := by_pair.get(_all(old))) is not None:
                same[TAKEN] = True  # it is known
            elif not old.get("answered", True):
                if there is None and not self._answered_now(old):
                    taken.append(self._moved(old))
            elif self.changes.gone.isdisjoint(chunks_of(old)):
                taken.append(self._moved(old))
            elif there is not None:
                past.append(Past(list(said_in(old)), answer_of(old), _told(there)))
            else:
                self._fated(old, taken, learned)
        left_out = {id(old) for old in split([old for old, _ in learned], self.most)[1]}
        for old, now in learned:
            past.append(Past(list(said_in(old)), answer_of(old), _told(now), id(old) not in left_out))
        records = [*taken, *fresh, *(now for old, now in learned if id(old) not in left_out)]
        return records, past

    def _old(self) -> Iterator[dict[str, Any]]:
        """The earlier set, but for what is held out now."""
        for old in self.earlier.study.records:
            if not self._barred.has(conversation(old)):
                yield {key: value for key, value in old.items() if key != TAKEN}

    def _fated(
        self, old: dict[str, Any], taken: list[dict[str, Any]], learned: list[tuple[dict[str, Any], dict[str, Any]]]
    ) -> None:
        """Take over, or answer anew, an exercise of which a chunk is gone."""
        *said, asked = said_in(old)
        before = [one["content"] for one in said if one["role"] == "assistant"]
        there = [name for name in chunks_of(old) if name in self.versions.chunks]
        now = self.versions.now(asked["content"], before, answer_of(old), there, str(old.get("kind", "")))
        plain = {key: value for key, value in old.items() if key not in ("chunks", "gain")}
        if now.fate is Fate.STATED:
            taken.append(plain | {"chunk": now.chunk, "gain": old.get("gain"), TAKEN: True})
        elif now.fate is Fate.CHANGED and now.answer is not None:
            learned.append((old, with_answer(plain, now.answer) | {"chunk": now.chunk}))
        elif now.fate is Fate.GONE:
            chunk: Chunk = self.versions.chunks[there[0]]
            refused = refusal(chunk, Random(f"{self.seed} {_question(old)}"))
            more = {"chunk": None, "kind": GONE, "answered": False, WAS: answer_of(old)}
            learned.append((old, with_answer(plain, refused) | more))
        else:
            self.unsure += 1

    def _moved(self, old: dict[str, Any]) -> dict[str, Any]:
        """An exercise with its chunks' names of now; of a refusal whose chunk is gone, none."""
        names = {name: self.changes.same.get(name) for name in chunks_of(old)}
        moved = old | {"chunk": names.get(old.get("chunk") or ""), TAKEN: True}
        if "chunks" in old:
            moved["chunks"] = [new for name in old["chunks"] if (new := names.get(name))]
        return moved

    def _answered_now(self, old: Mapping[str, Any]) -> bool:
        """Whether a refusal may be wrong now: a word of its question that the documents did not have stands in them.

        Of a fact that was gone, whether a new sentence has all words that its question had in common with what was answered.
        """
        asked, new = content_words("\n".join(one["content"] for one in said_in(old))), self.versions.new
        if not (asked - self.versions.old.known).isdisjoint(new.known):
            return True
        return WAS in old and self.versions.may_tell(asked & content_words(str(old[WAS])))

    # -- training ------------------------------------------------------------------------------------------------

    def split(self, records: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """What is read, each record as often as it is to be, and what is held out of the set as it stands in its folder.

        What the module studied before is not held out, and what was held out from it stays so.
        """
        if self.anew:
            return split(records, self.most)
        apart = {_all(one) for one in split(self.earlier.study.records, self.earlier.held)[1]}
        known = [one for one in records if one.get(TAKEN)]
        learn, held = split([one for one in records if not one.get(TAKEN)], self.most)
        kept = [one for one in known if _all(one) in apart][: self.most - len(held)]
        asked = {id(one) for one in kept}
        return [*(one for one in known if id(one) not in asked), *learn * OFTEN], [*kept, *held]

    def _size(self, records: Sequence[Mapping[str, Any]]) -> int:
        """Tokens of the set, where what is known counts as often as it is read."""
        sizes = tokens_said(self.base, [conversation(one) for one in records])
        known = sum(size for size, one in zip(sizes, records, strict=True) if one.get(TAKEN))
        return sum(sizes) - known + (known if self.anew else known // OFTEN)

    def start(self, module: KnowledgeModule) -> None:
        """Start the next module from the weights of this one; its gate is fitted anew, for it is to open on what is new too.

        What starts from text has the new text already: the old one's keys and values would stay in it.
        """
        card = self.earlier.module.card
        module.card.description = f"the next version of {card.name}, sha256 {digest_of(self.earlier.module)[:16]}"
        if self.anew:
            return
        old = {key: tensor for key, tensor in self.earlier.module.tensors().items() if not key.startswith("gate.")}
        module.load_tensors(module.tensors() | old)
        module.card.training = list(card.training)

    def begin(self, study: Path) -> None:
        """Take over the base's own answers to general prompts, which are the same."""
        file = study / WORK / ANSWERED
        if not file.exists() and self.earlier.answers.exists():
            replace_text(file, self.earlier.answers.read_text(encoding="utf-8"))

    @property
    def answered(self) -> int:
        """How many general prompts were answered before."""
        file = self.earlier.answers
        return file.read_bytes().count(b"\n") if file.exists() else 0

    # -- telling -------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, str]:
        """What a resumption must agree with."""
        return {"module": digest_of(self.earlier.module), "study": key_of(list(self.earlier.study.records))}

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        gone = sum(one.now is None for one in self.past)
        return {
            "of": str(self.earlier.folder), "chunks": len(self.changes.new) + len(set(self.changes.same.values())),
            "new": len(self.changes.new), "gone": len(self.changes.gone), "unchanged": len(set(self.changes.same.values())),
            "taken_over": self.taken, "studied_anew": len(self.fresh), "answered_otherwise": len(self.past) - gone,
            "answered_no_longer": gone, "left_out": self.unsure, "starts_from": "text" if self.anew else "weights",
        }  # fmt: skip

    def __str__(self) -> str:
        told, of = self.as_dict(), self.earlier.folder
        kind = written(self.earlier.module.kind)
        how = (
            f"{kind} starts from the new text, and reads all of it as often"
            if self.anew
            else f"it starts from the weights of {of}, and reads what is new {OFTEN} times as often as what it knows"
        )
        lines = [
            f"update of {of}: {self.changes}",
            f"  {self.taken:,} exercises are taken over, {len(self.fresh):,} studied anew; {told['answered_otherwise']:,} "
            f"questions are answered otherwise now, {told['answered_no_longer']:,} no longer: these are refused",
            f"  {how}",
        ]
        if self.unsure:
            lines.insert(
                2,
                f"  {self.unsure:,} are left out: what they come from changed, and their answer cannot be told from it",
            )
        return "\n".join(lines)


def _question(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What is asked, whatever its case and punctuation."""
    return tuple(word for one in said_in(record) for word in [one["role"], *words(one["content"])])


def _told(record: Mapping[str, Any]) -> str | None:
    """What is to be said; None where that is a refusal."""
    return answer_of(record) if record.get("answered", True) else None


def _all(record: Mapping[str, Any]) -> tuple[Any, str]:
    return _question(record), answer_of(record)
