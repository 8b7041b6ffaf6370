"""Untold: things, events and persons that a document might have told of, for questions that it does not answer."""

from __future__ import annotations

#: what may be asked of a person who is named, with words that must then stand nowhere in the documents
OF_PERSONS = (
    ("What is {0}'s phone number?", "phone telephone call"), ("How tall is {0}?", "tall height"),
    ("What does {0} earn?", "salary wage earn"),
    ("Is {0} married?", "marry married wife husband"), ("What is {0}'s favourite dish?", "dish favourite"),
    ("Which school did {0} go to?", "school"), ("What car does {0} drive?", "car drive"), ("Has {0} any children?",
    "children son daughter"),
    ("What is {0}'s e-mail address?", "mail email"), ("Which languages does {0} speak?", "language speak"),
)  # fmt: skip
#: things, and what takes place, that a rule book might have told of; used where none of its words stands in the documents
THINGS = (
    "parking permit", "dental plan", "loyalty card", "raincoat", "label printer", "bicycle allowance",
    "travel insurance", "winter coat",
    "charging cable", "projector", "audio guide", "wheelchair", "piano", "tent", "gas bottle", "translation service", "eye test",
    "flu jab", "company car", "laptop bag", "name tag", "fruit basket", "second pillow", "umbrella",
    "vending machine", "gift voucher",
    "fax machine", "suggestion box", "shower token", "sun hat", "map", "phone card", "battery pack",
)  # fmt: skip
EVENTS = (
    "swimming pool", "nursery", "canteen", "sauna", "fitness room", "gift shop", "garden party", "language class", "guided walk",
    "photo contest", "yoga class", "choir rehearsal", "chess evening", "blood drive", "book fair", "quiz night", "flea market",
    "film night", "cooking class", "shuttle bus", "rooftop bar", "job fair", "open day", "wine tasting", "fire drill",
)  # fmt: skip
#: what a text that only describes might have told of
DESCRIBED = (
    "What is the Halberd effect?", "When was the Velmond Treaty signed?", "Where is Lake Orrin?", "Who built the Castor Bridge?",
    "What does the Ostrel Act say?", "Who was the first director of the Dunmore Institute?", "What is a quellant?",
    "How long is the river Tarrow?", "What is the meaning of the word 'orbeline'?", "Which prize did Ludo Brackwater win?",
    "When did the Siege of Ambry end?", "What is measured in hollins?", "What is the capital of Kestria?",
    "Who discovered veridium?",
    "How does a Pollard engine work?", "What caused the Marsden fire?", "Who wrote 'The Glass Orchard'?", "What is zelanic acid?",
)  # fmt: skip
ABOUT = (
    "Is there a rule for the {0}?", "Who is in charge of the {0}?", "When is the {0} available?", "Where is the {0}?",
    "What does it say about the {0}?", "Who may use the {0}?", "How much does the {0} cost?",
)  # fmt: skip
STRANGERS = (
    "Agatha Blomkvist", "Cedric Omondi", "Halina Wroblewski", "Ferdinand Osei", "Philippa Stroud", "Gunther Malik", "Imogen Tran",
    "Octavio Reyes", "Beatrix Kovalenko", "Desmond Achebe", "Lorelei Hanssen", "Rupert Nakamura", "Sabine Delacroix",
    "Waldo Ferreira",
)  # fmt: skip
