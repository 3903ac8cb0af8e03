"""One final training: the epoch that is best by validation is kept, and tested once."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.model_helpers import is_overridden

from autotune.assembly import Assembly, assemble
from autotune.data.batches import Slices
from autotune.errors import UserError, first_line
from autotune.executors.lightning import EpochLog, cost_meter, make_trainer, raise_interrupt
from autotune.executors.logger import TrialLogger
from autotune.executors.resumption import Wrapped
from autotune.settings import Objective, unmeasured
from autotune.trial import Logged

_log = logging.getLogger(__name__)

# Entries of a checkpoint that have what was given to __init__, by name.
HYPERPARAMETERS = {LightningModule.CHECKPOINT_HYPER_PARAMS_KEY, LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY}

# Given what an epoch measured, its number, counted from 1, and what the module logged besides.
Hear = Callable[[Mapping[str, float], int, Logged], None]

# Beside the weights: where the user's callbacks and loggers write.
FILES = "files"


@dataclass(frozen=True, slots=True)
class Trained:
    """What one final training came to.

    Attributes:
        kept_epoch: The epoch whose weights are kept, counted from 1.
        score: What that epoch reached by the objective's metric; None where nothing is left to judge by.
        tested: The metrics of the test part, measured once with those weights; empty where nothing can be tested.
        test_samples: How many samples the test part has; None where the data is the user's own, or none were tested.
        cost: See `autotune.cost.Cost`.
        assembly: What was trained, with those weights.
        logged: What the module logged through its logger since its last epoch.
    """

    kept_epoch: int
    score: float | None
    tested: Mapping[str, float]
    test_samples: int | None
    cost: Mapping[str, float]
    assembly: Assembly
    logged: Logged


def is_tested(assembly: Assembly) -> bool:
    """Whether the module and the data both say how to test."""
    return is_overridden("test_step", assembly.module) and is_overridden("test_dataloader", assembly.data)


def train_and_test(
    config: Mapping[str, Any], on: str, epochs: int, objective: Objective, weights: Path, hear: Hear
) -> Trained:
    """Train a resolved config by a Lightning Trainer of its own, and test what is kept of it.

    Args:
        config: Resolved; its seed decides all that is random.
        on: One of `autotune.settings.TRAINED_ON`. Trained on both parts, the last epoch is kept.
        epochs: How many to train; the schedule is laid out for the config's own ``trainer.max_epochs``.
        objective: What the best epoch is chosen by.
        weights: The file they are kept in, in a folder that exists.
        hear: Is told of each epoch.

    Raises:
        UserError: The objective's metric is not logged, the config cannot be built, the weights cannot be kept, or
            their file is not what was written.
        KeyboardInterrupt: Ctrl-C.
        Exception: What the user's code raises.
    """
    is_judged = on == "train"
    folder = weights.parent.absolute() / FILES
    assembly = assemble(config, on, folder)
    logger = TrialLogger(folder)
    meter, batch_size = cost_meter(assembly)
    keeper = _Best(
        weights.parent,
        weights.stem,
        monitor=objective.metric if is_judged else None,
        mode=objective.direction[:3],
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    progress = _Progress(keeper, hear, logger)
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # our own files are there
    unjudged = {} if is_judged else {"limit_val_batches": 0}
    ours = [_Rehearsal(weights), meter, keeper, progress]
    trainer = make_trainer(assembly, ours, folder, logger, max_epochs=epochs, **unjudged)
    keeper.epoch_log.attach(trainer)
    trainer.strategy.checkpoint_io = sealed = Sealed(trainer.strategy.checkpoint_io)
    try:
        trainer.fit(assembly.module, datamodule=assembly.data)
        if is_judged and objective.metric not in keeper.logged:
            raise unmeasured(objective.metric, keeper.logged)
        sealed.check(weights)
        kept = torch.load(weights, weights_only=True)
        assembly.module.load_state_dict(kept["state_dict"])
        tested = _test(trainer, assembly)
    except SystemExit as end:
        raise_interrupt(end)
        raise
    except MisconfigurationException as error:
        if not is_judged:  # a schedule or a callback that waits for what validation logs
            problem = f"{on} leaves nothing to validate on ({first_line(error)})"
            raise UserError("train.on", problem, "give train.on=train") from error
        raise
    score = None if keeper.best_model_score is None else float(keeper.best_model_score)
    served = trainer.test_dataloaders
    samples = len(served.part) if isinstance(served, Slices) else None
    rest = logger.take({**progress.measured, **tested})
    cost = meter.cost(assembly.module, batch_size)
    return Trained(kept["epoch"] + 1, score, tested, samples, cost, assembly, rest)


class Sealed(Wrapped):
    """Writes files that are read back without making objects, and remembers what is in them.

    `torch.load` takes a file with a flipped bit as it is. What it refuses with ``weights_only=True``, as a module among
    the hyperparameters, is left out, which is found out and said when the first file is written.

    Args:
        way: Lightning's.
    """

    def __init__(self, way: CheckpointIO) -> None:
        super().__init__(way)
        self._digests: dict[Path, bytes] = {}
        self._left_out: list[tuple[str, str]] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a file.

        Raises:
            UserError: The weights themselves cannot be read back.
        """
        if self._left_out is None:
            self._left_out = _unreadable(checkpoint)
            _say_left_out(self._left_out, Path(path).name)
        super().save_checkpoint(_without(checkpoint, self._left_out), path, storage_options)
        self._digests[Path(path).resolve()] = _digest(Path(path))

    def check(self, path: Path) -> None:
        """Compare a file with what was written.

        Raises:
            UserError: It is something else.
        """
        written = self._digests.get(path.resolve())  # by another process, where several train one model
        if written is not None and _digest(path) != written:
            raise UserError("disk", f"{path} is damaged: its content is not what was written", "train again")


def _unreadable(checkpoint: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Entries of a checkpoint that are no plain data, and names within them; an empty name is for all of an entry.

    Raises:
        UserError: The weights are among them.
    """
    found: list[tuple[str, str]] = []
    for key, entry in checkpoint.items():
        if key in HYPERPARAMETERS and isinstance(entry, dict):
            found += [(key, str(name)) for name, value in entry.items() if _why_unreadable({name: value}) is not None]
        elif (why := _why_unreadable(entry)) is not None:
            if key == "state_dict":
                problem = f"its state cannot be read back as plain data ({why})"
                raise UserError("model", problem, "keep tensors and plain values alone in its get_extra_state")
            found.append((key, ""))
    return found


def _why_unreadable(value: Any) -> str | None:
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, and whatever the value's own code raises
        named = re.search(r"GLOBAL (\S+)", str(error))
        return named[1] if named else first_line(error)
    return None


def _without(checkpoint: Mapping[str, Any], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
    kept = {key: entry for key, entry in checkpoint.items() if (key, "") not in left_out}
    for key in HYPERPARAMETERS & kept.keys():
        if isinstance(kept[key], dict):
            kept[key] = {name: value for name, value in kept[key].items() if (key, str(name)) not in left_out}
    return kept


def _say_left_out(left_out: Sequence[tuple[str, str]], file: str) -> None:
    if left_out:
        names = ", ".join(f"{key}.{name}" if name else key for key, name in left_out)
        _log.info("%s is without what is no plain data: %s; give that to load_from_checkpoint", file, names)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class _Best(ModelCheckpoint):
    """Keeps the weights of the epoch with the best value; an epoch without one, which is NaN, gives way to any other.

    Of a class of its own, since Lightning takes no two alike of one class.

    Attributes:
        measured: What the latest epoch measured.
        logged: The names of all that was logged.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.epoch_log = EpochLog()
        self.measured: dict[str, float] = {}
        self.logged: set[str] = set()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.measured = self.epoch_log.end(trainer)
        self.logged |= self.measured.keys()
        super().on_train_epoch_end(trainer, pl_module)

    def _monitor_candidates(self, trainer: Trainer) -> dict[str, torch.Tensor]:
        candidates = super()._monitor_candidates(trainer)
        if self.monitor is not None and self.monitor not in self.measured:
            candidates[self.monitor] = torch.tensor(math.nan)
        return candidates


class _Rehearsal(Callback):
    """Writes the weights once before they are trained, to find out whether they can be kept.

    Args:
        weights: The file; there is none afterwards.
    """

    def __init__(self, weights: Path) -> None:
        self._weights = weights

    def on_train_start(self, trainer: Trainer, _: LightningModule) -> None:
        trainer.save_checkpoint(self._weights, weights_only=True)
        if trainer.is_global_zero:
            self._weights.unlink(missing_ok=True)


class _Progress(Checkpoint):
    """Tells of each epoch, after all else has logged."""

    def __init__(self, keeper: _Best, hear: Hear, logger: TrialLogger) -> None:
        self._keeper = keeper
        self._hear = hear
        self._logger = logger
        self.measured: Mapping[str, float] = {}

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        self.measured = self._keeper.measured
        self._hear(self.measured, trainer.current_epoch + 1, self._logger.take(self.measured))


def _test(trainer: Trainer, assembly: Assembly) -> dict[str, float]:
    if not is_tested(assembly):
        return {}
    parts = trainer.test(assembly.module, datamodule=assembly.data, verbose=False)
    return {name: float(value) for part in parts for name, value in part.items()}
