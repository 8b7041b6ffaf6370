"""The worlds of invented handbooks: who publishes one, what they lend and for whom; and names, places and codes to draw."""

from __future__ import annotations

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
        ("potting shed", "seed store", "glasshouse", "honey kitchen", "tool barn"), ("compost", "seed", "watering"), "grafting course",
    ),
)  # fmt: skip

GIVEN = (
    "Marta Joris Elif Henrik Noor Pietro Sunniva Tariq Ottilie Ravi Ingrid Casper Yuki Ewan Lucia Bogdan Hanne Ismael Freya Anselm"
    " Dunja Matteo Solveig Kofi Renata Lasse Amal Corin Vesna Teo"
).split()
FAMILY = (
    "Okafor Lindqvist Haddad Brandt Morava Tessier Kallio Vance Rinaldi Szabo Achterberg Nilsen Pereira Dunmore Falk Ilves Castellan"
    " Roth Mbeki Halloran Wendt Sorensen Tanaka Grieve Popescu Arden Keller Bashir Novotny Hale"
).split()
STREETS = ("Tanner", "Mill", "Orchard", "Chapel", "Harbour", "Foundry", "Weaver", "Lime", "Quarry", "Station")
COLOURS = ("green", "yellow", "red", "grey", "blue", "white", "orange", "brown")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
MONTHS = ("January", "February", "March", "April", "May", "June", "August", "September", "October", "November")
