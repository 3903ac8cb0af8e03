"""Many trials in one training step, one Lightning Trainer for all of them."""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import sys
from collections.abc import Collection, Hashable, Iterator, Mapping
from statistics import median
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn

from autotune.assembly import Assembly, assemble
from autotune.cost import PeakMemory, latencies, size
from autotune.data.batches import ArrayData
from autotune.data.source import Part
from autotune.errors import UserError
from autotune.executors.checkpoint import Keeper
from autotune.executors.choice import Choice
from autotune.executors.lane import Lane, Member
from autotune.executors.lightning import (
    CHECKPOINT_SECONDS,
    LightningExecutor,
    leave_memory_unfilled,
    make_trainer,
    raise_interrupt,
    train_alone,
)
from autotune.executors.memory import free_bytes, member_bytes, out_of_memory
from autotune.learner import Interrupted, Learner
from autotune.optim.stacked import stacked_for
from autotune.stacking.fitness import Unstackable
from autotune.stacking.network import StackedNetwork
from autotune.stacking.structure import structure
from autotune.trial import Desk, End, Epoch, Reason, Trial

_log = logging.getLogger(__name__)

# Arguments of the Trainer that mean the same for many trials as for one.
SHARED = ("max_epochs", "accelerator", "devices", "precision", "deterministic", "benchmark")
DOUBLE = ("64-true", "64", 64)
PRECISIONS = ("32-true", "32", 32, "bf16-mixed", None, *DOUBLE)

COMPILERS = tuple(filter(None, (os.environ.get("CXX"), "g++", "clang++", "cl")))

REMEMBERED = 256  # structures, and the ways that lanes found to be fastest
TRIED_ON = 8  # samples that a network is tried on before it is stacked

# Automatic slots: so many at most, where lanes gain by more members; and where they do not. A sampler learns nothing
# from trials still in training, so that a search whose length is known has a part of its trials in training at once.
MOST_SLOTS = 128
FEW_SLOTS = 8
PART_OF_TRIALS = 4
PART_OF_MEMORY = 0.5


class PopulationExecutor(LightningExecutor):
    """Trains nn.Modules on data in memory, many trials at once; what it cannot stack goes through Lightning alone.

    Args:
        slots: Trials in training at once, or ``auto``: as many as memory and the length of the search suggest.
        compile: Whether what trains a lane goes through torch.compile.
        trials: How many the search has; None where that is open.
        checkpoint_seconds: See `LightningExecutor`.
        workers: See `LightningExecutor`.
    """

    name = "population"

    def __init__(
        self,
        slots: int | str = "auto",
        compile: bool = False,  # noqa: A002
        trials: int | None = None,
        checkpoint_seconds: float | None = CHECKPOINT_SECONDS,
        workers: int | str = 1,
    ) -> None:
        super().__init__(checkpoint_seconds, workers)
        if slots != "auto" and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 1):
            raise UserError(
                "executor.slots", f"{slots} is no number of slots", "give a whole number from 1 on, or auto"
            )
        if compile and not torch.cuda.is_available() and not any(map(shutil.which, COMPILERS)):
            raise UserError(
                "executor.compile", "true needs a C++ compiler", "install g++, or give executor.compile=false"
            )
        if compile:
            # Each structure is compiled anew; beyond the limit torch would go on uncompiled and not say so.
            torch._dynamo.config.recompile_limit = sys.maxsize
        self._compile = compile
        self._slots = None if isinstance(slots, str) else slots
        self._most = MOST_SLOTS if trials is None else min(MOST_SLOTS, max(FEW_SLOTS, trials // PART_OF_TRIALS))
        self._networks: dict[Hashable, StackedNetwork | Unstackable] = {}

    def rehearse(self, config: Mapping[str, Any]) -> None:
        """Build what a resolved config says."""
        super().rehearse(config)
        why = self.unstackable(config)
        if why is not None:
            remedy = "give executor=lightning, or executor=auto, which takes what holds"
            raise UserError("executor", f"population cannot train this: {why}", remedy)

    def unstackable(self, config: Mapping[str, Any]) -> str | None:
        """Why a resolved config cannot be trained among others; None where it can."""
        try:
            self.network_of(assemble(config))
        except Unstackable as why:
            return str(why)
        return None

    def slots_for(self, config: Mapping[str, Any]) -> int:
        """How many trials such as this one may be in training at once."""
        taken = self.bytes_for(config)
        if taken is None:
            return 1
        accelerator = config["trainer"].get("accelerator")
        return self._slots or max(1, min(self._most, -(-_room(accelerator, PART_OF_MEMORY) // taken)))

    def bytes_for(self, config: Mapping[str, Any]) -> int | None:
        """What a trial such as this one is expected to take in memory; None where it is trained alone."""
        assembly = assemble(config)
        try:
            network = self.network_of(assembly)
        except Unstackable:
            return None
        assert isinstance(assembly.data, ArrayData)
        return member_bytes(assembly.module, network.bytes_a_sample, assembly.data.batch_size)

    def network_of(self, assembly: Assembly) -> StackedNetwork:
        """The forward pass that the assembly's network shares with others of its structure.

        Raises:
            Unstackable: It shares it with none.
        """
        module, data, trainer = assembly.module, assembly.data, assembly.trainer
        if not isinstance(module, Learner):
            raise Unstackable(f"{type(module).__name__} is a LightningModule with a training_step of its own")
        if not isinstance(data, ArrayData) or not data.in_memory:
            raise Unstackable("the data is larger than data.in_memory_limit and read batch by batch")
        for key, value in trainer.items():
            if key not in SHARED and value is not None:
                raise Unstackable(f"trainer.{key} is for one training alone")
        if trainer.get("devices") not in (1, "1", None, "auto"):
            raise Unstackable(f"trainer.devices={trainer['devices']} spreads one training over devices")
        if trainer.get("precision") not in PRECISIONS:
            raise Unstackable(f"trainer.precision={trainer['precision']} scales or rounds one training's numbers")
        if not isinstance(trainer["max_epochs"], int) or trainer["max_epochs"] < 1:
            raise Unstackable(f"trainer.max_epochs={trainer['max_epochs']} has no end")
        optimizer = module.make_optimizer(module.network.parameters())
        if not stacked_for(optimizer).claims(optimizer):
            raise Unstackable(f"{type(optimizer).__name__} does not say which parameters its groups have")
        is_double = trainer.get("precision") in DOUBLE
        kind = (structure(module.network), data.split.input_shape, is_double)
        if kind not in self._networks:
            assert isinstance(data.split.train, Part)
            features = data.split.train.features[:TRIED_ON]
            while len(self._networks) >= REMEMBERED:
                del self._networks[next(iter(self._networks))]
            self._networks[kind] = self._stacked(module.network, features, is_double)
        found = self._networks[kind]
        if isinstance(found, Unstackable):
            raise found
        return found

    def _stacked(self, network: nn.Module, features: Tensor, is_double: bool) -> StackedNetwork | Unstackable:
        """The forward pass of networks of one structure, traced in the precision that they are trained in."""
        default = torch.get_default_dtype()
        try:
            if is_double:
                torch.set_default_dtype(torch.float64)
                network, features = copy.deepcopy(network).double(), features.double()
            return StackedNetwork(network, features, self._compile)
        except Unstackable as why:
            return why
        finally:
            torch.set_default_dtype(default)

    @property
    def most_slots(self) -> int:
        """Trials in training at once, at most, in all processes together."""
        return self._slots or self._most

    def train(self, desk: Desk) -> None:
        """Train what the desk hands out, as many at once as there are slots."""
        leave_memory_unfilled()
        crew = _Crew(desk, self, _Slots(self._slots, self._most, PART_OF_MEMORY / self._workers))
        try:
            while crew.take_in():
                crew.work()
        except Interrupted:
            for trial in crew.trials():
                desk.ended(End(trial.number, Reason.INTERRUPTED))


def _room(accelerator: object, part: float) -> int:
    """Bytes that trials may take together on an accelerator, of whose memory this part is theirs."""
    on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    return int(part * free_bytes(torch.device("cuda" if on_gpu else "cpu")))


class _Slots:
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

    def free(self, berths: Collection[_Berth], alone: int) -> bool:
        """Whether one more may begin."""
        taken = alone + sum(map(len, berths))
        if self._given is not None or taken == 0:
            return taken < (self._given or 1)
        gains = [berth.lane.gains for berth in berths if berth.lane is not None]
        few = False in gains and True not in gains
        if taken >= (FEW_SLOTS if few else self._most):
            return False
        if self._bytes is None:
            accelerator = next((berth.assembly.trainer.get("accelerator") for berth in berths), "cpu")
            self._bytes = _room(accelerator, self._part)
        return sum(len(berth) * berth.bytes for berth in berths) < self._bytes


class _Berth:
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

    @property
    def members(self) -> list[Member]:
        """Those in training."""
        return [] if self.lane is None else [each for each in self.lane.members if each not in self.leaving]


class _Crew(LightningModule):
    """The population as a LightningModule: one training step is the next lane's epoch.

    Args:
        desk: Hands out trials and judges their epochs.
        executor: Knows what can be stacked.
        slots: Says whether one more may begin.
    """

    def __init__(self, desk: Desk, executor: PopulationExecutor, slots: _Slots) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.idle = nn.Parameter(torch.zeros(()))  # a Trainer wants an optimizer, and the lanes have their own
        self._desk = desk
        self._executor = executor
        self._slots = slots
        self._berths: dict[Hashable, _Berth] = {}
        self._choices: dict[Hashable, Choice] = {}
        self._alone: list[Trial] = []
        self._current: _Berth | None = None
        self._parts: dict[Hashable, tuple[Part, Part]] = {}
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
        for berth in self._berths.values():
            yield from (member.trial for member in [*berth.members, *berth.waiting])

    def work(self) -> None:
        """Train the trial that must be trained alone, or lanes until there is one or none is left.

        Raises:
            Interrupted: The desk said so; nothing has been ended for it yet.
            BaseException: What the desk raises, and mistakes in a config.
        """
        if self._alone:
            self._tell(train_alone(self._desk, self._alone.pop(0), self._executor.checkpoint_seconds))
            if self._desk.interrupted:
                raise Interrupted
            return
        largest = max(self._berths.values(), key=len)
        trainer = make_trainer(largest.assembly, [_Judging(self)], max_epochs=-1)
        self._trainer_key = largest.trainer_key
        self._memory = PeakMemory(trainer.strategy.root_device)
        self._parts.clear()
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
        device = self.trainer.strategy.root_device
        if berth.lane is None:
            parts = self._placed(berth.data)
            berth.lane = Lane(berth.network, *parts, berth.data.batch_size, self._choices.get(berth.key))
        for member in berth.waiting:
            self.trainer.precision_plugin.convert_module(member.network).to(device)
            if device.type == "cuda":
                member.generator = torch.Generator(device).manual_seed(member.trial.config["seed"])
            self._take_up(member, device)
        if berth.leaving or berth.waiting:
            leaving, joining = berth.leaving, berth.waiting
            berth.leaving, berth.waiting = [], []
            berth.lane.change(leaving, joining)

    def training_step(self, batch: Any, index: int) -> None:
        """Train and judge the lane's next epoch.

        Raises:
            Interrupted: The desk said so.
        """
        assert self._current is not None
        assert self._current.lane is not None
        self._measured = self._current.lane.train_epoch(lambda: self._desk.interrupted)

    def judge(self) -> None:
        """Tell the desk what each member of the lane measured, let go those that end, and fill the slots."""
        berth = self._current
        assert berth is not None
        assert berth.lane is not None
        for member, metrics in zip(berth.lane.members, self._measured, strict=True):
            end = self._end(berth, member, metrics)
            if end is not None:
                berth.leaving.append(member)
                self._tell(end)
            elif member.keeper is not None:
                member.keeper.hear(metrics)
                # Not its share: what a kill costs is the time in which it was trained, among however many.
                if member.keeper.is_due(member.seconds[-1] * len(berth.lane.members)):
                    member.keeper.keep(berth.lane.state_of(member))
        self._fill()
        self._clear()
        if self._alone or not self._ready():
            self.trainer.should_stop = True

    # How it does it.

    def _take_up(self, member: Member, device: torch.device) -> None:
        """Have a member go on from where an earlier run kept it last."""
        seconds = self._executor.checkpoint_seconds
        member.keeper = Keeper.of(member.trial, seconds, member.learner, f"population on {device.type}")
        kept = None if member.keeper is None else member.keeper.found()
        if member.keeper is not None and kept is not None:
            member.take_up(kept)
            self._desk.resumed(member.trial.number, member.keeper.goes_on())

    def _tell(self, end: End) -> None:
        """Tell the desk of an end; where that stops the search, of all others too."""
        try:
            self._desk.ended(end)
        except Exception:
            for trial in list(self.trials()):
                self._desk.ended(End(trial.number, Reason.INTERRUPTED))
            raise

    def _end(self, berth: _Berth, member: Member, metrics: Mapping[str, float]) -> End | None:
        number = member.trial.number
        if member.failure is not None:
            reason = Reason.OOM if out_of_memory(member.failure) else Reason.ERROR
            return End(number, reason, error=member.failure)
        reason_given = self._desk.judge(Epoch(number, member.epoch - 1, metrics))
        if reason_given is None and member.epoch < member.learner.epochs:
            return None
        return End(number, reason_given or Reason.COMPLETED, self._cost(berth, member))

    def _cost(self, berth: _Berth, member: Member) -> dict[str, float]:
        """As a `CostMeter` finds it; time and memory are the member's share of what its lane and all lanes took."""
        if not berth.latencies:
            features = self._placed(berth.data)[1].features
            berth.latencies = latencies(member.network, features[: berth.data.batch_size])
        seconds = median(member.seconds)
        return {
            **size(member.network),
            "cost/peak_memory_bytes": float(self._memory.peak()) / max(1, sum(map(len, self._berths.values()))),
            "cost/epoch_seconds": seconds,
            "cost/samples_per_second": len(berth.data.split.train) / seconds,
            **berth.latencies,
        }

    def _fill(self) -> None:
        """Take trials from the desk while there are free slots."""
        while self._slots.free(self._berths.values(), len(self._alone)):
            trial = self._desk.next_trial()
            if trial is None:
                return
            self._admit(trial)
            self._busiest = max(self._busiest, len(list(self.trials())))

    def _admit(self, trial: Trial) -> None:
        try:
            assembly = assemble(trial.config)
            generator = torch.Generator()
            generator.set_state(torch.get_rng_state())
            network = self._executor.network_of(assembly)
        except UserError:
            raise
        except Exception:  # what cannot be stacked, and what raises: a training alone says whose mistake it is
            self._alone.append(trial)
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
            self._berths[key] = _Berth(key, assembly, network)
        berth = self._berths[key]
        berth.waiting.append(Member(learner.network, generator, trial=trial, learner=learner))

    def _clear(self) -> None:
        """Drop the lanes that nobody is in; what they found out is kept for later ones."""
        for key, berth in list(self._berths.items()):
            if not len(berth):
                if berth.lane is not None and berth.lane.choice is not None:
                    self._choices[key] = berth.lane.choice
                del self._berths[key]
        while len(self._choices) > REMEMBERED:
            del self._choices[next(iter(self._choices))]

    def _next(self) -> _Berth:
        """The lane to train next.

        One is gone on with until another has twice as many members: lanes that wait fill meanwhile, and full lanes cost
        the least a member.
        """
        ready = self._ready()
        fullest = max(ready, key=len)
        current = self._current
        return current if current in ready and 2 * len(current) > len(fullest) else fullest

    def _ready(self) -> list[_Berth]:
        """Those with members that this Trainer can train."""
        return [each for each in self._berths.values() if len(each) and each.trainer_key == self._trainer_key]

    def _placed(self, data: ArrayData) -> tuple[Part, Part]:
        """The training and validation parts on the device."""
        if data.source not in self._parts:
            self._parts[data.source] = self._place(data.split.train), self._place(data.split.val)
        return self._parts[data.source]

    def _place(self, part: Any) -> Part:
        device, precision = self.trainer.strategy.root_device, self.trainer.precision_plugin
        return Part(*(precision.convert_input(each.to(device)) for each in (part.features, part.target)))


class _Judging(Checkpoint):
    """Hears of an epoch after all else; a Checkpoint for the reason that the lightning executor's is one."""

    def __init__(self, crew: _Crew) -> None:
        self._crew = crew

    def on_train_epoch_end(self, *_: Any) -> None:
        self._crew.judge()


class _Turns:
    """A loader of one batch, the lane's turn."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        yield 0


def _trainer_key(trainer: Mapping[str, Any]) -> str:
    return json.dumps(
        {key: value for key, value in trainer.items() if key != "max_epochs"}, sort_keys=True, default=str
    )
