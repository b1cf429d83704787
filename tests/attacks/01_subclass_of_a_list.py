# 1. A list that lies about its length and its items.
# expect 03.3 failed

# %% 03.3
class Endless(list):
    def __eq__(self, other):
        return True

    def __len__(self):
        return 2

    __hash__ = None


def what_moves(gradient, train_mode, in_optimizer):
    return Endless([Endless(), Endless()])
