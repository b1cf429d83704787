# 14. Thousands of files, and many that are just small enough.
# only full
# expect 03.3 failed
# prints files: 1?\d\d\d, megabytes: [0-3]?\d\n

# %% 03.3
import os

files = megabytes = 0
try:
    while megabytes < 100:
        with open(f"piece-{megabytes}", "wb") as file:
            file.write(bytes(10**6))
        megabytes += 1
except OSError:
    pass
os.remove(f"piece-{megabytes - 1}")
try:
    for files in range(9000):
        os.mkdir(f"folder-{files}")
except OSError:
    pass
print(f"files: {files}, megabytes: {megabytes}")


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
