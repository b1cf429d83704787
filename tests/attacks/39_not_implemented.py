# 39. An answer that raises NotImplementedError has been begun: it is an error, not "to do".
# expect 03.3 error: later

# %% 03.3
def what_moves(gradient, train_mode, in_optimizer):
    raise NotImplementedError("later")
