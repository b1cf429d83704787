"""PyTorch Lightning: a module with its steps, and a trainer without logger, checkpoint and bars."""

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.tools.bench.task import Task


class Module(lightning.LightningModule):
    def __init__(self, task: Task):
        super().__init__()
        self.model, self.task, self.hits = task.model, task, 0

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def on_validation_epoch_start(self) -> None:
        self.hits = 0

    def validation_step(self, batch: list[Tensor], number: int) -> Tensor:
        images, labels = batch
        logits = self.model(images)
        self.hits += int((logits.argmax(1) == labels).sum())
        return F.cross_entropy(logits, labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.task.optimizer()


def train(task: Task) -> float:
    precision = "bf16-mixed" if task.mixed else "32-true"
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    when = {"max_epochs": task.epochs, "check_val_every_n_epoch": task.every, "num_sanity_val_steps": 0}
    trainer = lightning.Trainer(accelerator="cpu", devices=1, precision=precision, **when, **off)
    module = Module(task)
    trainer.fit(module, task.train, task.val)
    return module.hits / len(task.val.dataset)  # type: ignore[arg-type]
