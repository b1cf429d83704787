# 11. The process stops itself.
# expect 03.3 timeout failed

# %% 03.3
import os
import signal


def what_moves(gradient, train_mode, in_optimizer):
    os.kill(os.getpid(), signal.SIGSTOP)
    return True, True
