"""From a resolved config to the LightningModule and the LightningDataModule that a Trainer trains."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn
from torch.optim import LBFGS, Optimizer

from autotune.construct import OWN_KEYS, accepts, build_nested, construct, target
from autotune.data.batches import ArrayData, batch_lengths
from autotune.data.joined import joined
from autotune.data.source import Source
from autotune.errors import UserError, nearest
from autotune.learner import Learner
from autotune.logs import measuring
from autotune.optim.schedules import Schedule, Warmup
from autotune.optim.update import Update
from autotune.task import Task, weights_of
from autotune.trial import Chance

# What the Trainer is not given: epochs are reported through a Checkpoint, which it refuses beside
# enable_checkpointing=false.
NOT_GIVEN = (*OWN_KEYS, "enable_checkpointing")

# What `Learner` does itself: the Trainer either does not know it or cannot do it under manual optimization.
LEARNERS_OWN = ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "ema")

# Arguments of the Trainer that count batches or skip validations, which a `Learner`'s epochs know nothing of.
NOT_FOR_EPOCHS = (
    *("limit_train_batches", "overfit_batches", "fast_dev_run", "max_steps", "min_steps", "min_epochs"),
    *("val_check_interval", "check_val_every_n_epoch"),
)

# Arguments of a Trainer and its parts that are folders to write into.
FOLDERS = ("default_root_dir", "dirpath", "save_dir", "root_dir")

# Keys of an optimizer's section that are no arguments of it: they say how an update is made.
OF_THE_UPDATE = ("micro_batch", "decoupled")


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a trial trains.

    Attributes:
        module: Ours around the user's nn.Module (`Learner`), or the user's own.
        data: Ours around a `Source` (`ArrayData`), or the user's own.
        schedule: What sets the learning rate of the user's own module; None where the module does it itself.
        trainer: Arguments of the Trainer.
    """

    module: LightningModule
    data: LightningDataModule
    schedule: Schedule | None
    trainer: dict[str, Any]


def assemble(config: Mapping[str, Any], on: str = "train", folder: Path | None = None) -> Assembly:
    """Build what a resolved config says; the same config and seed give the same weights.

    Args:
        config: Resolved.
        on: One of `autotune.settings.TRAINED_ON`.
        folder: What a folder is relative to that a part of the Trainer writes into; None for the current one.

    Raises:
        UserError: Something in it cannot be built or does not go together.
    """
    data = build_data(config, on)
    seed_everything(config["seed"], verbose=False)
    model = build_model(config, data)
    trainer = {
        key: build_nested(f"trainer.{key}", _within(folder, key, value))
        for key, value in config["trainer"].items()
        if key not in NOT_GIVEN
    }
    if isinstance(model, LightningModule):
        if isinstance(data, ArrayData):
            data.whole_epochs = False
        return Assembly(model, data, _take_over(model, config), _with_average(trainer))
    if not isinstance(data, ArrayData):
        raise UserError(
            "model._target_",
            f"{config['model']['_target_']} is a plain nn.Module, and a LightningDataModule says no task",
            "give a LightningModule, or data that autotune holds in memory",
        )
    for key in NOT_FOR_EPOCHS:
        if key in trainer:
            problem = f"{trainer[key]} is not for an nn.Module, whose epochs autotune trains whole"
            raise UserError(f"trainer.{key}", problem, "leave it out")
    update = build_update(config["optimizer"], trainer)
    learner = Learner(
        model,
        build_task(config, data),
        partial(build_optimizer, config["optimizer"]),
        build_schedule(config["schedule"]),
        -(-data.updates_per_epoch // update.accumulate),
        trainer["max_epochs"],
        update,
    )
    return Assembly(learner, data, None, {key: value for key, value in trainer.items() if key not in LEARNERS_OWN})


def _within(folder: Path | None, key: str, value: Any) -> Any:
    """A value of the section ``trainer``, folders that are not absolute put below another one."""
    if isinstance(value, Mapping):
        return {name: _within(folder, str(name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_within(folder, "", inner) for inner in value]
    if key in FOLDERS and folder is not None and isinstance(value, str) and "://" not in value:
        return str(folder / Path(value).expanduser())
    return value


def build_data(config: Mapping[str, Any], on: str = "train") -> LightningDataModule:
    """The section ``data`` as a LightningDataModule.

    Raises:
        UserError: It is neither a Source nor a LightningDataModule.
    """
    section = {key: value for key, value in config["data"].items() if key != "batch_size"}
    batch_size = config["data"].get("batch_size")
    made = construct("data", section, **({} if batch_size is None else {"batch_size": batch_size}))
    if isinstance(made, Source):
        _check_single(made)
        return ArrayData(made, "full" if batch_size is None else batch_size, config["seed"], on)
    if isinstance(made, LightningDataModule):
        names, takes_any = accepts(target("data", config["data"]))
        if batch_size not in (None, "full") and "batch_size" not in names and not takes_any:
            problem = f"{config['data']['_target_']} takes no argument batch_size"
            raise UserError("data.batch_size", problem, nearest("batch_size", names))
        return made if on == "train" else joined(made)
    kinds = "autotune.data.source.Source or a LightningDataModule"
    raise UserError("data._target_", f"{config['data']['_target_']} makes no data", f"name an {kinds}")


def _check_single(source: Source) -> None:
    """Refuse lists and sections for single values: sources are told apart by their settings, by equality."""
    try:
        hash(source)
    except TypeError:
        for name, value in vars(source).items():
            if isinstance(value, list | dict):
                raise UserError(f"data.{name}", f"{value} is not right here", "give a single value") from None
        raise


def build_model(config: Mapping[str, Any], data: LightningDataModule) -> nn.Module:
    """The section ``model``; ``input_shape``, ``outputs`` and ``cardinalities`` come from the data where it knows them.

    Raises:
        UserError: It is no nn.Module, or cannot take the data's categories.
    """
    given: dict[str, Any] = {}
    if isinstance(data, ArrayData):
        split = data.split
        given = {"input_shape": split.input_shape, "outputs": split.outputs, "cardinalities": split.cardinalities}
        if split.cardinalities and "cardinalities" not in accepts(target("model", config["model"]))[0]:
            problem = f"{config['model']['_target_']} takes no categories, and {len(split.cardinalities)} columns are"
            raise UserError("model", problem, "give model=tabular or model=mlp, or leave them out by data.drop=[...]")
    model = construct("model", config["model"], **given)
    if not isinstance(model, nn.Module):
        problem = f"{config['model']['_target_']} makes no model"
        raise UserError("model._target_", problem, "name an nn.Module or a LightningModule")
    return model


def build_task(config: Mapping[str, Any], data: ArrayData) -> Task:
    """The task of data in memory, with what the section ``task`` says of its loss and metrics."""
    section = config.get("task") or {}
    kind, split = data.split.task, data.split
    return Task(
        kind,
        split.outputs,
        split.target_scale,
        config["objective"]["metric"],
        tuple(section.get("metrics") or ()),
        section.get("regression_loss") or "mse",
        section.get("label_smoothing") or 0.0,
        weights_of(section.get("class_weights"), kind, split.outputs, split.train.target),
    )


def guessing(task: Task, data: ArrayData) -> Chance:
    """What the most frequent class, or the mean, of the training targets reaches on the validation part."""
    train, val = data.split.train.target, data.split.val.target
    if task.kind == "regression":
        squares = val.double() ** 2  # standardised, so the mean is 0
        rmse = float(squares.mean().sqrt())
        error = float(squares.std() / len(val) ** 0.5 / (2 * rmse)) if rmse > 0 and len(val) > 1 else 0.0
        scale = task.target_scale[1]
        return Chance("val/rmse", rmse * scale, len(val), error * scale)
    if task.kind == "multilabel":
        right = val == (train.mean(dim=0) > 0.5).to(val)
    else:
        right = val.long() == train.long().mode().values
    return Chance("val/accuracy", float(right.double().mean()), right.numel())


def build_update(optimizer: Mapping[str, Any], trainer: Mapping[str, Any]) -> Update:
    """What the sections ``optimizer`` and ``trainer`` say of an update.

    Raises:
        UserError: It cannot be.
    """
    accumulate = trainer.get("accumulate_grad_batches") or 1
    if not isinstance(accumulate, int) or accumulate < 1:
        raise UserError(
            "trainer.accumulate_grad_batches", f"{accumulate} are no batches", "give a whole number above 0"
        )
    return Update(
        trainer.get("gradient_clip_val"),
        trainer.get("gradient_clip_algorithm") or "norm",
        accumulate,
        optimizer.get("micro_batch"),
        optimizer.get("weight_decay", 0.0) if optimizer.get("decoupled") else 0.0,
        trainer.get("ema"),
    )


def build_optimizer(
    section: Mapping[str, Any], parameters: Iterator[nn.Parameter] | Iterator[dict[str, Any]]
) -> Optimizer:
    """The section ``optimizer``.

    Raises:
        UserError: It is none.
    """
    if "_target_" not in section:
        own = "leaves the optimizer to the module"
        raise UserError(
            "optimizer", f"{section.get('name')} {own}, and this is an nn.Module", "name one: optimizer=adam"
        )
    arguments = {key: value for key, value in section.items() if key not in OF_THE_UPDATE}
    if section.get("decoupled"):
        arguments["weight_decay"] = 0.0  # the update decays the weights itself
    made = construct("optimizer", arguments, parameters)
    if isinstance(made, LBFGS):
        problem = f"{section['_target_']} evaluates the loss again within a step, which an update does not"
        raise UserError("optimizer._target_", problem, "name another of torch.optim")
    if not isinstance(made, Optimizer):
        raise UserError("optimizer._target_", f"{section['_target_']} makes no optimizer", "name one of torch.optim")
    return made


def build_schedule(section: Mapping[str, Any]) -> Schedule:
    """The section ``schedule``, behind a warm-up where its ``warmup`` is above 0.

    Raises:
        UserError: It is none.
    """
    if "_target_" not in section:
        own = "leaves the rate to the module"
        raise UserError(
            "schedule", f"{section.get('name')} {own}, and autotune's optimizer is used", "give schedule=constant"
        )
    rest = dict(section)
    warmup = 0.0 if "warmup" in accepts(target("schedule", section))[0] else rest.pop("warmup", 0.0)
    made = construct("schedule", rest)
    if not isinstance(made, Schedule):
        remedy = "name one of autotune.optim.schedules"
        raise UserError("schedule._target_", f"{section['_target_']} makes no schedule", remedy)
    return made if warmup == 0 else Warmup(made, warmup)


def _take_over(module: LightningModule, config: Mapping[str, Any]) -> Schedule | None:
    """Give the user's module the config's optimizer, unless it is to keep its own (optimizer=own)."""
    if "_target_" not in config["optimizer"]:
        if "_target_" in config["schedule"]:
            what = f"{config['schedule'].get('name')} does not go with optimizer=own"
            raise UserError("schedule", what, "give schedule=own, or an optimizer")
        return None
    for key in OF_THE_UPDATE:
        if config["optimizer"].get(key):
            problem = f"{config['optimizer'][key]} is for an nn.Module, whose updates autotune makes"
            raise UserError(f"optimizer.{key}", problem, "leave it out with a LightningModule")
    own = module.configure_optimizers if is_overridden("configure_optimizers", module) else list
    if not module.automatic_optimization:
        made: list[Optimizer] = []
        with suppress(Exception):  # it may ask for its Trainer, and the number is only said
            made = optimizers_in(own())
        raise _not_for_one(module, len(made), config["optimizer"])

    def configure() -> Optimizer:
        made: list[Optimizer] = []
        with measuring(f"what {type(module).__name__} says of its parameter groups", "all parameters are one group"):
            made = optimizers_in(own())
        if len(made) > 1 or not module.automatic_optimization:
            raise _not_for_one(module, len(made), config["optimizer"])
        return _grouped(config["optimizer"], module, made[0] if made else None)

    module.configure_optimizers = configure  # type: ignore[method-assign]
    return build_schedule(config["schedule"])


def _not_for_one(module: LightningModule, count: int, optimizer: Mapping[str, Any]) -> UserError:
    """What is wrong where one optimizer is to do what the module does with its own."""
    how = "" if module.automatic_optimization else " optimizes by hand (automatic_optimization = False)"
    many = f"{' and' if how else ''} makes {count} optimizers of its own" if count > 1 else ""
    problem = (
        f"{type(module).__name__}{how}{many}, and {optimizer.get('name', optimizer['_target_'])} is one for all of it"
    )
    return UserError(
        "optimizer", problem, "give optimizer=own schedule=own (its rates are then the model's: model.lr=...)"
    )


def optimizers_in(returned: Any) -> list[Optimizer]:
    """The optimizers in what ``configure_optimizers`` returned, in any of the forms that Lightning takes."""
    if isinstance(returned, Optimizer):
        return [returned]
    if isinstance(returned, Mapping):
        return optimizers_in(returned.get("optimizer"))
    return [each for part in returned for each in optimizers_in(part)] if isinstance(returned, list | tuple) else []


def _grouped(section: Mapping[str, Any], module: LightningModule, own: Optimizer | None) -> Optimizer:
    """The config's optimizer with the module's own groups of parameters, where it has several.

    Their weight decays and the ratios between their rates are the module's. The config's rate is that of the groups
    that have the rate which the module's optimizer was made with, else of the group with the highest one.
    """
    if own is None:
        return build_optimizer(section, module.parameters())
    groups = own.param_groups
    if len(groups) == 1:
        return build_optimizer(section, iter(groups[0]["params"]))
    decays = _own_decays(own)
    parts = [
        {"params": group["params"], **({} if decays is None else {"weight_decay": decay})}
        for group, decay in zip(groups, decays or groups, strict=True)
    ]
    made = build_optimizer(section, iter(parts))
    rates = [float(group.get("initial_lr", group.get("lr", 1.0))) for group in groups]
    base = own.defaults.get("lr", 0.0)
    base = float(base) if base in rates else max(rates)
    for group, rate in zip(made.param_groups, rates, strict=True):
        group["lr"] *= rate / base if base > 0 else 1.0
    return made


def _own_decays(own: Optimizer) -> list[float] | None:
    """The weight decay of each group; None where the module says nothing of it."""
    decays = [group.get("weight_decay") for group in own.param_groups]
    if None in decays:
        return None
    default = inspect.signature(type(own)).parameters.get("weight_decay")
    unsaid = default is not None and all(decay == default.default for decay in decays)
    return None if unsaid else [float(decay) for decay in decays if decay is not None]


def _with_average(trainer: dict[str, Any]) -> dict[str, Any]:
    """The Trainer's arguments for the user's own module, whose weights Lightning averages where that is asked for."""
    decay = trainer.get("ema")
    rest = {key: value for key, value in trainer.items() if key != "ema"}
    if decay is None:
        return rest
    theirs = rest.get("callbacks") or []
    average = EMAWeightAveraging(decay=decay)
    return {**rest, "callbacks": [*(theirs if isinstance(theirs, list) else [theirs]), average]}


def refusal(config: Mapping[str, Any], on: str = "train") -> str | None:
    """Why a resolved config cannot be trained, found without training it; None where it can.

    Raises:
        UserError: It cannot even be built.
    """
    data = build_data(config, on)
    if not isinstance(data, ArrayData):
        if config["data"].get("batch_size") == "full":
            return "data.batch_size=full needs data that autotune holds in memory"
        return None
    samples = len(data.split.train)
    batch_size = config["data"].get("batch_size")
    if batch_size in (None, "full") and not data.in_memory:
        return "data.batch_size=full needs data in memory, and this is larger than data.in_memory_limit"
    if isinstance(batch_size, int) and batch_size > samples:
        return f"data.batch_size={batch_size} is larger than the training set of {samples}"
    smallest = batch_lengths(samples, data.batch_size)[-1]
    if smallest == 1:
        with torch.device("meta"):
            model = build_model(config, data)
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
            return (
                f"BatchNorm cannot normalise a batch of one, and {samples} samples in batches of {data.batch_size} "
                "end with one"
            )
    return None
