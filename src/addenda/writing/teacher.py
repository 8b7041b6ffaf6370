"""A teacher: the bare base reads every record of a text once, with what it alone reads, and leaves what it says in shards."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from addenda.core.errors import DataError
from addenda.core.files import replace_text
from addenda.core.modes import evaluating
from addenda.objectives.head import Head
from addenda.objectives.objective import Objective
from addenda.plug.continuing import batches
from addenda.plug.scoring import cast
from addenda.telling.progress import part, tick
from addenda.text.encoding import Encoder
from addenda.text.teaching import Lesson, Teaching
from addenda.text.texts import Texts
from addenda.writing.shards import SHARD, Shards, check_space, held, layout_of, packed

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: tokens that the teacher reads at a time, and for one shard at most
BATCH, READ = 2048, 2**16
#: tokens that records must begin with alike before these are read once for all of them
ALIKE = 16
#: version of what is kept; part of its key
FORM = 1


@dataclass
class Survey:
    """A text as its teacher will read it: rows and tokens of each shard's records, tokens of each record for the student."""

    sizes: list[int] = field(default_factory=list[int])  # rows of each shard
    counts: list[int] = field(default_factory=list[int])  # records of each shard
    reads: int = 0  # tokens read at most
    tokens: list[int] = field(default_factory=list[int])
    sha256: str = ""


class Teacher:
    """The bare base, as the teacher of one text; `folder` is where shards of all texts are kept."""

    def __init__(
        self,
        base: Base,
        head: Head,
        objective: Objective,
        source: Texts,
        folder: Path,
        precision: str = "fp32",
        batch: int = BATCH,
    ) -> None:
        self.base, self.head, self.objective, self.source, self.precision = base, head, objective, source, precision
        self.batch = batch
        self.layout = layout_of(objective, head.vocabulary)
        self._folder, self._survey, self._shards = folder, None, None

    # -- before it reads ---------------------------------------------------------------------------------------

    @property
    def survey(self) -> Survey:
        """What there is to read, found by tokenizing all of it once.

        Raises:
            DataError: a record has no `reads` where others have one, or is too long for the base; names the place.
        """
        if self._survey is None:
            if self.source.endless:
                raise DataError(
                    f"'{self.source.name}' has no known end, and a teacher reads all of it first: give a part"
                )
            self._survey = self._surveyed()
        return self._survey

    def _surveyed(self) -> Survey:
        found, digest, read, rows, count = Survey(), hashlib.sha256(), 0, 0, 0
        most = max(1, SHARD // self.layout.itemsize)
        for lesson in self._lessons():
            digest.update(np.int64(len(lesson.ids)).tobytes() + lesson.ids.tobytes() + lesson.places.tobytes())
            found.tokens.append(lesson.tokens)
            found.reads += len(lesson.ids)
            if count and (rows + len(lesson.places) > most or read + len(lesson.ids) > READ):
                found.sizes.append(rows)
                found.counts.append(count)
                read = rows = count = 0
            read, rows, count = read + len(lesson.ids), rows + len(lesson.places), count + 1
            tick()
        if count:
            found.sizes.append(rows)
            found.counts.append(count)
        if not sum(found.sizes):
            raise DataError(f"'{self.source.name}' is empty: it holds nothing to learn")
        found.sha256 = digest.hexdigest()
        return found

    def _lessons(self) -> Iterator[Lesson]:
        """Every record as the teacher reads it."""
        encoder = Encoder(self.base.tokenizer, self.base.vocabulary, close=True)
        teaching = Teaching(encoder, self.base.context)
        for record in self.source:
            if "reads" not in record:
                raise DataError(
                    f"{record.where}: the record has no 'reads', the text that the teacher alone reads, and others have; "
                    'write "reads": "" where it is to read nothing'
                )
            yield teaching.lesson(record)

    @property
    def shards(self) -> Shards:
        """Where what it says is kept: by base, arithmetic, records as they are tokenized, and what the objective keeps."""
        if self._shards is None:
            facts = json.dumps(self._facts(), sort_keys=True).encode()
            key = hashlib.sha256(facts).hexdigest()[:16]
            self._shards = Shards(self._folder / key, self.survey.sizes, self.layout)
        return self._shards

    def _facts(self) -> dict[str, Any]:
        arithmetic = [str(self.base.host.dtype()), self.precision]
        return {
            "form": FORM, "base": self.base.fingerprint, "arithmetic": arithmetic, "keeps": self.objective.lesson,
            "row": str(self.layout), "records": self.survey.sha256,
        }  # fmt: skip

    # -- reading -----------------------------------------------------------------------------------------------

    def make(self) -> Shards:
        """Read what is not read yet, and leave it on disk.

        Raises:
            DataError: as `survey`.
            FileError: it cannot be written; what is there stays, and the next call goes on.
            Stopped: a signal came; likewise.
        """
        shards = self.shards
        if not shards.missing():
            return shards
        with held(shards.folder):  # who waited for another finds its work done
            gone = set(shards.missing())
            if gone:
                check_space(shards.folder, sum(shards.sizes[number] for number in gone) * self.layout.itemsize)
                about = self._facts() | {"name": self.source.name, "rows": sum(shards.sizes), "bytes": shards.bytes}
                replace_text(shards.folder / "teacher.json", json.dumps(about, indent=1) + "\n")
                self._read(shards, gone)
        return shards

    def _read(self, shards: Shards, gone: set[int]) -> None:
        lessons = self._lessons()
        share = len(gone) / len(shards.sizes)
        with part(f"the teacher reads {self.source.name}", round(self.survey.reads * share)):
            for number, count in enumerate(self.survey.counts):
                group = list(islice(lessons, count))
                if number in gone:
                    shards.write(number, self.said(group))

    @torch.no_grad()
    def said(self, lessons: Sequence[Lesson]) -> np.ndarray:
        """What the teacher says of the tokens to learn, record after record: an array of the shards' layout."""
        starts = np.cumsum([0, *(len(lesson.places) for lesson in lessons)])
        rows = np.zeros(int(starts[-1]), self.layout)
        alike, lengths = defaultdict[str, list[int]](list), [len(lesson.ids) for lesson in lessons]
        for at in sorted(range(len(lessons)), key=lengths.__getitem__):
            if len(lessons[at].places):
                alike[lessons[at].reads].append(at)
        # layers that are recomputed in the backward pass would keep no cache
        with self.base.off(), evaluating(self.base.model), cast(self.base.device, self.precision):
            for members in alike.values():
                shared = _shared([lessons[at] for at in members])
                cache = self.head.cache(self._ids([lessons[members[0]].ids[:shared]])) if shared else None
                for batch in batches(members, lengths, self.batch):
                    self._batch(batch, lessons, shared, cache, rows, starts)
        return rows

    def _batch(
        self, batch: list[int], lessons: Sequence[Lesson], shared: int, cache: Any, rows: np.ndarray, starts: np.ndarray
    ) -> None:
        """Fill the rows of some records that begin with the same `shared` tokens."""
        ids = self._ids([lessons[at].ids[shared:-1] for at in batch])
        given: dict[str, Any] = {}
        if shared:
            again = copy.deepcopy(cache)
            again.batch_repeat_interleave(len(batch))
            given = {"past_key_values": again, "use_cache": True}
        hidden = self.head.hidden(ids, **given)
        at = torch.from_numpy(np.concatenate([lessons[one].places - 1 - shared for one in batch])).to(hidden.device)
        row = torch.from_numpy(np.repeat(np.arange(len(batch)), [len(lessons[one].places) for one in batch]))
        said = packed(self.head.teach(self.objective, hidden[row.to(hidden.device), at]), self.layout)
        before = 0
        for one in batch:
            count = len(lessons[one].places)
            rows[starts[one] : starts[one] + count] = said[before : before + count]
            before += count
        tick(sum(len(lessons[one].ids) for one in batch))

    def _ids(self, rows: Sequence[np.ndarray]) -> Tensor:
        """Token ids [B, T], padded on the right with each row's last: nothing that counts comes after."""
        longest = max(map(len, rows))
        padded = [np.pad(row, (0, longest - len(row)), mode="edge") for row in rows]
        return torch.from_numpy(np.stack(padded).astype(np.int64)).to(self.base.device)


def _shared(lessons: Sequence[Lesson]) -> int:
    """The tokens that all of some records begin with, and none is asked about; 0 where reading them once gains nothing."""
    if len(lessons) < 2:
        return 0
    shortest = min(min(len(one.ids) - 2, int(one.places[0]) - 1) for one in lessons)
    first = lessons[0].ids[:shortest]
    for one in lessons[1:]:
        differ = (one.ids[: len(first)] != first).nonzero()[0]
        first = first[: differ[0]] if len(differ) else first
    return len(first) if len(first) >= ALIKE else 0
