# 10. The bytes of a pickle, as text, and functions of pickle that the grader would call if it used them.
# expect 03.3 failed

# %% 03.3
import os
import pickle


class Command:
    def __reduce__(self):
        return os.system, ("touch pickled",)


CODE = pickle.dumps(Command(), protocol=0).decode()
pickle.dump = pickle.dumps = pickle.load = pickle.loads = lambda *data, **options: CODE


def what_moves(gradient, train_mode, in_optimizer):
    return CODE, CODE
