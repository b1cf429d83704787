# 13. Eight GiB of memory in one piece, private and shared, and a file in /dev/shm.
# expect 03.3 error: .
# prints shared: OSError

# %% 03.3
import mmap

try:
    mmap.mmap(-1, 8 * 2**30)
except OSError:
    print("shared: OSError")
try:
    open("/dev/shm/large", "wb").write(b"x")
    print("/dev/shm can be written")
except OSError:
    print("shm: OSError")
large = bytearray(8 * 2**30)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
