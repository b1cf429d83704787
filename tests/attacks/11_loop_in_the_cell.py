# 11. A loop without an end, in the cell.
# expect 03.3 timeout: too long

# %% 03.3
while True:
    pass


def what_moves(gradient, train_mode, in_optimizer):
    return gradient and in_optimizer, train_mode
