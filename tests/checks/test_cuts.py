"""Exercise 05.2: the cut that the rules call right is the last one with which training stays the same, as measured."""

import warnings

from course_utils import split_frozen
from course_utils.checks.lesson_05 import apart, first_alive, stacks
from course_utils.checks.spec import Rng


def test_the_right_cut_is_the_last_that_changes_nothing():
    for seed in range(20):
        for case in stacks(Rng(seed)):
            right = first_alive(case["layers"])
            assert apart(case, right) < 1e-6
            assert apart(case, right + 1) > 1e-6, (seed, right)


def test_it_is_where_split_frozen_cuts():
    for case in stacks(Rng(3)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the first layer learns there is nothing to cut
            first, _ = next(split_frozen(case["layers"]).learning.named_children())
        assert int(first) == first_alive(case["layers"])
