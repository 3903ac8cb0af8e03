"""One final training: the epoch that is best by validation is kept, and tested once."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.model_helpers import is_overridden

from autotune.assembly import Assembly, assemble
from autotune.data.batches import Slices
from autotune.errors import UserError, first_line
from autotune.executors.lightning import cost_meter, make_trainer, measured, raise_interrupt
from autotune.executors.logger import TrialLogger
from autotune.executors.resumption import Wrapped
from autotune.settings import Objective
from autotune.trial import Logged

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
        UserError: The objective's metric is not logged, the config cannot be built, or the file of the weights is not
            what was written.
        KeyboardInterrupt: Ctrl-C.
        Exception: What the user's code raises.
    """
    is_judged = on == "train"
    folder = weights.parent.absolute() / FILES
    assembly = assemble(config, on, folder)
    logger = TrialLogger(folder)
    progress = _Progress(hear, logger)
    meter, batch_size = cost_meter(assembly)
    keeper = _Best(
        weights.parent,
        weights.stem,
        monitor=objective.metric if is_judged else None,
        mode=objective.direction[:3],
        save_weights_only=True,
        enable_version_counter=False,
    )
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # our own files are there
    unjudged = {} if is_judged else {"limit_val_batches": 0}
    trainer = make_trainer(assembly, [meter, keeper, progress], folder, logger, max_epochs=epochs, **unjudged)
    trainer.strategy.checkpoint_io = sealed = Sealed(trainer.strategy.checkpoint_io)
    try:
        trainer.fit(assembly.module, datamodule=assembly.data)
        sealed.check(weights)
        kept = torch.load(weights, weights_only=True)
        assembly.module.load_state_dict(kept["state_dict"])
        tested = _test(trainer, assembly)
    except SystemExit as end:
        raise_interrupt(end)
        raise
    except MisconfigurationException as error:
        logged = measured(trainer)
        if keeper.monitor is not None and objective.metric not in logged:
            raise objective.unmeasured(logged) from error
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
    """Remembers what Lightning wrote into its files: `torch.load` takes one with a flipped bit as it is.

    Args:
        way: Lightning's.
    """

    def __init__(self, way: CheckpointIO) -> None:
        super().__init__(way)
        self._digests: dict[Path, bytes] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a file."""
        super().save_checkpoint(checkpoint, path, storage_options)
        self._digests[Path(path).resolve()] = _digest(Path(path))

    def check(self, path: Path) -> None:
        """Compare a file with what was written.

        Raises:
            UserError: It is something else.
        """
        written = self._digests.get(path.resolve())  # by another process, where several train one model
        if written is not None and _digest(path) != written:
            raise UserError("disk", f"{path} is damaged: its content is not what was written", "train again")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class _Best(ModelCheckpoint):
    """Keeps the weights of the best epoch; of a class of its own, since Lightning takes no two alike of one class."""


class _Progress(Checkpoint):
    """Tells of each epoch, after all else has logged."""

    def __init__(self, hear: Hear, logger: TrialLogger) -> None:
        self._hear = hear
        self._logger = logger
        self.measured: Mapping[str, float] = {}

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        self.measured = measured(trainer)
        self._hear(self.measured, trainer.current_epoch + 1, self._logger.take(self.measured))


def _test(trainer: Trainer, assembly: Assembly) -> dict[str, float]:
    if not is_tested(assembly):
        return {}
    parts = trainer.test(assembly.module, datamodule=assembly.data, verbose=False)
    return {name: float(value) for part in parts for name, value in part.items()}
