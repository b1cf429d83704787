# 47. The reply comes by the drop and never ends.
# The clock runs on while bytes come, and what has come is not read again for each drop.
# expect 03.3 timeout

# %% 03.3
import os
import struct


def what_moves(gradient, train_mode, in_optimizer):
    os.write(3, struct.pack("<4sIQ", b"CGW2", 2**20, 14 * 2**20))
    while True:
        os.write(3, b"x")
