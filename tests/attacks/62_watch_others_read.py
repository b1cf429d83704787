# 62. Being told when another process reads a file, and how busy the machine is.
# expect 03.3 failed
# prints done: \[\]

# %% 03.3
import ctypes
import fcntl
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGIO, lambda *_: None)
folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
TRIED = {
    "inotify": lambda: libc.inotify_init1(0),
    "F_NOTIFY": lambda: fcntl.fcntl(folder, fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT),
    "F_SETLEASE": lambda: fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK),
    "sysinfo": lambda: libc.sysinfo((ctypes.c_char * 200)()),
}
done = []
for name, call in TRIED.items():
    try:
        done += [name] if call() >= 0 else []
    except OSError:
        continue
print("done:", done)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
