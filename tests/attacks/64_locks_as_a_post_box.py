# 64. A lock on a file that all boxes read is a message to the others. Temporary files still work.
# expect 03.3 failed
# prints done: \[\], kept: True

# %% 03.3
import fcntl
import os
import tempfile

file = os.open(os.__file__, os.O_RDONLY)
TRIED = {
    "flock": lambda: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "lockf": lambda: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "is it locked": lambda: fcntl.fcntl(file, fcntl.F_GETLK, bytes(32)),
    "a lease": lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK),
}
done = []
for name, call in TRIED.items():
    try:
        call()
        done.append(name)
    except OSError:
        continue
with tempfile.TemporaryDirectory() as folder:
    print(f"done: {done}, kept: {os.path.isdir(folder)}")


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
