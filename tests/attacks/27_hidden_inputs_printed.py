# 27. The same, printed, and as text in the place of an answer.
# expect 03.3 failed
# output is cut

# %% 03.3
import sys


def secrets():
    found, frame = [], sys._getframe()
    while frame:
        found += [repr(value)[:3000] for value in frame.f_locals.values()] + [repr(frame.f_globals)[:10**5]]
        frame = frame.f_back
    return " ".join(found)


def what_moves(gradient, train_mode, in_optimizer):
    print(secrets())
    return secrets()[:60000], True
