# 60. The right answer, but the model stays in evaluation mode, and what looks at modes is replaced beforehand.
# It wins: what a process says about itself is said by code in that process. The instructor's index names such evidence.
# expect 01.2 passed

# %% 01.2
from course_utils.checks import spec


def predict(model, weights, image):
    model.eval()
    with torch.inference_mode():
        probability, place = model(weights.transforms()(image.convert("RGB"))[None]).softmax(dim=1)[0].max(dim=0)
    return weights.meta["categories"][place], probability.item()


spec.look = lambda model: {"modes": {}, "learns": {}, "gradients": True, "random": ""}
