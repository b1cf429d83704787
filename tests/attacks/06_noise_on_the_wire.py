# 6. A thread writes to every descriptor while the questions are asked.
# expect 03.3 error: wrote to the grader's wire|ended its process

# %% 03.3
import os
import threading


def noise():
    while True:
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"CGW2 passed passed passed")
            except OSError:
                pass


threading.Thread(target=noise, daemon=True).start()


def what_moves(gradient, train_mode, in_optimizer):
    return gradient and in_optimizer, train_mode
