# 67. The reply to the cell is forged: a tensor of two where a dictionary is expected, which neither is true nor false.
# expect 03.3 error: it wrote to the grader's wire

# %% 03.3
import os
import sys

import torch

from course_utils.grader.worker.protocol import encode

frame = sys._getframe()
while frame and "frames" not in frame.f_locals:
    frame = frame.f_back
os.write(3, encode("status", frame.f_locals["frame"].id, torch.zeros(2)))


def what_moves(gradient, train_mode, in_optimizer):
    return gradient and in_optimizer, train_mode
