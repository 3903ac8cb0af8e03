"""One network's forward pass for many members at once, each with its own parameters."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from autotune.dropout import DROPOUTS
from autotune.stacking.fitness import Unstackable, check_parts, check_pass, samples_are_apart
from autotune.stacking.layers import Pass, Rule, in_place, keeps_no_output, rule_for
from autotune.stacking.task import losses
from autotune.task import Task

# Functions of tensors of one shape, or of one tensor, that may be called on stacked ones as they are.
ELEMENTWISE: frozenset[Any] = frozenset(
    {
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg),
        *(torch.add, torch.sub, torch.mul, torch.div, torch.relu, torch.tanh, torch.sigmoid, torch.exp, torch.square),
        *(functional.relu, functional.gelu, functional.silu, functional.elu, functional.leaky_relu, functional.tanh),
        *("relu", "tanh", "sigmoid", "add", "sub", "mul", "div", "square", "exp"),
    }
)

Values = dict[fx.Node, Any]
Apply = Callable[[Pass, Values], Any]


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation of the traced network.

    Attributes:
        apply: Given the pass and the values so far.
        node: What it makes the value of.
        spent: Nodes whose values no later step reads.
    """

    apply: Apply
    node: fx.Node
    spent: tuple[fx.Node, ...]


@dataclass(frozen=True, slots=True)
class _Program:
    """The operations of a forward pass, in order, from one node to another."""

    features: fx.Node
    steps: tuple[_Step, ...]
    outputs: fx.Node

    def __call__(self, now: Pass, features: Tensor) -> Tensor:
        values: Values = {self.features: features}
        for step in self.steps:
            values[step.node] = step.apply(now, values)
            for node in step.spent:
                del values[node]
        return values[self.outputs]  # type: ignore[no-any-return]


class StackedNetwork:
    """The forward pass of networks of one structure.

    The network is traced, so that common layers are computed by their own rules (`autotune.stacking.layers`) and only
    the rest by vmap. A network that cannot be traced goes through vmap as a whole.

    Attributes:
        dropouts: Names of its layers of dropout.
        bytes_a_sample: What a training pass keeps for the backward pass, about, for each member and sample.
        samples_are_apart: Whether the gradient of a batch is the same in pieces.

    Args:
        network: One of them; it is left as it is.
        features: A few samples, [n, ...] with n at least 2, to try it on.
        compiled: Whether `losses` goes through torch.compile.

    Raises:
        Unstackable: vmap cannot run it, or it answers otherwise than the network itself.
    """

    def __init__(self, network: nn.Module, features: Tensor, compiled: bool = False) -> None:
        check_parts(network)
        self.template = copy.deepcopy(network)
        self.dropouts = tuple(name for name, module in network.named_modules() if isinstance(module, DROPOUTS))
        self._losses = torch.compile(self._plain_losses, dynamic=True) if compiled else self._plain_losses
        with torch.random.fork_rng([features.device] if features.device.type == "cuda" else []):
            try:
                self._forward: dict[bool, Rule] = self._traced(features)
                self.bytes_a_sample = check_pass(network, self, features)
            except Exception:
                self._forward = dict.fromkeys((True, False), _vmapped_module("", self.template))
                try:
                    self.bytes_a_sample = check_pass(network, self, features)
                except Unstackable:
                    raise
                except Exception as error:
                    raise Unstackable(_first_line(error)) from error
            self.samples_are_apart = samples_are_apart(network, features)

    def _traced(self, features: Tensor) -> dict[bool, Rule]:
        return {training: _traced(self.template, features, training) for training in (True, False)}

    def __call__(self, now: Pass, features: Tensor) -> Tensor:
        """[k, n, ...] -> [k, n, outputs]."""
        return self._forward[now.training](now, features)

    def losses(self, now: Pass, task: Task, features: Tensor, target: Tensor) -> Tensor:
        """Each member's training loss of a batch, [k]."""
        return self._losses(now, task, features, target)

    def _plain_losses(self, now: Pass, task: Task, features: Tensor, target: Tensor) -> Tensor:
        return losses(task, self(now, features), target)


class _Example(fx.Interpreter):
    """Runs the traced network on a few samples and keeps each node's value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: Values = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


def _traced(network: nn.Module, features: Tensor, training: bool) -> _Program:
    """The operations of a network's forward pass.

    Raises:
        Exception: It cannot be traced.
    """
    traced = fx.symbolic_trace(network.train(training))
    example = _Example(traced)
    with torch.no_grad():
        example.run(features)
    first, *nodes, last = traced.graph.nodes
    answer = last.args[0]
    last_readers = {read: node for node in nodes for read in node.all_input_nodes}
    stacked = {first}
    steps = []
    for node in nodes:
        apply = _operation(network, node, example.values, stacked)
        spent = tuple(read for read, reader in last_readers.items() if reader is node and read is not answer)
        steps.append(_Step(apply, node, spent))
    if answer not in stacked:
        raise TypeError("the forward pass answers no tensor")
    return _Program(first, tuple(steps), answer)


def _operation(network: nn.Module, node: fx.Node, examples: Values, stacked: set[fx.Node]) -> Apply:
    """What a node does to stacked values; adds the node to `stacked` where it makes one."""
    if node.op == "get_attr":
        return _attribute(network, node, stacked)
    if node.op == "placeholder":
        raise TypeError("the forward pass takes more than features")
    if node.op == "call_module":
        (given,) = node.args
        if not isinstance(given, fx.Node) or given not in stacked:
            raise TypeError("a layer is given what no sample is")
        stacked.add(node)
        module = network.get_submodule(str(node.target))
        rule = rule_for(str(node.target), module) or _vmapped_module(str(node.target), module)
        only_reader = len(given.users) == 1 and given.op == "call_module"
        if only_reader and keeps_no_output(network.get_submodule(str(given.target))):
            rule = in_place(module) or rule
        return lambda now, values: rule(now, values[given])
    inputs = [read for read in node.all_input_nodes if read in stacked]
    if not inputs:
        return _as_it_is(node)
    example = examples[node]
    several = isinstance(example, tuple | list) and any(isinstance(each, Tensor) for each in example)
    if not isinstance(example, Tensor) and not several:
        return _as_one_says(node, inputs, example)
    stacked.add(node)
    dimensions = {getattr(examples[read], "ndim", None) for read in inputs}
    if node.target in ELEMENTWISE and len(dimensions) == 1 and inputs == node.all_input_nodes:
        return _as_it_is(node)
    return _vmapped(node, inputs)


def _attribute(network: nn.Module, node: fx.Node, stacked: set[fx.Node]) -> Apply:
    name = str(node.target)
    if name in dict(network.named_parameters()):
        stacked.add(node)
        return lambda now, _: now.parameters[name]
    if name in dict(network.named_buffers()):
        stacked.add(node)
        return lambda now, _: now.buffers[name]
    value = operator.attrgetter(name)(network)
    return lambda _, __: value


def _call(node: fx.Node, values: Values) -> Any:
    arguments = fx.node.map_arg(node.args, values.__getitem__)
    keywords = fx.node.map_arg(node.kwargs, values.__getitem__)
    if node.op == "call_method":
        return getattr(arguments[0], str(node.target))(*arguments[1:], **keywords)
    return node.target(*arguments, **keywords)  # type: ignore[operator]


def _as_it_is(node: fx.Node) -> Apply:
    return lambda _, values: _call(node, values)


def _as_one_says(node: fx.Node, inputs: Sequence[fx.Node], example: Any) -> Apply:
    """Sizes and the like: what one member says is what all say."""
    if not isinstance(example, int | str | tuple | torch.dtype | torch.device | type(None)) or node.target in (
        "item",
        "tolist",
    ):
        raise TypeError(f"{node.target} makes a {type(example).__name__}")
    return lambda _, values: _call(node, {**values, **{read: _first(values[read]) for read in inputs}})


def _first(value: Any) -> Any:
    return type(value)(each[0] for each in value) if isinstance(value, tuple | list) else value[0]


def _vmapped(node: fx.Node, inputs: Sequence[fx.Node]) -> Apply:
    """A function or method by vmap over those of its arguments that are stacked."""

    def apply(_: Pass, values: Values) -> Any:
        def one(*tensors: Tensor) -> Any:
            return _call(node, {**values, **dict(zip(inputs, tensors, strict=True))})

        return vmap(one, randomness="error")(*(values[read] for read in inputs))

    return apply


def _vmapped_module(name: str, module: nn.Module) -> Rule:
    prefix = f"{name}." if name else ""

    def apply(now: Pass, given: Tensor) -> Tensor:
        parameters = {key: now.parameters[f"{prefix}{key}"] for key, _ in module.named_parameters()}
        buffers = {key: now.buffers[f"{prefix}{key}"] for key, _ in module.named_buffers()}
        module.train(now.training)

        def one(own: dict[str, Tensor], kept: dict[str, Tensor], features: Tensor) -> Any:
            return functional_call(module, (own, kept), (features,))

        return vmap(one, randomness="error")(parameters, buffers, given)  # type: ignore[no-any-return]

    return apply


def _first_line(error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) < 200 else f"{said[:200]}..."
