"""The commonest slips that raise an error inside a check, and the plain words for them."""

import torch

from course_utils.checks import verdict_of
from course_utils.checks.spec import Check, passed

CELL = """# Exercise 01.1
def answer():
    a = torch.ones(2)
    assert a == a
"""


def test_comparing_tensors_as_if_they_were_numbers():
    space: dict = {"torch": torch}
    exec(compile(CELL, "<cell>", "exec"), space)
    check = Check("01.1", "answer", "", lambda answer, rng: answer(), lambda data, rng: passed(), type(None))
    assert verdict_of(check, space["answer"]) == (
        "not yet",
        "it stopped in line 4 of your cell: comparing two tensors gives as many answers as they have values, "
        "but `assert` and `if` need one: `torch.equal(a, b)` gives one",
    )
