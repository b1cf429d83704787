"""The least that the job can cost: every picture read once, and sent once through what is frozen, by one engine.

What an engine takes to prepare (tracing, converting, compiling) is not in its seconds: nobody has to beat more than its pass.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from course_utils.inference import WAYS
from course_utils.tools.bench.task import Task

Run = Callable[[Tensor], Tensor]


class Engine(nn.Module):
    """Stands for the network that `run` is made of."""

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images)


def convert(task: Task) -> None:
    """Put an engine in the place of the network.

    Raises:
        ValueError: if it makes other features than eager torch.
    """
    for part in task.job.learns:
        task.model.set_submodule(part, nn.Identity())
    task.model.eval()
    with torch.no_grad():
        shapes = [next(iter(task.val))[0], last(task.val)]  # an engine may compile anew for each size of a batch
        wanted = [task.model(images) for images in shapes]
        engine = Engine(ENGINES[task.variant](task.model, shapes[0]))
        for images, features in zip(shapes, wanted, strict=True):
            far = float((engine(images) - features).abs().max() / features.abs().max())
            if not far <= 1e-4:
                raise ValueError(f"the features of {task.variant} differ from eager torch's by {far:.0e} of the largest")
    task.model = engine


def last(loader: torch.utils.data.DataLoader) -> Tensor:
    return [images for images, _ in loader][-1]


def train(task: Task) -> None:
    with torch.inference_mode():
        for loader in (task.train, task.val):
            for images, _ in loader:
                task.model(images)


def sweep(task: Task) -> list[None]:
    return [train(task)]  # type: ignore[func-returns-value]


# ------------------------------------------------------------------------------------------------------------ engines


def eager(model: nn.Module, images: Tensor) -> Run:
    return model


def folded(model: nn.Module, images: Tensor) -> Run:
    """torch itself, as `precompute` uses it: batch norms folded, in the first layout that the network can work in."""
    return next(folded_runs(model, images))


def folded_runs(model: nn.Module, images: Tensor) -> Iterator[Run]:
    for prepare in WAYS.values():
        try:
            run = prepare(fuse(fx.symbolic_trace(model)))  # type: ignore[arg-type]
            run(images)
        except (RuntimeError, NotImplementedError, ValueError):  # a step that this layout does not know
            continue
        yield run


def onnxruntime(model: nn.Module, images: Tensor) -> Run:
    import onnxruntime as engine

    file, options = io.BytesIO(), engine.SessionOptions()
    program = torch.onnx.export(model, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False)
    program.save(file)  # type: ignore[union-attr, arg-type]
    options.intra_op_num_threads = torch.get_num_threads()
    session = engine.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def openvino(model: nn.Module, images: Tensor) -> Run:
    import openvino as engine

    converted = engine.convert_model(model, example_input=images)
    converted.reshape([-1, *images.shape[1:]])
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    session = engine.Core().compile_model(converted, "CPU", exact)
    return lambda images: torch.from_numpy(session(images.numpy())[0])


ENGINES: dict[str, Callable[[nn.Module, Tensor], Run]] = {
    "": eager,
    "folded": folded,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}
