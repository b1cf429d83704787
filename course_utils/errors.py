"""Words for bad input: what was given, what is allowed, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

STUB = "Your turn."  # what the NotImplementedError says in an exercise that nobody has begun
BLANK = f'raise NotImplementedError("{STUB}")'


def unknown(kind: str, given: object, choices: Iterable[str]) -> ValueError:
    """The error for a name that is not among `choices`, with the nearest one as a guess."""
    allowed = list(choices)
    near = [] if str(given).isdigit() else difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.6)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    shown = allowed if len(allowed) <= 30 else [*allowed[:30], "…"]
    return ValueError(f"no {kind} named {given!r}; choose from {shown}{hint}")
