"""Untold, near: what may be asked of things and persons that documents do tell of, and that they do not tell of these."""

from __future__ import annotations

_COLOURS = "colour* color* red blue green yellow white black grey gray brown orange pink purple violet golden silver beige brass"
_WEIGHT = "weigh* heavy light kilo* kg gram* tonne* ton tons"
_SIZE = "large size big small wide width long length high height tall metre* meter* cm centimetre* m square"
_AGE = "old age aged born birth* year years built made new since century centuries date* 19* 20*"
_MAKER = "made make* built build* manufactur* produc* brand* model company firm"
_MONEY = (
    "cost* price* pay* paid euro* dollar* pound* worth value* bought buy* purchas* sold sell* donat* gift given gave"
)
_PLACE_MADE = "made from origin* bought buy* purchas* manufactur* supplier* built"
_MATERIAL = "made wood* metal* steel glass plastic brass iron stone leather cloth cotton paper clay material*"
_CHANGED = "chang* new replac* renew* revis* updat* amend* raise* rais* increas* version* edition*"
_EATING = "eat eating food meal* drink* lunch* dinner* snack* coffee tea cook* serve*"
_STAFF = "work works worker* staff employ* people"

#: nouns of a sort, and what is asked of one of them ({0}), with words that must then not be told of
OBJECTS = (
    "key box bag badge card cabinet locker ladder drill saw boat van bus bicycle kiln wheel oven fridge camera printer computer"
    " laptop tablet phone projector lamp lantern table desk bench shelf cupboard drawer bin bucket rack trolley cart tent kayak"
    " canoe paddle oar sail bell clock flag tin kit extinguisher jacket vest apron helmet coat mirror carpet"
    " machine pump hose engine generator heater boiler sink tap stove kettle grill barrow mower microscope telescope piano"
    " drum statue painting vase bed mattress car truck trailer tractor container screen scanner tray jar rope net"
    " basket wagon crane gate door fence lift fob mop ramp television stamp label"
)
OF_OBJECTS = (
    ("What colour is the {0}?", _COLOURS),
    ("How heavy is the {0}?", _WEIGHT),
    ("What does the {0} weigh?", _WEIGHT),
    ("How old is the {0}?", _AGE),
    ("Who made the {0}?", _MAKER),
    ("Which company made the {0}?", _MAKER),
    ("When was the {0} bought?", _MONEY + " " + _AGE),
    ("Who paid for the {0}?", _MONEY),
    ("How much did the {0} cost when it was new?", _MONEY),
    ("Where was the {0} bought?", _MONEY + " " + _PLACE_MADE),
    ("In which country was the {0} made?", _PLACE_MADE),
    ("What is the {0} made of?", _MATERIAL),
    ("How wide is the {0}?", _SIZE),
    ("How large is the {0}?", _SIZE),
    ("What is written on the {0}?", "writ* label* mark* say* letter* read* stamp* sign*"),
    ("May I photograph the {0}?", "photo* picture* camera*"),
    ("Is the {0} for sale?", _MONEY + " sale*"),
    ("When was the {0} last replaced?", _CHANGED + " repair*"),
    ("Who gave the {0} away?", _MONEY + " donor*"),
    ("Who designed the {0}?", "design* architect* " + _MAKER),
)  # fmt: skip
MACHINES = (
    "boat van bus bicycle kiln oven fridge camera printer computer laptop tablet phone projector trolley clock machine pump"
    " engine generator heater boiler stove barrow mower microscope telescope piano car truck trailer tractor scanner crane lift"
    " television"
)
OF_MACHINES = (
    ("What is the serial number of the {0}?", "number* code* serial*"),
    ("Is the {0} insured?", "insur*"),
    ("Which model is the {0}?", "model* type* brand* version*"),
    ("How long is the guarantee of the {0}?", "guarantee* warrant*"),
    ("How much power does the {0} need?", "power* electric* watt* volt* energy current"),
    ("How loud is the {0}?", "loud* noise* noisy quiet*"),
    ("Which company sold the {0}?", "company firm* " + _MONEY),
)  # fmt: skip
GROUNDS = "yard garden harbour courtyard park playground"
OF_GROUNDS = (
    ("How large is the {0}?", _SIZE + " area*"),
    ("How many trees are there in the {0}?", "tree trees plant*"),
    ("Is the {0} lit at night?", "light* lit lamp lamps night*"),
    ("Is there a bench in the {0}?", "bench* seat* sit"),
    ("Is there a fountain in the {0}?", "fountain*"),
    ("May I play ball in the {0}?", "ball balls play*"),
    ("Who sweeps the {0}?", "clean* tidy sweep* swept"),
    ("To whom does the {0} belong?", "belong* own owns owned owner*"),
)  # fmt: skip
PLACES = (
    "room hall house building office workshop store kitchen library studio shop café cafe canteen cellar tower museum"
    ""
    " depot garage laboratory lab gym pool sauna theatre church chapel school clinic hut shed barn stable"
    " cloakroom lobby gallery archive cabin dormitory classroom boathouse clubhouse bunker"
)
OF_PLACES = (
    ("How large is the {0}?", _SIZE + " area*"),
    ("How many windows does the {0} have?", "window*"),
    ("What colour are the walls of the {0}?", "wall walls paint*"),
    ("Who built the {0}?", "built build* architect* construct*"),
    ("Which architect designed the {0}?", "architect* design* built"),
    ("When was the {0} last painted?", "paint*"),
    ("Is there a clock in the {0}?", "clock*"),
    ("Is there a piano in the {0}?", "piano* music*"),
    ("How many chairs are there in the {0}?", "chair chairs seat*"),
    ("How warm is it in the {0}?", "warm* temperature* degree* heat* cold"),
    ("Can I sleep in the {0}?", "sleep* overnight bed beds"),
    ("May I eat in the {0}?", _EATING),
    ("Can I hire the {0}?", "hire* hiring rent* book*"),
    ("Who cleans the {0}?", "clean* tidy sweep*"),
    ("How high is the ceiling of the {0}?", "ceiling* high"),
    ("What was in the {0} before?", "former* before once earlier"),
    ("Is there a camera in the {0}?", "camera* cctv film*"),
    ("How many people work in the {0}?", _STAFF),
    ("Is there wireless internet in the {0}?", "wireless internet wifi wi-fi network*"),
    ("Is there a telephone in the {0}?", "phone* telephone*"),
    ("How many lamps are there in the {0}?", "lamp lamps light lights"),
    ("Is the {0} heated in winter?", "heat* winter warm*"),
    ("Which company cleans the {0}?", "clean* tidy sweep*"),
    ("Is the {0} locked at night?", "lock* night* clos* key*"),
    ("Is there a sofa in the {0}?", "sofa* couch* furniture"),
)  # fmt: skip
MEETINGS = (
    "meeting course tour fair festival concert party lecture training assembly exam race regatta exhibition ceremony session"
    " class lesson performance market picnic conference hike trip"
)
OF_MEETINGS = (
    ("How many people came to the last {0}?", "people came attend* participa* visitor* last"),
    ("Who speaks at the {0}?", "speak* speech* lectur* taught teach* led lead*"),
    ("Is the {0} filmed?", "film* video* record* camera*"),
    ("What is there to eat at the {0}?", _EATING),
    ("Which music is played at the {0}?", "music* song* band"),
    ("What is the topic of the next {0}?", "topic* subject* theme* about agenda*"),
    ("Is there a prize at the {0}?", "prize* award* win*"),
    ("May I bring a friend to the {0}?", "friend* guest* visitor* bring* accompan* open"),
    ("Where do I park for the {0}?", "park* car cars"),
    ("What should I wear to the {0}?", "wear* cloth* dress* uniform* shoe*"),
    ("Who took photographs at the last {0}?", "photo* picture*"),
    ("In which language is the {0}?", "language* english french german spanish"),
    ("What was the weather like at the last {0}?", "weather* rain* sun"),
    ("Do I get a certificate for the {0}?", "certificate* diploma* exam*"),
)  # fmt: skip
PAPERS = (
    "form handbook catalogue list report contract policy log register certificate permit licence ticket pass book letter"
    " agreement roster diary note sheet"
)
OF_PAPERS = (
    ("Who wrote the {0}?", "wrote writ* author*"),
    ("Who designed the {0}?", "design*"),
    ("How many pages does the {0} have?", "page pages"),
    ("What colour is the {0}?", _COLOURS),
    ("Is there an English version of the {0}?", "english language* translat* version*"),
    ("Can I get the {0} by fax?", "fax*"),
    ("When was the {0} last changed?", _CHANGED),
    ("Where is the {0} printed?", "print*"),
    ("What is on the back of the {0}?", "back reverse"),
    ("Can I read the {0} on the internet?", "internet website* web online"),
    ("Who translated the {0}?", "translat* language*"),
    ("Is there a large-print copy of the {0}?", "print* cop*"),
)  # fmt: skip
MONEY = "fee deposit fine rent price subscription supplement bonus surcharge allowance"
OF_MONEY = (
    ("When was the {0} last raised?", _CHANGED),
    ("How high was the {0} ten years ago?", "ago former* earlier raised increas*"),
    ("Who decides how high the {0} is?", "decid* decision* fix* set sets approv* committee board"),
    ("Can the {0} be paid in dollars?", "dollar* currenc*"),
    ("What is the {0} used for?", "use* spent spend*"),
    ("How much tax is there on the {0}?", "tax* vat"),
    ("Into which bank account does the {0} go?", "bank* account*"),
    ("Can I pay the {0} in instalments?", "instalment* installment* monthly"),
    ("Is the {0} lower for students?", "student* reduc* discount*"),
)  # fmt: skip
BODIES = "committee council board jury commission"
OF_BODIES = (
    ("How many women are on the {0}?", "women woman female"),
    ("What is the budget of the {0}?", "budget*"),
    ("Who was on the {0} before?", "former* before previous*"),
    ("Are the members of the {0} paid?", "pay* paid salar* wage* volunt* honorary"),
    ("Who takes the minutes of the {0}?", "minutes secretar*"),
    ("How old is the youngest person on the {0}?", "young* old age aged"),
    ("What did the {0} decide last time?", "decid* decision*"),
    ("Can I see the minutes of the {0}?", "minutes publish*"),
)  # fmt: skip
#: each sort: its nouns, what is asked, and whether it is enough that nothing is told where the thing itself is spoken of
SORTS = (
    (OBJECTS, OF_OBJECTS, True),
    (MACHINES, OF_MACHINES, True),
    (GROUNDS, OF_GROUNDS, False), (PLACES, OF_PLACES, False), (MEETINGS, OF_MEETINGS, False), (PAPERS, OF_PAPERS, True),
    (MONEY, OF_MONEY, False), (BODIES, OF_BODIES, False),
)  # fmt: skip
#: offices that one person holds, of whom may be asked what may be asked of a person with a name
ROLES = (
    "director manager caretaker treasurer secretary chairman president curator librarian warden headmaster principal mayor"
    " founder restorer cook chef gardener porter janitor deputy coach bursar conductor"
)
#: what may be asked of a person, with words that must then stand nowhere in the documents
OF_PERSONS = (
    ("What is {0}'s phone number?", "phone* telephone* call* mobile* number* ring"),
    ("How tall is {0}?", "tall height"),
    ("What does {0} earn?", "salar* wage* earn* income"),
    ("How old is {0}?", "old age aged born birth*"),
    ("Is {0} married?", "marri* marry wife husband spouse*"),
    ("What is {0}'s favourite dish?", "dish* favourite*"),
    ("Which school did {0} go to?", "school* educat* pupil*"),
    ("What car does {0} drive?", "car cars drive* vehicle*"),
    ("Does {0} have any children?", "child* son sons daughter* famil* parent*"),
    ("What is {0}'s e-mail address?", "mail email* e-mail* address*"),
    ("Which languages does {0} speak?", "language* speak* english french german spanish"),
    ("When is {0}'s birthday?", "birth* born"),
    ("Where does {0} live?", "live lives living address* home resid*"),
    ("Does {0} have a dog?", "dog dogs pet pets"),
    ("What does {0} do at weekends?", "weekend* hobby hobbies free saturday* sunday*"),
    ("Where did {0} work before?", "before former* career* previous* worked"),
    ("What did {0} study?", "stud* universit* degree* college*"),
    ("Where was {0} born?", "born birth* native"),
    ("Which football team does {0} support?", "football* team* sport*"),
    ("What colour is {0}'s hair?", "hair*"),
    ("Who was in office before {0}?", "before predecessor* former* succe* previous*"),
    ("Since when has {0} worked there?", "since year years"),
    ("Where does {0} go on holiday?", "holiday* vacation* leave travel*"),
    ("Does {0} play an instrument?", "instrument* music* play*"),
    ("What is the first name of {0}'s mother?", "mother* parent* famil*"),
    ("Which books has {0} written?", "book books wrot* writ* author* publish*"),
    ("What is {0}'s office number?", "room* office* number*"),
    ("Does {0} smoke?", "smok*"),
    ("How does {0} get to work?", "commut* travel* train* bus car bicycle* bike*"),
    ("Is there a picture of {0}?", "picture* photo* portrait* paint*"),
)  # fmt: skip
