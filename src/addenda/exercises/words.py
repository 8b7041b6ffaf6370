"""Closed classes of English words, by which exercises know a subject from a verb, and small changes of words' forms."""

from __future__ import annotations

import re
from functools import cache


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


BE = _set("is are was were")
MODALS = _set("must may can could shall should will would might")
DETERMINERS = _set(
    "the a an each every any all no some both either neither most many several few another one two three four five six"
    " seven eight nine ten eleven twelve my your our their his her its"
)
NUMBERS = _set("one two three four five six seven eight nine ten eleven twelve")
#: subjects that are nobody in particular, whose verbs are not asked about
NOBODY = _set("nobody none nothing whoever whatever whichever something somebody someone anything neither either")
#: nouns that stand without an article, and begin a sentence with a capital that is not a name's
MASS = _set(
    "damage smoke smoking food access entry entrance rent travel glass music water paper work staff insurance"
    " parking mail post help"
    " waste rubbish money cash noise alcohol traffic heat light time post snow rain soap laundry luggage"
    " equipment software hardware"
    " data information advice research energy oil gas coffee tea lunch breakfast dinner leave overtime overnight anyone everyone"
    " everybody fire air blood bread milk sleep sport history science art law trade war peace life death"
)
#: what a question cannot name: whose sentence it stands in is not told
POINTING = _set(
    "it they he she him them this that these those there here such its their his her hers theirs one ones so what which who"
    " whose whom where when why how former latter another both neither either none others above below following same"
)
SUBORDINATE = _set(
    "that which who whom whose where when whenever while whereas if unless because since although though whether as than"
    " until till once so"
)
PREPOSITIONS = _set(
    "of in on at by for from to with without within under over into onto about after before during through between among"
    " against per via near behind beside above below across along around outside inside upon towards toward until since"
    " except despite unlike like beyond throughout"
)
ADVERBS = _set(
    "not never always usually often sometimes also only just already still even then now therefore however thus hence"
    " generally normally typically currently simply merely mainly mostly originally formerly finally first later soon"
    " again instead otherwise too very quite rather nearly almost"
)
#: sentences that begin with one of these, followed by an object, order something
ORDERS = _set(
    "add allow apply ask attach avoid be begin bring build call carry change check choose clean clear click close collect"
    " complete consider consult contact copy count create cut deliver discuss do draw dry email enter ensure explain fill"
    " find follow get give go hand help hold imagine include inform insert install keep knock label leave let lift lock log"
    " look make mark measure move never note notify obtain open order park pay phone place please pour prepare press prevent"
    " print pull push put read record register remember remove repeat replace report request reset return review ring run"
    " save say see select send set show sign speak start stay stop store submit suppose switch take talk tell think tie"
    " touch treat try turn type use verify visit wait walk warn wash watch wear wipe write"
)
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
#: nouns that say that a name is of a place, a house or a firm, and not of a person
NOT_PERSONS = _set(
    "street road lane square avenue hall house room building office library university college school institute museum"
    " centre center company team department council board club union group bank hospital church park river lake mountain"
    " st downtown mount cape royal national international public grand old new upper lower great saint united world"
    " valley island city town county state states kingdom republic empire ocean sea north south east west bay fort port"
    " station bridge gate yard works workshop depot desk form card plan policy act law code handbook guide manual service"
    " services society association committee party army navy war press inc ltd llc gmbh corp co foundation award prize day"
    " week month year fund pass kit line system model unit tower court market garden farm mill harbour harbor coast canal"
)

#: base form, third person, past: verbs that stand alone after a subject
_VERBS = """
cost costs cost; take takes took; open opens opened; close closes closed; start starts started; begin begins began; end ends
ended; last lasts lasted; live lives lived; work works worked; contain contains contained; include includes included; hold
holds held; cover covers covered; need needs needed; receive receives received; get gets got; pay pays paid; provide provides
provided; offer offers offered; use uses used; keep keeps kept; run runs ran; manage manages managed; lead leads led; handle
handles handled; sell sells sold; own owns owned; allow allows allowed; require requires required; apply applies applied;
belong belongs belonged; consist consists consisted; weigh weighs weighed; measure measures measured; produce produces
produced; lie lies lay; stand stands stood; remain remains remained; become becomes became; make makes made; serve serves
served; support supports supported; send sends sent; sign signs signed; approve approves approved; decide decides decided;
meet meets met; answer answers answered; speak speaks spoke; teach teaches taught; write writes wrote; build builds built;
join joins joined; move moves moved; win wins won; found founds founded; invent invents invented; discover discovers
discovered; publish publishes published; marry marries married; study studies studied; die dies died; grow grows grew; carry
carries carried; check checks checked; collect collects collected; deliver delivers delivered; expire expires expired; earn
earns earned; employ employs employed; form forms formed; give gives gave; go goes went; guard guards guarded; help helps
helped; lose loses lost; mean means meant; occur occurs occurred; order orders ordered; pass passes passed; play plays played;
prevent prevents prevented; protect protects protected; refer refers referred; release releases released; repair repairs
repaired; represent represents represented; return returns returned; show shows showed; store stores stored; supervise
supervises supervised; train trains trained; travel travels travelled; treat treats treated; wear wears wore; depend depends
depended; create creates created; describe describes described; control controls controlled; connect connects connected;
convert converts converted; develop develops developed; increase increases increased; reduce reduces reduced; bring brings
brought; have has had; lend lends lent; borrow borrows borrowed; share shares shared; replace replaces replaced; renew renews
renewed; read reads read; sleep sleeps slept; graduate graduates graduated; introduce introduces introduced; establish
establishes established; perform performs performed; appear appears appeared; contribute contributes contributed; regulate
regulates regulated; transport transports transported; arrive arrives arrived; leave leaves left; charge charges charged; save
saves saved; follow follows followed; reach reaches reached; call calls called; look looks looked; come comes came; stay stays
stayed; hang hangs hung; fly flies flew; report reports reported; oversee oversees oversaw; chair chairs chaired; head heads
headed; direct directs directed; maintain maintains maintained; test tests tested; record records recorded; print prints
printed; count counts counted; fit fits fitted; refund refunds refunded; accept accepts accepted; add adds added;
change changes changed; announce announces announced; display displays displayed; book books booked; cancel cancels
cancelled; register registers registered; finish finishes finished; rise rises rose; fall falls fell; turn turns turned;
act acts acted; affect affects affected; cause causes caused; consume consumes consumed; generate generates generated;
absorb absorbs absorbed; emit emits emitted; rule rules ruled; vote votes voted; elect elects elected; attend attends
attended; visit visits visited; know knows knew; want wants wanted; prefer prefers preferred; cook cooks cooked; clean
cleans cleaned; wash washes washed; load loads loaded; feed feeds fed; plant plants planted; cut cuts cut; raise raises
raised; lower lowers lowered; stop stops stopped; continue continues continued; feature features featured; host hosts
hosted; organise organises organised; organize organizes organized; operate operates operated; possess possesses
possessed; select selects selected; sponsor sponsors sponsored; name names named; design designs designed; draw draws
drew; paint paints painted; compose composes composed; sing sings sang; star stars starred; settle settles settled;
conquer conquers conquered; defeat defeats defeated; attack attacks attacked; capture captures captured; invade invades
invaded; explore explores explored; sail sails sailed; land lands landed; spread spreads spread; evolve evolves evolved;
divide divides divided; combine combines combined; break breaks broke; bind binds bound; attach attaches attached;
transfer transfers transferred; exchange exchanges exchanged; pump pumps pumped; beat beats beat; stretch stretches
stretched; bend bends bent; secrete secretes secreted; digest digests digested; breathe breathes breathed; filter
filters filtered; hear hears heard; satisfy satisfies satisfied; water waters watered; empty empties emptied; ring rings
rang; fill fills filled; throw throws threw; choose chooses chose; hire hires hired; rent rents rented; owe owes owed;
inform informs informed; inspect inspects inspected; supply supplies supplied; translate translates translated; edit
edits edited; chant chants chanted; advise advises advised; monitor monitors monitored; process processes processed;
review reviews reviewed
"""


@cache
def _forms() -> tuple[dict[str, str], dict[str, str], frozenset[str]]:
    third: dict[str, str] = {}
    past: dict[str, str] = {}
    for entry in " ".join(_VERBS.split()).split(";"):
        base, now, then = entry.split()
        third[now], past[then] = base, base
    return third, past, frozenset(third.values())


def third(word: str) -> str | None:
    """The base form of a verb in the third person: `costs` to `cost`; None where it is none that is known."""
    return _forms()[0].get(word)


def past(word: str) -> str | None:
    """The base form of a verb in the past: `took` to `take`; None where it is none that is known."""
    return _forms()[1].get(word)


def third_of(base: str) -> str:
    """The third person of a verb: `cost` to `costs`."""
    return next((now for now, of in _forms()[0].items() if of == base), f"{base}s")


def is_base(word: str) -> bool:
    """Whether a word is the base form of a verb that is known."""
    return word in _forms()[2]


def words(text: str) -> list[str]:
    """The words of a text, as they are written; apostrophes and hyphens stay inside."""
    return re.findall(r"[^\W_]+(?:['’\-./][^\W_]+)*", text)


#: too common to name anything
COMMON = (
    POINTING | DETERMINERS | PREPOSITIONS | MODALS | BE | ADVERBS | SUBORDINATE
    | _set("and or but has have had do does did be been being i you we me us if yes less more than much")
)  # fmt: skip


def content(text: str) -> list[str]:
    """The words of a text that name something, in small letters."""
    return [word.lower() for word in words(text) if word.lower() not in COMMON and len(word) > 1]


def stem(word: str) -> str:
    """A word without the endings that matter least, so that `returns` and `returned` are one."""
    plain = word.lower()
    for ending in ("ing", "ies", "es", "ed", "s", "y", "e"):
        if plain.endswith(ending) and len(plain) - len(ending) >= 3:
            return plain[: -len(ending)]
    return plain


def plural(noun: str) -> bool:
    """Whether a noun looks like a plural."""
    plain = noun.lower()
    irregular = plain in _set("people children men women staff police feet teeth mice data media")
    return irregular or (plain.endswith("s") and not plain.endswith(("ss", "us", "is", "ics", "ness")))


def a(noun: str) -> str:
    """A noun with `a` or `an`."""
    return f"{'an' if re.match(r'[aeio]|u(?!ni|se|su|ti)', noun.lower()) else 'a'} {noun}"
