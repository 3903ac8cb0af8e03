"""From a resolved config to the LightningModule and the LightningDataModule that a Trainer trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything
from torch import nn
from torch.optim import Optimizer

from autotune.construct import OWN_KEYS, construct
from autotune.data.batches import ArrayData, batch_lengths
from autotune.data.source import Source
from autotune.errors import UserError
from autotune.learner import Learner
from autotune.optim.schedules import Schedule
from autotune.task import Task

# What the Trainer cannot do under manual optimization, so `Learner` does it.
LEARNERS_OWN = ("gradient_clip_val", "gradient_clip_algorithm")


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


def assemble(config: Mapping[str, Any], on: str = "train") -> Assembly:
    """Build what a resolved config says; the same config and seed give the same weights.

    Raises:
        UserError: Something in it cannot be built or does not go together.
    """
    data = build_data(config, on)
    seed_everything(config["seed"], verbose=False)
    model = build_model(config, data)
    trainer = {key: value for key, value in config["trainer"].items() if key not in OWN_KEYS}
    if isinstance(model, LightningModule):
        return Assembly(model, data, _take_over(model, config), trainer)
    if not isinstance(data, ArrayData):
        raise UserError(
            "model._target_",
            f"{config['model']['_target_']} is a plain nn.Module, and a LightningDataModule says no task",
            "give a LightningModule, or data that autotune holds in memory",
        )
    learner = Learner(
        model,
        build_task(config, data),
        partial(build_optimizer, config["optimizer"]),
        build_schedule(config["schedule"]),
        data.updates_per_epoch,
        trainer["max_epochs"],
        trainer.get("gradient_clip_val"),
        trainer.get("gradient_clip_algorithm") or "norm",
    )
    return Assembly(learner, data, None, {key: value for key, value in trainer.items() if key not in LEARNERS_OWN})


def build_data(config: Mapping[str, Any], on: str = "train") -> LightningDataModule:
    """The section ``data`` as a LightningDataModule.

    Raises:
        UserError: It is neither a Source nor a LightningDataModule.
    """
    section = {key: value for key, value in config["data"].items() if key != "batch_size"}
    batch_size = config["data"].get("batch_size")
    made = construct("data", section, **({} if batch_size is None else {"batch_size": batch_size}))
    if isinstance(made, Source):
        return ArrayData(made, "full" if batch_size is None else batch_size, config["seed"], on)
    if isinstance(made, LightningDataModule):
        if on != "train":
            raise UserError("train.on", f"{on} needs data that autotune holds in memory", "give train.on=train")
        return made
    kinds = "autotune.data.source.Source or a LightningDataModule"
    raise UserError("data._target_", f"{config['data']['_target_']} makes no data", f"name a {kinds}")


def build_model(config: Mapping[str, Any], data: LightningDataModule) -> nn.Module:
    """The section ``model``; arguments ``input_shape`` and ``outputs`` come from the data where it knows them.

    Raises:
        UserError: It is no nn.Module.
    """
    given: dict[str, Any] = {}
    if isinstance(data, ArrayData):
        given = {"input_shape": tuple(data.split.train.features.shape[1:]), "outputs": data.split.outputs}
    model = construct("model", config["model"], **given)
    if not isinstance(model, nn.Module):
        target = config["model"]["_target_"]
        raise UserError("model._target_", f"{target} makes no model", "name an nn.Module or a LightningModule")
    return model


def build_task(config: Mapping[str, Any], data: ArrayData) -> Task:
    """The task of data in memory."""
    return Task(data.source.task, data.split.outputs, data.split.target_scale, config["objective"]["metric"])


def build_optimizer(section: Mapping[str, Any], parameters: Iterator[nn.Parameter]) -> Optimizer:
    """The section ``optimizer``.

    Raises:
        UserError: It is none.
    """
    if "_target_" not in section:
        own = "leaves the optimizer to the module"
        raise UserError(
            "optimizer", f"{section.get('name')} {own}, and this is an nn.Module", "name one: optimizer=adam"
        )
    made = construct("optimizer", section, parameters)
    if not isinstance(made, Optimizer):
        raise UserError("optimizer._target_", f"{section['_target_']} makes no optimizer", "name one of torch.optim")
    return made


def build_schedule(section: Mapping[str, Any]) -> Schedule:
    """The section ``schedule``.

    Raises:
        UserError: It is none.
    """
    if "_target_" not in section:
        own = "leaves the rate to the module"
        raise UserError(
            "schedule", f"{section.get('name')} {own}, and autotune's optimizer is used", "schedule=constant"
        )
    made = construct("schedule", section)
    if not isinstance(made, Schedule):
        remedy = "name one of autotune.optim.schedules"
        raise UserError("schedule._target_", f"{section['_target_']} makes no schedule", remedy)
    return made


def _take_over(module: LightningModule, config: Mapping[str, Any]) -> Schedule | None:
    """Give the user's module the config's optimizer, unless it is to keep its own (optimizer=own)."""
    if "_target_" not in config["optimizer"]:
        if "_target_" in config["schedule"]:
            what = f"{config['schedule'].get('name')} does not go with optimizer=own"
            raise UserError("schedule", what, "give schedule=own, or an optimizer")
        return None
    optimizer = partial(build_optimizer, config["optimizer"])
    module.configure_optimizers = lambda: optimizer(module.parameters())  # type: ignore[method-assign]
    return build_schedule(config["schedule"])


def refusal(config: Mapping[str, Any]) -> str | None:
    """Why a resolved config cannot be trained, found without training it; None where it can.

    Raises:
        UserError: It cannot even be built.
    """
    data = build_data(config)
    if not isinstance(data, ArrayData):
        if config["data"].get("batch_size") == "full":
            return "data.batch_size=full needs data that autotune holds in memory"
        return None
    samples = len(data.split.train)
    batch_size = config["data"].get("batch_size")
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
