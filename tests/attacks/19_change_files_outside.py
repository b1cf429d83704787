# 19. Rights, times, attributes and length of files outside the work folder.
# expect 03.3 failed
# prints changed: \[\]

# %% 03.3
import os

import course_utils

changed = []
for path in (os.__file__, course_utils.__file__, "/usr/lib", "/"):
    ACTS = {
        "chmod": lambda path=path: os.chmod(path, 0o777),
        "chown": lambda path=path: os.chown(path, os.getuid(), os.getgid()),
        "utime": lambda path=path: os.utime(path),
        "attribute": lambda path=path: os.setxattr(path, "user.mine", b"1"),
        "truncate": lambda path=path: os.truncate(path, 0),
        "append": lambda path=path: open(path, "ab"),
        "rename": lambda path=path: os.rename(path, path + ".old"),
        "beside": lambda path=path: open(path + ".new", "w"),
    }
    for name, act in ACTS.items():
        try:
            act()
            changed.append((name, path))
        except OSError:
            pass
print("changed:", changed)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
