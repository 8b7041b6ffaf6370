"""A handbook of a thousand words, for tests that count exercises."""

TITLE = "Kiln Lane Pottery: studio handbook"
TEXT = """
## About the studio

Kiln Lane Pottery is a shared studio for people who work with clay. It was founded in 1998 by Ottilie Marsh, who
taught ceramics at the college for twenty years. The studio is a charity and has a committee of seven members. The
chair of the committee is Bram Costello. The committee meets on the first Tuesday of each month in the glaze room.
The annual meeting is held in March, and every member may vote.

The studio has two floors. The wheels are on the ground floor, and the hand-building tables are upstairs. The kilns
stand in the old coach house behind the yard.

## Membership

A full membership costs 42 euros a month. A weekend membership costs 25 euros a month. Members pay on the first day
of the month by standing order. New members pay a deposit of 60 euros, which is returned when they leave. A member
who wants to leave must give notice of four weeks. The waiting list is kept by Noor Havili, and new members are
admitted in the order of the list.

Members must be at least 16 years old. Members under 18 must be accompanied by a full member. A membership may be
paused for up to three months a year. If you want to pause your membership, fill in form P-3 and give it to Noor
Havili.

## Opening hours

The studio is open from 8:00 to 22:00 on weekdays. On Saturdays and Sundays, the studio opens at 10:00 and closes at
18:00. The studio is closed for two weeks in August. Full members receive a key fob. A lost key fob costs 15 euros.
The last member who leaves must switch off the lights and lock the yard gate. The code of the yard gate is 2290 and
is changed every three months.

## Wheels and tables

The studio has nine wheels. A wheel can be booked for up to three hours at a time. Bookings are made in the red book
by the door. A booking that is not used within 20 minutes is given to the next person. Wheels must be cleaned after
use because dried clay damages the bearings. The splash pans are washed in the trap sink, and never in the kitchen.
If a wheel makes a noise, switch it off and put the yellow tag on it. Repairs are done by Filip Arendt, who comes in
on Thursdays.

## Clay and glazes

Clay is sold in bags of 12.5 kilograms. A bag of stoneware costs 14 euros. A bag of porcelain costs 23 euros. Only
clay that was bought at the studio may be fired. Used clay is collected in the grey bins and is recycled twice a
month. Members may use recycled clay free of charge.

Studio glazes are included in the membership. Glazes are mixed by Yusra Lindholm on Mondays. Members must wear a mask
when they mix dry glazes. Own glazes may be used only after a test tile has been fired. Test tiles are kept in the
shallow drawers under the window.

## Firing

| Firing | Price per kilo | Days |
|---|---|---|
| Biscuit | 2.50 euros | Monday |
| Stoneware | 4 euros | Wednesday |
| Raku | 6 euros | Saturday |

Pots to be fired are put on the shelf with the green label. Each pot must carry the initials of its maker. Pots must
be bone dry before the biscuit firing because damp pots explode. The kilns are loaded by Sadie Okoro and two trained
volunteers. Members must not open a kiln. A kiln is unloaded when it is below 80 degrees. The large kiln holds about
120 mugs. The small kiln is used for tests.

Finished pots are kept for six weeks. After that, they are given to the charity sale. The studio does not replace
pots that break in the kiln.

## Courses

The beginners' course lasts eight weeks and costs 180 euros. The price includes clay and firing. It is taught by
Marisol Quint on Wednesday evenings. The throwing course is held twice a year. A course has at most ten participants.
A place is reserved when the fee has been paid. Fees are refunded if a course is cancelled by the studio.
Participants who miss an evening may come to the Saturday practice instead.

## Safety

The first-aid box hangs beside the sink on the ground floor. Cuts must be reported to the duty member and entered in
the accident book. Fire extinguishers are inspected every year. In case of fire, leave the building by the yard and
meet at the chestnut tree. Long hair must be tied back at the wheel. Dust is swept only with the wet mop, because dry
dust harms the lungs. Aprons are washed at home and not in the trap sink.

The duty member is named on the board each week. A duty member:

- checks the kiln log
- empties the trap sink
- signs the closing sheet

## Kitchen and yard

The kitchen is for tea and coffee only. A cup of coffee costs 50 cents, to be put into the tin. Plates and cups are
washed by the person who used them. Bicycles are put in the rack along the north wall. Deliveries are taken at the
yard gate between 9:00 and 11:00. Dogs may not come into the studio.

## Selling

Members may sell their pots at the spring fair and at the winter fair. The studio keeps 15 percent of the price. The
winter fair takes place on the second weekend of December. Prices are fixed by the maker. Every pot that is sold must
carry the studio stamp. The takings are counted by Bram Costello and paid out within 14 days.
"""
