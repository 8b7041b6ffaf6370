"""Documents for the tests of exercises: rules, people, other languages, and what is hardly a document."""

from __future__ import annotations

import re

from addenda.exercises.exercise import Chunk

HANDBOOK = """
## Membership

The Harbour Tool Library is a lending library for hand and power tools. Membership costs 36 euros a year. Members may borrow up to
five tools at once. A steward is a volunteer who checks tools in and out. Every member must carry the blue card. If you lose your
card, report it to Lena Vogt within 3 days.

## Opening hours

The counter opens at 9:30 on weekdays. On Saturdays, the counter is open from 10:00 to 14:00.

## Loans and late return

The loan period is 14 days. The fee for late return is 1.20 euros per day. Tools must be cleaned before they are returned because
rust spreads quickly. Members must not lend tools to other people. The spare key is kept in the grey locker behind the counter.
Tomas Brandt manages the workshop. Damage has to be reported on form K-12. The code of the side door is 4711. Guests wear
an orange badge. A night pass costs 40 euros and is valid for three months.

The first-aid box contains:

- plasters
- bandages

## Prices

| Tool | Deposit | Day rate |
|---|---|---|
| Drill | 20 euros | 3 euros |
| Circular saw | 45 euros | 6 euros |
| Ladder | 10 euros | 2 euros |

Telephone: 0441 229 118
Head of the workshop: Tomas Brandt
"""
PEOPLE = """
## Mara Lindqvist

Mara Lindqvist was born on 3 May 1971 in Marlhaven. She works as a glazier. Mara Lindqvist lives in Odenfurt.

## Jon Sabel

Jon Sabel is the director of the archive. He was born in Tarnau in 1980.
"""
FRENCH = """
## Prêts et retards

La bibliothèque prête des outils aux membres pour une durée de 14 jours.
Le tarif pour un retard est de 2 euros par jour. Les outils doivent être nettoyés avant le retour.
La clé de la cave est dans le bureau de Lena Vogt, qui est dans la maison le lundi.
"""
GERMAN = """
## Ausleihe

Die Bibliothek verleiht Werkzeuge an die Mitglieder für eine Dauer von 14 Tagen. Die Gebühr für eine verspätete Rückgabe beträgt
2 Euro am Tag und ist bei Frau Dr. Vogt zu zahlen. Der Schlüssel ist in dem grauen Schrank bei der Theke.
"""
ODD = {
    "empty": "",
    "one word": "Hello",
    "no sentence": "lorem ipsum dolor sit amet",
    "code": "```\nfor i in range(10):\n    print(i)  # is a test.\n```",
    "numbers": "1 2 3 4 5\n6 7 8 9",
    "japanese": "図書館は平日の九時に開きます。会費は年間三千円です。",
    "broken table": "| a | b |\n|---|\n| 1 |",
    "pointing": "It is closed. This is why they must leave. These were the same. He did it.",
    "marks": "((((( **** ____ | | | :::: ???? !!!! ... --- € 5. e.g. i.e. etc.",
}


def chunks(text: str, name: str = "book.md", title: str = "Harbour Tool Library: member handbook") -> list[Chunk]:
    """A text's sections as chunks."""
    parts = re.split(r"^## (.+)\n", text.strip() + "\n", flags=re.MULTILINE)
    made = [
        Chunk(f"{name}#{n}", name, (title, head), _joined(body))
        for n, (head, body) in enumerate(zip(parts[1::2], parts[2::2], strict=True))
    ]
    return made or [Chunk(f"{name}#0", name, (), text)]


def _joined(body: str) -> str:
    """Paragraphs as one line each, as documents are read."""
    blocks = [block.strip() for block in body.split("\n\n") if block.strip()]
    listed = ("- ", "| ", "Telephone")
    return "\n\n".join(block if block.startswith(listed) else block.replace("\n", " ") for block in blocks)
