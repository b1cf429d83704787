# 1. A number that lies about its comparisons. Only exact types cross the wall.
# expect 03.3 failed: your answer gives something else than numbers

# %% 03.3
class Always(int):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


def what_moves(gradient, train_mode, in_optimizer):
    return Always(), Always()
