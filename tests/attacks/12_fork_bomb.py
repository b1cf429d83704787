# 12. Two hundred processes.
# expect 03.3 failed
# prints forks: ([0-9]|[12][0-9]|3[0-2])\n

# %% 03.3
import os
import time

forks = 0
for _ in range(200):
    try:
        child = os.fork()
    except OSError:
        break
    if not child:
        time.sleep(3600)
    forks += 1
print("forks:", forks)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
