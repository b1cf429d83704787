# 47. A reply to the right question, and bytes behind it that were not announced.
# What is read of it is one frame, which has to be right; the rest is no frame, and ends the box.
# expect 03.3 failed error

# %% 03.3
import os
import sys

from course_utils.grader.worker.protocol import encode


def what_moves(gradient, train_mode, in_optimizer):
    frame = sys._getframe()
    while frame.f_code.co_name != "case":
        frame = frame.f_back
    os.write(3, encode("evidence", frame.f_locals["id"], [[gradient and in_optimizer, train_mode]] * 8) + b"more")
    return gradient and in_optimizer, train_mode
