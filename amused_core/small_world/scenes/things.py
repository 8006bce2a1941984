"""The word list of the embedded model: what it can draw, and on which backgrounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """One drawable thing.

    `glyph` is the emoji that pictures it, `adjectives` are words that suit it (mostly its colours), `plural` is its
    plural (the name itself for a thing that only comes in numbers, as "grapes") and `aliases` are other nouns for it.
    """

    name: str
    glyph: str
    adjectives: tuple[str, ...]
    plural: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of thing, as "animal": its plural and the names of the things that it covers."""

    name: str
    plural: str
    things: tuple[str, ...]


# name | emoji | adjectives | plural, if not name + "s" | other names
_TABLE = """
apple | 1f34e | red
banana | 1f34c | yellow peeled
strawberry | 1f353 | red | strawberries
watermelon | 1f349 | red
grapes | 1f347 | purple | grapes
pineapple | 1f34d | yellow
carrot | 1f955 | orange
mushroom | 1f344 | red | | toadstool
pizza | 1f355 | yellow tasty | | slice of pizza, pizza slice
burger | 1f354 | brown tasty | | hamburger, cheeseburger
ice cream | 1f366 | white | | ice cream cone
cake | 1f382 | white | | birthday cake
donut | 1f369 | brown chocolate | | doughnut
lemon | 1f34b | yellow
pear | 1f350 | green
cherry | 1f352 | red | cherries
kiwi | 1f95d | green
avocado | 1f951 | green
tomato | 1f345 | red | tomatoes
corn | 1f33d | yellow | corn
broccoli | 1f966 | green | broccoli
eggplant | 1f346 | purple | | aubergine
chili | 1f336 | red hot | chilis | chili pepper, pepper, hot pepper
bread | 1f35e | brown | | loaf of bread, loaf
cheese | 1f9c0 | yellow | | piece of cheese
hot dog | 1f32d | brown | | hotdog
taco | 1f32e | yellow
fries | 1f35f | yellow | fries | french fries
popcorn | 1f37f | white | popcorn
cookie | 1f36a | brown chocolate | | biscuit
lollipop | 1f36d | colorful
coffee | 2615 | hot | | cup of coffee, cup
beer | 1f37a | yellow | | glass of beer, mug of beer
croissant | 1f950 | brown
pretzel | 1f968 | brown
pumpkin | 1f383 | orange scary | | jack o lantern, halloween pumpkin
cat | 1f431 | yellow orange | | kitten, cat face
dog | 1f436 | white brown | | puppy, dog face
fish | 1f420 | orange yellow | fishes | tropical fish
butterfly | 1f98b | orange | butterflies
frog | 1f438 | green
penguin | 1f427 | black
turtle | 1f422 | green | | tortoise
ladybug | 1f41e | red | | ladybird
pig | 1f437 | pink | | piggy
panda | 1f43c | white
crab | 1f980 | red
owl | 1f989 | brown
mouse | 1f42d | grey gray | mice
rabbit | 1f430 | white grey | | bunny
fox | 1f98a | orange | foxes
bear | 1f43b | brown
tiger | 1f42f | orange
lion | 1f981 | brown yellow
cow | 1f42e | white
monkey | 1f435 | brown
chicken | 1f414 | white | | hen
duck | 1f986 | green
bee | 1f41d | yellow
snail | 1f40c | brown
caterpillar | 1f41b | green
spider | 1f577 | black
octopus | 1f419 | pink | octopuses
whale | 1f433 | blue
shark | 1f988 | grey gray
crocodile | 1f40a | green | | alligator
snake | 1f40d | green
dinosaur | 1f995 | green | | brontosaurus
elephant | 1f418 | grey gray
giraffe | 1f992 | yellow
zebra | 1f993 | striped
camel | 1f42b | brown
horse | 1f434 | brown | | pony
unicorn | 1f984 | white
sheep | 1f411 | white | sheep | lamb
bat | 1f987 | brown
flamingo | 1f9a9 | pink
parrot | 1f99c | green
peacock | 1f99a | blue
swan | 1f9a2 | white
car | 1f697 | red | | automobile
bus | 1f68c | blue | buses
rocket | 1f680 | red | | spaceship
boat | 26f5 | orange red | | sailboat, sailing boat
truck | 1f69a | orange | | lorry
tractor | 1f69c | green
train | 1f682 | red black | | locomotive, steam train
airplane | 2708 | blue | | plane, aeroplane
helicopter | 1f681 | yellow
bicycle | 1f6b2 | blue | | bike
ship | 1f6a2 | blue
ufo | 1f6f8 | grey gray | | flying saucer
house | 1f3e0 | brown | | home
castle | 1f3f0 | grey gray
tent | 26fa | orange
skateboard | 1f6f9 | black
anchor | 2693 | blue
traffic light | 1f6a6 | black | | traffic lights
sun | 2600 | yellow
moon | 1f319 | yellow | | crescent moon
star | 2b50 | yellow
tree | 1f333 | green
cactus | 1f335 | green | cactuses
sunflower | 1f33b | yellow | | flower
rose | 1f339 | red
rainbow | 1f308 | colorful
snowman | 26c4 | white | snowmen
fire | 1f525 | orange | | flame
palm tree | 1f334 | green | | palm
tulip | 1f337 | pink
clover | 1f340 | green | | four leaf clover
leaf | 1f341 | red | leaves | maple leaf
cloud | 2601 | white grey
lightning | 26a1 | yellow | lightning | lightning bolt
snowflake | 2744 | blue
earth | 1f30d | blue | earths | globe, planet
volcano | 1f30b | red | volcanoes
heart | 2764 | red
key | 1f511 | yellow golden
umbrella | 2602 | purple
guitar | 1f3b8 | red | | electric guitar
football | 26bd | white | | soccer ball, ball
clock | 23f0 | red | | alarm clock
balloon | 1f388 | red
crown | 1f451 | golden yellow
gift | 1f381 | yellow | | present
robot | 1f916 | grey gray
basketball | 1f3c0 | orange
trophy | 1f3c6 | golden yellow | trophies
bell | 1f514 | golden yellow
book | 1f4d5 | red closed
pencil | 270f | yellow
scissors | 2702 | red | scissors
hammer | 1f528 | grey gray
axe | 1fa93 | red
magnet | 1f9f2 | red
light bulb | 1f4a1 | yellow | | bulb, lamp
candle | 1f56f | white burning
camera | 1f4f7 | black
phone | 1f4f1 | black | | smartphone, mobile phone
laptop | 1f4bb | grey gray | | computer
television | 1f4fa | black | | tv
telephone | 260e | red
microscope | 1f52c | blue
hat | 1f3a9 | black | | top hat
shirt | 1f455 | blue | | t-shirt
dress | 1f457 | blue | dresses
shoe | 1f45f | blue | | sneaker
ring | 1f48d | silver | | diamond ring
diamond | 1f48e | blue | | gem
backpack | 1f392 | red | | school bag
drum | 1f941 | red
trumpet | 1f3ba | golden yellow
violin | 1f3bb | brown
headphones | 1f3a7 | black grey | headphones
dice | 1f3b2 | white | dice
teddy bear | 1f9f8 | brown | | teddy
kite | 1fa81 | colorful
ghost | 1f47b | white
alien | 1f47d | grey gray
skull | 1f480 | white
santa | 1f385 | red | | santa claus
envelope | 2709 | white | | letter
lock | 1f512 | golden yellow | | padlock
chair | 1fa91 | brown
bucket | 1faa3 | blue
hourglass | 231b | brown | hourglasses
target | 1f3af | red
boot | 1f462 | brown
smiley | 1f600 | yellow | | smiley face, happy face
teapot | 1fad6 | red
saxophone | 1f3b7 | golden yellow
"""


def _things() -> tuple[Thing, ...]:
    things = []
    for line in _TABLE.strip().splitlines():
        name, glyph, adjectives, plural, aliases = [*(part.strip() for part in line.split("|")), "", ""][:5]
        names = tuple(alias.strip() for alias in aliases.split(",") if alias)
        things.append(Thing(name, chr(int(glyph, 16)), tuple(adjectives.split()), plural or name + "s", names))
    return tuple(things)


THINGS = _things()

# kind | plural | the things that it covers. "an animal" has every animal as a right answer.
_KIND_TABLE = """
animal | animals | cat, dog, fish, butterfly, frog, penguin, turtle, ladybug, pig, panda, crab, owl, mouse, \
rabbit, fox, bear, tiger, lion, cow, monkey, chicken, duck, bee, snail, caterpillar, spider, octopus, whale, \
shark, crocodile, snake, dinosaur, elephant, giraffe, zebra, camel, horse, unicorn, sheep, bat, flamingo, \
parrot, peacock, swan
bird | birds | penguin, owl, chicken, duck, flamingo, parrot, peacock, swan
fruit | fruits | apple, banana, strawberry, watermelon, grapes, pineapple, lemon, pear, cherry, kiwi
vegetable | vegetables | carrot, avocado, tomato, corn, broccoli, eggplant, chili, pumpkin
food | foods | apple, banana, strawberry, watermelon, grapes, pineapple, carrot, mushroom, pizza, burger, ice \
cream, cake, donut, lemon, pear, cherry, kiwi, avocado, tomato, corn, broccoli, eggplant, chili, bread, \
cheese, hot dog, taco, fries, popcorn, cookie, lollipop, croissant, pretzel, pumpkin
vehicle | vehicles | car, bus, rocket, boat, truck, tractor, train, airplane, helicopter, bicycle, ship, ufo
plant | plants | tree, cactus, sunflower, rose, palm tree, tulip, clover
instrument | instruments | guitar, drum, trumpet, violin, saxophone
"""


def _kinds() -> tuple[Kind, ...]:
    rows = [[part.strip() for part in line.split("|")] for line in _KIND_TABLE.strip().splitlines()]
    return tuple(Kind(name, plural, tuple(names.split(", "))) for name, plural, names in rows)


KINDS = _kinds()
# "something red": the colours that at least eight things have, by their adjectives.
COLOURED: dict[str, tuple[str, ...]] = {
    colour: tuple(thing.name for thing in THINGS if colour in thing.adjectives)
    for colour in ("red", "yellow", "green", "blue", "brown", "white")
}

# Flat, clearly nameable colours, sRGB 0..255.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (32, 32, 36),
    "gray": (168, 172, 178),
    "red": (222, 84, 80),
    "orange": (250, 160, 70),
    "yellow": (255, 228, 112),
    "green": (116, 196, 128),
    "blue": (88, 150, 236),
    "purple": (160, 112, 212),
    "pink": (252, 176, 204),
}
