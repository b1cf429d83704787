# 5. The cell ends its process: an exception that ordinary handlers let through.
# The other exercises of the notebook are none the worse.
# expect 03.3 error: all tests passed

# %% 03.3
raise SystemExit("all tests passed")


def what_moves(gradient, train_mode, in_optimizer):
    return gradient and in_optimizer, train_mode
