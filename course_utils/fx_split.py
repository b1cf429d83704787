"""Split a model where learning begins: a part that gives the same for a picture in every epoch, and the rest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from course_utils.equivalence import (
    ReadGuard,
    WritesToFrozen,
    config_of,
    copy_of,
    difference_on,
    example_images,
    first_difference,
    memory_of,
    stateful_parts,
    why_not_fixed,
)
from course_utils.finetune import eval_mode, train_mode
from course_utils.fx_trace import HOOKS, Trace, Untraceable, attribute, compiled, has_hooks_of_ones_own
from course_utils.train import check_learns
from course_utils.trial import aside


class Split(NamedTuple):
    """The two parts of a model, which hold its own modules: `learning(frozen(images))` is `model(images)`."""

    frozen: nn.Module
    learning: nn.Module


def split_frozen(model: nn.Module, images: Tensor | None = None) -> Split:
    """Cut `model` before the first layer that learns: a part that gives the same for a picture in every epoch, and the rest.

    The cut may lie at any layer and pass several tensors, as at a skip connection. Dropout and stochastic depth that are at
    work during training belong to the learning part. Both share the model's own modules: training `learning` trains `model`.
    After freezing, unfreezing or replacing something, split again.

    Before they are returned, both parts are run beside the model on a few pictures, in training and in evaluation mode:
    outputs, gradients, buffers, attributes and the random numbers drawn have to be the same. A model that cannot be traced
    by `torch.fx`, that differs in any of these, or whose first layer learns, is not cut: `frozen` then returns the pictures
    as they are, `learning` is `model`, and a warning says why. `model` is left as it was found.

    What nobody can see from outside stays unseen: noise at one run in ten from a generator that only a global variable holds,
    a counter in a closure that changes the model's ways after many runs, what one picture leaves in another below rounding.

    Args:
        images: a few pictures as the model takes them, (batch, channels, height, width), for this comparison; left out,
            they are drawn, in the first of the usual sizes at which the model runs.

    Raises:
        ValueError: if nothing learns.
    """
    try:
        if any(map(is_lazy, model.parameters())):
            raise NotSplit("some of its layers have no size yet; run it once on a picture")
        check_learns(model)
        with aside():
            return _split(model, images)
    except NotSplit as error:
        warnings.warn(f"{type(model).__name__} is not split, so all of it runs in every epoch: {error}", stacklevel=2)
        return Split(nn.Identity(), model)


def _split(model: nn.Module, images: Tensor | None) -> Split:
    try:
        cut = _find_cut(model, images)
        why_not = first_difference(model, cut.apply, cut.images)
    except NotSplit:
        raise
    except Exception as error:  # the steps are the model's own and may object in any way
        words = (str(error) or "no message").splitlines()[0]
        raise NotSplit(f"its steps, run one after the other, stop with {type(error).__name__}: {words}") from error
    if why_not:
        raise NotSplit(why_not)
    parts = cut.apply(model)
    learns = memory_of(parameter for parameter in model.parameters() if parameter.requires_grad)
    if not learns.isdisjoint(memory_of((*parts.frozen.parameters(), *parts.frozen.buffers()))):
        raise NotSplit("something that is frozen lies in the memory of something that learns")
    return parts


class NotSplit(Exception):
    """Why a model is not cut in two, in words."""


# -------------------------------------------------------------------------------------------------------------- the cut


@dataclass(frozen=True)
class Cut:
    """Where to cut a model, by the names of its parts, so that it can be done to a copy of it too."""

    images: Tensor  # a few pictures that the model takes
    front: fx.Graph
    behind: dict[bool, fx.Graph]  # in training mode, and in evaluation mode
    constants: dict[str, Any]  # tensors that the model's own code makes while it is traced
    in_evaluation: set[str]  # names of the parts that the model's own train() leaves in evaluation mode

    def apply(self, model: nn.Module) -> Split:
        learning = ModelPart(model, self, self.behind)
        frozen = FrozenPart(model, self, {True: self.front, False: self.front})
        frozen.graph = self.front
        frozen.origin = Origin(model, learning, steps_of(self.front), set.union(*map(steps_of, self.behind.values())))
        return Split(frozen, learning)


def steps_of(graph: fx.Graph) -> set[str]:
    """The names of the modules that the graph calls."""
    return {str(node.target) for node in graph.nodes if node.op == "call_module"}


def _find_cut(model: nn.Module, images: Tensor | None) -> Cut:
    probe, given, stateful = _probe(model, images)
    before = set(vars(probe))
    evaluation, training = (_trace(set_mode(probe), model, given, stateful) for set_mode in (nn.Module.eval, train_mode))
    fixed = training.fixed(probe)
    # The steps may differ in training and evaluation (a second output, a dropout that is a function): keep what both need.
    kept = list(training.frontier(fixed) | evaluation.frontier(fixed))
    if kept == [training.names[training.images]] or not kept:
        raise NotSplit("its first layer learns" if kept else "what learns does not depend on the pictures")
    behind = {mode: trace.behind(kept, fixed) for mode, trace in ((True, training), (False, evaluation))}
    constants = {name: vars(probe)[name] for name in set(vars(probe)) - before}
    if any(isinstance(value, Tensor) and value.requires_grad for value in constants.values()):
        raise NotSplit("its code uses something that learns and is not one of its parts")
    in_evaluation = {name for name, part in probe.train().named_modules() if not part.training}
    return Cut(given, training.front(kept), behind, constants, in_evaluation)


def _probe(model: nn.Module, images: Tensor | None) -> tuple[nn.Module, Tensor, dict[str, str]]:
    """A copy of `model` that may be run and traced, pictures that it takes, and its parts that change when it runs."""
    for name, module in model.named_modules():
        if has_hooks_of_ones_own(module):
            where = name or "on the model itself"
            raise NotSplit(f"it has hooks ({where}), which the comparison of its parts would call; remove them")
    try:
        probe = copy_of(model)
    except Exception as error:  # an attribute that cannot be copied
        raise NotSplit(f"it cannot be copied, so that nobody can look whether its parts do the same ({error})") from error
    same = next((name for name, part in probe.named_modules() if part is model.get_submodule(name)), None)
    if same is not None:
        raise NotSplit(f"{same or 'the model'} gives itself as its copy, so a trial would change it; remove its __deepcopy__")
    try:
        if images is None:
            given, stateful = example_images(probe)
        else:
            given = images[:4].to(next(probe.parameters()).device)
            stateful = stateful_parts(probe, given)
    except WritesToFrozen as error:
        raise NotSplit(str(error)) from error
    except Exception as error:  # the model's own code
        raise NotSplit(f"{error}; give pictures that it takes: split_frozen(model, images)") from error
    if "" in stateful:
        raise NotSplit(f"each run changes {stateful['']!r} of the model itself; keep it in a part of its own")
    return probe, given, stateful


def _trace(model: nn.Module, original: nn.Module, images: Tensor, stateful: dict[str, str]) -> Trace:
    try:
        with ReadGuard(model, original):
            trace = Trace(model, {model.get_submodule(name) for name in stateful})
    except Untraceable as error:
        raise NotSplit(f"torch.fx cannot trace it ({error})") from error
    trace.find_rows(model, images)
    return trace


# ----------------------------------------------------------------------------------------------------------- the parts


class ModelPart(nn.Module):
    """Some steps of a model, with the model's own modules and parameters under their own names.

    Takes and returns tensors whose first dimension runs over the pictures, or several of them in a tuple.
    """

    def __init__(self, model: nn.Module, cut: Cut, graphs: dict[bool, fx.Graph]):
        super().__init__()
        for node in (node for graph in graphs.values() for node in graph.nodes if node.op in ("call_module", "get_attr")):
            _share(model, self, str(node.target), cut.constants)
        self.training = model.training
        self.in_evaluation = [name for name, _ in self.named_modules() if name in cut.in_evaluation]
        self.code = [(str(graph), [node.target for node in graph.nodes if callable(node.target)]) for graph in graphs.values()]
        self.steps = {training: compiled(self, graph) for training, graph in graphs.items()}

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        steps = self.steps[self.training]
        return steps(self, inputs) if isinstance(inputs, Tensor) else steps(self, *inputs)

    def train(self, mode: bool = True) -> ModelPart:
        """As the model's own `train`, which may leave some parts in evaluation mode."""
        super().train(mode)
        for name in self.in_evaluation:
            self.get_submodule(name).training = False
        return self


class FrozenPart(ModelPart):
    """The part in which nothing learns: in evaluation mode whatever is asked of it."""

    origin: Origin
    graph: fx.Graph  # its steps

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        with eval_mode(self), torch.no_grad():
            return super().forward(inputs)


class Container(nn.Module):
    """Stands for a module of the model of which only some parts are here; `train_mode` looks at all of its parameters."""

    def __init__(self, original: nn.Module):
        super().__init__()
        self.all_parameters = tuple(original.parameters())


def _share(model: nn.Module, part: nn.Module, name: str, constants: dict[str, Any]) -> None:
    """Put what is called `name` in `model` into `part`, under the same name."""
    *path, last = name.split(".")
    original = model
    for step in path:
        original = original.get_submodule(step)
        if step not in part._modules:
            part.add_module(step, Container(original))
        part = part.get_submodule(step)
    value = constants[name] if name in constants else attribute(model, name)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        part.register_buffer(last, value)
    else:
        setattr(part, last, value)


# ------------------------------------------------------------------------------------------------- is it still that model?


class Origin:
    """The model that two parts were cut from, as it was then: it may get another head, a hook or another attribute since."""

    def __init__(self, model: nn.Module, learning: nn.Module, frozen_steps: set[str], learning_steps: set[str]):
        self.model, self.learning = model, learning
        self.frozen_steps, self.learning_steps = frozen_steps, learning_steps
        self.before = self.now()
        self.looked_at: set[torch.Size] = set()  # shapes of pictures on which the parts have been compared with the model

    def objection(self, frozen: nn.Module, images: Tensor) -> str | None:
        """Why the parts do not do on these pictures what the model does, in words, or None; asked once for each size."""
        if images.shape[1:] in self.looked_at:
            return None
        why = why_not_fixed(frozen, images, in_double=False) or difference_on(self.model, frozen, self.learning, images)
        if not why:
            self.looked_at.add(images.shape[1:])
        return why

    def now(self) -> dict[str, Any]:
        """Which objects the model is made of, and what its code reads; not the inside of a step that the learning part runs."""
        found: dict[str, Any] = {}
        for name, module in self.model.named_modules():
            within = {name.rsplit(".", i)[0] for i in range(name.count(".") + 1)}  # this module and those that it is in
            if not self.learning_steps.isdisjoint(within - {name}):
                continue
            found[name or type(module).__name__] = id(module)
            if name not in self.learning_steps:
                called = not self.frozen_steps.isdisjoint(within)  # then hooks are called, and it shows if they change anything
                found |= {f"{name}.{key}".lstrip("."): value for key, value in _surface(module, called).items()}
        return found

    def changed(self) -> str | None:
        """The name of the first thing that is not what it was, or None."""
        now = self.now()
        return next((name for name, value in self.before.items() if value != now.get(name)), None)


def _surface(module: nn.Module, called: bool) -> dict[str, Any]:
    tensors = {name: id(value) for name, value in {**module._parameters, **module._buffers}.items()}
    hooks = {} if called else {"hooks": [len(getattr(module, name)) for name in HOOKS]}
    return tensors | hooks | config_of(module)
