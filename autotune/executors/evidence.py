"""A trial trained again up to an epoch, for what it answers on each row of the validation part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from autotune.assembly import assemble
from autotune.data.batches import ArrayData
from autotune.errors import first_line
from autotune.executors.lightning import make_trainer, raise_interrupt, unkept
from autotune.learner import Interrupted, Learner
from autotune.pairing import luck_of_pairing, ranked_errors

_log = logging.getLogger(__name__)


def luck_of_answers(config: Mapping[str, Any], epochs: int, stop: Callable[[], bool]) -> float | None:
    """How likely a trial's answers on the validation part, dealt out to its rows at random, would do as well.

    Nothing that only measures ends a search: what raises here leaves the question open.

    Args:
        config: Resolved.
        epochs: How many of its epochs are trained.
        stop: Whether to leave it.

    Returns:
        A probability; None where no single row is known (a LightningModule judges as it likes), or it was left.
    """
    asked = _Asked(epochs)
    try:
        assembly = assemble(config)
        module = assembly.module
        if not isinstance(module, Learner) or not isinstance(assembly.data, ArrayData):
            return None
        module.stop_requested = stop
        with TemporaryDirectory() as nowhere:
            make_trainer(unkept(assembly), [asked], Path(nowhere)).fit(module, datamodule=assembly.data)
        if not asked.answers:
            return None
        outputs, target = (torch.cat(parts) for parts in zip(*asked.answers, strict=True))
        return luck_of_pairing(ranked_errors(module.task, outputs, target)) if outputs.isfinite().all() else None
    except Interrupted:
        return None
    except SystemExit as end:
        raise_interrupt(end)
        raise
    except Exception as error:
        _log.warning("the answers on the validation part are not known (%s)", first_line(error))
        return None


class _Asked(Checkpoint):
    """Asks the network of an epoch for its answers, and ends the training; a Checkpoint, so that it comes last."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self.answers: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.current_epoch + 1 < self._epochs:
            return
        assert isinstance(module, Learner)
        network = module.judged_network.eval()
        with trainer.precision_plugin.forward_context():
            for features, target in trainer.val_dataloaders or ():
                self.answers.append((network(features).cpu(), target.cpu()))
        trainer.should_stop = True
