# 3. A command of the shell.
# expect 03.3 error: get_ipython\(\).system is refused

# %% 03.3
!cat /etc/passwd


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
