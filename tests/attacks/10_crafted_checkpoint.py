# 10. A checkpoint that runs a command when it is loaded. The answer writes it and loads it, with torch's own guard and without.
# The guard refuses it. Without the guard the command is called, in a box in which no program can be started.
# The grader loads no checkpoint at all.
# expect 03.3 failed
# prints loaded: \['without'\], started: \[\]

# %% 03.3
import os

import torch


class Command:
    def __reduce__(self):
        return os.system, ("/bin/touch started",)


torch.save({"weights": Command()}, "model.pt")
loaded = []
for guard in (True, False):
    try:
        torch.load("model.pt", weights_only=guard)
        loaded.append("with" if guard else "without")
    except Exception as error:
        print(type(error).__name__)
print(f"loaded: {loaded}, started: {[name for name in os.listdir('.') if name == 'started']}")


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
