"""The classes of the libraries that a file may name, reviewed one by one or a package at a time.

Reviewed is all that a class does for a Trainer or in a training step, its hooks as well as its constructor: one that
is let in writes no file, opens no connection and loads nothing, whatever its arguments say. What is in none of these
lists, as a class that a later version adds, is refused until it was reviewed; who trusts one types its name.
"""

from __future__ import annotations

from collections.abc import Mapping

# Packages all of whose classes are let in, by where these are defined, and why.
PACKAGES: Mapping[str, str] = {
    "autotune": "ours: of files, sources of data read the one that data.path names, and trackers write in the home",
    "optuna.pruners": "numbers in, a decision out",
    "optuna.samplers": "numbers in, numbers out; what CMA-ES unpickles is its own, of a study that is gone on with",
    "torch.nn.modules": "layers and losses: tensors in, tensors out",
    "torch.optim": "tensors that are changed in place",
    "torchmetrics.aggregation": "numbers in, numbers out",
    "torchmetrics.classification": "tensors in, numbers out",
    "torchmetrics.clustering": "tensors in, numbers out",
    "torchmetrics.collections": "metrics that are passed on to",
    "torchmetrics.nominal": "tensors in, numbers out",
    "torchmetrics.regression": "tensors in, numbers out",
    "torchmetrics.retrieval": "tensors in, numbers out",
    "torchmetrics.segmentation": "tensors in, numbers out",
    "torchmetrics.wrappers": "metrics that are passed on to",
}

_CALLBACKS = "lightning.pytorch.callbacks"
_PRECISION = "lightning.pytorch.plugins.precision"

# Single classes that are let in, by where they are defined, and what their hooks do.
CLASSES: Mapping[str, str] = {
    f"{_CALLBACKS}.device_stats_monitor.DeviceStatsMonitor": "logs numbers of the device to the Trainer's loggers",
    f"{_CALLBACKS}.early_stopping.EarlyStopping": "stops the Trainer",
    f"{_CALLBACKS}.finetuning.BackboneFinetuning": "freezes the module's backbone and adds it to the optimizer",
    f"{_CALLBACKS}.gradient_accumulation_scheduler.GradientAccumulationScheduler": "sets a number of the Trainer's",
    f"{_CALLBACKS}.lr_monitor.LearningRateMonitor": "logs rates to the Trainer's loggers",
    f"{_CALLBACKS}.model_summary.ModelSummary": "prints a table",
    f"{_CALLBACKS}.progress.rich_progress.RichProgressBar": "prints",
    f"{_CALLBACKS}.progress.tqdm_progress.TQDMProgressBar": "prints",
    f"{_CALLBACKS}.pruning.ModelPruning": "masks parameters, by one of the functions of torch.nn.utils.prune",
    f"{_CALLBACKS}.rich_model_summary.RichModelSummary": "prints a table",
    f"{_CALLBACKS}.stochastic_weight_avg.StochasticWeightAveraging": "averages weights and swaps the schedule",
    f"{_CALLBACKS}.timer.Timer": "stops the Trainer",
    f"{_CALLBACKS}.weight_averaging.EMAWeightAveraging": "averages weights, kept in the Trainer's own checkpoints",
    f"{_CALLBACKS}.weight_averaging.WeightAveraging": "averages weights, kept in the Trainer's own checkpoints",
    "lightning.pytorch.accelerators.cpu.CPUAccelerator": "takes no argument",
    "lightning.pytorch.accelerators.cuda.CUDAAccelerator": "takes no argument",
    "lightning.pytorch.accelerators.mps.MPSAccelerator": "takes no argument",
    "lightning.pytorch.plugins.layer_sync.TorchSyncBatchNorm": "replaces layers",
    f"{_PRECISION}.amp.MixedPrecision": "casts tensors",
    f"{_PRECISION}.double.DoublePrecision": "casts tensors",
    f"{_PRECISION}.fsdp.FSDPPrecision": "casts tensors",
    f"{_PRECISION}.half.HalfPrecision": "casts tensors",
    f"{_PRECISION}.precision.Precision": "does nothing",
    "lightning.pytorch.strategies.ddp.DDPStrategy": "begins this command again on each device; the rest is torch's",
    "lightning.pytorch.strategies.fsdp.FSDPStrategy": "as DDPStrategy; writes what the Trainer has it write",
    "lightning.pytorch.strategies.single_device.SingleDeviceStrategy": "moves the module to a device",
}

# What was reviewed and is not let in: packages and classes, and why.
REFUSED: Mapping[str, str] = {
    "lightning.fabric._graveyard": "is there to say that it is gone",
    "lightning.fabric.plugins.environments": "is found by Lightning where it is there, and asks other programs",
    "lightning.fabric.plugins.precision": "is Fabric's, which no Trainer takes",
    "lightning.pytorch._graveyard": "is there to say that it is gone",
    "lightning.pytorch.accelerators.accelerator.Accelerator": "does nothing by itself",
    "lightning.pytorch.accelerators.xla.XLAAccelerator": "needs a package that was not reviewed",
    f"{_CALLBACKS}.batch_size_finder.BatchSizeFinder": "writes checkpoints, and changes what is searched",
    f"{_CALLBACKS}.callback.Callback": "does nothing by itself",
    f"{_CALLBACKS}.checkpoint.Checkpoint": "does nothing by itself",
    f"{_CALLBACKS}.finetuning.BaseFinetuning": "does nothing by itself",
    f"{_CALLBACKS}.lambda_function.LambdaCallback": "calls what it is given",
    f"{_CALLBACKS}.lr_finder.LearningRateFinder": "writes checkpoints, and changes what is searched",
    f"{_CALLBACKS}.model_checkpoint.ModelCheckpoint": "writes to wherever its arguments say",
    f"{_CALLBACKS}.on_exception_checkpoint.OnExceptionCheckpoint": "writes to wherever its arguments say",
    f"{_CALLBACKS}.prediction_writer.BasePredictionWriter": "does nothing by itself",
    f"{_CALLBACKS}.progress.progress_bar.ProgressBar": "does nothing by itself",
    f"{_CALLBACKS}.spike.SpikeDetection": "writes to wherever its arguments say",
    f"{_CALLBACKS}.throughput_monitor.ThroughputMonitor": "calls what it is given",
    "lightning.pytorch.cli": "reads and writes files of its own",
    "lightning.pytorch.loggers": "writes or sends to wherever its arguments say",
    "lightning.pytorch.plugins.io": "writes to wherever its arguments say",
    "lightning.pytorch.plugins.layer_sync.LayerSync": "does nothing by itself",
    f"{_PRECISION}.bitsandbytes.BitsandbytesPrecision": "needs a package that was not reviewed",
    f"{_PRECISION}.deepspeed.DeepSpeedPrecision": "needs a package that was not reviewed",
    f"{_PRECISION}.transformer_engine.TransformerEnginePrecision": "needs a package that was not reviewed",
    f"{_PRECISION}.xla.XLAPrecision": "needs a package that was not reviewed",
    "lightning.pytorch.profilers": "writes to wherever its arguments say",
    "lightning.pytorch.serve": "opens a port",
    "lightning.pytorch.strategies.deepspeed.DeepSpeedStrategy": "reads and writes files of its own",
    "lightning.pytorch.strategies.model_parallel.ModelParallelStrategy": "writes checkpoints of a kind of its own",
    "lightning.pytorch.strategies.parallel.ParallelStrategy": "does nothing by itself",
    "lightning.pytorch.strategies.single_xla.SingleDeviceXLAStrategy": "needs a package that was not reviewed",
    "lightning.pytorch.strategies.strategy.Strategy": "does nothing by itself",
    "lightning.pytorch.strategies.xla.XLAStrategy": "needs a package that was not reviewed",
    "lightning.pytorch.tuner": "writes checkpoints, and changes what is searched",
    "torch.nn.parallel": "opens connections to other processes",
    "torchmetrics.audio": "may load or download a network",
    "torchmetrics.functional": "may load or download a network",
    "torchmetrics.image": "may load or download a network",
    "torchmetrics.multimodal": "may load or download a network",
    "torchmetrics.text": "may load or download a network",
}


def why_refused(made: type) -> str | None:
    """Why a file may not name a class of a library; None where it may."""
    name = f"{made.__module__}.{made.__qualname__}"
    if name in CLASSES or _covering(name, PACKAGES) is not None:
        return None
    return _covering(name, REFUSED) or "was not reviewed"


def _covering(name: str, reviewed: Mapping[str, str]) -> str | None:
    parts = name.split(".")
    prefixes = (".".join(parts[:number]) for number in range(len(parts), 0, -1))
    return next((reviewed[prefix] for prefix in prefixes if prefix in reviewed), None)
