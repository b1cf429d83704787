# 11. A loop in C, which never comes back to Python.
# expect 03.3 timeout: too long

# %% 03.3
from itertools import repeat


def what_moves(gradient, train_mode, in_optimizer):
    return sum(repeat(0)), True
