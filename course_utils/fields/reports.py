"""Four short reports, one from each field: what somebody would send who has trained a model and is proud of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Report = dict[str, Any]


def names(letter: str, *ids: int, first: int = 1) -> list[str]:
    """The name of a picture for each id: a letter with a number for whose it is, a hyphen, a number of its own."""
    return [f"{letter}{number}-{first + place}" for place, number in enumerate(ids)]


EXAMPLES: list[Report] = [
    {
        "field": "medicine",
        "score": 0.91,
        "train": names("p", 3, 31, 44, 52),
        "test": names("p", 7, 18, 60, first=501),
        "trained in": ["north clinic"],
        "tested in": ["north clinic"],
        "meant for": "hill clinic",
        "threshold from": "val",
        "groups": {"women": [183, 200], "men": [272, 300]},
    },
    {
        "field": "driving",
        "score": 0.88,
        "train": names("d", 5, 12, 40, 51),
        "test": names("d", 8, 12, 33, first=501),
        "trained in": ["by day"],
        "tested in": ["by day"],
        "meant for": "by day",
        "threshold from": "val",
        "groups": {"cars": [360, 400], "bicycles": [80, 100]},
    },
    {
        "field": "emotion",
        "score": 0.73,
        "train": names("s", 1, 14, 26, 37),
        "test": names("s", 2, 20, 45, first=501),
        "trained in": ["studio"],
        "tested in": ["studio"],
        "meant for": "studio",
        "threshold from": None,
        "groups": {"no beard": [348, 450], "beard": [17, 50]},
    },
    {
        "field": "satellites",
        "score": 0.66,
        "train": names("m", 9, 17, 28, 36),
        "test": names("m", 4, 41, 70, first=501),
        "trained in": ["plain"],
        "tested in": ["coast", "plain"],
        "meant for": "coast",
        "threshold from": None,
        "groups": {"forest": [168, 250], "water": [162, 250]},
    },
]


def side_by_side(examples: Sequence[Report]) -> str:
    """Two reports beside each other, then the next two: a line for each entry, its value as Python writes it."""
    blocks = []
    for start in range(0, len(examples), 2):
        two = examples[start : start + 2]
        lines = [f"{key:>14}: " + "  ".join(f"{report[key]!r:<43}" for report in two) for key in two[0]]
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks)
