# 36. The hidden questions are saved to files, so that a later public question can print them.
# Each check has a box of its own, and public checks come first.
# expect 03.3 failed

# %% 03.3
import os
import sys


def secrets():
    found, frame = [], sys._getframe()
    while frame:
        found += [repr(value)[:3000] for value in frame.f_locals.values()] + [repr(frame.f_globals)[:10**5]]
        frame = frame.f_back
    return " ".join(found)

for path in os.listdir("."):
    print("saved before:", open(path).read())


def what_moves(gradient, train_mode, in_optimizer):
    for path in ("saved", os.path.join("/tmp", "saved"), "../saved"):
        try:
            with open(path, "a") as file:
                file.write(secrets())
        except OSError:
            pass
    return True, True
