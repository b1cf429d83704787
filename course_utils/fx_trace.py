"""The steps of a model as `torch.fx` traces them, and which of them give the same for the same picture in every epoch."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchvision.ops import StochasticDepth


class Untraceable(Exception):
    """The steps of a model depend on more than `torch.fx` can follow; the message says what it stumbled over."""


class Tracer(fx.Tracer):
    """Follows a model's own code; takes as one step what has to run as a whole, and leaves out arguments with a default."""

    proxy_buffer_attributes = True

    def __init__(self, stateful: set[nn.Module]) -> None:
        leaves, functions = _timm_leaves()
        super().__init__(autowrap_functions=functions)
        self.leaves, self.stateful = leaves, stateful

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """A part in which nothing learns (it is in evaluation mode, whatever happens inside), one that changes something of its
        own at each run, one that drops something, and one that cannot be looked into."""
        return (
            is_frozen(module)
            or module in self.stateful
            or is_random(module)
            or isinstance(module, (torch.jit.ScriptModule, *self.leaves))
            or super().is_leaf_module(module, name)
        )

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list]:
        """Only the pictures are an input; other arguments of `forward` have their default, as when a loader calls it."""
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]


def _timm_leaves() -> tuple[tuple[type, ...], tuple[Callable, ...]]:
    """Modules and functions of timm that its authors have marked as not to be traced, if timm is in use."""
    if "timm" not in sys.modules:
        return (), ()
    from timm.models import get_notrace_functions, get_notrace_modules

    return tuple(get_notrace_modules()), tuple(get_notrace_functions())


class Trace:
    """The steps of a model in the mode in which it is now, each with a name that the same step has in its other traces."""

    def __init__(self, model: nn.Module, stateful: set[nn.Module]):
        self.stateful = stateful  # parts that change something of their own at each run
        if "forward" in vars(model):
            raise Untraceable("its forward was replaced on the object; define it in the class")
        try:
            self.graph = Tracer(stateful).trace(model)
        except Exception as error:  # tracing runs the model's own code, which may object in any way
            raise Untraceable((str(error) or type(error).__name__).splitlines()[0]) from error
        self.images = next(node for node in self.graph.nodes if node.op == "placeholder")
        self.output = next(iter(reversed(self.graph.nodes)))
        order_in_place_steps(self.graph, model)
        self.names = names_of(self.graph)
        self.rows: set[fx.Node] = set()  # steps that make one row for each picture
        self.of_images: set[fx.Node] = {self.images}  # steps that depend on the pictures
        for node in self.graph.nodes:
            if not self.of_images.isdisjoint(node.all_input_nodes):
                self.of_images.add(node)

    def find_rows(self, model: nn.Module, images: Tensor) -> None:
        """Run the steps that give the same for a picture in every epoch, and note which make one row for each picture."""
        run = fx.Interpreter(fx.GraphModule(model, self.graph))
        fixed = self.fixed(model)
        with torch.no_grad():
            for node in self.graph.nodes:
                if self.names[node] in fixed:
                    made = run.env[node] = images.clone() if node is self.images else run.run_node(node)
                    if isinstance(made, Tensor) and made.shape[:1] == images.shape[:1]:
                        self.rows.add(node)

    def fixed(self, model: nn.Module) -> set[str]:
        """Names of the steps that give the same for the same pictures, in the mode in which `model` is now."""
        found: set[fx.Node] = set()
        for node in self.graph.nodes:
            if node.op != "output" and found.issuperset(node.all_input_nodes) and is_fixed(node, model, self.stateful):
                found.add(node)
        return {self.names[node] for node in found}

    def frontier(self, fixed: set[str]) -> dict[str, None]:
        """Names of the fixed steps whose results the learning part has to get, in their order."""
        needed = self.needed(self.output, fixed)
        return {self.names[node]: None for node in self.graph.nodes if node in needed and self.is_given(node, fixed)}

    def is_given(self, node: fx.Node, fixed: set[str]) -> bool:
        """Whether the learning part gets this result. It makes by itself a size, what does not depend on the pictures, and
        what has not one row for each picture, from which batches could be put together."""
        return self.names[node] in fixed and node in self.of_images and node in self.rows and not is_size(node)

    def needed(self, target: fx.Node, fixed: set[str]) -> set[fx.Node]:
        """`target` and the steps from which it follows, back to those that are given."""
        found: set[fx.Node] = set()
        todo = [target]
        while todo:
            node = todo.pop()
            if node not in found:
                found.add(node)
                todo += [] if self.is_given(node, fixed) else node.all_input_nodes
        return found

    def front(self, kept: list[str]) -> fx.Graph:
        """The steps from the pictures to the results named `kept`."""
        wanted = {self.names[node]: node for node in self.graph.nodes if self.names[node] in kept}
        needed = {self.images}.union(*(self.needed(node, set()) for node in wanted.values()))
        graph = fx.Graph()
        copies = self.copy(needed, graph, {})
        results = tuple(copies[wanted[name]] for name in kept)
        graph.output(results if len(results) > 1 else results[0])
        return graph

    def behind(self, kept: list[str], fixed: set[str]) -> fx.Graph:
        """The steps from the results named `kept` to what the model returns."""
        graph = fx.Graph()
        given = {name: graph.placeholder(f"kept_{i}") for i, name in enumerate(kept)}
        self.copy(self.needed(self.output, fixed), graph, given)
        return graph

    def copy(self, needed: set[fx.Node], graph: fx.Graph, given: dict[str, fx.Node]) -> dict[fx.Node, fx.Node]:
        copies: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            if node in needed:
                copies[node] = given.get(self.names[node]) or graph.node_copy(node, copies.__getitem__)
        return copies


def order_in_place_steps(graph: fx.Graph, model: nn.Module) -> None:
    """What comes after a step that changes its input in place, such as `x.relu_()`, takes the result of that step instead.

    Nothing else says that the step has to come first: `torch.fx` knows it only by its result, which is often not used.
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        changed = changed_in_place(node, model)
        if isinstance(changed, fx.Node):
            for later in [user for user in changed.users if order[user] > order[node]]:
                later.replace_input_with(changed, node)


def changed_in_place(node: fx.Node, model: nn.Module) -> Any:
    """The input that a step changes and returns: of `x.add_(1)`, `relu(x, inplace=True)`, `add(x, 1, out=y)`; or None."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return node.args[0] if getattr(module, "inplace", False) is True and not list(module.children()) else None
    if node.op not in ("call_method", "call_function"):
        return None
    name = name_of(node)
    if isinstance(node.kwargs.get("out"), fx.Node):
        return node.kwargs["out"]
    by_name = name.endswith("_") and not name.endswith("__")
    return node.args[0] if node.args and (by_name or argument(node, "inplace") is True) else None


def name_of(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def argument(node: fx.Node, name: str) -> Any:
    """The argument of that name in a call of a function, whether it was given by name or by place; None if it was not."""
    if name in node.kwargs or node.op != "call_function":
        return node.kwargs.get(name)
    try:
        return inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments.get(name)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a function of C++ has no signature
        return None


def names_of(graph: fx.Graph) -> dict[fx.Node, str]:
    """For each step a text that says what it does to which inputs, and that it is the n-th of its kind."""
    numbers: dict[fx.Node, str] = {}
    seen: Counter[Hashable] = Counter()
    for node in graph.nodes:
        inputs = fx.node.map_arg((node.args, node.kwargs), numbers.__getitem__)
        step = repr((node.op, "" if node.op == "placeholder" else node.target, inputs))
        seen[step] += 1
        numbers[node] = f"{hash((step, seen[step])):x}"
    return numbers


# ------------------------------------------------------------------------------------------------------------ one step


def is_frozen(module: nn.Module) -> bool:
    """Whether there are parameters in it and none of them learns."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks_of_ones_own(module: nn.Module) -> bool:
    """Whether calling it calls a function that is not torch's (pruning and weight norm of torch are hooks as well)."""
    hooks = [hook for name in HOOKS for hook in getattr(module, name).values()]
    return any(not (getattr(hook, "__module__", None) or "").startswith("torch.") for hook in hooks)


DROPOUT = (nn.modules.dropout._DropoutNd, StochasticDepth, nn.RReLU)
UNSTEADY = ("dropout", "drop_path", "stochastic_depth", "batch_norm", "instance_norm")  # functions that draw, or collect


def is_random(module: nn.Module) -> bool:
    """Whether it draws random numbers in training mode: dropout by its class, or by its name, such as timm's `DropPath`."""
    if not isinstance(module, DROPOUT) and ("drop" not in type(module).__name__.lower() or list(module.children())):
        return False
    return getattr(module, "drop_prob", getattr(module, "p", None)) != 0 and not list(module.parameters())


def is_fixed(node: fx.Node, model: nn.Module, stateful: set[nn.Module]) -> bool:
    """Whether a step gives the same for the same inputs in every epoch, in the mode in which `model` is now."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if any(part in stateful or mixes_pictures(part) for part in module.modules()):
            return False
        return is_frozen(module) or not (list(module.parameters()) or any(is_unsteady(part) for part in module.modules()))
    if node.op == "get_attr":
        return not getattr(attribute(model, str(node.target)), "requires_grad", False)
    if node.op in ("call_function", "call_method"):
        name = name_of(node)
        drops = any(value for key, value in node.kwargs.items() if key in ("training", "train", "dropout", "dropout_p"))
        return not (drops or any(word in name for word in UNSTEADY) or draws(name))
    return True


def mixes_pictures(module: nn.Module) -> bool:
    """Whether it is a batch norm that takes the statistics of each batch, in evaluation mode too."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None


def is_unsteady(module: nn.Module) -> bool:
    """Whether this module without parameters draws numbers or collects statistics, in the mode in which it is now."""
    return module.training and (is_random(module) or bool(module._buffers))


def draws(name: str) -> bool:
    """Whether torch says of its function of that name that it draws random numbers."""
    packet = getattr(torch.ops.aten, name.rstrip("_"), None)
    overloads = packet.overloads() if packet else []
    return any(torch.Tag.nondeterministic_seeded in getattr(packet, overload).tags for overload in overloads)


SIZES = ("size", "dim", "numel", "new_empty", "new_zeros", "new_ones", "new_full")
LIKE = ("empty_like", "zeros_like", "ones_like", "full_like")


def is_size(node: fx.Node) -> bool:
    """Whether a step needs the size of its input alone: `x.shape`, `x.new_empty(…)`, or something computed from such."""
    if node.op == "call_method":
        return node.target in SIZES
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim", "dtype", "device")
    return name_of(node) in LIKE or (bool(node.all_input_nodes) and all(map(is_size, node.all_input_nodes)))


def attribute(module: nn.Module, name: str) -> Any:
    """What stands under a dotted name: a module, a parameter or a buffer."""
    path, _, last = name.rpartition(".")
    return getattr(module.get_submodule(path), last)


def compiled(module: nn.Module, graph: fx.Graph) -> Callable:
    """The steps of `graph` as a function of a module that has what they use, and of the inputs."""
    return type(fx.GraphModule(module, graph)).forward
