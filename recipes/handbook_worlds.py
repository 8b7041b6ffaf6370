"""The worlds of invented handbooks: who publishes one, what they lend and for whom; and how names, sums and codes are drawn."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """An organisation: its name and sort, what its handbook is called, whom it serves, what it lends, where things are."""

    org: str
    sort: str
    book: str
    member: str
    things: tuple[str, ...]
    special: str
    rooms: tuple[str, ...]
    teams: tuple[str, ...]
    course: str


WORLDS = (
    World(
        "Saltmarsh Boat Club", "rowing and sailing club", "club handbook", "member",
        ("canoe", "rowing boat", "dinghy", "paddle board", "double kayak", "safety launch"), "safety launch",
        ("boathouse", "sail loft", "clubroom", "drying room", "chart room"), ("jetty", "repair", "training"), "helm course",
    ),
    World(
        "Cobalt Street Workshop", "shared workshop for wood, metal and clay", "user guide", "user",
        ("band saw", "lathe", "kiln", "welding set", "router table", "laser cutter"), "laser cutter",
        ("wood room", "metal room", "glazing room", "front office", "paint cellar"), ("kiln", "tool", "evening"), "lathe course",
    ),
    World(
        "Fernhill Music Archive", "public archive of scores and instruments", "readers' handbook", "reader",
        ("cello", "clavichord", "portable organ", "tape recorder", "field microphone", "bass viol"), "clavichord",
        ("reading room", "listening room", "score vault", "repair studio", "entrance hall"), ("catalogue", "concert", "repair"),
        "restoration course",
    ),
    World(
        "Grindel Valley Hostel", "mountain hostel", "staff handbook", "employee",
        ("ski set", "snow shoe pair", "mountain bike", "avalanche beacon", "climbing rope", "sledge"), "avalanche beacon",
        ("breakfast room", "boot room", "linen store", "night desk", "sun room"), ("kitchen", "housekeeping", "front desk"),
        "first aid course",
    ),
    World(
        "Tallow Lane Seed Library", "seed library and community garden", "gardeners' handbook", "gardener",
        ("wheelbarrow", "seed drill", "cider press", "soil steamer", "hedge cutter", "rotary tiller"), "cider press",
        ("potting shed", "seed store", "glasshouse", "honey kitchen", "tool barn"),
        ("compost", "seed", "watering"), "grafting course",
    ),
)  # fmt: skip

GIVEN = (
    "Marta Joris Elif Henrik Noor Pietro Sunniva Tariq Ottilie Ravi Ingrid Casper Yuki Ewan Lucia Bogdan Hanne"
    " Ismael Freya Anselm"
    " Dunja Matteo Solveig Kofi Renata Lasse Amal Corin Vesna Teo"
).split()
FAMILY = (
    "Okafor Lindqvist Haddad Brandt Morava Tessier Kallio Vance Rinaldi Szabo Achterberg Nilsen Pereira Dunmore"
    " Falk Ilves Castellan"
    " Roth Mbeki Halloran Wendt Sorensen Tanaka Grieve Popescu Arden Keller Bashir Novotny Hale"
).split()
STREETS = ("Tanner", "Mill", "Orchard", "Chapel", "Harbour", "Foundry", "Weaver", "Lime", "Quarry", "Station")
COLOURS = ("green", "yellow", "red", "grey", "blue", "white", "orange", "brown")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
MONTHS = ("January", "February", "March", "April", "May", "June", "August", "September", "October", "November")
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
CENTS = ("20", "40", "50", "80")

#: a drawn value: as the text says it, then further forms that an answer may have
Words = tuple[str, ...]


class Draw:
    """Draws of a handbook: no name twice, no sum or code where another is left; rooms, colours and days by turns."""

    def __init__(self, draw: random.Random, world: World) -> None:
        self.random, self.world = draw, world
        given, family = draw.sample(GIVEN, len(GIVEN)), draw.sample(FAMILY, len(FAMILY))
        self._names = [f"{one} {two}" for one, two in zip(given, family, strict=True)]
        self._used: set[str] = set()
        self._pools = {"room": world.rooms, "colour": COLOURS, "day": DAYS, "month": MONTHS, "street": STREETS}
        self._left: dict[str, list[str]] = {}
        self._things = draw.sample(world.things, 4)
        self._team = draw.choice(world.teams)

    def world_slots(self) -> dict[str, Words]:
        """What is the same in all sections."""
        world = self.world
        slots = {
            "org": world.org,
            "sort": world.sort,
            "member": world.member,
            "special": world.special,
            "course": world.course,
        }
        slots |= {"team": self._team} | {f"thing{n}": thing for n, thing in enumerate(self._things, 1)}
        slots |= {f"Thing{n}": thing[:1].upper() + thing[1:] for n, thing in enumerate(self._things, 1)}
        return {name: (value,) for name, value in slots.items()}

    def drawn(self, how: str) -> Words:
        """A value: `sum 10 19`, `words 2 6`, `name`, `colour`; see the head of handbook_sections.txt."""
        kind, _, rest = how.partition(" ")
        if kind == "name":
            name = self._names.pop()
            return name, name.split()[1]
        if kind == "one":
            return (self.random.choice(rest.split("|")),)
        if kind in self._pools:
            if not self._left.get(kind):
                self._left[kind] = self.random.sample(self._pools[kind], len(self._pools[kind]))
            return (self._left[kind].pop(),)
        made = self._made(kind, rest.split())
        for _ in range(50):  # a narrow range may be used up
            if made[0] not in self._used or kind in ("words", "clock"):
                break
            made = self._made(kind, rest.split())
        self._used.add(made[0])
        return made

    def _made(self, kind: str, bounds: list[str]) -> Words:
        if kind == "code":
            return (f"{self.random.choice(bounds[0])}-{self.random.randint(11, 98)}",)
        low, high = int(bounds[0]), int(bounds[1])
        if kind == "clock":
            return (f"{self.random.randint(low, high)}:{self.random.choice(['00', '15', '30', '45'])}",)
        number = self.random.randint(low, high)
        if kind == "words":
            return NUMBERS[number], str(number)
        return (f"{number}.{self.random.choice(CENTS)}" if "cents" in bounds else str(number),)
