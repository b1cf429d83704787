# 35. Memory that the limits of a process do not count: segments, anonymous files, full pipes.
# expect 03.3 failed
# prints got: \[\]

# %% 03.3
import ctypes
import fcntl
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
pipes, held = [], 0
try:
    while len(pipes) < 2000:
        pipes += os.pipe()
        os.set_blocking(pipes[-1], False)
        try:
            fcntl.fcntl(pipes[-1], fcntl.F_SETPIPE_SZ, 2**20)
        except OSError:  # as large as it is, then
            pass
        held += os.write(pipes[-1], bytes(2**20))
except OSError as error:
    print("pipes:", error.strerror)
for descriptor in pipes:
    os.close(descriptor)
if len(pipes) > 128 or held > 2**26:
    got.append(f"{len(pipes)} ends of pipes with {held} bytes")
print("got:", got)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
