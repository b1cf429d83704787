# 5. The answer itself ends the process, while it is asked.
# expect 03.3 error: it ended its process

# %% 03.3
import os


def what_moves(gradient, train_mode, in_optimizer):
    os._exit(0)
