"""Everyday words: what else people say for a word of a question, and how else they ask; English."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from addenda.exercises import words

#: words that may stand for one another in a question, in their plain form; an `s` at the end is put on the other too
_ALIKE = """
begin start; end finish; close shut; receive get; obtain get; require need; purchase buy; notify tell inform; inform tell;
repair mend fix; report announce; permit allow; reserve book; cancel call_off; extend prolong renew; borrow
take_out; lend loan; store keep; collect pick_up; clean wash; contact reach; locate find; submit hand_in; sign put_my_name_to;
attend go_to; visit come_to; empty clear_out; wear put_on; hold keep; lead head; manage look_after; handle look_after; check
inspect look_over; inspect check look_over; decide judge; change alter; replace exchange; lose mislay; expire run_out; ring
phone dial; call phone ring; phone call; live dwell; work have_a_job; fee charge price; price charge cost; charge fee; fine
penalty; penalty fine; rent hire_charge; salary wage; wage salary; guest visitor; visitor guest; customer client; client
customer; employee member_of_staff; doctor physician; child kid; manager person_in_charge; deadline last_day; holiday
vacation; vacation holiday; building house; office bureau; entrance way_in door; exit way_out; form paper sheet; document
paper; letter note; email e-mail; telephone phone; bin container; rubbish waste trash; waste rubbish trash; car vehicle;
bicycle bike; lift elevator; siren alarm; accident mishap; injury wound; illness sickness; meeting gathering; course class;
lesson class; deposit security; shift turn_of_duty; break pause; rule regulation; complaint grievance; warning reprimand;
permission approval; team group crew; firm company; company firm; shop store; town city; job profession occupation; spouse
partner; birthplace place_of_birth; hobby pastime; pet animal; colour color; size dimension; amount sum; quantity number;
limit maximum; minimum least_amount; lunch midday_meal; dinner evening_meal; password access_code; code number combination;
shelf rack; cupboard cabinet; cabinet cupboard; box case; towel cloth
"""
#: the same for forms that take no `s`, as they are
_AS_THEY_ARE = """
closed shut; opened unlocked; allowed permitted; permitted allowed; lost mislaid missing; broken damaged; damaged broken; kept
stored; stored kept; washed cleaned; cleaned washed; paid settled; due payable; compulsory obligatory required; forbidden
banned prohibited; prohibited banned forbidden; inspected checked; checked inspected; repaired mended fixed; reported
announced; announced reported; founded started set_up established; established founded set_up; late overdue; ill sick unwell;
trained schooled; required needed; needed required; borrowed taken_out; sent handed; held kept; emptied cleared; collected
picked_up; switched_off turned_off; located found; situated found; children kids; people persons; staff employees; adults
grown-ups; students people_who_study; biggest largest; largest biggest; smallest littlest; quickly fast; often frequently;
daily every_day; weekly every_week; monthly a_month; yearly a_year; annual yearly; may can; working_days weekdays; on_weekdays
on_working_days; in_advance beforehand; at_most no_more_than; at_least no_less_than; entire whole
"""
#: how a question begins or is put, and how else it is; `{0}` and so on are what stood in the brackets
_PUT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"(?:How much|What) do(?:es)? (.+?) cost( .+)?\?",
        (
            "What will I be charged for {0}{1}?",
            "How expensive would {0} be{1}?",
            "What do you ask for {0}{1}?",
            "I would like to know the price of {0}{1}.",
            "How much money do I need for {0}{1}?",
            "What do I owe for {0}{1}?",
        ),
    ),
    (
        r"(?:How much|What) (?:do I (?:have to )?pay|must be paid|is charged) for (.+)\?",
        ("What will {0} come to?", "What is the sum that I owe for {0}?", "How much will you take from me for {0}?"),
    ),
    (r"How (?:much|high) (is|are) (.+)\?", ("What sum {0} {1}?", "How large {0} {1}?", "To how much does {1} amount?")),
    (
        r"(?:Who|Which person) ([a-z]+s|[a-z]+ed|led|wrote|kept|made|built) (.+)\?",
        (
            "I am looking for the person who {0} {1}. What is the name?",
            "Whose task is it, who {0} {1}?",
            "Give me the name of whoever {0} {1}.",
            "If I want to talk to the one who {0} {1}, whom do I ask for?",
        ),
    ),
    (
        r"Who (is|was) (.+)\?",
        ("Give me the name of {1}.", "Which person {0} {1}?", "I need to speak to {1}. Who {0} that?"),
    ),
    (
        r"(?:To|By|With|From) whom (.+)\?",
        (
            "Name the person, please: who is it, where I ask by or to whom {0}?",
            "Which person is meant: to or by whom {0}?",
        ),
    ),
    (
        r"(?:When|At what time|At what hour) (does|do|is|are) (.+?) (open|begin|start|opened)(s?)( .+)?\?",
        ("From what time {0} {1} {2}{4}?", "How early {0} {1} {2}{4}?", "What time {0} {1} {2}{4}?"),
    ),
    (
        r"(?:When|At what time|At what hour) (does|do|is|are) (.+?) (close|end|finish|shut|closed)( .+)?\?",
        ("Until what time is it before {1} {2}{3}?", "How late {0} {1} {2}{3}?", "What time {0} {1} {2}{3}?"),
    ),
    (
        r"(?:On which day|On what day|On which date|On which weekday|When) (.+)\?",
        ("Which day is it, on which {0}?", "What day of the calendar or week {0}?", "Tell me the day on which {0}."),
    ),
    (
        r"Where (?:can I find|do I find|is|are) (.+)\?",
        (
            "I am looking for {0}. Where do I go?",
            "In which place would I find {0}?",
            "I need {0}. Where to?",
            "What is the place of {0}?",
        ),
    ),
    (
        r"Where (do|does|did|was|were) (.+)\?",
        ("In which place {0} {1}?", "At what spot {0} {1}?", "In what town or room {0} {1}?"),
    ),
    (r"How many (.+)\?", ("What is the number: how many {0}?", "Up to how many {0}?", "I wonder how many {0}.")),
    (
        r"(?:For how|How) long (.+)\?",
        (
            "What length of time {0}?",
            "How much time {0}?",
            "For what time {0}?",
            "How many days or hours or months {0}?",
        ),
    ),
    (
        r"(?:How often|Every how many [a-z]+) (.+)\?",
        ("How frequently {0}?", "At what intervals {0}?", "How many times {0}?"),
    ),
    (
        r"(?:How soon|How quickly|Within what time|Within how many [a-z]+) (.+)\?",
        ("After how long at the latest {0}?", "How long at most until {0}?", "By when {0}?"),
    ),
    (r"Why (.+)\?", ("What is the reason that {0}?", "How come {0}?", "For what purpose {0}?")),
    (
        r"(?:Must|Do I have to|Is it necessary to) (.+)\?",
        ("Is it a must: {0}?", "Am I obliged, {0}?", "Can I get round it, or must {0}?"),
    ),
    (r"(?:May|Can|Is it allowed to) (.+)\?", ("Is there a rule against it, or may {0}?", "Is it all right: may {0}?")),
    (
        r"What is the (.+?) (?:of|for) (.+)\?",
        ("For {1}, what is the {0}?", "{1}: which {0}?", "I ask about {1}. Its {0}?"),
    ),
    (
        r"For (.+), what is the (.+)\?",
        ("What {1} does {0} have?", "I take {0}. Which {1} goes with it?", "{0}: what {1}?"),
    ),
)
#: what a person says before a question
LEADS = (
    "I am new here.", "Quick question:", "Sorry to trouble you.", "A friend of mine wants to know:", "I could not find this:",
    "Please help me.", "Can you tell me this?", "One more thing:", "I forgot.", "Somebody asked me at the desk.",
    "Just to be sure:", "I want to do it right.", "Before I come:", "I was wondering.",
)  # fmt: skip


@cache
def _table() -> dict[str, tuple[str, ...]]:
    """What may stand for a word: for each form of each."""
    found: dict[str, tuple[str, ...]] = {}
    for line in _entries(_ALIKE):
        found[line[0]] = line[1:]
        found[words.third_of(line[0])] = tuple(_with_s(word) for word in line[1:])
    for line in _entries(_AS_THEY_ARE):
        found[line[0]] = line[1:]
    return found


def _entries(text: str) -> Iterator[tuple[str, ...]]:
    for entry in " ".join(text.split()).split(";"):
        yield tuple(word.replace("_", " ") for word in entry.split())


def _with_s(word: str) -> str:
    """`bring back` to `brings back`; `place of birth` to `places of birth`."""
    first, _, rest = word.partition(" ")
    first = f"{first[:-1]}ies" if re.search(r"[^aeiou]y$", first) else words.third_of(first)
    first = f"{first[:-1]}es" if re.search(r"(?:ss|sh|ch|x)s$", first) else first
    return f"{first} {rest}".strip()


def others(question: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """Where words of a question stand that have others, which those are; names, codes and quoted words are left alone."""
    table, found = _table(), list[tuple[int, int, tuple[str, ...]]]()
    quoted = [span.span() for span in re.finditer(r'"[^"]*"', question)]
    for match in re.finditer(r"(?<![\w'’-])[a-z]+(?: (?:days|off|advance|most|least|weekdays))?(?![\w'’-])", question):
        if any(start <= match.start() < end for start, end in quoted):
            continue
        word = match[0] if match[0] in table else match[0].split(" ")[0]
        if word in table:
            found.append((match.start(), match.start() + len(word), table[word]))
    return found


def put_otherwise(question: str) -> list[str]:
    """The ways in which a question may also be put."""
    for form, ways in _PUT:
        match = re.fullmatch(form, question)
        if match:
            parts = [part or "" for part in match.groups()]
            return [_capital(re.sub(r"\s+([?.:,])", r"\1", way.format(*parts))) for way in ways]
    return []


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
