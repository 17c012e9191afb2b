"""Names for runs that were given none: an adjective, an animal and a number."""

from __future__ import annotations

import secrets

_ADJECTIVES = """
able agile amber ample apt bold brave brisk bright calm candid careful clever cosmic crisp curious daring deft eager early
earnest easy fair fancy fast fine firm fleet fond frank free fresh gentle glad golden grand handy happy hardy honest humble
jolly keen kind lively loyal lucky mellow merry mighty mild neat nimble noble patient plain polite proud quick quiet rapid ready
robust rustic secure serene sharp silent simple sincere sleek smart smooth sober solid sound stable steady stoic strong subtle
sunny swift tender thrifty tidy tough true upbeat vivid warm wary wise witty young zesty
"""

_ANIMALS = """
ant ape auk bass bat bear bee bird boar bug calf carp cat cod colt cow crab crane crow cub deer dog dove duck eel elk emu fawn
finch fish flea fly foal fox frog goat goose grouse gull hare hawk hen heron horse jay kit koi lamb lark lion loon lynx mare
mink mole moose moth mouse mule newt owl ox panda pig pike pony pug quail ram rat ray rook seal shad shark sheep shrew shrike
skink skunk slug smelt snail snake snipe sow squid stag stoat stork swan tern toad trout vole wasp whale wolf worm wren yak
zebra
"""


def generated() -> str:
    """A name such as "calm-otter-417"."""
    return f"{secrets.choice(_ADJECTIVES.split())}-{secrets.choice(_ANIMALS.split())}-{secrets.randbelow(1000)}"
