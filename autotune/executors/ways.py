"""Ways to compute a lane's members: some at once by one forward and one backward pass, or one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from autotune.dropout import drawn, has_dropout, is_torchs
from autotune.executors.memory import release
from autotune.stacking.layers import Pass
from autotune.stacking.network import StackedNetwork
from autotune.stacking.stack import Stack
from autotune.stacking.structure import dropout_rate
from autotune.task import Task

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Seat:
    """A member as a way sees it.

    Attributes:
        network: Its own, whose numbers are a row of the stack.
        generator: What its dropout draws from.
        failure: What it raised when it was computed by itself; it takes no further part.
    """

    network: nn.Module
    generator: torch.Generator
    failure: Exception | None = None


class Way(Protocol):
    """How the members of a stack are computed."""

    def differentiate(self, features: Tensor, target: Tensor, share: Tensor | None = None, add: bool = False) -> Tensor:
        """Each member's loss of a batch, its gradient left in the stack.

        Args:
            features: [k, n, ...].
            target: [k, n, ...].
            share: What each loss counts, [k]; None for 1.
            add: Whether gradients are added to those already there.

        Returns:
            [k], without their shares.
        """

    def outputs(self, features: Tensor) -> Tensor:
        """What the judged networks answer to the same samples [n, ...]: [k, n, outputs]."""


class Fused:
    """Some members at once.

    Args:
        network: The forward pass of all.
        stack: Their numbers.
        task: Their task.
        seats: The members.
        size: How many at once.
    """

    def __init__(self, network: StackedNetwork, stack: Stack, task: Task, seats: Sequence[Seat], size: int) -> None:
        self.size = size
        self._network, self._stack, self._task = network, stack, task
        self._parts = []
        for start in range(0, len(seats), size):
            rows = slice(start, start + size)
            self._parts.append((rows, self._pass(seats[rows], rows)))
        self._gradients = [list(stack.views(stack.gradients[rows]).values()) for rows, _ in self._parts]

    def _pass(self, seats: Sequence[Seat], rows: slice) -> Pass:
        leaves = {
            name: view.detach().requires_grad_()
            for name, view in self._stack.views(self._stack.parameters[rows]).items()
        }
        rates = {name: [dropout_rate(seat.network, name) for seat in seats] for name in self._network.dropouts}
        buffers = {name: buffer[rows] for name, buffer in self._stack.buffers.items()}
        return Pass(leaves, buffers, True, [seat.generator for seat in seats], rates)

    def differentiate(self, features: Tensor, target: Tensor, share: Tensor | None = None, add: bool = False) -> Tensor:
        """See `Way`."""
        found = []
        for (rows, now), kept in zip(self._parts, self._gradients, strict=True):
            loss = self._network.losses(now, self._task, features[rows], target[rows])
            counted = loss if share is None else loss * share[rows]
            gradients = torch.autograd.grad(counted.sum(), list(now.parameters.values()))
            _leave(gradients, kept, add)
            found.append(loss.detach())
        return found[0] if len(found) == 1 else torch.cat(found)

    def outputs(self, features: Tensor) -> Tensor:
        """See `Way`."""
        found = []
        for rows, now in self._parts:
            parameters = self._stack.views(self._stack.judged[rows])
            judging = Pass(parameters, now.buffers, False, now.generators, now.rates)
            found.append(self._network(judging, features.expand(len(self._stack.judged[rows]), *features.shape)))
        return found[0] if len(found) == 1 else torch.cat(found)


class InTurn:
    """One member after another, by its own network, whose parameters and buffers become rows of the stack.

    What a member raises is its own failure; its gradient is 0 from then on.

    Args:
        stack: Their numbers.
        task: Their task.
        seats: The members.
        channels_last: Whether images are given with their channels last, which some convolutions are faster on.
        abreast: How many are computed at the same time where they can be (`can_go_abreast`), each by a thread of its
            own, with the same results to the last bit.
    """

    def __init__(
        self, stack: Stack, task: Task, seats: Sequence[Seat], channels_last: bool = False, abreast: int = 1
    ) -> None:
        self._task, self._seats = task, seats
        self._channels_last = channels_last
        self._random = has_dropout(seats[0].network.modules())
        self._abreast = min(abreast, len(seats))
        self._threads: ThreadPoolExecutor | None = None
        self._gradients = [list(stack.views(stack.gradients[row : row + 1]).values()) for row in range(len(seats))]
        self._trained = [_own(stack, stack.parameters[row : row + 1]) for row in range(len(seats))]
        self._judged = [_own(stack, stack.judged[row : row + 1]) for row in range(len(seats))]
        for row, seat in enumerate(seats):
            _point(seat.network, self._trained[row])
            for name, buffer in stack.buffers.items():
                parent, _, key = name.rpartition(".")
                seat.network.get_submodule(parent)._buffers[key] = buffer[row]

    def differentiate(self, features: Tensor, target: Tensor, share: Tensor | None = None, add: bool = False) -> Tensor:
        """See `Way`."""

        def own(row: int) -> Tensor:
            seat = self._seats[row]
            loss = features.new_full((), float("nan"))
            if seat.failure is None:
                try:
                    loss = self._differentiate(
                        row, features[row], target[row], None if share is None else share[row], add
                    )
                except Exception as error:
                    release(error)
                    seat.failure = error
            if seat.failure is not None:
                torch._foreach_zero_(self._gradients[row])
            return loss

        return torch.stack(self._each(own, features.device))

    def _differentiate(self, row: int, features: Tensor, target: Tensor, share: Tensor | None, add: bool) -> Tensor:
        network = self._seats[row].network
        with _drawing_from(self._seats[row].generator, features.device, self._random):
            loss = self._task.loss(self._forward(network, features), target)
        counted = loss if share is None else loss * share
        gradients = torch.autograd.grad(counted, list(network.parameters()))
        _leave(gradients, [each[0] for each in self._gradients[row]], add)
        return loss.detach()

    def outputs(self, features: Tensor) -> Tensor:
        """See `Way`."""

        def own(row: int) -> Tensor | None:
            seat = self._seats[row]
            if seat.failure is not None:
                return None
            _point(seat.network.eval(), self._judged[row])
            try:
                return self._forward(seat.network, features)
            except Exception as error:
                release(error)
                seat.failure = error
                return None
            finally:
                _point(seat.network.train(), self._trained[row])

        found = self._each(own, features.device)
        answered = [answer for answer in found if answer is not None]
        if not answered:
            return features.new_full((len(found), len(features), 1), float("nan"))
        nothing = torch.full_like(answered[0], float("nan"))
        return torch.stack([nothing if answer is None else answer for answer in found])

    def _each(self, own: Callable[[int], T], device: torch.device) -> list[T]:
        """What is computed of each member."""
        rows = range(len(self._seats))
        if self._abreast == 1 or not can_go_abreast(self._seats, device):
            return [own(row) for row in rows]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(
                self._abreast, "member", initializer=torch.set_num_threads, initargs=(1,)
            )
        differentiates = torch.is_grad_enabled()  # which each thread has its own of

        def apart(row: int) -> T:
            with torch.set_grad_enabled(differentiates):
                return own(row)

        return list(self._threads.map(apart, rows))

    def _forward(self, network: nn.Module, features: Tensor) -> Tensor:
        if not self._channels_last:
            return network(features)  # type: ignore[no-any-return]
        parameters = {name: _channels_last(each) for name, each in network.named_parameters()}
        images = features.contiguous(memory_format=torch.channels_last)
        return functional_call(network, parameters, (images,))  # type: ignore[no-any-return]


def can_go_abreast(seats: Sequence[Seat], device: torch.device) -> bool:
    """Whether members can be computed at the same time, by threads: not where they draw from torch's own generator, of
    which there is one, nor under autocast, which holds for one thread, nor on a GPU, which is one for all of them.
    """
    return device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not has_dropout(seats[0].network.modules())


def _leave(gradients: Sequence[Tensor], places: list[Tensor], add: bool) -> None:
    (torch._foreach_add_ if add else torch._foreach_copy_)(places, list(gradients))


def _channels_last(weight: Tensor) -> Tensor:
    """A convolution's weight in that order, by its strides too where there is one channel; any other as it is."""
    if weight.ndim != 4:
        return weight
    rows = weight.permute(0, 2, 3, 1).contiguous()
    _, height, width, channels = rows.shape
    return rows.as_strided(weight.shape, (height * width * channels, 1, width * channels, channels))


def _own(stack: Stack, row: Tensor) -> list[Tensor]:
    return [view[0] for view in stack.views(row).values()]


def _point(network: nn.Module, numbers: Sequence[Tensor]) -> None:
    for parameter, view in zip(network.parameters(), numbers, strict=True):
        parameter.data = view


@contextmanager
def _drawing_from(generator: torch.Generator, device: torch.device, is_random: bool) -> Iterator[None]:
    """Within it a member's dropout draws from its own generator, which on a CPU stands in for torch's."""
    if not is_random:
        yield
        return
    if not is_torchs(device):
        with drawn(device, generator):
            yield
        return
    default = torch.default_generator
    before = default.get_state()
    default.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(default.get_state())
        default.set_state(before)
