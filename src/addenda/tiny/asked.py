"""What bases are asked: the zero-shot questions and the chats that come with the package, and how the questions are chosen."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import sample
from .corpus import read_jsonl

#: questions of each set, and the characters of the longest that is taken: a few hundred have to be answered in a minute
EACH, LONGEST = 100, 800
#: set -> its file, and its makers' licence
SETS = {
    "piqa": ("multiple_choice/piqa.jsonl.gz", "AFL-3.0"),
    "arc_easy": ("multiple_choice/arc_easy.jsonl.gz", "CC BY-SA 4.0"),
    "boolq": ("multiple_choice/boolq.jsonl.gz", "CC BY-SA 3.0"),
    "hellaswag_pairs": ("multiple_choice/hellaswag_pairs.jsonl.gz", "MIT"),
}
#: sets whose usual score divides a choice's log-likelihood by its characters (lm-evaluation-harness: acc_norm)
NORMED = frozenset({"piqa", "arc_easy", "hellaswag_pairs"})
NOTE = """\
`questions.jsonl.gz` has {each} questions of each of four sets, the first by a hash among those of at most
{longest} characters: `id`, `set`, `prompt`, `choices`, `gold` (the place of the right one), `license`. A prompt is
the question as lm-evaluation-harness asks it. The sets come from the collections `mosaicml/llm-foundry` (Apache
2.0, commit `8c8dd48f72168c5d51e2f7b151595892a8fba43d`) and `klosax/ppl_hellaswag` (commit
`4fbccd4db2c077e5ad69e24b69a9f166d32a286d`), and keep their makers' licences:

- **piqa**: PIQA (Bisk et al., 2020), Academic Free License 3.0.
- **arc_easy**: ARC, easy set (Clark et al., 2018, Allen Institute for AI), CC BY-SA 4.0.
- **boolq**: BoolQ (Clark et al., 2019), CC BY-SA 3.0; passages are from Wikipedia.
- **hellaswag_pairs**: HellaSwag (Zellers et al., 2019), MIT, with one wrong ending in place of three: chance is 50%.

Changed was only this: questions were drawn, a prompt and its choices put as said above. The licences' texts:
<https://opensource.org/license/afl-3-0-php>, <https://creativecommons.org/licenses/by-sa/4.0/>,
<https://creativecommons.org/licenses/by-sa/3.0/>, <https://opensource.org/license/mit>.

`chats.jsonl` has {chats} chats of many kinds, written for this package and under its licence, Apache 2.0: `id`, `kind`,
`messages`, the last of them the user's.

`prompts.jsonl` has ten short prompts each of medicine, of French and of general English, written for this package and put into
the public domain (CC0): `id`, `text`, `subject`. They ask a gate to know its subject from a few words.

`chat_prompts.jsonl` has {prompts} general prompts of many kinds, also in other languages and as second turns, written for this
package and put into the public domain (CC0): `id`, `kind`, `messages`, `license`. Bases answer them themselves, and learn from
these answers, beside something new, to stay as they were. None of them is among the chats, which measure whether they did.
"""


@dataclass(frozen=True)
class Question:
    """A zero-shot question: `gold` is the place of the right choice."""

    set: str
    prompt: str
    choices: tuple[str, ...]
    gold: int

    @property
    def normed(self) -> bool:
        """Whether the usual score of its set divides a choice's log-likelihood by its characters."""
        return self.set in NORMED


@dataclass(frozen=True)
class Chat:
    """What is said in a chat, oldest first; the last of the messages (`role`, `content`) is the user's."""

    id: str
    kind: str
    messages: tuple[dict[str, str], ...]


def questions(each: int | None = None) -> list[Question]:
    """The questions that come with the package, set after set; of each set the first so many, default: all."""
    shipped = [
        Question(record["set"], record["prompt"], tuple(record["choices"]), record["gold"])
        for record in read_jsonl(sample("questions"))
    ]
    return [question for name in SETS for question in [q for q in shipped if q.set == name][:each]]


def chats(count: int | None = None) -> list[Chat]:
    """The general chats that come with the package, for measuring: so many, kind after kind in turn; default: all."""
    return _in_turn("chats", count)


def chat_prompts(count: int | None = None) -> list[Chat]:
    """The general prompts that come with the package, for a base to answer and learn from: so many, kind after kind in turn."""
    return _in_turn("chat_prompts", count)


def _in_turn(name: str, count: int | None) -> list[Chat]:
    shipped = [
        Chat(record["id"], record["kind"], tuple(record["messages"]))
        for record in map(json.loads, sample(name).read_text(encoding="utf-8").splitlines())
    ]
    seen, order = Counter[str](), list[tuple[int, int]]()
    for at, chat in enumerate(shipped):
        order.append((seen[chat.kind], at))
        seen[chat.kind] += 1
    return [shipped[at] for _, at in sorted(order)[:count]]


def choose(data: Path) -> Iterator[dict[str, Any]]:
    """The records of the questions, from the data folder: an order by hash, so that it depends on the questions alone."""
    for name, (file, licence) in SETS.items():
        rows = []
        for line, record in enumerate(read_jsonl(data / file), 1):
            # every set but HellaSwag comes as a question
            pairs = name == "hellaswag_pairs"
            prompt = record["context"] if pairs else f"{record['query'].rstrip()}\nAnswer:"
            choices, gold = (record[key] for key in (("endings", "label") if pairs else ("choices", "gold")))
            if len(prompt) + max(map(len, choices)) <= LONGEST:
                rows.append(
                    {"id": f"{name}-{line}", "set": name, "prompt": prompt, "choices": choices, "gold": gold, "license": licence}
                )  # fmt: skip
        yield from sorted(rows, key=lambda row: hashlib.sha256(f"question {row['prompt']}".encode()).digest())[:EACH]


def note() -> str:
    """Credits and licences of the questions and chats."""
    return NOTE.format(each=EACH, longest=LONGEST, chats=len(chats()), prompts=len(chat_prompts()))
