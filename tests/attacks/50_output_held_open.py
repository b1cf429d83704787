# 50. A right answer whose grandchild holds the output open and writes on: will the grader read for as long as it lives?
# expect 03.3 passed

# %% 03.3
import os
import time

if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    while True:
        os.write(1, b".")
        time.sleep(0.01)


def what_moves(gradient, train_mode, in_optimizer):
    return gradient and in_optimizer, train_mode
