# 38. The reply to an earlier question is sent again for a later one.
# expect 03.3 error failed

# %% 03.3
import os
import sys

from course_utils.grader.worker.protocol import encode

ids = []


def what_moves(gradient, train_mode, in_optimizer):
    frame = sys._getframe()
    while frame and frame.f_code.co_name != "case":
        frame = frame.f_back
    if frame and frame.f_locals["id"] not in ids:
        ids.append(frame.f_locals["id"])
        if len(ids) > 1:
            os.write(3, encode("evidence", ids[0], [[True, True]] * 8))
    return gradient and in_optimizer, train_mode
