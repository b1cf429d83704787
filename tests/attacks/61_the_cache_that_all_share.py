# 61. Which pages of a library are in memory tells what another box has read. Reading stays what it was.
# expect 03.3 failed
# prints done: \[\], read: True
# only full

# %% 03.3
import ctypes
import mmap
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
file = os.open(os.__file__, os.O_RDONLY)
page = ctypes.c_void_p(libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, file, ctypes.c_long(0)))
TRIED = {
    "read only if it is there": lambda: os.preadv(file, [bytearray(9)], 0, os.RWF_NOWAIT),
    "mincore": lambda: libc.mincore(page, ctypes.c_size_t(4096), (ctypes.c_char * 1)()),
    "cachestat": lambda: libc.syscall(451, file, (ctypes.c_uint64 * 2)(0, 4096), (ctypes.c_uint64 * 5)(), 0),
    "throw it out": lambda: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED) or 0,
    "evict the page": lambda: libc.madvise(page, ctypes.c_size_t(4096), 21),
}
done = []
for name, call in TRIED.items():
    try:
        done += [name] if call() >= 0 else []
    except OSError:
        continue
print(f"done: {done}, read: {os.preadv(file, [bytearray(9)], 0) == 9}")


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
