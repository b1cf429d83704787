"""What the board knows: people, and for each exercise the last verdict. It lives in memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from course_utils.reporting import PERSON, WORDS
from course_utils.tools.board.names import clean

MOST_PEOPLE = 500
LONG_AGO = 20 * 60.0  # seconds behind the newest verdict of the room: who is so far behind has gone on, or given up
MARKS = {"passed": "p", "not yet": "n", "to do": "t"}
PASSED, NOT_YET, TO_DO = MARKS


class Refused(Exception):
    """What was sent is not taken; the text is for the person who sent it."""


@dataclass
class Person:
    """One learner: the verdict of each exercise tried, and the sentence of each that is not passed yet."""

    name: str
    seen: float = 0.0
    verdicts: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    last: str = ""  # the exercise tried last
    source: str = ""  # the machine that brought this person

    def take(self, exercise: str, verdict: str, why: str) -> None:
        """Passed once is passed."""
        self.last = exercise
        if self.verdicts.get(exercise) == PASSED:
            return
        self.verdicts[exercise] = verdict
        self.words.pop(exercise, None)
        if verdict == NOT_YET and why:
            self.words[exercise] = why

    def at(self, since: float) -> str:
        """The exercise that this person has been trying after `since` and has not solved, or nothing."""
        return self.last if self.seen >= since and self.verdicts.get(self.last) == NOT_YET else ""


class Board:
    """People and their verdicts on `exercises` (titles by id); sentences only with `words`. Safe to use from many threads."""

    def __init__(self, exercises: dict[str, str], most_people: int = MOST_PEOPLE, words: bool = True):
        self.exercises, self.most_people, self.words = exercises, most_people, words
        self.people: dict[str, Person] = {}
        self.turned_away = 0
        self._lock = threading.Lock()

    def take(self, message: Any, now: float, source: str = "") -> str:
        """Take what a learner sent, all of it or nothing, and return the name under which the board shows it.

        Raises:
            Refused: if it has not the form of a message, or the board is full.
        """
        id, name, news = read(message)
        with self._lock:
            self.put(id, name, news, now, source)
            return self.names()[id]

    def put(self, id: str, name: str, news: list[tuple[str, str, str]], now: float, source: str = "") -> None:
        """Note the verdicts of one person, who is new or known.

        Raises:
            Refused: if the board is full.
        """
        if id not in self.people and len(self.people) >= self.most_people:
            self.turned_away += 1
            self.make_room(source)
        person = self.people.setdefault(id, Person(name, source=source))
        person.name, person.seen = name or person.name, now
        for exercise, verdict, why in news:
            if exercise in self.exercises:  # others are of a lesson that this board does not ask for
                person.take(exercise, verdict, why if self.words else "")

    def make_room(self, source: str) -> None:
        """Forget the newest person of the machine that has brought most, for one from a machine that has brought fewer.

        Raises:
            Refused: if no machine has.
        """
        brought = Counter(person.source for person in self.people.values())
        most, people = max(brought.items(), key=lambda one: one[1])
        if people <= brought[source] + 1:
            raise Refused(f"the board is full: it shows {self.most_people} people")
        del self.people[next(id for id in reversed(self.people) if self.people[id].source == most)]

    def forget(self, id: object) -> None:
        with self._lock:
            self.people.pop(str(id), None)

    def names(self) -> dict[str, str]:
        """By person a name that nobody else has: the second Anna is "Anna (2)"."""
        found: dict[str, str] = {}
        taken: Counter[str] = Counter()
        for id, person in self.people.items():
            name = person.name
            while taken[name.casefold()]:
                taken[person.name.casefold()] += 1
                name = f"{person.name} ({taken[person.name.casefold()]})"
            taken[name.casefold()] = 1
            found[id] = name
        return found

    def summary(self, now: float) -> dict[str, Any]:
        """What the page shows: exercises, and people, never sorted by what they have passed. Nobody's id leaves the board."""
        with self._lock:
            names, people = self.names(), self.people
            since = max((person.seen for person in people.values()), default=0.0) - LONG_AGO
            exercises = [self.row(id, title, since) for id, title in self.exercises.items()]
            shown = [
                {
                    "name": names[id],
                    "seen": max(0, int(now - person.seen)),  # the clock of a shared folder may be ahead
                    "at": person.at(since),
                    "verdicts": "".join(MARKS.get(person.verdicts.get(one, ""), " ") for one in self.exercises),
                }
                for id, person in people.items()
            ]
            return {"exercises": exercises, "people": shown, "stuck": stuck(exercises), "turned_away": self.turned_away}

    def row(self, id: str, title: str, since: float) -> dict[str, Any]:
        """How many of those who have begun exercise `id` passed it, have been trying it after `since`, and what most read."""
        states = Counter(person.verdicts[id] for person in self.people.values() if id in person.verdicts)
        said = Counter(person.words[id] for person in self.people.values() if id in person.words)
        (words, people), *_ = said.most_common(1) or [("", 0)]
        at = sum(person.at(since) == id for person in self.people.values())
        counts = {"passed": states[PASSED], "not_yet": states[NOT_YET], "to_do": states[TO_DO]}
        return {"id": id, "title": title, **counts, "at": at, "words": words, "said_by": people}


def stuck(rows: Iterable[dict[str, Any]]) -> str:
    """The exercise at which most people are now, if there are two or more: one person alone is nobody's business."""
    worst = max(rows, key=lambda row: (row["at"], row["not_yet"]), default=None)
    return worst["id"] if worst and worst["at"] > 1 else ""


def read(message: Any) -> tuple[str, str, list[tuple[str, str, str]]]:
    """The person, the name and the verdicts in a message.

    Raises:
        Refused: if something has not the form that it should have.
    """
    person = message.get("person") if isinstance(message, dict) else None
    if not isinstance(person, str) or not PERSON.fullmatch(person):
        raise Refused("this is no message of `course join`: it names no person")
    verdicts = message.get("verdicts")
    if not isinstance(verdicts, list) or len(verdicts) > 200:
        raise Refused("this is no message of `course join`: it has no list of verdicts, or a very long one")
    name = clean(message.get("name") or "") or "somebody"
    return person, name, [verdict_in(entry) for entry in verdicts]


def verdict_in(entry: Any) -> tuple[str, str, str]:
    """Exercise, verdict and sentence of one line."""
    if not isinstance(entry, dict) or not isinstance(entry.get("exercise"), str) or entry.get("verdict") not in list(MARKS):
        raise Refused(f"a verdict has an exercise, and one of {', '.join(MARKS)}")
    return entry["exercise"], entry["verdict"], clean(entry.get("why") or "", WORDS)
