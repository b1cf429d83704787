# 39. Torch raises the same exception where it has no operator.
# expect 03.3 error: meta

# %% 03.3
import torch


def what_moves(gradient, train_mode, in_optimizer):
    return torch.empty(2, device="meta").cpu()
