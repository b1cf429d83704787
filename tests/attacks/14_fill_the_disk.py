# 14. A large file, a sparse one, a link to itself, and one to everything, which the removal of the work folder must not follow.
# expect 03.3 failed
# prints written: \[\]

# %% 03.3
import os

written = []
try:
    with open("large", "wb") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    written.append("64 MiB in one file")
except OSError as error:
    print("large:", error.strerror)
try:
    with open("sparse", "wb") as file:
        file.truncate(2**40)
    written.append("a sparse file of 1 TiB")
except OSError as error:
    print("sparse:", error.strerror)
os.symlink("loop", "loop")
os.symlink("/", "everything")
try:
    with open("loop", "w"):
        written.append("through a loop of links")
except OSError as error:
    print("loop:", error.strerror)
print("written:", written)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
