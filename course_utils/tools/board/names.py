"""Names on the board: made up for those who give none, and cleaned for everybody."""

from __future__ import annotations

import itertools
import secrets
import unicodedata

LONGEST = 30  # characters of a name
JOINERS = "\u200c\u200d"  # without width, but letters of some scripts need them
COLOURS = "amber blue bright brown calm coral crimson gentle golden green grey indigo ivory jade lively merry misty olive"
COLOURS += " orange pearl pink plum purple quiet red rosy ruby russet scarlet silver snowy sunny teal violet white yellow"
ANIMALS = "badger beaver bison crane curlew deer dolphin dove duck eagle egret falcon finch fox gecko gull hare hawk hedgehog"
ANIMALS += " heron ibis jay kestrel kite koala lark lemur linnet lynx magpie marten mole moose newt nuthatch ocelot orca osprey"
ANIMALS += " otter owl panda pelican penguin petrel plover puffin quail rabbit raven robin seal shrew skylark sparrow squirrel"
ANIMALS += " starling stork swallow swan swift tapir tern thrush toad turtle vole walrus warbler weasel whale wren zebra"


def made_up_name() -> str:
    """A friendly name such as "blue heron"."""
    return f"{secrets.choice(COLOURS.split())} {secrets.choice(ANIMALS.split())}"


def clean(text: object, longest: int = LONGEST) -> str:
    """`text` without what would disturb a page: control and direction marks, towers of accents, more than `longest` characters.

    Empty if nothing is left that anybody could see.
    """
    flat = "".join(" " if character.isspace() else character for character in str(text)[: 10 * longest])
    flat = unicodedata.normalize("NFC", " ".join(flat.split()))
    kept = [one for one in flat if one in JOINERS or unicodedata.category(one)[0] != "C"]
    groups = itertools.groupby(kept, key=lambda one: unicodedata.category(one).startswith("M") or one in JOINERS)
    short = "".join("".join(list(group)[:2] if above else group) for above, group in groups)[:longest].strip()
    return short if any(unicodedata.category(one)[0] in "LNSP" for one in short) else ""
