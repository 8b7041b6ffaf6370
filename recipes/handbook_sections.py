"""The sections of invented handbooks: each draws its facts, tells them in prose, and asks for them in words of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from recipes.handbook_worlds import COLOURS, DAYS, FAMILY, GIVEN, MONTHS, STREETS, World

#: sort (direct, turned, combined), question, answer, and groups of forms of which an answer needs one each
Asked = tuple[str, str, str, tuple[tuple[str, ...], ...]]
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


@dataclass(frozen=True)
class Section:
    """A section's heading and text in Markdown, and what may be asked of it."""

    heading: str
    text: str
    asked: tuple[Asked, ...]


class Draw:
    """Draws facts, none twice in a handbook: names, sums, codes, colours, days."""

    def __init__(self, draw: random.Random, world: World) -> None:
        self.random, self.world = draw, world
        self._names = [
            f"{given} {family}"
            for given, family in zip(draw.sample(GIVEN, len(GIVEN)), draw.sample(FAMILY, len(FAMILY)), strict=True)
        ]
        self._sums: set[str] = set()
        self._codes: set[str] = set()
        self._pools = {"colour": list(COLOURS), "day": list(DAYS), "month": list(MONTHS), "street": list(STREETS)}
        self._rooms = draw.sample(world.rooms, len(world.rooms))

    def name(self) -> str:
        return self._names.pop()

    def room(self) -> str:
        """A room; each in turn."""
        self._rooms.append(self._rooms.pop(0))
        return self._rooms[-1]

    def sum(self, low: int, high: int, cents: bool = False) -> str:
        """A sum of euros, as `14` or `3.40`, that was not drawn before."""
        while True:
            made = str(self.random.randint(low, high)) + (
                self.random.choice([".20", ".40", ".50", ".80"]) if cents else ""
            )
            if made not in self._sums:
                self._sums.add(made)
                return made

    def code(self, letters: str) -> str:
        while True:
            made = f"{letters}-{self.random.randint(11, 98)}"
            if made not in self._codes:
                self._codes.add(made)
                return made

    def one(self, pool: str) -> str:
        """A colour, a day, a month or a street, each once before any twice."""
        if not self._pools[pool]:
            self._pools[pool] = list({"colour": COLOURS, "day": DAYS, "month": MONTHS, "street": STREETS}[pool])
        return self._pools[pool].pop(self.random.randrange(len(self._pools[pool])))

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def clock(self, low: int, high: int) -> str:
        return f"{self.random.randint(low, high)}:{self.random.choice(['00', '15', '30', '45'])}"


def n(number: int) -> tuple[str, ...]:
    """The forms of a number."""
    return (str(number), NUMBERS[number]) if number < len(NUMBERS) else (str(number),)


def word(number: int) -> str:
    """A number as prose has it."""
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def a(noun: str) -> str:
    """A noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def about(d: Draw) -> Section:
    w, year, house = d.world, d.number(1921, 1998), d.number(3, 88)
    street, founder, head, deputy, books = d.one("street"), d.name(), d.name(), d.name(), d.name()
    team = d.random.choice(w.teams)
    text = f"""The {w.org} is a {w.sort}. It was founded in {year} by {founder}, who left it the house at {house} {street} Street. \
The house is open to every {w.member}; the attic is not.

{head} is the director. In her absence, {deputy} decides. The books are kept by {books}, and questions about invoices go to \
nobody else. The {team} team is the largest and meets every {(day := d.one("day"))} in the {(room := d.room())}.

Letters that arrive without a name are opened by the director. The archive of the first ten years was lost in a flood, so \
claims about that time cannot be checked."""
    return Section(
        f"About the {w.org.split()[-1].lower()}",
        text,
        (
            (
                "direct",
                f"In which year did the {w.org} come into being?",
                f"It was founded in {year}.",
                ((str(year),),),
            ),
            (
                "direct",
                f"I need to visit the {w.org}. What address do I give the taxi?",
                f"{house} {street} Street.",
                ((f"{house} {street}",),),
            ),
            (
                "direct",
                "The director is away. Whose word counts then?",
                f"{deputy} decides.",
                ((deputy, deputy.split()[1]),),
            ),
            (
                "turned",
                f"What was {founder}'s part in the history of the house?",
                f"{founder} founded it in {year}.",
                (("founded", "founder", "left"),),
            ),
            (
                "direct",
                "An invoice looks wrong. Who is the right person to speak to?",
                f"{books} keeps the books.",
                ((books, books.split()[1]),),
            ),
            (
                "combined",
                f"On what day and in what room would I meet the {team} team?",
                f"On {day} in the {room}.",
                ((day,), (room,)),
            ),
            ("turned", f"What is {head}'s position?", f"{head} is the director.", (("director",),)),
        ),
    )


def fees(d: Draw) -> Section:
    adult, student, family, joining = d.sum(50, 90), d.sum(20, 45), d.sum(95, 140), d.sum(10, 19)
    weeks, age, office = d.number(3, 8), d.number(68, 78), d.name()
    text = f"""A year costs {adult} euros for adults and {student} euros for students and apprentices. A family, however large, \
pays {family} euros. On top of that there is a joining fee of {joining} euros, which is charged once and is not given back.

Fees are due on 1 {(month := d.one("month"))}. Whoever joins after that date pays half for the rest of the year. People who are \
older than {age} pay nothing at all, and neither do volunteers with more than {word(hours := d.number(4, 9))} hours a month.

To leave, write to {office} at least {word(weeks)} weeks before the year ends. A letter that comes later counts for the next year."""
    return Section(
        "Fees",
        text,
        (
            ("direct", "I am at university. What is my yearly contribution?", f"{student} euros.", ((student,),)),
            (
                "direct",
                "We are two parents with four children. What would we owe for a year?",
                f"A family pays {family} euros.",
                ((family,),),
            ),
            (
                "direct",
                "Is there an entry charge for newcomers, and how large is it?",
                f"Yes, {joining} euros.",
                ((joining,),),
            ),
            ("turned", f"Which group of people owes {family} euros?", "Families.", (("family", "families"),)),
            ("direct", "From what age is everything free of charge?", f"Above {age}.", ((str(age),),)),
            (
                "combined",
                "How far ahead must I give notice, and who gets the letter?",
                f"{weeks} weeks, to {office}.",
                (n(weeks), (office, office.split()[1])),
            ),
            (
                "direct",
                "How much volunteering a month frees me from payment?",
                f"More than {hours} hours.",
                (n(hours),),
            ),
            ("direct", "By what date does the money have to be there?", f"On 1 {month}.", ((month,),)),
        ),
    )


def hours(d: Draw) -> Section:
    early, late, saturday, last = d.clock(7, 9), d.clock(18, 20), d.clock(10, 11), d.clock(14, 16)
    closed, month, minutes = d.one("day"), d.one("month"), d.random.choice([10, 20, 25, 40])
    text = f"""On working days the doors open at {early} and close at {late}. {closed} is the exception: on {closed}s everything stays \
shut, because deliveries come then. On Saturdays the house opens at {saturday} and the last person leaves at {last}. Sundays are free.

In {month} the hours are halved; a note at the door says which half. The {(room := d.room())} may be used outside these hours by \
holders of a night pass. A night pass costs {(price := d.sum(20, 48))} euros and is valid for {word(months := d.number(2, 6))} months.

Please begin to tidy up {minutes} minutes before closing. The lights go out without a warning."""
    return Section(
        "When we are open",
        text,
        (
            ("direct", "How early can I come in on an ordinary working day?", f"At {early}.", ((early,),)),
            ("direct", "Until what o'clock can I stay on a Saturday?", f"Until {last}.", ((last,),)),
            ("direct", "On which weekday would I stand before locked doors?", f"On {closed}.", ((closed,),)),
            ("turned", "Which month has half the usual opening times?", f"{month}.", ((month,),)),
            ("direct", "What must I spend on a pass for the night?", f"{price} euros.", ((price,),)),
            (
                "combined",
                "Which room does the pass for the night unlock, and how many months does it last?",
                f"The {room}, {months} months.",
                ((room,), n(months)),
            ),
            (
                "direct",
                "How long before the end should I start putting things away?",
                f"{minutes} minutes.",
                (n(minutes),),
            ),
        ),
    )


def loans(d: Draw) -> Section:
    w = d.world
    most, days, late, again = d.number(2, 5), d.number(6, 12), d.sum(1, 4, True), d.number(1, 3)
    hold, keeper, form = d.number(2, 5), d.name(), d.code(d.random.choice("KLQT"))
    text = f"""Each {w.member} may take out {word(most)} items at a time and keep them for {word(days)} days. A loan can be extended \
{word(again)} {"time" if again == 1 else "times"}, unless someone else is waiting. The {w.special} is never lent for more than a \
weekend.

An item that comes back late costs {late} euros for each day. After thirty days we assume that it is lost and send a bill for \
its full value. Reserved items are held for {word(hold)} days at the counter and then go to the next person.

Damage has to be reported on form {form}. {keeper} decides whether an item can be repaired, and her decision is final. Items must \
not be passed on to friends, not even for an hour."""
    return Section(
        "Borrowing",
        text,
        (
            ("direct", "How many items can I have at home at once?", f"{word(most)} items.", (n(most),)),
            ("direct", "After how long do I need to bring a loan back?", f"After {days} days.", (n(days),)),
            ("direct", "I forgot my return date. What will each day set me back?", f"{late} euros.", ((late,),)),
            (
                "turned",
                f"What is the paper with the number {form} good for?",
                "For reporting damage.",
                (("damage", "damaged"),),
            ),
            ("direct", "How long does a reservation wait for me?", f"{hold} days.", (n(hold),)),
            (
                "turned",
                f"What does {keeper} have the last word on?",
                "Whether an item can be repaired.",
                (("repair", "repaired", "repairs"),),
            ),
            (
                "combined",
                "Something broke while I had it. Which paper do I fill in, and who judges whether it can be mended?",
                f"Form {form}; {keeper}.",
                ((form,), (keeper, keeper.split()[1])),
            ),
        ),
    )


def keys(d: Draw) -> Section:
    door, alarm, lost = d.number(1000, 9899), d.number(100, 989), d.sum(21, 60)
    colour, holder, room, hook = d.one("colour"), d.name(), d.room(), d.number(4, 29)
    text = f"""The code of the side door is {door}. It changes every {(day := d.one("day"))}, and the new one is sent by text message. \
The alarm is switched off with {alarm} followed by the star key; you have forty seconds.

Spare keys hang in the {colour} cabinet in the {room}. The key of the cellar is on hook {hook} and has a wooden tag. Only {holder} \
has a key to the safe.

A lost key costs {lost} euros, since the lock must be changed. If a key breaks in the lock, leave it where it is and ring the \
caretaker. Copies may be made by the caretaker alone, and each is stamped with the letter {(letter := d.random.choice("BDFHMVZ"))}."""
    return Section(
        "Keys and codes",
        text,
        (
            ("direct", "Which digits do I type at the side entrance?", f"{door}.", ((str(door),),)),
            (
                "direct",
                "The alarm is ringing. Which number silences it?",
                f"{alarm} and the star key.",
                ((str(alarm),),),
            ),
            ("turned", f"What is inside the {colour} cabinet?", "The spare keys.", (("key", "keys"),)),
            ("direct", "Somebody mislaid a key. What will the bill be?", f"{lost} euros.", ((lost,),)),
            ("direct", "Who is able to unlock the safe?", f"{holder}.", ((holder, holder.split()[1]),)),
            ("turned", f"What hangs on hook {hook}?", "The key of the cellar.", (("cellar",),)),
            (
                "combined",
                "I want a spare key. In which room and in which cabinet do I look?",
                f"The {colour} cabinet in the {room}.",
                ((room,), (colour,)),
            ),
            (
                "direct",
                "How do I recognise an official copy of a key?",
                f"It is stamped with {letter}.",
                ((f"letter {letter}", f'"{letter}"', f" {letter}", letter),),
            ),
        ),
    )


def safety(d: Draw) -> Section:
    first, second, room, months = d.name(), d.name(), d.room(), d.number(3, 11)
    point, phone = d.random.choice(["chestnut tree", "bicycle stand", "old well", "flagpole"]), d.number(200, 979)
    text = f"""The first-aid box is in the {room}, to the left of the window. It contains:

- plasters and two burn dressings
- a pair of tweezers
- an eye wash that expires after a year

{first} and {second} are trained in first aid. Ring {phone} from any house phone to reach whoever is on duty.

When the siren sounds, go to the {point} and wait to be counted. Lifts must not be used. Fire extinguishers are inspected every \
{word(months)} months. Gloves are compulsory wherever the floor is painted {(colour := d.one("colour"))}; visitors who refuse them are asked \
to leave. Accidents, even small ones, belong in the {(book := d.one("colour"))} book by the door."""
    return Section(
        "Safety",
        text,
        (
            ("direct", "I cut my finger. To which room do I run for a bandage?", f"The {room}.", ((room,),)),
            ("direct", "There is an alarm. At which spot do we gather?", f"At the {point}.", ((point,),)),
            ("direct", "Which extension gets me someone who can help the injured?", f"{phone}.", ((str(phone),),)),
            (
                "direct",
                "How frequently does someone look over the extinguishers?",
                f"Every {months} months.",
                (n(months),),
            ),
            ("turned", f"What does a {colour} floor tell me to put on?", "Gloves.", (("glove", "gloves"),)),
            ("turned", f"What do people write in the {book} book?", "Accidents.", (("accident", "accidents"),)),
            (
                "combined",
                "Give me the names of both people who know first aid.",
                f"{first} and {second}.",
                ((first, first.split()[1]), (second, second.split()[1])),
            ),
        ),
    )


def money(d: Draw) -> Section:
    limit, upper, mile, form = d.sum(100, 190), d.sum(300, 600), d.sum(0, 0, True), d.code("E")
    chief, treasurer, days = d.name(), d.name(), d.random.choice([14, 21, 28, 45])
    text = f"""Whoever spends money for the house gets it back with a receipt. Up to {limit} euros no permission is needed. Above that \
{chief} has to agree, and from {upper} euros on the treasurer, {treasurer}, signs as well.

Claims are made on form {form} within {days} days. A claim without a receipt is refused unless the sum is below five euros. Travel by \
car is paid at {mile} euros per kilometre; train tickets are paid in full, but only second class.

Gifts to the house are recorded in the {(colour := d.one("colour"))} ledger. Cash is counted by two people on the last \
{(day := d.one("day"))} of the month and taken to the bank the next morning."""
    return Section(
        "Money and receipts",
        text,
        (
            ("direct", "What amount can I lay out without asking anyone?", f"{limit} euros.", ((limit,),)),
            (
                "turned",
                f"What would I use {form} for?",
                "To claim money back.",
                (("claim", "claims", "expenses", "spent", "back"),),
            ),
            ("direct", "I drove with my own car. What rate applies?", f"{mile} euros per kilometre.", ((mile,),)),
            ("direct", "How many days do I have to hand in my receipts?", f"{days} days.", (n(days),)),
            (
                "combined",
                f"I want to buy something for {int(upper) + 50} euros. Which two people have to agree?",
                f"{chief} and {treasurer}.",
                ((chief, chief.split()[1]), (treasurer, treasurer.split()[1])),
            ),
            ("direct", "In which book are presents to the house noted?", f"In the {colour} ledger.", ((colour,),)),
            ("direct", "Which weekday, late in the month, is set aside for counting the till?", f"{day}.", ((day,),)),
        ),
    )


def shifts(d: Draw) -> Section:
    shift, swap, note, leave = d.number(3, 6), d.number(2, 9), d.number(2, 5), d.number(21, 33)
    planner, phone, start = d.name(), d.number(200, 979), d.clock(7, 9)
    text = f"""A shift lasts {word(shift)} hours with a break of twenty minutes. The early shift begins at {start}. The plan is made by \
{planner}, who pins it to the board in the {(room := d.room())} on {(day := d.one("day"))} afternoons.

If you want to swap, find someone yourself and say so {word(swap)} days ahead. Two shifts on one day are not allowed. Whoever is ill \
calls {phone} before the shift begins; from the {["", "", "second", "third", "fourth", "fifth"][note]} day on a doctor's note is required.

Paid staff have {leave} days of leave a year. Days that are not taken by the end of {(month := d.one("month"))} of the following year are \
lost, except after a long illness."""
    return Section(
        "Shifts and leave",
        text,
        (
            ("direct", "How long would I be on my feet in one shift?", f"{shift} hours.", (n(shift),)),
            ("direct", "Whom do I thank or blame for the shift plan?", f"{planner}.", ((planner, planner.split()[1]),)),
            ("direct", "I woke up with a fever. Which number do I dial?", f"{phone}.", ((str(phone),),)),
            ("direct", "How much paid holiday do staff get each year?", f"{leave} days.", (n(leave),)),
            (
                "turned",
                f"What happens to leftover holiday after {month}?",
                "It is lost.",
                (("lost", "lose", "expire", "expires"),),
            ),
            (
                "combined",
                "Where and on which afternoon does the new plan go up?",
                f"In the {room} on {day}.",
                ((room,), (day,)),
            ),
            ("direct", "How far in advance must I announce a swap?", f"{swap} days.", (n(swap),)),
        ),
    )


def guests(d: Draw) -> Section:
    w = d.world
    guests_, ticket, age, alone = d.number(2, 6), d.sum(4, 9), d.number(6, 9), d.number(13, 16)
    room, host = d.room(), d.name()
    text = f"""Every {w.member} may bring {word(guests_)} guests a month. A guest pays {ticket} euros for the day and signs the list that lies in the \
{d.room()}. Guests wear {a(colour := d.one("colour"))} badge, so that helpers can tell who needs them.

Children under {word(age)} are admitted only with an adult. From {alone} they may come alone if a parent has signed form \
{(form := d.code("P"))}. Dogs are welcome on {(day := d.one("day"))}s and on no other day; guide dogs always are.

Groups of more than twelve people must be announced to {host}, who shows them round for nothing. Photographs are permitted except in \
the {room}."""
    return Section(
        "Guests and children",
        text,
        (
            ("direct", "How many friends can I bring along in one month?", f"{guests_}.", (n(guests_),)),
            ("direct", "What does my visitor have to hand over for one day?", f"{ticket} euros.", ((ticket,),)),
            (
                "turned",
                f"Someone walks by with {a(colour)} badge. What does that tell me?",
                "That the person is a guest.",
                (("guest", "guests", "visitor"),),
            ),
            ("direct", "On which day can I take my terrier along?", f"On {day}.", ((day,),)),
            ("direct", "At what age can my daughter turn up without us?", f"At {alone}.", (n(alone),)),
            (
                "combined",
                "Our class of thirty wants to visit. Whom do we tell, and what is the tour worth?",
                f"{host}; it is free.",
                ((host, host.split()[1]), ("nothing", "free", "no charge")),
            ),
            ("direct", "In which room should I leave my camera in its bag?", f"In the {room}.", ((room,),)),
        ),
    )


def lockers(d: Draw) -> Section:
    sizes = ("small", "medium", "large")
    prices = sorted((d.sum(2, 19) for _ in sizes), key=int)
    depths = sorted(d.random.sample(range(25, 95, 5), 3))
    keeper, days = d.name(), d.random.choice([5, 8, 15, 18])
    rows = "\n".join(
        f"| {size} | {deep} cm | {price} euros |" for size, deep, price in zip(sizes, depths, prices, strict=True)
    )
    text = f"""Lockers stand along the wall of the {(room := d.room())}. They are let by the month:

| Locker | Depth | Rent a month |
|---|---|---|
{rows}

You bring your own padlock. {keeper} gives out lockers and keeps the waiting list, on which {d.world.member}s who come \
daily stand first. Food, paint and batteries must not be stored.

A locker whose rent has not been paid for {word(days)} days is opened and emptied. What was in it is kept for half a year in the \
{(bin_ := d.one("colour"))} crate and then given away."""
    return Section(
        "Lockers",
        text,
        (
            (
                "direct",
                "I would like a locker of the biggest kind. What is the monthly charge?",
                f"{prices[2]} euros.",
                ((prices[2],),),
            ),
            ("direct", "How deep is the middle sort of locker?", f"{depths[1]} cm.", ((str(depths[1]),),)),
            ("turned", f"Which size of locker can I get for {prices[0]} euros?", "A small one.", (("small",),)),
            (
                "direct",
                "Whom do I see to get on the waiting list for a locker?",
                f"{keeper}.",
                ((keeper, keeper.split()[1]),),
            ),
            ("direct", "My locker was cleared out. In which crate are my things?", f"In the {bin_} crate.", ((bin_,),)),
            (
                "combined",
                "For a medium locker, tell me both its rent and its depth.",
                f"{prices[1]} euros, {depths[1]} cm.",
                ((prices[1],), (str(depths[1]),)),
            ),
            ("direct", "After how many unpaid days is a locker broken open?", f"After {days} days.", (n(days),)),
        ),
    )


def equipment(d: Draw) -> Section:
    things = d.random.sample(d.world.things, 4)
    rates, deposits, codes = (
        [d.sum(3, 30) for _ in things],
        [d.sum(35, 160) for _ in things],
        [d.code("G") for _ in things],
    )
    expert, day = d.name(), d.one("day")
    rows = "\n".join(
        f"| {thing[:1].upper()}{thing[1:]} | {code} | {rate} euros | {deposit} euros |"
        for thing, code, rate, deposit in zip(things, codes, rates, deposits, strict=True)
    )
    text = f"""These items can be hired by the day. The deposit is paid in cash and comes back with the item.

| Item | Number | Day rate | Deposit |
|---|---|---|---|
{rows}

Before you first use the {things[0]}, {expert} has to show you how. Lessons are on {day}s and last an hour. The {things[1]} needs two \
people to carry. For a whole week, five day rates are charged.

All items are checked when they return. A dirty one costs {(dirty := d.sum(5, 18, True))} euros extra. The {things[2]} must be kept dry and \
may not leave the grounds."""
    return Section(
        "Equipment for hire",
        text,
        (
            ("direct", f"I need a {things[3]} for one day. What is the charge?", f"{rates[3]} euros.", ((rates[3],),)),
            (
                "direct",
                f"How much cash do I leave behind for the {things[1]}?",
                f"{deposits[1]} euros.",
                ((deposits[1],),),
            ),
            ("turned", f"On an item I read {codes[2]}. What is it?", f"The {things[2]}.", ((things[2],),)),
            ("turned", f"Which item goes out for {rates[0]} euros daily?", f"The {things[0]}.", ((things[0],),)),
            (
                "combined",
                f"Who gives lessons with the {things[0]}, and on which weekday?",
                f"{expert}, on {day}.",
                ((expert, expert.split()[1]), (day,)),
            ),
            ("direct", f"Can I take the {things[2]} home?", "No, it may not leave the grounds.", (("no", "not"),)),
            ("direct", "I bring something back muddy. What is added to the bill?", f"{dirty} euros.", ((dirty,),)),
        ),
    )


def cleaning(d: Draw) -> Section:
    glass, paper, rest = d.one("colour"), d.one("colour"), d.one("colour")
    firm, chief, day, degrees = (
        d.random.choice(["Brightwater", "Ostara", "Pellam and Daughters"]),
        d.name(),
        d.one("day"),
        d.random.choice([40, 60, 70, 90]),
    )
    text = f"""Everybody leaves a room as they found it. Floors are washed by the firm {firm} on {day} nights, kitchens by ourselves. \
{chief} buys soap and towels and wants to hear when something runs out.

Glass goes into the {glass} bin and paper into the {paper} one. Everything else belongs in the {rest} bin, which is emptied \
{(often := d.random.choice(["twice a week", "every fortnight", "once a month"]))}. Solvents must never be poured into the sink; they are \
collected in the metal can under the stairs.

Towels are washed at {degrees} degrees. The dishwasher runs after the last meal, not before, because the old pipes cannot take more. \
Whoever breaks a cup puts {(cup := d.sum(1, 3, True))} euros into the jar."""
    return Section(
        "Cleaning and waste",
        text,
        (
            (
                "direct",
                "I have an empty jam jar. What colour of bin does it go into?",
                f"The {glass} bin.",
                ((glass,),),
            ),
            ("turned", f"What sort of rubbish is the {paper} bin meant for?", "Paper.", (("paper",),)),
            ("direct", "Which company mops the floors?", f"{firm}.", ((firm,),)),
            ("direct", "We have run out of soap. Whom do I tell?", f"{chief}.", ((chief, chief.split()[1]),)),
            ("direct", "How hot do the towels have to be washed?", f"{degrees} degrees.", ((str(degrees),),)),
            ("direct", "I dropped a cup. What do I owe?", f"{cup} euros.", ((cup,),)),
            (
                "combined",
                "What is the bin for all other waste, and how frequently is it emptied?",
                f"The {rest} bin, {often}.",
                ((rest,), (often,)),
            ),
        ),
    )


def complaints(d: Draw) -> Section:
    person, days, form, second = d.name(), d.number(5, 12), d.code("C"), d.name()
    text = f"""Tell us what went wrong. A complaint is made on form {form} or by word of mouth to {person}, who is bound to silence. You \
get an answer within {word(days)} days. If it does not satisfy you, the council of {word(size := d.number(3, 7))} elected people hears the case.

The council meets on the first {(day := d.one("day"))} of the month under {second}. Its meetings are public, its votes are not. Nobody may \
vote on a complaint about themselves.

A warning is written down and struck out after {word(months := d.number(4, 11))} months. After the third warning a person is shut out for a \
year. Theft and violence are different: there the first time is the last. Complaints without a signature are read but not answered."""
    return Section(
        "Complaints",
        text,
        (
            ("direct", "To whom can I pour out my heart in confidence?", f"{person}.", ((person, person.split()[1]),)),
            ("direct", "How many days may I have to wait for a reply to my complaint?", f"{days} days.", (n(days),)),
            (
                "turned",
                f"When would I reach for form {form}?",
                "To complain.",
                (("complaint", "complaints", "complain"),),
            ),
            ("direct", "How big is the elected council?", f"{size} people.", (n(size),)),
            ("direct", "When does a warning vanish from the record?", f"After {months} months.", (n(months),)),
            (
                "combined",
                "Who chairs the council, and on which weekday does it sit?",
                f"{second}, on {day}.",
                ((second, second.split()[1]), (day,)),
            ),
        ),
    )


def events(d: Draw) -> Section:
    w = d.world
    month, date, price, seats = d.one("month"), d.number(2, 27), d.sum(60, 150), d.number(8, 24)
    teacher, code, deadline = d.name(), d.code("V"), d.number(10, 25)
    text = f"""The annual meeting takes place on {date} {month} in the {(room := d.room())}. Motions have to arrive {deadline} days earlier. \
Every {w.member} has one vote, and nobody can vote for another.

The {w.course} is held twice a year. It costs {price} euros, takes {word(evenings := d.number(3, 8))} evenings and has room for {seats} people. \
{teacher} teaches it. When you register, give the number {code}.

In summer there is a party at which each guest brings a dish. Music must end at {(end := d.clock(21, 23))}; the neighbours are invited, \
which has proved wise. The raffle pays for new books. Last year it brought in {(raffle := d.sum(300, 900))} euros."""
    return Section(
        "Meetings and courses",
        text,
        (
            (
                "direct",
                "Which date should I keep free for the yearly assembly?",
                f"{date} {month}.",
                ((f"{date} {month}", f"{month} {date}"),),
            ),
            ("direct", f"I want to attend the {w.course}. What will I be charged?", f"{price} euros.", ((price,),)),
            ("direct", f"How many places are there in the {w.course}?", f"{seats}.", (n(seats),)),
            ("turned", f"What does the number {code} stand for?", f"The {w.course}.", ((w.course, "course"),)),
            ("turned", f"Which course is in the hands of {teacher}?", f"The {w.course}.", ((w.course,),)),
            ("direct", "At what hour does the band have to stop at the summer party?", f"At {end}.", ((end,),)),
            (
                "combined",
                f"Name the teacher of the {w.course} and the number of evenings.",
                f"{teacher}, {evenings} evenings.",
                ((teacher, teacher.split()[1]), n(evenings)),
            ),
            ("direct", "What were the takings of the last raffle?", f"{raffle} euros.", ((raffle,),)),
        ),
    )


#: what no section tells of
UNTOLD = (
    "Is there somewhere to leave a car overnight?", "What is the password of the wireless network?", "Do you serve a warm lunch?",
    "How old is the director?", "Which insurance company covers the building?", "Are there hot showers?",
    "What is the name of the newsletter?", "How many people work here altogether?", "Can I pay with a credit card?",
    "Who designed the logo?", "Which bus line stops nearest?", "Is there a discount for the unemployed?",
    "What does the coffee machine take, coins or tokens?", "Who waters the plants?", "In what year was the roof renewed?",
    "How large is the garden in square metres?",
)  # fmt: skip

SECTIONS: tuple[Callable[[Draw], Section], ...] = (
    about, fees, hours, loans, equipment, lockers, keys, safety, guests, money, shifts, cleaning, complaints, events,
)  # fmt: skip
