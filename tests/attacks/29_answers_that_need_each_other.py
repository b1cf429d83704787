# 29. One answer uses a name from the cell of another, as in a notebook that was run from top to bottom.
# expect 03.1 passed
# expect 03.3 passed

# %% 03.1
def both(first, second):
    return first and second


def freeze_all_but(model, parts):
    model.zero_grad()
    model.requires_grad_(False).eval()
    for part in parts:
        model.get_submodule(part).requires_grad_(True).train()
    return model


# %% 03.3
def what_moves(gradient, train_mode, in_optimizer):
    return both(gradient, in_optimizer), train_mode
