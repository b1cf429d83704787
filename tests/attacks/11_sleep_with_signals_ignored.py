# 11. A sleep, with all signals ignored that can be ignored.
# expect 03.3 timeout: too long

# %% 03.3
import signal
import time

for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)


def what_moves(gradient, train_mode, in_optimizer):
    while True:
        time.sleep(3600)
