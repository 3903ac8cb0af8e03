"""A Lightning Trainer that is stopped between two epochs and goes on as if it had not been.

Lightning's own checkpoint says what of a Trainer is kept and puts it back. It is made where an epoch is about to begin,
which is behind all that belongs to the one before: a checkpoint made at an epoch's end misses the step of a scheduler
that waits for a metric. What is drawn by chance goes on too, and so does the order of a loader that shuffles.
"""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from autotune.device import default_generator
from autotune.errors import first_line
from autotune.executors.checkpoint import Keeper
from autotune.trial import Desk


class NotTakenUp(Exception):  # noqa: N818 - the trial is trained from the start
    """What an earlier run kept of a trial cannot be gone on with; says why."""


class Resumption(Callback):
    """Keeps a training from time to time, and has it go on with what an earlier run kept.

    It comes before all other callbacks, so that nothing of an epoch has happened when it hears of its beginning.

    Args:
        desk: Hears of the epochs that an earlier run trained.
        number: The trial's.

    Attributes:
        keeper: Keeps the trial; None where nothing is kept.
        desk_error: What the desk raised.
    """

    def __init__(self, desk: Desk, number: int) -> None:
        self._desk = desk
        self._number = number
        self._found: dict[str, Any] | None = None
        self._since: float | None = None
        self.keeper: Keeper | None = None
        self.desk_error: BaseException | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a state was found and is not gone on with yet."""
        return self._found is not None

    def begin(self, trainer: Trainer, module: LightningModule, keeper: Keeper | None, takes_up: bool) -> Path | None:
        """Say what keeps a training; returns the ``ckpt_path`` that its Trainer is to be given.

        Args:
            trainer: Trains it.
            module: What it trains.
            keeper: See `keeper`.
            takes_up: Whether what an earlier run kept is to be gone on with.
        """
        if keeper is None or trainer.world_size > 1:  # several processes do not agree on when an interval is over
            return None
        trainer.callbacks.insert(0, self)  # type: ignore[attr-defined]
        self.keeper = keeper
        self._found = keeper.found() if takes_up else None
        if self._found is not None:
            # Lightning does so behind the weights' loading, which would be rounded where they are of double precision.
            trainer.precision_plugin.convert_module(module)
        trainer.strategy.checkpoint_io = _InPlace(
            trainer.strategy.checkpoint_io, keeper, module, trainer.strategy.root_device, self._found
        )
        return None if self._found is None else keeper.path

    def failed(self, error: Exception) -> NotTakenUp:
        """What is raised where what was found could not be gone on with."""
        assert self.keeper is not None
        return NotTakenUp(self.keeper.refusal(f"cannot be gone on with ({first_line(error)})"))

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Go on with what was found, or keep what there is."""
        assert self.keeper is not None
        now = time.monotonic()
        if self._found is not None:
            self._go_on(trainer, module, self._found, self.keeper)
        elif self._since is not None and self.keeper.is_due(now - self._since):
            trainer.save_checkpoint(self.keeper.path, weights_only=False)
            now = time.monotonic()
        self._since = now

    def _go_on(self, trainer: Trainer, module: LightningModule, found: dict[str, Any], keeper: Keeper) -> None:
        for name, buffer in found["buffers"].items():
            parent, _, key = name.rpartition(".")
            module.get_submodule(parent)._buffers[key] = buffer.to(module.device)
        # Lightning would have it that this epoch was begun: it would not ask the loader for another order, and would
        # leave out what comes at an epoch's end.
        fit = trainer.fit_loop
        for loop in (fit, fit.epoch_loop, fit.epoch_loop.val_loop):
            loop.restarting = False
            loop.on_iteration_done()
        set_chance(found["chance"], trainer.strategy.root_device)
        self._found = None
        epochs = keeper.goes_on()
        for epoch in epochs:
            for name, value in epoch.metrics.items():
                if name != "lr" and not math.isnan(value):  # in an epoch without a value Lightning has the last one
                    trainer.callback_metrics[name] = torch.tensor(value, dtype=torch.float64)
        try:
            self._desk.resumed(self._number, epochs)
        except BaseException as error:
            self.desk_error = error
            raise


class Wrapped(CheckpointIO):
    """Lightning's way to files, for what goes another way with some of them.

    Args:
        way: Lightning's.
    """

    def __init__(self, way: CheckpointIO) -> None:
        self._way = way

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a file."""
        self._way.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a file."""
        return self._way.load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file."""
        self._way.remove_checkpoint(path)

    def teardown(self) -> None:
        """End what Lightning's way holds."""
        self._way.teardown()


class _InPlace(Wrapped):
    """Keeps and finds the trial's own file; all others go Lightning's way.

    Args:
        way: Lightning's.
        keeper: Of the trial.
        module: What the trial trains.
        device: Where it is trained.
        found: What is in the trial's own file.
    """

    def __init__(
        self,
        way: CheckpointIO,
        keeper: Keeper,
        module: LightningModule,
        device: torch.device,
        found: dict[str, Any] | None,
    ) -> None:
        super().__init__(way)
        self._keeper, self._module, self._device, self._found = keeper, module, device, found

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Keep the trial's state, or write another file."""
        if path == self._keeper.path:
            saved = self._module.state_dict().keys()
            # Buffers that are not persistent are changed by training too.
            buffers = {name: buffer for name, buffer in self._module.named_buffers() if name not in saved}
            self._keeper.keep({"trainer": checkpoint, "chance": chance(self._device), "buffers": buffers})
        else:
            super().save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The state that was found, or another file's."""
        if self._found is not None and path == self._keeper.path:
            found: dict[str, Any] = self._found["trainer"]
            return found
        return super().load_checkpoint(path, map_location, weights_only)


def chance(device: torch.device) -> dict[str, Any]:
    """Where the generators of Python, numpy, torch and the device that trains are, as plain values and tensors."""
    kind, keys, *rest = numpy.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        # Of no other device: to ask a GPU would begin to use it.
        "device": None if device.type == "cpu" else default_generator(device).get_state(),
    }


def set_chance(kept: dict[str, Any], device: torch.device) -> None:
    """Put the generators where they were."""
    random.setstate(kept["python"])
    numpy.random.set_state(kept["numpy"])
    torch.set_rng_state(kept["torch"])
    if kept["device"] is not None:
        default_generator(device).set_state(kept["device"])
