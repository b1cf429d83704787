"""The Trainer of transformers, on a network that returns its loss with its logits; no clipping, constant rate."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments

from course_utils.tools.bench.jobs import BATCH
from course_utils.tools.bench.task import Task

OFF = {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True, "max_grad_norm": 0}
LOADERS = {"per_device_train_batch_size": BATCH, "per_device_eval_batch_size": BATCH, "dataloader_pin_memory": False}


class WithLoss(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(images)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def collate(samples: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    images, labels = zip(*samples, strict=True)
    return {"images": torch.stack(images), "labels": torch.tensor(labels)}


def accuracy(found) -> dict[str, float]:
    return {"accuracy": (found.predictions.argmax(1) == found.label_ids).mean()}


def train(task: Task) -> float:
    when = {"num_train_epochs": task.epochs, "eval_strategy": "epoch" if task.every == 1 else "no"}
    rate = {"learning_rate": task.lr, "lr_scheduler_type": "constant"}
    machine = {"use_cpu": True, "bf16": task.mixed}
    arguments = TrainingArguments(".", remove_unused_columns=False, **machine, **when, **rate, **LOADERS, **OFF)
    optimizers, data = (task.optimizer(), None), (task.train.dataset, task.val.dataset)
    trainer = Trainer(WithLoss(task.model), arguments, collate, *data, compute_metrics=accuracy, optimizers=optimizers)
    trainer.train()
    scores = trainer.state.log_history if task.every == 1 else [trainer.evaluate()]
    return float([score["eval_accuracy"] for score in scores if "eval_accuracy" in score][-1])
