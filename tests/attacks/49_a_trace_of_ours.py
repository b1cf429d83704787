# 49. Making the grader's own code in the box stop, so that its trace is printed, with places of the instructor's machine.
# expect 03.3 error: it ended its process
# prints ^\(python\)/torch/__init__.py\n\Z

# %% 03.3
import os

import torch

print(torch.__file__)


def what_moves(gradient, train_mode, in_optimizer):
    os.close(3)
    return gradient and in_optimizer, train_mode
