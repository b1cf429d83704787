"""Where learning begins: the steps of a model, and which of them give the same for the same picture in every epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import fx, nn
from torchvision.ops import StochasticDepth


class Untraceable(Exception):
    """The steps of a model depend on more than `torch.fx` can follow; the message says what it stumbled over."""


class Tracer(fx.Tracer):
    """Takes a part in which nothing learns as one step: it is in evaluation mode, whatever happens inside."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return is_still(module) or isinstance(module, StochasticDepth) or super().is_leaf_module(module, name)


class Trace:
    """The steps of a model in the mode in which it is now, each with a name that the same step has in its other traces."""

    def __init__(self, model: nn.Module):
        try:
            self.graph = Tracer().trace(model)
        except Exception as error:  # tracing runs the model's own code, which may object in any way
            raise Untraceable((str(error) or type(error).__name__).splitlines()[0]) from error
        self.images, *more = (node for node in self.graph.nodes if node.op == "placeholder")
        if any(node.users for node in more):
            raise Untraceable("it takes more than one input")
        self.output = next(iter(reversed(self.graph.nodes)))
        self.names = names_of(self.graph)
        self.of_images: set[fx.Node] = {self.images}  # steps that depend on the pictures
        for node in self.graph.nodes:
            if not self.of_images.isdisjoint(node.all_input_nodes):
                self.of_images.add(node)

    def fixed(self, model: nn.Module) -> set[str]:
        """Names of the steps that give the same for the same pictures, in the mode in which `model` is now."""
        found: set[fx.Node] = set()
        for node in self.graph.nodes:
            if node.op != "output" and found.issuperset(node.all_input_nodes) and is_fixed(node, model):
                found.add(node)
        return {self.names[node] for node in found}

    def frontier(self, fixed: set[str]) -> dict[str, None]:
        """Names of the fixed steps whose results the learning half has to get, in their order."""
        needed = self.needed(self.output, fixed)
        return {self.names[node]: None for node in self.graph.nodes if node in needed and self.is_given(node, fixed)}

    def is_given(self, node: fx.Node, fixed: set[str]) -> bool:
        """Whether the learning half gets this result. A size, and what does not depend on the pictures, it makes itself."""
        return self.names[node] in fixed and node in self.of_images and not is_size(node)

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


def names_of(graph: fx.Graph) -> dict[fx.Node, str]:
    """For each step a number that says what it does to which inputs, and that it is the n-th of its kind."""
    numbers: dict[fx.Node, str] = {}
    seen: Counter[Hashable] = Counter()
    for node in graph.nodes:
        inputs = fx.node.map_arg((node.args, node.kwargs), numbers.__getitem__)
        step = repr((node.op, "" if node.op == "placeholder" else node.target, inputs))
        seen[step] += 1
        numbers[node] = f"{hash((step, seen[step])):x}"
    return numbers


# ------------------------------------------------------------------------------------------------------------ one step


def is_still(module: nn.Module) -> bool:
    """Whether there are parameters in it and none of them learns."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


RANDOM = (nn.modules.dropout._DropoutNd, StochasticDepth, nn.RReLU)
UNSTEADY = ("dropout", "stochastic_depth", "batch_norm", "instance_norm")  # functions that draw, or collect statistics


def is_fixed(node: fx.Node, model: nn.Module) -> bool:
    """Whether a step gives the same for the same inputs in every epoch, in the mode in which `model` is now."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return is_still(module) or not (list(module.parameters()) or any(is_unsteady(part) for part in module.modules()))
    if node.op == "get_attr":
        return not attribute(model, str(node.target)).requires_grad
    if node.op in ("call_function", "call_method"):
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        return not (node.kwargs.get("training") or any(word in name for word in UNSTEADY) or draws(name))
    return True


def is_unsteady(module: nn.Module) -> bool:
    """Whether this module without parameters draws numbers or collects statistics, in the mode in which it is now."""
    return module.training and (isinstance(module, RANDOM) or bool(module._buffers))


def draws(name: str) -> bool:
    """Whether torch says of its function of that name that it draws random numbers."""
    packet = getattr(torch.ops.aten, name.rstrip("_"), None)
    overloads = packet.overloads() if packet else []
    return any(torch.Tag.nondeterministic_seeded in getattr(packet, overload).tags for overload in overloads)


def is_size(node: fx.Node) -> bool:
    """Whether a step gives a size and not a tensor: `x.shape`, `x.size(0)`, or something computed from such."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel")
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in ("shape", "ndim", "dtype", "device")
    return node.op == "call_function" and bool(node.all_input_nodes) and all(map(is_size, node.all_input_nodes))


def attribute(module: nn.Module, name: str) -> Any:
    """What stands under a dotted name: a module, a parameter or a buffer."""
    path, _, last = name.rpartition(".")
    return getattr(module.get_submodule(path), last)


def compiled(module: nn.Module, graph: fx.Graph) -> Callable:
    """The steps of `graph` as a function of a module that has what they use, and of the inputs."""
    return type(fx.GraphModule(module, graph)).forward
