"""Lanes in turn, and who is in them: the population as a LightningModule."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Checkpoint
from torch import nn

from autotune.assembly import Assembly, assemble
from autotune.cost import PeakMemory, latencies, size
from autotune.data.batches import ArrayData
from autotune.data.source import Part
from autotune.errors import UserError
from autotune.executors.checkpoint import Keeper
from autotune.executors.choice import Choice
from autotune.executors.lane import Lane, Member
from autotune.executors.lightning import make_trainer, raise_interrupt, train_alone
from autotune.executors.memory import member_bytes, out_of_memory, release, room
from autotune.learner import Interrupted, Learner
from autotune.logs import measuring
from autotune.stacking.network import StackedNetwork
from autotune.trial import Desk, End, Epoch, Reason, Trial

_log = logging.getLogger(__name__)

REMEMBERED = 256  # ways that lanes found to be fastest
FEW_SLOTS = 8  # automatic ones, where lanes do not gain by more members


class Slots:
    """How many trials may be in training at once.

    Args:
        given: By the user; None where it is to be found.
        most: Where it is to be found.
        part: Of the memory that is free.
    """

    def __init__(self, given: int | None, most: int, part: float) -> None:
        self._given = given
        self._most = most
        self._part = part
        self._bytes: int | None = None
        self._held = sys.maxsize

    def narrow(self, trials: int) -> None:
        """Begin no further trial where so many are in training, since memory held no more."""
        self._held, self._bytes = trials, None

    def widen(self) -> None:
        """Take back `narrow`: a trial was too large by itself."""
        self._held = sys.maxsize

    def free(self, berths: Collection[Berth], alone: int) -> bool:
        """Whether one more may begin."""
        taken = alone + sum(map(len, berths))
        if taken >= self._held:
            return False
        if self._given is not None or taken == 0:
            return taken < (self._given or 1)
        gains = [berth.lane.gains for berth in berths if berth.lane is not None]
        few = False in gains and True not in gains
        if taken >= (FEW_SLOTS if few else self._most):
            return False
        if self._bytes is None:
            accelerator = next((berth.assembly.trainer.get("accelerator") for berth in berths), "cpu")
            self._bytes = room(accelerator, self._part)
        return sum(len(berth) * berth.bytes for berth in berths) < self._bytes


class Berth:
    """A lane, those who wait for its next epoch, and what they share.

    Args:
        key: What its members have in common.
        assembly: Of its first member.
        network: The forward pass of all.
    """

    def __init__(self, key: Hashable, assembly: Assembly, network: StackedNetwork) -> None:
        self.key = key
        self.assembly = assembly
        self.network = network
        self.lane: Lane | None = None
        self.waiting: list[Member] = []
        self.leaving: list[Member] = []
        self.latencies: dict[str, float] = {}
        self.trainer_key = _trainer_key(assembly.trainer)
        self.bytes = member_bytes(assembly.module, network.bytes_a_sample, self.data.batch_size)

    @property
    def data(self) -> ArrayData:
        """What all of them are trained on."""
        assert isinstance(self.assembly.data, ArrayData)
        return self.assembly.data

    def __len__(self) -> int:
        return len(self.waiting) + len(self.members)

    def weight(self) -> float:
        """What it counts when lanes take turns: members over the square root of the batches of an epoch."""
        return len(self) / math.sqrt(-(-len(self.data.split.train) // self.data.batch_size))

    @property
    def members(self) -> list[Member]:
        """Those in training."""
        return [] if self.lane is None else [each for each in self.lane.members if each not in self.leaving]


class Crew(LightningModule):
    """The population as a LightningModule: one training step is the next lane's epoch.

    Args:
        desk: Hands out trials and judges their epochs.
        slots: Says whether one more may begin.
        network_of: The forward pass that an assembly's network shares with others; raises where it shares none.
        checkpoint_seconds: See `autotune.executors.lightning.LightningExecutor`.
    """

    def __init__(
        self,
        desk: Desk,
        slots: Slots,
        network_of: Callable[[Assembly], StackedNetwork],
        checkpoint_seconds: float | None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.idle = nn.Parameter(torch.zeros(()))  # a Trainer wants an optimizer, and the lanes have their own
        self._desk = desk
        self._slots = slots
        self._network_of = network_of
        self._checkpoint_seconds = checkpoint_seconds
        self._berths: dict[Hashable, Berth] = {}
        self._choices: dict[Hashable, Choice] = {}
        self._alone: list[Trial] = []
        self._anew: list[tuple[Trial, int]] = []
        self._current: Berth | None = None
        self._measured: list[dict[str, float]] = []
        self._busiest = 0

    # What the executor calls.

    def take_in(self) -> bool:
        """Take in trials until all slots are taken; whether there is anything to train."""
        self._fill()
        return bool(self._alone) or any(map(len, self._berths.values()))

    def trials(self) -> Iterator[Trial]:
        """All that has not ended."""
        yield from self._alone
        yield from (trial for trial, _ in self._anew)
        for berth in self._berths.values():
            yield from (member.trial for member in [*berth.members, *berth.waiting])

    def work(self) -> None:
        """Train the trial that must be trained alone, or lanes until there is one or none is left.

        Raises:
            Interrupted: The desk said so; nothing has been ended for it yet.
            BaseException: What the desk raises, and mistakes in a config.
        """
        if self._alone:
            self._tell(train_alone(self._desk, self._alone.pop(0), self._checkpoint_seconds))
            if self._desk.interrupted:
                raise Interrupted
            return
        largest = max(self._berths.values(), key=len)
        trainer = make_trainer(largest.assembly, [_Judging(self)], max_epochs=-1)
        self._trainer_key = largest.trainer_key
        self._memory = PeakMemory(trainer.strategy.root_device)
        try:
            trainer.fit(self, _Turns())
        except SystemExit as end:
            raise_interrupt(end)
            raise
        finally:
            busiest, peak = self._busiest, self._memory.peak() / 2**20
            _log.debug("population: at most %d trials at once, peak memory %.0f MiB more than before", busiest, peak)

    # What the Trainer calls.

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One that never steps."""
        return torch.optim.SGD([self.idle], lr=0.0)

    def on_train_epoch_start(self) -> None:
        """Choose the next lane, and let its members leave and join."""
        berth = self._current = self._next()
        members = [*berth.members, *berth.waiting]
        with self._begun_anew_where_memory_runs_out(berth, members):
            self._prepare(berth)

    def training_step(self, batch: Any, index: int) -> None:
        """Train and judge the lane's next epoch.

        Raises:
            Interrupted: The desk said so.
        """
        berth = self._current
        if berth is None or berth.lane is None:
            return
        with self._begun_anew_where_memory_runs_out(berth, list(berth.lane.members)):
            self._measured = berth.lane.train_epoch(lambda: self._desk.interrupted)

    def judge(self) -> None:
        """Tell the desk what each member of the lane measured, let go those that end, and fill the slots."""
        berth = self._current
        if berth is not None and berth.lane is not None:
            for member, metrics in zip(berth.lane.members, self._measured, strict=True):
                end = self._end(berth, member, metrics)
                if end is not None:
                    berth.leaving.append(member)
                    self._tell(end)
                elif member.keeper is not None:
                    member.keeper.hear(metrics)
                    # Not its share: what a kill costs is the time in which it was trained, among however many.
                    if member.keeper.is_due(member.seconds[-1] * len(berth.lane.members)):
                        self._keep(member, member.keeper, berth.lane)
        self._fill()
        self._clear()
        if self._alone or not self._ready():
            self.trainer.should_stop = True

    # How it does it.

    def _prepare(self, berth: Berth) -> None:
        """Make the lane where there is none, and let its members leave and join."""
        device = self.trainer.strategy.root_device
        if berth.lane is None:
            berth.lane = Lane(
                berth.network, *self._place(berth.data), berth.data.batch_size, self._choices.get(berth.key)
            )
        for member in berth.waiting:
            self.trainer.precision_plugin.convert_module(member.network).to(device)
            if device.type != "cpu":
                member.generator = torch.Generator(device).manual_seed(member.trial.config["seed"])
            self._take_up(member, device)
        if berth.leaving or berth.waiting:
            leaving, joining = berth.leaving, berth.waiting
            berth.leaving, berth.waiting = [], []
            berth.lane.change(leaving, joining)

    @contextmanager
    def _begun_anew_where_memory_runs_out(self, berth: Berth, members: Sequence[Member]) -> Iterator[None]:
        """Within it, memory that runs out ends the lane: its members, half-trained, begin anew among half as many.

        A trial that had memory for itself ends.
        """
        try:
            yield
        except Exception as error:
            if not out_of_memory(error):
                raise
            ran_out = error
        else:
            return
        others = sum(map(len, self._berths.values())) - len(berth)
        self._current = None
        del self._berths[berth.key]
        berth.lane = None
        release(ran_out)
        if others + len(members) > 1:
            fewer = (others + len(members)) // 2
            self._anew.extend((member.trial, max(member.told, member.epoch)) for member in members)
            self._slots.narrow(fewer)
            _log.warning("out of memory with %d trials at once: at most %d from here on", others + len(members), fewer)
        else:
            self._slots.widen()
            self._tell(_failed(members[0].trial.number, ran_out))

    def _take_up(self, member: Member, device: torch.device) -> None:
        """Have a member go on from where an earlier run kept it last."""
        seconds = self._checkpoint_seconds
        member.keeper = Keeper.of(member.trial, seconds, member.learner, f"population on {device.type}")
        kept = None if member.keeper is None else member.keeper.found()
        if member.keeper is not None and kept is not None:
            member.take_up(kept)
            epochs = member.keeper.goes_on()
            if not member.told:
                self._desk.resumed(member.trial.number, epochs)

    def _keep(self, member: Member, keeper: Keeper, lane: Lane) -> None:
        """Keep a member's state, where memory holds a copy of it."""
        try:
            keeper.keep(lane.state_of(member))
        except Exception as error:
            if not out_of_memory(error):
                raise
            release(error)
            _log.debug("out of memory for the checkpoint of trial %d; the next is due in an epoch", member.trial.number)

    def _tell(self, end: End) -> None:
        """Tell the desk of an end; where that stops the search, of all others too."""
        try:
            self._desk.ended(end)
        except Exception:
            for trial in list(self.trials()):
                self._desk.ended(End(trial.number, Reason.INTERRUPTED))
            raise

    def _end(self, berth: Berth, member: Member, metrics: Mapping[str, float]) -> End | None:
        number = member.trial.number
        if member.failure is not None:
            return _failed(number, member.failure)
        is_told = member.epoch <= member.told
        reason_given = None if is_told else self._desk.judge(Epoch(number, member.epoch - 1, metrics))
        if reason_given is None and member.epoch < member.learner.epochs:
            return None
        return End(number, reason_given or Reason.COMPLETED, self._cost(berth, member))

    def _cost(self, berth: Berth, member: Member) -> dict[str, float]:
        """As a `CostMeter` finds it; time and memory are the member's share of what its lane and all lanes took."""
        seconds = median(member.seconds)
        found = {
            "cost/epoch_seconds": seconds,
            "cost/samples_per_second": len(berth.data.split.train) / seconds,
        }
        with measuring("cost/parameters"):
            found |= size(member.network)
        with measuring("cost/peak_memory_bytes"):
            sharing = max(1, sum(map(len, self._berths.values())))
            found["cost/peak_memory_bytes"] = float(self._memory.peak()) / sharing
        with measuring("cost/latency_batch_seconds"):
            if not berth.latencies:
                features = self._place(berth.data)[1].features
                berth.latencies = latencies(member.network, features[: berth.data.batch_size])
        return found | berth.latencies

    def _fill(self) -> None:
        """Take trials from the desk while there are free slots."""
        while self._slots.free(self._berths.values(), len(self._alone)):
            trial, told = self._anew.pop(0) if self._anew else (self._desk.next_trial(), 0)
            if trial is None:
                return
            self._admit(trial, told)
            self._busiest = max(self._busiest, len(list(self.trials())))

    def _admit(self, trial: Trial, told: int) -> None:
        try:
            assembly = assemble(trial.config)
            generator = torch.Generator()
            generator.set_state(torch.get_rng_state())
            network = self._network_of(assembly)
        except UserError:
            raise
        except Exception as error:  # what cannot be stacked, and what raises: training alone says whose mistake it is
            if not told:
                self._alone.append(trial)
            else:  # it was stacked before, and its epochs are told already
                self._tell(_failed(trial.number, error))
            return
        learner, data = assembly.module, assembly.data
        assert isinstance(learner, Learner)
        assert isinstance(data, ArrayData)
        update = learner.update
        key = (
            _trainer_key(assembly.trainer),
            *(data.source, data.batch_size, learner.task, network),  # one for all of a structure
            *(update.accumulate, update.micro_batch, update.average is None, update.clip is None, update.clip_by),
        )
        if key not in self._berths:
            self._berths[key] = Berth(key, assembly, network)
        berth = self._berths[key]
        berth.waiting.append(Member(learner.network, generator, trial=trial, learner=learner, told=told))

    def _clear(self) -> None:
        """Drop the lanes that nobody is in; what they found out is kept for later ones."""
        for key, berth in list(self._berths.items()):
            if not len(berth):
                if berth.lane is not None and berth.lane.choice is not None:
                    self._choices[key] = berth.lane.choice
                del self._berths[key]
        while len(self._choices) > REMEMBERED:
            del self._choices[next(iter(self._choices))]

    def _next(self) -> Berth:
        """The lane to train next.

        A batch of a lane takes hardly longer for more members, so that those of few batches an epoch gain little by
        waiting, and those of many wait until they are fuller. Members over the batches of an epoch would make the most
        epochs a second of each moment, and have small batches wait for all others: over their square root they do not.
        One is gone on with until another counts twice as much, so that lanes fill meanwhile.
        """
        ready = self._ready()
        first = max(ready, key=Berth.weight)
        current = self._current
        return current if current in ready and 2 * current.weight() > first.weight() else first

    def _ready(self) -> list[Berth]:
        """Those with members that this Trainer can train."""
        return [each for each in self._berths.values() if len(each) and each.trainer_key == self._trainer_key]

    def _place(self, data: ArrayData) -> tuple[Part, Part]:
        return data.parts(self.trainer)


class _Judging(Checkpoint):
    """Hears of an epoch after all else; a Checkpoint for the reason that the lightning executor's is one."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def on_train_epoch_end(self, *_: Any) -> None:
        self._crew.judge()


class _Turns:
    """A loader of one batch, the lane's turn."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        yield 0


def _failed(number: int, error: Exception) -> End:
    return End(number, Reason.OOM if out_of_memory(error) else Reason.ERROR, error=error)


def _trainer_key(trainer: Mapping[str, Any]) -> str:
    return json.dumps(
        {key: value for key, value in trainer.items() if key != "max_epochs"}, sort_keys=True, default=str
    )
