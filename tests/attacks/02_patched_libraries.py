# 2. Every function that a judge could use to compare is replaced by one that agrees.
# The judge runs in another process, whose functions nobody has touched.
# expect 03.3 failed error

# %% 03.3
import builtins
import json

import numpy
import torch

import course_utils.checks
from course_utils.checks import spec


def agree(*arguments, **options):
    return True


for place, name in ((torch, "allclose"), (torch, "equal"), (torch.testing, "assert_close"), (numpy.testing, "assert_equal"), (builtins, "isinstance")):
    setattr(place, name, agree)
for place in (spec, course_utils.checks):
    place.failed = lambda *words: spec.passed()
    place.mismatch = lambda *data: None
    place.verdict_of = lambda *both: ("passed", "")
json.dumps = lambda *data, **options: '{"passed": true}'


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
