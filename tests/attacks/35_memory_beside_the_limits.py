# 35. Memory that the limits of a process do not count: segments, anonymous files, the work folder.
# expect 03.3 failed
# prints got: \[\]

# %% 03.3
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
got = []
if libc.shmget(0, ctypes.c_size_t(2**30), 0o1600) >= 0:
    got.append("a segment")
try:
    os.memfd_create("large")
    got.append("an anonymous file")
except OSError:
    pass
if libc.syscall(447, 0) >= 0:
    got.append("a secret anonymous file")
print("got:", got)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
