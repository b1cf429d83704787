# 27. The answer reads the hidden question from the stack and tells it in its exception.
# What went wrong in a hidden check is in the instructor's notes, not in the learner's report.
# expect 03.3 error

# %% 03.3
import sys


def secrets():
    found, frame = [], sys._getframe()
    while frame:
        found += [repr(value)[:3000] for value in frame.f_locals.values()] + [repr(frame.f_globals)[:10**5]]
        frame = frame.f_back
    return " ".join(found)


def what_moves(gradient, train_mode, in_optimizer):
    raise ValueError(secrets())
