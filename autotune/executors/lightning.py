"""One Lightning Trainer a trial, one trial at a time."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim import Optimizer

from autotune.assembly import Assembly, assemble, build_data, build_task, guessing, refusal
from autotune.construct import accepts
from autotune.cost import CostMeter
from autotune.data.batches import ArrayData
from autotune.data.placed import forget
from autotune.divergence import is_loss
from autotune.errors import UserError, nearest
from autotune.executors.checkpoint import Keeper, checked
from autotune.executors.logger import TrialLogger
from autotune.executors.memory import out_of_memory, release
from autotune.executors.resumption import NotTakenUp, Resumption
from autotune.executors.workers import counted, share
from autotune.learner import Interrupted, Learner
from autotune.optim.learning_rate import LearningRate
from autotune.optim.schedules import Schedule
from autotune.settings import unmeasured
from autotune.trial import Chance, Desk, End, Epoch, Reason, Trial
from autotune.trust.addresses import check_local

_log = logging.getLogger(__name__)

# By default a kill costs no more of a trial, and what is shorter is as soon trained again.
CHECKPOINT_SECONDS = 60.0

# A search has its own progress, checkpoints and, but for the user's module, logs.
QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class LightningExecutor:
    """Trains any LightningModule on any LightningDataModule, and nn.Modules on data in memory.

    Args:
        checkpoint_seconds: A trial's state is kept each time it has been trained for so long, at an epoch's end; None
            neither keeps it nor takes it up.
        workers: Processes that train side by side, or ``auto``: one for each core.
    """

    name = "lightning"

    def __init__(self, checkpoint_seconds: float | None = CHECKPOINT_SECONDS, workers: int | str = 1) -> None:
        self.checkpoint_seconds = checked(checkpoint_seconds)
        self._workers = counted(workers)

    def refuses(self, config: Mapping[str, Any]) -> str | None:
        """Why a resolved config cannot work; None where it can."""
        return refusal(config)

    def chance(self, config: Mapping[str, Any]) -> Chance | None:
        """What guessing reaches on the data; None for the user's own LightningDataModule."""
        data = build_data(config)
        return guessing(build_task(config, data), data) if isinstance(data, ArrayData) else None

    def luck(self, config: Mapping[str, Any], epochs: int, stop: Callable[[], bool]) -> float | None:
        """How likely a trial's answers, dealt out to the validation rows at random, do as well; None where unknown."""
        from autotune.executors.evidence import luck_of_answers  # which trains as this executor does

        return luck_of_answers(config, epochs, stop)

    def rehearse(self, config: Mapping[str, Any]) -> None:
        """Build what a resolved config says.

        Raises:
            UserError: It cannot be built, or is known not to measure the objective's metric.
        """
        assembly = assemble(config)
        device = make_trainer(assembly, []).strategy.root_device
        if self._workers > 1 and device.type != "cpu":
            problem = f"{self._workers} processes cannot share the {device.type} device"
            raise UserError("executor.workers", problem, "give executor.workers=1, or trainer.accelerator=cpu")
        if isinstance(assembly.module, Learner):
            assembly.module.configure_optimizers()
            metric, logged = config["objective"]["metric"], assembly.module.logged
            if metric not in logged:
                raise unmeasured(metric, logged)

    @property
    def chosen(self) -> str:
        """Which executor trains what was rehearsed, and why where that was found out."""
        return self._in_processes(self.name)

    def _in_processes(self, name: str) -> str:
        return name if self._workers == 1 else f"{name} in {self._workers} processes"

    def slots_for(self, config: Mapping[str, Any]) -> int:
        """How many trials such as this one may be in training at once."""
        return 1

    def bytes_for(self, config: Mapping[str, Any]) -> int | None:
        """What a trial such as this one is expected to take in memory; None where only training tells."""
        return None

    def run(self, desk: Desk) -> None:
        """Train what the desk hands out, by so many processes."""
        workers = min(self._workers, self.most_slots)
        if workers > 1:
            share(desk, self.train, workers, self.most_slots)
        else:
            self.train(desk)

    @property
    def most_slots(self) -> int:
        """Trials in training at once, at most, in all processes together."""
        return self._workers

    def train(self, desk: Desk) -> None:
        """Train trial after trial."""
        leave_memory_unfilled()
        try:
            while (trial := desk.next_trial()) is not None:
                desk.ended(train_alone(desk, trial, self.checkpoint_seconds))
        finally:
            forget()


class _Reporter(Checkpoint):
    """Tells the desk of each epoch and stops the Trainer when it says so.

    A Checkpoint, though it keeps none, because Lightning calls those after every other callback and the module itself
    have logged, and adds none of its own where there is one.
    """

    def __init__(self, desk: Desk, number: int, resumption: Resumption, logger: TrialLogger) -> None:
        self._desk = desk
        self._number = number
        self._resumption = resumption
        self._logger = logger
        self.measured: Mapping[str, float] = {}
        self.epoch_log = EpochLog()
        self._loss: torch.Tensor | None = None  # of the latest batch
        self.reason = Reason.COMPLETED
        self.desk_error: BaseException | None = None

    def on_train_batch_end(self, trainer: Trainer, _: LightningModule, outputs: Any, *more: Any) -> None:
        self._loss = step_loss(outputs)
        if self._desk.interrupted:
            raise Interrupted

    def on_validation_batch_end(self, *_: Any) -> None:
        if self._desk.interrupted:
            raise Interrupted

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        metrics = self.measured = self.epoch_log.end(trainer)
        if self._loss is not None and not any(map(is_loss, metrics)) and not self._loss.isfinite().all():
            metrics["train/loss"] = math.nan  # the module logs no loss by which it can be seen
        logged = self._logger.take(metrics)
        try:
            reason = self._desk.judge(
                Epoch(self._number, trainer.current_epoch, metrics, logged, is_last=trainer.should_stop)
            )
        except BaseException as error:
            self.desk_error = error
            raise
        if reason is not None:
            self.reason = reason
            trainer.should_stop = True
        elif self._resumption.keeper is not None:
            self._resumption.keeper.hear(metrics)


class _Scheduled(Callback):
    """A schedule at work on the user's own module."""

    _kept: dict[str, Any] | None = None

    def __init__(self, schedule: Schedule, epochs: float) -> None:
        self._schedule = schedule
        self._epochs = epochs
        self._losses: list[torch.Tensor] = []

    def on_train_start(self, trainer: Trainer, _: LightningModule) -> None:
        batches = trainer.num_training_batches
        updates = None if math.isinf(batches) else -(-int(batches) // trainer.accumulate_grad_batches)
        most = trainer.max_steps if trainer.max_steps > 0 else None
        self._rate = LearningRate(trainer.optimizers[0], self._schedule, updates, self._epochs, most)
        if self._kept is not None:
            self._rate.load_state_dict(self._kept)

    def state_dict(self) -> dict[str, Any]:
        return self._rate.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._kept = state_dict  # for when the optimizer is known

    def on_train_batch_start(self, trainer: Trainer, _: LightningModule, batch: Any, index: int) -> None:
        if index % trainer.accumulate_grad_batches == 0:
            self._rate.before_update()

    def on_train_batch_end(self, trainer: Trainer, _: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        loss = step_loss(outputs)
        if loss is not None:
            self._losses.append(loss)

    def on_train_epoch_end(self, *_: Any) -> None:
        if self._losses:
            self._rate.after_epoch(torch.stack(self._losses).mean().item())
            self._losses.clear()


class _LastStep(Callback):
    """Has a training that ``trainer.max_steps`` ends within an epoch judge what it came to."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop |= 0 < trainer.max_steps <= trainer.global_step


def leave_memory_unfilled() -> None:
    """Spare deterministic algorithms to fill every fresh tensor first, which no result depends on."""
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def train_alone(desk: Desk, trial: Trial, checkpoint_seconds: float | None = None) -> End:
    """Train one trial by a Trainer of its own, from its checkpoint on where there is one; returns how it ended.

    Args:
        desk: Hears of it.
        trial: What is trained.
        checkpoint_seconds: See `LightningExecutor`.

    Raises:
        UserError: Its config cannot be built.
        BaseException: What the desk raises.
    """
    try:
        end = _train(desk, trial, checkpoint_seconds, takes_up=True)
    except NotTakenUp as why:
        _log.warning("%s", why)
        end = _train(desk, trial, checkpoint_seconds, takes_up=False)
    if end.error is not None:
        release(end.error)
    return end


def _train(desk: Desk, trial: Trial, checkpoint_seconds: float | None, takes_up: bool) -> End:
    resumption = Resumption(desk, trial.number)
    logger = TrialLogger(trial.folder)
    reporter = _Reporter(desk, trial.number, resumption, logger)
    try:
        assembly = assemble(trial.config, folder=trial.folder)
        meter, batch_size = cost_meter(assembly)
        if isinstance(assembly.module, Learner):
            assembly.module.stop_requested = lambda: desk.interrupted
        trainer = make_trainer(assembly, [meter, reporter], trial.folder, logger)
        reporter.epoch_log.attach(trainer)
        trained_by = f"lightning on {trainer.strategy.root_device.type}"
        keeper = Keeper.of(trial, checkpoint_seconds, assembly.module, trained_by)
        checkpoint = resumption.begin(trainer, assembly.module, keeper, takes_up)
        if checkpoint is None and trial.folder is not None:  # what an earlier run left there is written anew
            shutil.rmtree(trial.folder, ignore_errors=True)
        trainer.fit(assembly.module, datamodule=assembly.data, ckpt_path=checkpoint)
        cost = meter.cost(assembly.module, batch_size)
        return End(trial.number, reporter.reason, cost, logged=logger.take(reporter.measured))
    except Interrupted:
        return End(trial.number, Reason.INTERRUPTED, logged=logger.take(reporter.measured))
    except SystemExit as end:
        raise_interrupt(end)
        raise
    except UserError:
        raise
    except Exception as error:
        if reporter.desk_error is not None or resumption.desk_error is not None:
            raise
        if resumption.is_pending:
            raise resumption.failed(error) from error
        reason = Reason.OOM if out_of_memory(error) else Reason.ERROR
        return End(trial.number, reason, error=error, logged=logger.take(reporter.measured))


class EpochLog(Callback):
    """Tells what was logged in an epoch from what the Trainer remembers of earlier ones."""

    def __init__(self) -> None:
        self._before: dict[str, torch.Tensor] = {}
        self._rate: float | None = None  # of the latest update; at an epoch's end Lightning has set the next one's

    def attach(self, trainer: Trainer) -> None:
        """Hear of each epoch before anything can be logged in it: some callbacks do so when it begins."""
        trainer.callbacks.insert(0, self)  # type: ignore[attr-defined]

    def on_train_epoch_start(self, trainer: Trainer, _: LightningModule) -> None:
        """Remember what is known from before."""
        self._before = dict(trainer.callback_metrics)

    def on_before_optimizer_step(self, trainer: Trainer, _: LightningModule, optimizer: Optimizer) -> None:
        """Remember the learning rate of an update."""
        if optimizer is trainer.optimizers[0]:
            self._rate = float(optimizer.param_groups[0]["lr"])

    def end(self, trainer: Trainer) -> dict[str, float]:
        """What was logged since, and the learning rate of the last update."""
        # Lightning makes a new tensor of each value that is logged.
        stale = {name for name, value in self._before.items() if trainer.callback_metrics.get(name) is value}
        rate = {} if self._rate is None else {"lr": self._rate}
        return {name: value for name, value in measured(trainer).items() if name not in stale} | rate


def step_loss(outputs: Any) -> torch.Tensor | None:
    """The loss that a training step returned; None where it returned none."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return loss.detach() if isinstance(loss, torch.Tensor) else None


def measured(trainer: Trainer) -> dict[str, float]:
    """What was logged up to the end of an epoch, and the learning rate of its last update."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if trainer.optimizers:
        metrics["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
    return metrics


def unkept(assembly: Assembly) -> Assembly:
    """The same without the user's own checkpoints and loggers, which would be files."""
    theirs = assembly.trainer.get("callbacks") or []
    callbacks = theirs if isinstance(theirs, list) else [theirs]
    kept = [each for each in callbacks if not isinstance(each, Checkpoint)]
    logger = assembly.trainer.get("logger")
    off = {"logger": logger if isinstance(logger, bool) else None}
    return replace(assembly, trainer={**assembly.trainer, "callbacks": kept, **off})


def make_trainer(
    assembly: Assembly,
    ours: list[Callback],
    folder: Path | None = None,
    logger: TrialLogger | None = None,
    **more: Any,
) -> Trainer:
    """The Trainer of an assembly.

    Args:
        assembly: What it trains.
        ours: Callbacks that come after the user's and the schedule's.
        folder: Where files go that the config gives no folder.
        logger: For a module that logs, where the config names no other and does not turn it off.
        more: Arguments that go before the config's.

    Raises:
        UserError: Lightning does not take such arguments, or a folder of them is none of this machine.
    """
    own = {"callbacks": callbacks(assembly, ours), "logger": _logger(assembly, logger)}
    root = {} if folder is None else {"default_root_dir": folder}
    arguments = {**QUIET, **root, **assembly.trainer, **more, **own}
    names, takes_any = accepts(Trainer)
    for name in arguments:
        if name not in names and not takes_any:
            raise UserError(f"trainer.{name}", f"Lightning's Trainer takes no argument {name}", nearest(name, names))
    check_local("trainer.default_root_dir", arguments.get("default_root_dir"))
    try:
        return Trainer(**arguments)
    except (TypeError, ValueError, MisconfigurationException) as error:
        said = " ".join(str(error).split())
        raise UserError("trainer", f"Lightning's Trainer refuses it ({said})", "see its documentation") from error


def callbacks(assembly: Assembly, ours: list[Callback]) -> list[Callback]:
    """The Trainer's callbacks: the user's, the schedule's, then ours."""
    theirs = assembly.trainer.get("callbacks") or []
    epochs = assembly.trainer.get("max_epochs")
    laid_out_for = epochs if isinstance(epochs, int) and epochs > 0 else math.inf
    schedule = [] if assembly.schedule is None else [_Scheduled(assembly.schedule, laid_out_for)]
    return [*(theirs if isinstance(theirs, list) else [theirs]), *schedule, _LastStep(), *ours]


def _logger(assembly: Assembly, ours: TrialLogger | None) -> Any:
    """The Trainer's logger: the config's, or ours where something may log to it.

    Our own module logs nothing that is not told anyway, and would pay for a logger with each epoch.
    """
    given = assembly.trainer.get("logger")
    if given not in (None, True):
        return given
    if ours is None or (isinstance(assembly.module, Learner) and not assembly.trainer.get("callbacks")):
        return False
    # Lightning merges the module's hyperparameters with the data's for a logger, and refuses where they differ.
    assembly.data._log_hyperparams = False
    return ours


def raise_interrupt(end: SystemExit) -> None:
    """Raise the interrupt that Lightning made a SystemExit of, where it was one; its own of SIGTERM has exit code 0.

    Raises:
        KeyboardInterrupt: It was.
    """
    if isinstance(end, SIGTERMException) or isinstance(end.__context__, KeyboardInterrupt):
        raise KeyboardInterrupt from end


def cost_meter(assembly: Assembly) -> tuple[CostMeter, int | None]:
    """What measures a training, and the batch size that latency is measured at; None for the user's own."""
    if isinstance(assembly.data, ArrayData):
        return CostMeter(len(assembly.data.split.train)), assembly.data.batch_size
    return CostMeter(None), None
