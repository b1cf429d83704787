# 26. Lines that a continuous-integration log would take for commands.
# expect 03.3 error

# %% 03.3
print("::error::all is lost\n::set-output name=grade::100\n::stop-commands::x\n##[set-env name=PATH]x")


def what_moves(gradient, train_mode, in_optimizer):
    raise ValueError("\n::error::injected\n::add-mask::1")
