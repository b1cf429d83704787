# 6. The answer finds the id of its question on the stack and writes the reply itself.
# Whoever forges evidence must know what is right: the judge does not ask who wrote it.
# expect 03.3 failed error

# %% 03.3
import os
import sys

from course_utils.grader.worker.protocol import encode


def what_moves(gradient, train_mode, in_optimizer):
    frame = sys._getframe()
    while frame:
        if frame.f_code.co_name == "case":
            for descriptor in range(3, 64):
                try:
                    os.write(descriptor, encode("evidence", frame.f_locals["id"], [[True, True]] * 8))
                except OSError:
                    pass
        frame = frame.f_back
    return True, True
