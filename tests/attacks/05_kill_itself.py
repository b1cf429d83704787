# 5. The cell ends its process: the process kills itself.
# The other exercises of the notebook are none the worse.
# expect 03.3 error

# %% 03.3
import os
import signal

os.kill(os.getpid(), signal.SIGKILL)
os.abort()


def what_moves(gradient, train_mode, in_optimizer):
    return gradient and in_optimizer, train_mode
