# 4. The cell ends in a number, which some graders take for points.
# expect 03.3 failed

# %% 03.3
def what_moves(gradient, train_mode, in_optimizer):
    return True, True


1.0
