"""Which way a lane is computed fastest: measured on its own first batch."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autotune.device import synchronize
from autotune.executors.memory import out_of_memory
from autotune.executors.ways import Fused, InTurn, Seat, Way, can_go_abreast
from autotune.stacking.network import StackedNetwork
from autotune.stacking.stack import Stack
from autotune.task import Task

FEW = 8  # members that are first tried at once
PAIR = 2  # the same where a gradient is slow
SLOW = 0.05  # seconds of a gradient above which measuring itself must cost little
BRIEF = 0.002  # seconds of a gradient below which threads would mostly wait for one another, or for Python's lock
COLD = 1.0  # seconds of a gradient above which its first start of all no longer counts
WARM_UPS = 2  # gradients on a device beside the processor, which loads its code with the first ones
IN_A_ROW = 10  # gradients there that are measured together
FIRST = 64  # samples that tell how slow a gradient is
# Fused results do not depend on how many share the lane, to the last digit but for rare shapes; so other ways must be
# clearly faster, not by chance. Likewise more threads, which others could use. Operations are spread over them for slow
# gradients alone: the threads of many short operations wait for one another at each, and where anything else runs, for
# its time slices. Members that are computed abreast wait once a batch, and their results depend on nothing else.
CLEARLY = 1.2
TOO_SLOW = 1.5  # some at once that take so many times as long will not gain enough by being more
ALL = sys.maxsize
MEASURED_UP_TO = 32  # what is fastest for so many is for more


@dataclass(frozen=True, slots=True)
class Manner:
    """A way, and how it is taken.

    Attributes:
        at_once: Members in one pass; None for one after another.
        channels_last: Whether images are given with their channels last.
        threads: Of the processor that one operation is spread over.
        abreast: Members of one after another that are computed at the same time, by a thread each.
    """

    at_once: int | None
    channels_last: bool = False
    threads: int = 1
    abreast: int = 1

    def way(self, network: StackedNetwork, stack: Stack, task: Task, seats: Sequence[Seat]) -> Way:
        """The way, for these members."""
        if self.at_once is None:
            return InTurn(stack, task, seats, self.channels_last, self.abreast)
        return Fused(network, stack, task, seats, min(self.at_once, len(seats)))

    @contextmanager
    def spread(self) -> Iterator[None]:
        """Within it operations are spread over so many threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def __str__(self) -> str:
        way = "all at once" if self.at_once == ALL else f"{self.at_once} at once"
        if self.at_once is None:
            way = "one after another" if self.abreast == 1 else f"{self.abreast} abreast"
        return f"{way}{', channels last' if self.channels_last else ''}, {self.threads} thread{'s'[: self.threads - 1]}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The manner that was found to be the fastest.

    Attributes:
        manner: How members are computed.
        found: Seconds of a gradient, for each member, in each manner that was tried.
        members: How many there were.
        settled: Whether more members would not change it.
        samples: That the gradients were of: a batch, or a part of a large one.
    """

    manner: Manner
    found: dict[Manner, float]
    members: int
    settled: bool
    samples: int = 0

    def __str__(self) -> str:
        tried = ", ".join(f"{manner} {_time(seconds)}" for manner, seconds in self.found.items())
        return f"{self.manner}; a member and gradient of {self.samples} samples took: {tried}"


def choose(
    network: StackedNetwork,
    stack: Stack,
    task: Task,
    seats: Sequence[Seat],
    features: Tensor,
    target: Tensor,
    most: int,
    threads: int,
    is_large: bool = False,
) -> Choice:
    """Take gradients in each manner and choose the fastest; the stack and the seats are left as they were.

    They are of the batch or, on a CPU, where one of it would be slow, of a part of it that is not; elsewhere time does
    not grow with the samples.

    Args:
        network: The forward pass of all.
        stack: Their numbers.
        task: Their task.
        seats: The members.
        features: [k, n, ...].
        target: [k, n, ...].
        most: How many may be computed at once.
        threads: How many the process has.
        is_large: Whether a batch takes so much memory that there is not enough for members abreast.
    """
    found: dict[Manner, float] = {}
    samples = features.shape[1]
    part = min(FIRST, samples) if features.device.type == "cpu" else samples

    def measure(manner: Manner) -> float:
        some = seats[: manner.at_once or manner.abreast]
        way = manner.way(network, stack, task, some)
        try:
            with manner.spread():
                seconds = _seconds(way, stack, some, features[: len(some), :part], target[: len(some), :part])
            found[manner] = seconds / len(some)
        except Exception as error:
            if not out_of_memory(error):
                raise
            found[manner] = math.inf
        return found[manner]

    if part < samples:
        expected = measure(Manner(None)) * samples / part
        part = samples if expected <= SLOW else max(part, int(samples * SLOW / expected))
        found.clear()
    for channels_last in (False, True) if features.ndim == 5 else (False,):
        measure(Manner(None, channels_last))
    in_turn = best = min(found, key=found.__getitem__)
    fused = math.inf
    for size in _sizes(min(len(seats), most), FEW if found[in_turn] * samples < SLOW * part else PAIR):
        fused = min(fused, measure(Manner(size)))
        if found[Manner(size)] > TOO_SLOW * found[in_turn]:
            break
    if fused <= CLEARLY * found[in_turn]:
        best = min((each for each in found if each.at_once is not None), key=found.__getitem__)
    abreast = not is_large and len(seats) > 1 and can_go_abreast(seats, features.device)
    wider = _wider(best, found[best] * samples / part, abreast, threads)
    if wider is not None and CLEARLY * measure(wider) < found[best]:
        best = wider
    settled = len(seats) >= MEASURED_UP_TO or (not math.isinf(fused) and fused > TOO_SLOW * found[in_turn])
    # All at once stays all, whoever joins.
    manner = replace(best, at_once=most) if best.at_once == min(len(seats), most) else best
    return Choice(manner, found, len(seats), settled, part)


def _wider(manner: Manner, seconds: float, abreast: bool, threads: int) -> Manner | None:
    """The same by more threads, where that may be faster; `seconds` is what a member's gradient takes."""
    if threads == 1:
        return None
    if manner.at_once is not None:
        return replace(manner, threads=threads) if seconds * manner.at_once > SLOW else None
    if seconds < BRIEF:
        return None
    return replace(manner, abreast=threads) if abreast else replace(manner, threads=threads)


def _sizes(largest: int, few: int) -> Iterator[int]:
    if largest > 2 * few:
        yield few
    if largest > 1:
        yield largest


def _seconds(way: Way, stack: Stack, seats: Sequence[Seat], features: Tensor, target: Tensor) -> float:
    """What a gradient takes; the stack and the seats are left as they were."""
    buffers, states = stack.kept_buffers(), [seat.generator.get_state() for seat in seats]

    def gradients(count: int) -> float:
        """Seconds of each, waited for once."""
        synchronize(features.device)
        began = time.perf_counter()
        for _ in range(count):
            way.differentiate(features, target)
        synchronize(features.device)
        return (time.perf_counter() - began) / count

    try:
        return _warm(gradients) if features.device.type == "cpu" else _warm_on_device(gradients)
    finally:
        stack.restore(buffers)
        for seat, state in zip(seats, states, strict=True):
            seat.generator.set_state(state)
            if seat.failure is not None:
                error, seat.failure = seat.failure, None
                raise error


def _warm(gradients: Callable[[int], float]) -> float:
    """The fastest of three gradients, the first of which warms up; of those that are slow, the second one."""
    first = gradients(1)
    if first > COLD:
        return first
    second = min(first, gradients(1))
    return second if second > SLOW else min(second, gradients(1))


def _warm_on_device(gradients: Callable[[int], float]) -> float:
    """The mean of several gradients in a row, which the device is given without a wait, once it has loaded its code."""
    gradients(WARM_UPS)
    return gradients(IN_A_ROW)


def _time(seconds: float) -> str:
    if math.isinf(seconds):
        return "out of memory"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} us"
