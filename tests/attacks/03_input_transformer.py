# 3. A transformer of IPython empties all later cells, so that no test fails.
# expect 03.3 error: get_ipython\(\).input_transformers_cleanup is refused

# %% 03.3
get_ipython().input_transformers_cleanup.append(lambda lines: ["\n"])  # noqa: F821


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
