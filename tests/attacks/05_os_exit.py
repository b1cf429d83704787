# 5. The cell ends its process: `os._exit(0)`: nothing in this process runs any more.
# The other exercises of the notebook are none the worse.
# expect 03.3 error: it ended its process

# %% 03.3
import os

os._exit(0)


def what_moves(gradient, train_mode, in_optimizer):
    return gradient and in_optimizer, train_mode
