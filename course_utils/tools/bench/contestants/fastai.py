"""fastai: a learner over the same loaders, with fastai's own SGD, without bar and log."""

from functools import partial

from fastai.vision.all import SGD, CrossEntropyLossFlat, DataLoaders, Learner, accuracy

from course_utils.tools.bench.task import Task


def train(task: Task) -> float:
    each_epoch = task.every == 1
    loaders = DataLoaders(task.train, task.val if each_epoch else [])
    learner = Learner(loaders, task.model, CrossEntropyLossFlat(), partial(SGD, mom=0.9), metrics=accuracy)
    with learner.no_bar(), learner.no_logging():
        learner.fit(task.epochs, task.lr)
        return float(learner.recorder.values[-1][-1] if each_epoch else learner.validate(dl=task.val)[-1])
