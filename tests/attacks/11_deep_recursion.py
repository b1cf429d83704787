# 11. A recursion without an end.
# expect 03.3 error: recursion

# %% 03.3
def what_moves(gradient, train_mode, in_optimizer):
    return what_moves(gradient, train_mode, in_optimizer)
