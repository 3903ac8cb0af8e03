"""Trials whose networks have one structure, trained in one step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from autotune.allocator import freed_memory_kept
from autotune.data.batches import EVALUATION_BATCH, Batch, batch_lengths, epoch_order
from autotune.data.source import Part
from autotune.device import most_exact
from autotune.executors.checkpoint import Keeper
from autotune.executors.choice import ALL, Choice, Manner, choose
from autotune.executors.memory import free_bytes, out_of_memory
from autotune.executors.ways import Fused, Seat, Way
from autotune.learner import Interrupted, Learner
from autotune.logs import measuring
from autotune.optim.schedules import Progress
from autotune.optim.stacked import StackedOptimizer, stacked_for
from autotune.stacking.network import StackedNetwork
from autotune.stacking.stack import Row, Stack
from autotune.stacking.task import StackedMetrics, losses, masses
from autotune.task import Task
from autotune.trial import Trial

_log = logging.getLogger(__name__)


# On a CPU a large batch is slow: no cache holds what its passes make, and the system takes each tensor's memory back
# and zeroes it for the next. So where samples are apart a batch of more than so many pieces is taken piece by piece,
# each of so many bytes a member. That depends on nothing measured, since the last digits of a gradient depend on it.
# Where samples are not apart, freed memory is kept, if so many times what a member needs is free.
PIECE_BYTES = 2**25
LARGE = 2
AMPLE = 3


@dataclass(slots=True, eq=False)
class Member(Seat):
    """A trial in training.

    Attributes:
        trial: What is trained.
        learner: Its network, task, optimizer, schedule and update, as the lightning executor would train them.
        epoch: Epochs trained.
        memory: What its schedule remembers.
        seconds: For each epoch its share of the lane's.
        base_rate: The learning rate of its optimizer's first group, before the schedule.
        told: Epochs that the desk has heard of, of a trial that was begun anew in this run.
        keeper: Keeps its state from time to time; None where nothing is kept.
        kept: The state that it joins a lane with (`Lane.state_of`); None where it begins.
    """

    trial: Trial = field(kw_only=True)
    learner: Learner = field(kw_only=True)
    epoch: int = 0
    memory: Any = None
    seconds: list[float] = field(default_factory=list)
    base_rate: float = 0.0
    told: int = 0
    keeper: Keeper | None = None
    kept: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.memory = self.learner.schedule.begin()

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on from a state that `Lane.state_of` made of it in another lane."""
        self.kept = kept
        self.epoch, self.memory = kept["epoch"], self.learner.schedule.remembered(kept["memory"])
        self.generator.set_state(kept["generator"])

    def row(self) -> Row:
        """Its numbers as it joins a lane."""
        if self.kept is None:
            return Row.of(self.network, self.learner.update.average is not None)
        device = next(self.network.parameters()).device
        average = self.kept["average"]
        return Row(
            self.kept["parameters"].to(device),
            None if average is None else average.to(device),
            {name: buffer.to(device) for name, buffer in self.kept["buffers"].items()},
        )

    def factors(self) -> list[float]:
        """The schedule's factors for the updates of its next epoch."""
        updates, epochs = self.learner.updates_per_epoch, self.learner.epochs
        schedule, begun = self.learner.schedule, self.epoch * updates
        return [schedule.factor(Progress(begun + update, updates, epochs), self.memory) for update in range(updates)]


class Lane:
    """Members that are trained together: one structure, one batch size, one kind of update.

    Their parameters are rows of one buffer, ordered by the class of their optimizers, so that each class makes the
    steps of all its members at once.

    Args:
        network: The forward pass of all.
        train: On the device.
        val: On the device.
        batch_size: Samples an update; all of them for full-batch training.
        choice: The way to compute them, where an earlier lane of the kind has found it.
    """

    def __init__(
        self, network: StackedNetwork, train: Part, val: Part, batch_size: int, choice: Choice | None = None
    ) -> None:
        self._network = network
        self._train, self._val, self._batch_size = train, val, batch_size
        self._groups: list[tuple[StackedOptimizer, list[Member]]] = []
        self.members: list[Member] = []
        self._stack: Stack
        self._way: Way | None = None
        self.choice = choice
        self._threads = torch.get_num_threads()  # the process's
        self._on_cpu = train.target.device.type == "cpu"
        self._most = ALL  # members that memory holds in one pass

    @property
    def gains(self) -> bool | None:
        """Whether more members at once cost less each; None where that is not known yet."""
        if self.choice is None or self.choice.members == 1:
            return None
        return self.choice.manner.at_once is not None

    def change(self, leaving: Sequence[Member], joining: Sequence[Member]) -> None:
        """Let members go and take others in, whose networks are on the device."""
        before = [self._stack.row(number) for number in range(len(self.members))]
        known = {id(member): row for member, row in zip(self.members, before, strict=True)}
        for rule, members in self._groups:
            staying = [number for number, member in enumerate(members) if member not in leaving]
            if len(staying) < len(members):
                rule.keep(staying)
                members[:] = [members[number] for number in staying]
        groups = {type(rule): (rule, members) for rule, members in self._groups if members}
        for member in joining:
            parameters = list(member.network.parameters())
            optimizer = member.learner.make_optimizer(iter(parameters))
            member.base_rate = float(optimizer.param_groups[0]["lr"])
            kind = stacked_for(optimizer)
            if kind not in groups:
                groups[kind] = kind([each.shape for each in parameters], parameters[0]), []
            rule, members = groups[kind]
            rule.join(optimizer, member.learner.update.decay)
            if member.kept is not None:
                rule.restore(len(members), dict(member.kept["optimizer"]))
            members.append(member)
        self._groups = list(groups.values())
        self.members = [member for _, members in self._groups for member in members]
        if not self.members:
            return
        self._stack = Stack(
            self.members[0].network,
            [known.get(id(member)) or member.row() for member in self.members],
        )
        for member in joining:
            member.kept = None
        self._way = None if self.choice is None else self._chosen(self.choice)

    def state_of(self, member: Member) -> dict[str, Any]:
        """What a member's next epochs depend on, between two of them: plain values and tensors of its own."""
        row = self._stack.row(self.members.index(member))
        rule, number = next((rule, members.index(member)) for rule, members in self._groups if member in members)
        return {
            "parameters": row.parameters.clone(),
            "average": None if row.average is None else row.average.clone(),
            "buffers": {name: buffer.clone() for name, buffer in row.buffers.items()},
            "optimizer": rule.state_of(number),
            "generator": member.generator.get_state(),
            "epoch": member.epoch,
            "memory": member.learner.schedule.kept(member.memory),
        }

    def train_epoch(self, stop: Callable[[], bool]) -> list[dict[str, float]]:
        """Train each member's next epoch and judge it; returns what each measured.

        A member that failed by itself (`Seat.failure`) measured nothing of worth.

        Raises:
            Interrupted: `stop` said so between two updates.
        """
        began = time.perf_counter()
        factors = [member.factors() for member in self.members]
        try:
            self._spread()
            with freed_memory_kept() if self._keeps_memory else nullcontext():
                loss = self._train_epoch(factors, stop)
                values = {"train/loss": loss, **self._judge(stop)}
            exact = most_exact(self._train.target.device)
            table = torch.stack([value.to(exact) for value in values.values()], dim=1).tolist()
        finally:
            torch.set_num_threads(self._threads)
        share = (time.perf_counter() - began) / len(self.members)
        found = []
        for member, numbers, factor in zip(self.members, table, factors, strict=True):
            metrics = dict(zip(values, numbers, strict=True))
            member.memory = member.learner.schedule.after_epoch(member.memory, metrics["train/loss"])
            member.epoch += 1
            member.seconds.append(share)
            found.append({**metrics, "lr": member.base_rate * factor[-1]})
        return found

    def _train_epoch(self, factors: Sequence[Sequence[float]], stop: Callable[[], bool]) -> Tensor:
        """Make the updates of an epoch; returns the mean training losses, [k]."""
        update, stack = self.members[0].learner.update, self._stack
        rows, start = [], 0
        for rule, members in self._groups:
            rows.append(slice(start, start + len(members)))
            start += len(members)
            rule.plan([list(each) for each in zip(*factors[rows[-1]], strict=True)])
        limits = None if update.clip is None else self._column([member.learner.update.clip for member in self.members])
        averaging = self._averaging()
        total = mass = None
        for number, pieces in enumerate(update.groups(self._orders())):
            if stop():
                raise Interrupted
            loss, weight = self._gradients(pieces)
            if limits is not None:
                stack.clip(limits, update.clip_by)
            for (rule, _), own in zip(self._groups, rows, strict=True):
                rule.step(stack.parameters[own], stack.gradients[own])
            if averaging is not None:
                stack.average(averaging[min(number, 1)])
            total = loss * weight if total is None else total + loss * weight
            mass = weight if mass is None else mass + weight
        assert total is not None
        assert mass is not None
        return total / mass

    def _gradients(self, pieces: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        """Leave each member's gradient of the pieces' mean loss in the stack; returns that loss and its weight, [k]."""
        random = [member.generator.get_state() for member in self.members] if self._network.dropouts else []
        kept = self._stack.kept_buffers()
        while True:
            try:
                batches = [part for rows, _ in pieces for part in self._parts(*self._gathered(rows))]
                return self._differentiate(self._fastest(batches[0]), batches)
            except Exception as error:
                self._narrow(error)
            self._stack.restore(kept)
            for member, state in zip(self.members, random, strict=False):
                member.generator.set_state(state)

    def _differentiate(self, way: Way, pieces: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        task = self._task
        weights = [masses(task, target) for _, target in pieces]
        if len(pieces) == 1:
            return way.differentiate(*pieces[0]), weights[0]
        whole = torch.stack(weights).sum(0)
        loss = torch.zeros_like(whole)
        for number, ((features, target), weight) in enumerate(zip(pieces, weights, strict=True)):
            share = (weight / whole).to(self._stack.parameters.dtype)
            loss += way.differentiate(features, target, share, add=number > 0) * share
        return loss, whole

    def _orders(self) -> Iterator[Batch]:
        """The numbers of the samples of each batch, [n, k], or [n] where they are the same for all; twice."""
        samples, device = len(self._train), self._train.target.device
        if self._batch_size >= samples:
            order = torch.arange(samples, device=device)
            return iter([(order, order)])
        distinct: dict[tuple[int, int], Tensor] = {}
        for member in self.members:
            key = (member.trial.config["seed"], member.epoch)
            if key not in distinct:
                distinct[key] = epoch_order(*key, samples)
        orders = [distinct[member.trial.config["seed"], member.epoch] for member in self.members]
        whole = orders[0] if len(distinct) == 1 else torch.stack(orders, dim=1)
        batches = torch.split(whole.to(device), batch_lengths(samples, self._batch_size))
        return ((batch, batch) for batch in batches)

    def _gathered(self, rows: Tensor) -> Batch:
        """The samples of a piece, [k, n, ...]."""
        features, target = self._train.features, self._train.target
        if rows.ndim == 2:
            flat = rows.T.reshape(-1)
            shape = (rows.shape[1], rows.shape[0])
            features, target = features.index_select(0, flat), target.index_select(0, flat)
            return features.view(*shape, *features.shape[1:]), target.view(*shape, *target.shape[1:])
        if len(rows) < len(features):
            features, target = features.index_select(0, rows), target.index_select(0, rows)
        k = len(self.members)
        return features.expand(k, *features.shape), target.expand(k, *target.shape)

    def _parts(self, features: Tensor, target: Tensor) -> list[Batch]:
        """A batch in pieces, where they make its gradient."""
        count = -(-features.shape[1] * self._network.bytes_a_sample // PIECE_BYTES)
        if count <= LARGE or not (self._on_cpu and self._network.samples_are_apart):
            return [(features, target)]
        return list(zip(features.tensor_split(count, 1), target.tensor_split(count, 1), strict=True))

    @property
    def _is_large(self) -> bool:
        """Whether a batch is large and cannot be taken in pieces."""
        is_whole = self._on_cpu and not self._network.samples_are_apart
        return is_whole and self._bytes_at_once > LARGE * PIECE_BYTES

    @property
    def _keeps_memory(self) -> bool:
        return self._is_large and free_bytes(self._train.target.device) >= AMPLE * self._bytes_at_once

    @property
    def _bytes_at_once(self) -> int:
        """What the passes of a member's batch keep, where it is not taken in pieces."""
        given = self.members[0].learner.update.micro_batch
        return self._network.bytes_a_sample * min(self._batch_size, len(self._train), given or self._batch_size)

    def _averaging(self) -> tuple[Tensor, Tensor] | None:
        """What the averages' weights are at an epoch's first update and at the others; a training's first is a copy."""
        decays = [member.learner.update.average for member in self.members]
        if decays[0] is None:
            return None
        others = [1 - decay for decay in decays if decay is not None]
        first = [weight if member.epoch else 1.0 for member, weight in zip(self.members, others, strict=True)]
        return self._column(first), self._column(others)

    def _column(self, numbers: Sequence[float | None]) -> Tensor:
        return self._stack.parameters.new_tensor(numbers).unsqueeze(1)

    @torch.no_grad()
    def _judge(self, stop: Callable[[], bool]) -> dict[str, Tensor]:
        """``val/loss`` and the task's metrics, [k] each."""
        task = self._task
        metrics = StackedMetrics(task, len(self.members))
        loss: Tensor | None = None
        for features, target in self._val.slices(EVALUATION_BATCH):
            if stop():
                raise Interrupted
            outputs = self._outputs(features)
            every = target.expand(len(outputs), *target.shape)
            found = losses(task, outputs, every, judged=True) * len(target)
            loss = found if loss is None else loss + found
            metrics.update(outputs, target)
        assert loss is not None
        measured = {f"val/{name}": value for name, value in metrics.compute().items()}
        return {"val/loss": loss / len(self._val), **measured}

    def _outputs(self, features: Tensor) -> Tensor:
        while True:
            assert self._way is not None
            try:
                return self._way.outputs(features)
            except Exception as error:
                self._narrow(error)

    def _fastest(self, batch: Batch) -> Way:
        """The way to compute the members, measured on a batch where it was not, or for half as many at most."""
        known, count = self.choice, len(self.members)
        outgrown = known is not None and not known.settled and count >= 2 * known.members
        if self._way is None or known is None:
            self._way = self._choose(batch)
        elif outgrown:
            self.choice = replace(known, members=count)
            with measuring("a faster way to compute more members"):
                self._way = self._choose(batch)
        return self._way

    def _choose(self, batch: Batch) -> Way:
        by = (self._network, self._stack, self._task, self.members)
        found = choose(*by, *batch, self._most, self._threads, is_large=self._is_large)
        if len(self.members) > 1:
            _log.debug("%d members in batches of %d: %s", len(self.members), self._batch_size, found)
        self.choice = found
        self._spread()
        return self._chosen(found)

    def _spread(self) -> None:
        if self.choice is not None:
            manner = self.choice.manner
            # One that is left alone has the threads of those who went abreast.
            torch.set_num_threads(manner.threads if len(self.members) > 1 else max(manner.threads, manner.abreast))

    def _chosen(self, choice: Choice) -> Way:
        return choice.manner.way(self._network, self._stack, self._task, self.members)

    def _narrow(self, error: Exception) -> None:
        """Take half as many members at once where memory ran out, else one after another, to see whose error it is."""
        size = self._way.size if isinstance(self._way, Fused) else 1
        if self.choice is not None and size == 1:
            raise error
        at_once = None
        if out_of_memory(error) and size > 1:
            at_once = self._most = size // 2
            _log.debug("out of memory with %d members in batches of %d at once", size, self._batch_size)
        self.choice = Choice(Manner(at_once), {}, len(self.members), settled=True)
        self._way = self._chosen(self.choice)

    @property
    def _task(self) -> Task:
        return self.members[0].learner.task
