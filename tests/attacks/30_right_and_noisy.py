# 30. A right answer that prints, warns, logs and writes to stderr. It gets full marks.
# expect 03.3 passed

# %% 03.3
import logging
import sys
import warnings

warnings.warn("old", DeprecationWarning, stacklevel=1)
logging.error("nothing is wrong")


def what_moves(gradient, train_mode, in_optimizer):
    print("thinking", file=sys.stderr)
    warnings.warn("still thinking", stacklevel=1)
    print("é ☃ \ud800")
    return gradient and in_optimizer, train_mode
