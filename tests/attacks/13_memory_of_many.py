# 13. Each of six processes keeps to the limit, all together take 4.8 GB.
# expect 03.3 error: it took more than 4 GiB of memory|it took too long

# %% 03.3
import os
import time

for _ in range(6):
    if not os.fork():
        large = bytearray(b"x") * (800 * 10**6)
        time.sleep(3600)
time.sleep(60)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
