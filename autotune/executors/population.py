"""Many trials in one training step, one Lightning Trainer for all of them."""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Hashable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from autotune.assembly import Assembly, assemble
from autotune.data.batches import ArrayData
from autotune.data.placed import forget
from autotune.data.source import Part
from autotune.errors import UserError, in_one_line
from autotune.executors.crew import FEW_SLOTS, Crew, Slots
from autotune.executors.lightning import CHECKPOINT_SECONDS, LightningExecutor, leave_memory_unfilled
from autotune.executors.memory import member_bytes, out_of_memory, room
from autotune.learner import Interrupted, Learner
from autotune.optim.stacked import stacked_for
from autotune.stacking.fitness import Unstackable
from autotune.stacking.network import StackedNetwork
from autotune.stacking.structure import structure
from autotune.trial import Desk, End, Reason

# Arguments of the Trainer that mean the same for many trials as for one.
SHARED = ("max_epochs", "accelerator", "devices", "precision", "deterministic", "benchmark")
DOUBLE = ("64-true", "64", 64)
PRECISIONS = ("32-true", "32", 32, "bf16-mixed", None, *DOUBLE)

COMPILERS = tuple(filter(None, (os.environ.get("CXX"), "g++", "clang++", "cl")))

REMEMBERED = 256  # structures
TRIED_ON = 8  # samples that a network is tried on before it is stacked

# Automatic slots: so many at most. A sampler learns nothing from trials that have not ended, so that a search whose
# length is known has a part of its trials in training at once.
MOST_SLOTS = 128
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
        return self._slots or max(1, min(self._most, -(-room(accelerator, PART_OF_MEMORY) // taken)))

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
            Unstackable: It shares it with none, or that cannot be found out.
        """
        try:
            return self._network_of(assembly)
        except (Unstackable, UserError):
            raise
        except Exception as error:  # of the code that is tried out; a training alone says whether it is broken
            if out_of_memory(error):
                raise
            raise Unstackable(f"it cannot be tried among others ({in_one_line(error)})") from error

    def _network_of(self, assembly: Assembly) -> StackedNetwork:
        module, data, trainer = assembly.module, assembly.data, assembly.trainer
        if not isinstance(module, Learner):
            raise Unstackable(f"{type(module).__name__} is a LightningModule with a training_step of its own")
        if not isinstance(data, ArrayData) or not data.in_memory:
            raise Unstackable("the data is larger than data.in_memory_limit and read batch by batch")
        for key, value in trainer.items():
            if key not in SHARED and value is not None and not (key == "logger" and isinstance(value, bool)):
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
        crew = Crew(
            desk,
            Slots(self._slots, self._most, PART_OF_MEMORY / self._workers),
            self.network_of,
            self.checkpoint_seconds,
        )
        try:
            # Each structure is compiled anew; beyond the limit torch would go on uncompiled and not say so.
            with torch._dynamo.config.patch(recompile_limit=sys.maxsize) if self._compile else nullcontext():
                while crew.take_in():
                    crew.work()
        except Interrupted:
            for trial in crew.trials():
                desk.ended(End(trial.number, Reason.INTERRUPTED))
        finally:
            forget()
