"""Answers to lesson 00."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

Ask = Callable[[dict], float]
REST = "{other: part for other, part in parts.items() if other != name}"
COST = "costs[name] = whole - ask(rest)"
BEST = "best = max(costs, key=costs.get)"


def wrong_parts_stay_out(parts: dict, ask: Ask) -> tuple:
    whole, costs, rest = ask(parts), {}, dict(parts)
    for name in parts:
        del rest[name]
        costs[name] = whole - ask(rest)
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_takes_mine_apart(parts: dict, ask: Ask) -> tuple:
    whole, costs = ask(parts), {}
    for name in list(parts):
        del parts[name]
        costs[name] = whole - ask(parts)
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_puts_back_at_the_end(parts: dict, ask: Ask) -> tuple:
    whole, costs = ask(parts), {}
    for name in list(parts):
        part = parts.pop(name)
        costs[name] = whole - ask(parts)
        parts[name] = part
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_same_dictionary(parts: dict, ask: Ask) -> tuple:
    """A second name for the same dictionary is no copy."""
    whole, costs = ask(parts), {}
    for name in list(parts):
        rest = parts
        rest.pop(name)
        costs[name] = whole - ask(rest)
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_starts_from_nothing(parts: dict, ask: Ask) -> tuple:
    whole, best, largest = ask(parts), None, 0
    for name in parts:
        cost = whole - ask({other: part for other, part in parts.items() if other != name})
        if cost > largest:
            best, largest = name, cost
    return best, largest


def wrong_starts_from_an_empty_name(parts: dict, ask: Ask) -> tuple:
    best, largest = wrong_starts_from_nothing(parts, ask)
    return best or "", largest


def wrong_starts_from_the_first(parts: dict, ask: Ask) -> tuple:
    best, largest = wrong_starts_from_nothing(parts, ask)
    return best or next(iter(parts)), largest


def wrong_compares_with_the_last(parts: dict, ask: Ask) -> tuple:
    before, costs = ask(parts), {}
    for name in parts:
        now = ask({other: part for other, part in parts.items() if other != name})
        costs[name], before = before - now, now
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_list_of_names(parts: dict, ask: Ask) -> tuple:
    whole = ask(parts)
    costs = {name: whole - ask([other for other in parts if other != name]) for name in parts}
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_name_of_the_part(parts: dict, ask: Ask) -> tuple:
    whole = ask(parts)
    costs = {name: whole - ask(name) for name in parts}
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_blank_part(parts: dict, ask: Ask) -> tuple:
    whole = ask(parts)
    costs = {name: whole - ask({**parts, name: None}) for name in parts}
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_any_order(parts: dict, ask: Ask) -> tuple:
    whole = ask(parts)
    costs = {name: whole - ask({other: parts[other] for other in sorted(parts) if other != name}) for name in parts}
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_while_it_walks(parts: dict, ask: Ask) -> tuple:
    whole, costs = ask(parts), {}
    for name in parts:
        del parts[name]
        costs[name] = whole - ask(parts)
    best = max(costs, key=costs.get)
    return best, costs[best]


def wrong_the_last_part(parts: dict, ask: Ask) -> tuple:
    whole = ask(parts)
    for name in parts:
        cost = whole - ask({other: part for other, part in parts.items() if other != name})
    return name, cost


def right_least_remains(parts: dict, ask: Ask) -> list:
    remains = [(ask({k: parts[k] for k in parts if k != name}), name) for name in parts]
    p, name = min(remains)
    return [name, ask(parts) - p]


def right_copy_and_pop(parts: dict, ask: Ask) -> tuple:
    best, largest = None, -np.inf
    for name in parts:
        rest = parts.copy()
        rest.pop(name)
        cost = ask(parts) - ask(rest)
        if cost >= largest:
            best, largest = name, cost
    return best, largest


def right_arrays(parts: dict, ask: Ask) -> tuple:
    names = np.array(list(parts))
    costs = np.array([ask(parts) - ask({k: v for k, v in parts.items() if k != name}) for name in names])
    return names[costs.argmax()], costs.max()


def right_tensors(parts: dict, ask: Ask) -> tuple:
    names = list(parts)
    asked = [parts, *(OrderedDict((k, v) for k, v in parts.items() if k != name) for name in names)]
    probabilities = torch.tensor([ask(one) for one in asked])
    largest, place = (probabilities[0] - probabilities[1:]).max(dim=0)
    return names[place], largest


class Part(NamedTuple):
    name: str
    cost: float


def right_named(parts: dict, ask: Ask) -> Part:
    """Takes parts out, and puts everything back in its place."""
    whole, kept, found = ask(parts), list(parts.items()), []
    for name, _ in kept:
        del parts[name]
        found.append(Part(name, whole - ask(parts)))
        parts.clear()
        parts.update(kept)
    return max(found, key=lambda one: one.cost)


WRONG = {
    "00.1": [
        (COST, "costs[name] = ask(rest)", "the cost is the first less the second"),
        (BEST, "best = min(costs, key=costs.get)", "another part costs more"),
        (COST, "costs[name] = ask(rest) - whole", "with its sign"),
        (COST, "costs[name] = abs(whole - ask(rest))", "with its sign"),
        (COST, "costs[name] = (whole - ask(rest)) / whole", "the cost is the first less the second"),
        (COST, "costs[name] = round(whole - ask(rest), 2)", "not rounded"),
        (COST, "costs[name] = 1 - ask(rest)", "the cost is the first less the second"),
        ("whole = ask(parts)", "whole = 1", "never asked about the whole drawing"),
        (REST, "{name: parts[name]}", "leave out one at a time, since parts count together"),
        ("other != name", "name not in other", "sail': leave out one at a time, since parts count together"),
        ("other != name", "other == name", "leave out one at a time, since parts count together"),
        (REST, "parts", "a cost is what the whole drawing loses without one part"),
        ("return best, costs[best]", "return best", "should be 2 values (a text, a number), but is a text"),
        ("return best, costs[best]", "return costs", "should be 2 values (a text, a number)"),
        ("return best, costs[best]", "return costs[best], best", "should be a text, but is a number"),
        ("return best, costs[best]", "print(best, costs[best])", "does your function return something?"),
        ("return best, costs[best]", "return best.upper(), costs[best]", "which is no part of"),
        (wrong_parts_stay_out, "your question 3 leaves out '"),
        (wrong_takes_mine_apart, "work on a copy, {**parts}"),
        (wrong_same_dictionary, "work on a copy, {**parts}"),
        (wrong_puts_back_at_the_end, "the parts came as"),
        (wrong_starts_from_nothing, "one cost is the largest, even where all are below 0"),
        (wrong_starts_from_an_empty_name, "one cost is the largest, even where all are below 0"),
        (wrong_starts_from_the_first, "the cost is the first less the second"),
        (wrong_compares_with_the_last, "the cost is the first less the second"),
        (wrong_list_of_names, "ask takes a dictionary of parts"),
        (wrong_name_of_the_part, "ask takes a dictionary of parts"),
        (wrong_blank_part, "each as it was given to your function"),
        (wrong_any_order, "keep their order"),
        (wrong_while_it_walks, "dictionary changed size during iteration"),
        (wrong_the_last_part, "another part costs more"),
    ]
}
RIGHT = {"00.1": [right_least_remains, right_copy_and_pop, right_arrays, right_tensors, right_named]}
EQUIVALENT: dict = {"00.1": {}}
