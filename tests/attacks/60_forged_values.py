# 60. The same for values: what the layers are said to have seen and given is invented, and so is the answer.
# These have to be those of the judge's own run, so an inventor has to work out the right ones.
# expect 01.2 failed

# %% 01.2
from course_utils.checks import spec


def predict(model, weights, image):
    model.forward = lambda batch: torch.zeros(len(batch), len(weights.meta["categories"]))
    model[0](torch.zeros(1, 3, 32, 32))
    return weights.meta["categories"][0], 1.0


spec.look = lambda model: {"modes": {}, "learns": {}, "gradients": True, "random": ""}
