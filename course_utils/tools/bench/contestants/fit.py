"""Ours, on the pictures: the whole network in every epoch."""

from course_utils import evaluate, fit, train_one_epoch
from course_utils.tools.bench.task import Task


def train(task: Task) -> float:
    optimizer = task.optimizer()
    with task.autocast():
        if task.every == 1:
            return fit(task.model, task.train, task.val, optimizer, epochs=task.epochs)[-1].val.accuracy
        for _ in range(task.epochs):
            train_one_epoch(task.model, task.train, optimizer)
        return evaluate(task.model, task.val).accuracy
