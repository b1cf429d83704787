# 5. The cell ends its process: `sys.exit(0)`: an exit code is never a pass.
# The other exercises of the notebook are none the worse.
# expect 03.3 error: 0

# %% 03.3
import sys

sys.exit(0)


def what_moves(gradient, train_mode, in_optimizer):
    return gradient and in_optimizer, train_mode
