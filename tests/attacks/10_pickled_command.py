# 10. Evidence that would run a command if somebody unpickled it.
# expect 03.3 failed: your answer gives something else than numbers

# %% 03.3
import os


class Command:
    def __reduce__(self):
        return os.system, ("touch pickled",)


def what_moves(gradient, train_mode, in_optimizer):
    return Command(), Command()
