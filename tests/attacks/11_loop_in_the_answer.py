# 11. A loop without an end, in the answer.
# expect 03.3 timeout: too long

# %% 03.3
def what_moves(gradient, train_mode, in_optimizer):
    while True:
        pass
