# 37. Where there are no namespaces, the grader's processes can be seen. Can their memory be read?
# expect 03.3 failed
# prints read: \[\]

# %% 03.3
import os

read = []
for process in ["self", "thread-self", *range(1, 400), *range(max(1, os.getpid() - 40), os.getpid() + 40)]:
    for name in ("environ", "mem", "maps", "fd", "root/etc/passwd", "cmdline"):
        path = f"/proc/{process}/{name}"
        try:
            os.listdir(path) if name == "fd" else open(path, "rb").read(1)
            read.append(path)
        except OSError:
            pass
print("read:", read[:20])


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
