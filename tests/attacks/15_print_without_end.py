# 15. A gigabyte of text. Of the output its end is kept, and that it was cut.
# expect 03.3 failed timeout
# output is cut

# %% 03.3
def what_moves(gradient, train_mode, in_optimizer):
    for _ in range(125):
        print("x" * 10**6)
    return True, True
