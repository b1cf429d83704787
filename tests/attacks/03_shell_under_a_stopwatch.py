# 3. A command of the shell in a line that is timed, for there a magic gives way to what stands behind it.
# expect 03.3 error: get_ipython\(\).system is refused

# %% 03.3
%time get_ipython().system("cat /etc/passwd")


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
