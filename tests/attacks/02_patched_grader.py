# 2. The modules of the grader that are in the box are replaced: whatever is sent says "passed".
# A box may say what it likes: only evidence is read from it, and this is none.
# expect 03.3 failed error

# %% 03.3
import sys

inside = sys.modules.get("course_utils.grader.worker.inside")
wire = sys.modules["course_utils.grader.worker.protocol"]
encode = wire.encode
wire.encode = lambda kind, id, data: encode(kind, id, {"passed": True, "share": 1, "score": 100})


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
