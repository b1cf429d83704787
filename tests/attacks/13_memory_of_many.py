# 13. Each of ten processes keeps to the limit, all together take 8 GB.
# expect 03.3 error: it took more than 4 GiB of memory

# %% 03.3
import os
import time

for _ in range(10):
    if not os.fork():
        large = bytearray(b"x") * (800 * 10**6)
        time.sleep(3600)
time.sleep(60)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
