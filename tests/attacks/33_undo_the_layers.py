# 33. Mounts and changes of mounts: is the tree still read-only?
# expect 03.3 failed
# prints done: \[\]

# %% 03.3
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)  # take the read-only flag away
CALLS = {
    "mount_setattr": lambda: libc.syscall(442, -100, b"/", 0, attributes, 32),
    "mount_setattr of all": lambda: libc.syscall(442, -100, b"/", 0x8000, attributes, 32),
    "remount": lambda: libc.mount(None, b"/", None, 32, None),
    "tmpfs": lambda: libc.mount(b"new", os.getcwd().encode(), b"tmpfs", 0, None),
    "fsopen": lambda: libc.syscall(430, b"tmpfs", 0),
    "open_tree": lambda: libc.syscall(428, -100, b"/", 1),
    "umount": lambda: libc.umount2(b"/", 2),
    "chroot": lambda: libc.chroot(b"."),
    "pivot_root": lambda: libc.syscall(155, b".", b"."),
}
done = [name for name, call in CALLS.items() if call() >= 0]
try:
    os.mkdir("/new")
    done.append("a folder in /")
except OSError:
    pass
print("done:", done)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
