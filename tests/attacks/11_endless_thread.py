# 11. A thread without an end, which keeps the process alive.
# expect 03.3 failed

# %% 03.3
import threading
import time


def forever():
    while True:
        time.sleep(0.01)


threading.Thread(target=forever, daemon=False).start()


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
