# 18. A process that leaves its parents, and wants to go on after the box.
# expect 03.3 failed

# %% 03.3
import os
import time

if not os.fork():
    os.setsid()
    if not os.fork():
        for _ in range(1000):
            time.sleep(0.05)
            try:
                open(os.path.join("/tmp", "daemon-was-here"), "w").close()
            except OSError:
                pass
    os._exit(0)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
