"""Untold: things, events and persons that a document might have told of, for questions that it does not answer."""

from __future__ import annotations

#: things that one may hold; used where none of its words stands in the documents, as all of these
GOODS = (
    "loyalty card", "raincoat", "label printer",     "winter coat", "charging cable", "projector", "audio guide",
    "wheelchair", "piano", "tent", "gas bottle",
    "company car", "laptop bag", "name tag", "fruit basket",
    "second pillow", "umbrella", "vending machine", "gift voucher", "fax machine", "suggestion box", "shower token",
    "sun hat", "map", "phone card", "battery pack", "hair dryer", "baby seat", "sewing machine", "life jacket",
    "drone", "microscope", "hearing aid", "coffee voucher", "ski pass", "camera bag", "fishing rod", "megaphone",
    "notebook", "ironing board", "kettle", "blanket", "torch", "whistle", "metal detector", "fire blanket",
)  # fmt: skip
#: what one may be given or have done
BENEFITS = (
    "parking permit", "dental plan", "bicycle allowance", "travel grant", "translation service", "eye test", "flu jab",
    "meal subsidy", "language bonus", "relocation grant", "hazard supplement", "birthday bonus", "legal aid scheme",
)  # fmt: skip
THINGS = GOODS + BENEFITS
#: places and services that one may go to
FACILITIES = (
    "swimming pool", "nursery", "canteen", "sauna", "fitness room", "gift shop", "shuttle bus", "rooftop bar",
    "tennis court", "cinema", "bakery", "prayer room", "music room", "ice rink", "laundry", "rose garden", "playground",
    "photo booth", "press office", "recording studio", "dark room", "climbing wall", "ticket machine", "bowling alley",
    "observatory", "post office", "petrol station", "salad bar", "greenhouse", "planetarium",
)  # fmt: skip
#: what takes place
GATHERINGS = (
    "garden party", "language class", "guided walk", "photo contest", "yoga class", "choir rehearsal", "chess evening",
    "blood drive", "book fair", "quiz night", "flea market", "film night", "cooking class", "job fair", "open day",
    "wine tasting", "fire drill", "poetry reading", "dance lesson", "charity run", "bake sale", "raffle", "ski trip",
    "costume ball", "football match", "science fair", "lantern parade", "harvest supper", "puppet show", "barbecue",
)  # fmt: skip
EVENTS = FACILITIES + GATHERINGS
#: other words for them, which must stand nowhere either (`park*` begins one)
ALIKE = {
    "parking permit": "car cars", "dental plan": "dentist* teeth", "label printer": "print*",
    "bicycle allowance": "bike* cycl*",
    "travel grant": "bursar* fund*", "translation service": "interpret*", "flu jab": "vaccin*",
    "company car": "vehicle*",
    "suggestion box": "idea* suggest*", "audio guide": "headphone*", "name tag": "badge*", "winter coat": "jacket*",
    "eye test": "optician* glasses", "gift voucher": "coupon*", "hearing aid": "deaf", "baby seat": "child*",
    "life jacket": "buoyan* vest*", "torch": "flashlight* lamp*", "swimming pool": "swim* bath*",
    "nursery": "child* crèche*",
    "canteen": "cafe* café* restaurant* dining meal* food kitchen*", "fitness room": "gym*", "gift shop": "kiosk*",
    "shuttle bus": "minibus* transfer*", "rooftop bar": "terrace*", "cinema": "film*", "bakery": "bread cake*",
    "prayer room": "pray* chapel*", "laundry": "wash*", "playground": "play* child*", "salad bar": "food meal*",
    "petrol station": "fuel*", "post office": "parcel* letter*", "photo booth": "picture*",
    "press office": "journalist*",
    "yoga class": "exercise*", "language class": "course*", "cooking class": "course* cook*",
    "film night": "cinema* movie*",
    "barbecue": "grill*", "raffle": "lottery prize*", "football match": "sport*", "fire drill": "evacuat* alarm*",
    "harvest supper": "dinner*", "dance lesson": "danc* ball", "ski trip": "ski* excursion*", "open day": "visitor*",
    "choir rehearsal": "sing*", "guided walk": "tour* hike*", "garden party": "celebrat* summer", "bake sale": "cake*",
}  # fmt: skip
#: what is asked of each; {0} is its name, {1} has its article
ABOUT = (
    "Is there a rule for the {0}?", "Who is in charge of the {0}?", "What does it say about the {0}?", "Is there {1}?",
    "Who looks after the {0}?", "I have a question about the {0}. Whom do I ask?", "Do you have {1}?",
)  # fmt: skip
OF_GOODS = (
    "Where is the {0}?", "Who may use the {0}?", "How much does the {0} cost?", "Can I get {1}?", "May I bring {1}?",
    "Do I need {1}?", "I need {1}. Where do I get one?", "How do I ask for {1}?", "Where is the {0} kept?",
    "Do I have to pay for {1}?", "I have lost my {0}. What do I do?", "Who pays for the {0}?", "Who has {1} for me?",
    "Can I give the {0} to somebody else?", "What do I do if the {0} is broken?", "I would like {1}. Can I get one?",
    "For how long can I keep the {0}?", "What is the rule on bringing {1}?",
)  # fmt: skip
OF_BENEFITS = (
    "Who gets the {0}?", "How do I apply for the {0}?", "Who pays for the {0}?", "Can I get {1}?",
    "How much is the {0}?",
    "Do I have a right to {1}?", "When was the {0} introduced?", "I would like {1}. Whom do I ask?",
    "Since when is there {1}?",
    "What do I have to do for the {0}?", "Who decides on the {0}?", "Until when can I ask for the {0}?",
    "How many people get the {0}?", "Can my family have the {0} too?", "How often can I get the {0}?",
)  # fmt: skip
OF_FACILITIES = (
    "Where is the {0}?", "When is the {0} open?", "Who may use the {0}?", "How much does the {0} cost?",
    "Who runs the {0}?", "How large is the {0}?", "I am looking for the {0}. Where is it?", "How do I get to the {0}?",
    "May I bring guests to the {0}?", "At what time does the {0} close?", "Can I book the {0}?", "Who built the {0}?",
    "I would like to use the {0}. May I?", "How many people use the {0}?", "When was the {0} opened?",
    "What is the telephone number of the {0}?", "Can children use the {0}?", "Why is the {0} closed?",
)  # fmt: skip
OF_GATHERINGS = (
    "When is the next {0}?", "When was the last {0}?", "Where does the {0} take place?", "Who leads the {0}?",
    "How do I sign up for the {0}?", "How many people came to the last {0}?", "How much does the {0} cost?",
    "I would like to come to the {0}. May I?", "How long does the {0} last?", "Do I have to go to the {0}?",
    "Can I bring somebody to the {0}?", "How often is there {1}?", "What do I have to bring to the {0}?",
    "What is the name of the person who plans the {0}?", "On which day is the {0}?", "Has there ever been {1}?",
)  # fmt: skip
#: each sort with its questions
SORTS = (
    (GOODS, OF_GOODS), (BENEFITS, OF_BENEFITS), (FACILITIES, OF_FACILITIES), (GATHERINGS, OF_GATHERINGS),
)  # fmt: skip
#: what a text that only describes might have told of, under a name that was made up
OF_INVENTED = (
    "Who built the {0} Bridge?", "When was the {0} Treaty signed?", "Where is Lake {0}?", "How long is the river {0}?",
    "What is the {0} effect?", "Who founded the {0} Institute?", "What does the {0} Act say?", "How high is Mount {0}?",
    "When did the Siege of {0} end?", "Who was the king of {0}?", "How many people live in {0}?",
    "What is {0} disease?",
    "How does a {0} engine work?", "Which prize did the {0} brothers win?", "What caused the {0} fire?",
    "Where was the {0} manuscript found?", "In which year was {0} College opened?", "Who painted the {0} Madonna?",
    "What language is spoken in {0}?", "How old is the {0} Cathedral?", "Who discovered the {0} comet?",
    "What is grown in the {0} Valley?", "How large is the {0} desert?", "Who lost the Battle of {0}?",
)  # fmt: skip
INVENTED = (
    "Halberd", "Velmond", "Orrin", "Castorby", "Ostrel", "Dunmore", "Tarrow", "Brackwater", "Ambry", "Kestria",
    "Pollard",
    "Marsden", "Quillan", "Thessmere", "Brannock", "Elverton", "Sorrel", "Wexmoor", "Jarnock", "Pellinot", "Umberlow",
    "Corvane", "Listrel", "Hadrow", "Finmarch", "Ostwick", "Tamsel", "Gorlan", "Yarrowby", "Zelan",
)  # fmt: skip
STRANGERS = (
    "Agatha Blomkvist", "Cedric Omondi", "Halina Wroblewski", "Ferdinand Osei", "Philippa Stroud", "Gunther Malik",
    "Imogen Tran",
    "Octavio Reyes", "Beatrix Kovalenko", "Desmond Achebe", "Lorelei Hanssen", "Rupert Nakamura", "Sabine Delacroix",
    "Waldo Ferreira",
)  # fmt: skip
