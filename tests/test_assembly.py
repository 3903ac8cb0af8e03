"""Configs of the shipped parts and of a user's own, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from autotune.assembly import Assembly, assemble, build_data, refusal
from autotune.data.batches import ArrayData, epoch_order
from autotune.data.source import Arrays, Source
from autotune.errors import UserError
from autotune.executors.lightning import QUIET
from autotune.learner import Learner
from autotune.models.mlp import MLP
from autotune.optim.schedules import Constant, Exponential

from .fakes import resolved

HERE = "tests.test_assembly"


# What a user might bring.


class Net(nn.Module):
    """A network that asks for the data's sizes."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int = 3) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.layers = nn.Sequential(nn.Linear(input_shape[0], width), nn.BatchNorm1d(width), nn.Linear(width, outputs))

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.layers(features)
        return made


class FixedNet(nn.Module):
    """A network that knows its sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 1)

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.layer(features)
        return made


class OwnModule(LightningModule):
    """A LightningModule with an optimizer of its own."""

    def __init__(self, lr: float = 0.25) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 1)
        self.lr = lr
        self.seen: list[Any] = []

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.layer(features)
        return made

    def _loss(self, batch: Any) -> Tensor:
        features, target = batch
        return nn.functional.binary_cross_entropy_with_logits(self(features)[:, 0], target)

    def training_step(self, batch: Any, index: int) -> Tensor:
        self.seen.append(batch[0])
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class OwnData(LightningDataModule):
    """Made-up data behind DataLoaders."""

    def __init__(self, samples: int = 40, batch_size: int = 16) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        features = torch.rand(samples, 10, generator=random)
        self.parts = TensorDataset(features, (features[:, 0] > 0.5).float())
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts, self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.parts, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class OwnSource(Source):
    """Samples that are held in memory."""

    task: str = "regression"
    samples: int = 25

    def load(self) -> Arrays:
        random = numpy.random.default_rng(self.seed)
        return Arrays(random.normal(size=(self.samples, 2, 3)), random.normal(size=self.samples))


class Said(Callback):
    """A callback that takes a word."""

    def __init__(self, word: str) -> None:
        self.word = word


OWN_MODULE = {"name": "net", "_target_": f"{HERE}.OwnModule"}
OWN_DATA = {"name": "data", "_target_": f"{HERE}.OwnData", "batch_size": 8}
OWN = {"name": "own"}


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def network(assembly: Assembly) -> nn.Module:
    assert isinstance(assembly.module, Learner)
    return assembly.module.network


def fit(assembly: Assembly) -> None:
    Trainer(**QUIET, **assembly.trainer, enable_checkpointing=False).fit(assembly.module, datamodule=assembly.data)


def mistake(build: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        build()
    return str(caught.value)


# The same config and seed give the same weights.


def test_the_same_config_and_seed_give_the_same_weights_whatever_was_drawn_before() -> None:
    first = weights(assemble(resolved()).module)
    torch.manual_seed(123)
    torch.rand(7)
    assert torch.equal(weights(assemble(resolved()).module), first)


def test_they_are_the_weights_that_torch_draws_from_the_seed() -> None:
    made = assemble(resolved(seed=11)).module
    torch.manual_seed(11)
    assert torch.equal(weights(made), weights(MLP((10,), 1, (8, 4))))


def test_another_seed_gives_other_weights() -> None:
    assert not torch.equal(weights(assemble(resolved(seed=1)).module), weights(assemble(resolved(seed=2)).module))


def test_the_seed_of_the_data_does_not_change_the_weights() -> None:
    other = assemble(resolved(data={"seed": 9}))
    assert torch.equal(weights(other.module), weights(assemble(resolved()).module))


# Shipped parts.


def test_a_shipped_config_becomes_a_learner_on_data_in_memory() -> None:
    assembly = assemble(resolved(trainer={"gradient_clip_val": 1.0, "gradient_clip_algorithm": None, "name": "x"}))
    assert isinstance(network(assembly), MLP)
    assert isinstance(assembly.data, ArrayData)
    assert (assembly.data.batch_size, assembly.data.updates_per_epoch) == (16, 4)
    assert assembly.schedule is None
    # The learner clips, and a section's name is nobody's argument.
    assert assembly.trainer == {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "deterministic": True}


def test_the_learner_s_optimizer_has_the_config_s_values_and_the_network_s_parameters() -> None:
    section = {"name": "adam", "_target_": "torch.optim.Adam", "lr": 0.02, "betas": [0.8, 0.99]}
    assembly = assemble(resolved(optimizer=section))
    optimizer = assembly.module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert (group["lr"], list(group["betas"])) == (0.02, [0.8, 0.99])
    assert [id(one) for one in group["params"]] == [id(one) for one in network(assembly).parameters()]


def test_without_a_batch_size_the_whole_training_part_is_one_batch() -> None:
    config = resolved()
    del config["data"]["batch_size"]
    data = build_data(config)
    assert isinstance(data, ArrayData)
    assert data.batch_size == len(data.split.train)


def test_the_order_of_the_batches_is_that_of_the_trials_seed() -> None:
    data = build_data(resolved(seed=4))
    assert isinstance(data, ArrayData)
    (epoch,) = data.train_dataloader()
    features, _ = next(epoch)
    assert torch.equal(features, data.split.train.features[epoch_order(4, 0, 60)[:16]])


def test_arguments_of_the_trainer_that_name_a_class_are_made() -> None:
    said = {"_target_": f"{HERE}.Said", "word": "hello"}
    stopping = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss"}
    callbacks = assemble(resolved(trainer={"callbacks": [said, stopping]})).trainer["callbacks"]
    assert callbacks[0].word == "hello"
    assert isinstance(callbacks[1], EarlyStopping)


def test_an_argument_of_the_trainer_that_cannot_be_made_is_named() -> None:
    config = resolved(trainer={"callbacks": [{"_target_": f"{HERE}.Sad"}]})
    expected = (
        "trainer.callbacks.0._target_: tests.test_assembly.Sad cannot be imported (No module named "
        "'tests.test_assembly.Sad'; 'tests.test_assembly' is not a package); give the full name of a class"
    )
    assert mistake(lambda: assemble(config)) == expected


def test_checkpointing_cannot_be_turned_off_for_what_reports_by_it() -> None:
    assert "enable_checkpointing" not in assemble(resolved(trainer={"enable_checkpointing": False})).trainer


# A user's own parts.


def test_a_user_s_module_is_given_the_sizes_of_the_data() -> None:
    data = {"_target_": f"{HERE}.OwnSource", "batch_size": 5}
    made = network(assemble(resolved(model={"_target_": f"{HERE}.Net", "width": 4}, data=data)))
    assert isinstance(made, Net)
    assert made.input_shape == (2, 3)
    assert made.layers[0].out_features == 4
    assert made.layers[2].out_features == 1


def test_a_user_s_module_that_knows_its_sizes_is_given_none() -> None:
    assembly = assemble(resolved(model={"_target_": f"{HERE}.FixedNet"}))
    before = weights(assembly.module)
    fit(assembly)
    assert not torch.equal(weights(assembly.module), before)


def test_a_user_s_source_is_held_in_memory() -> None:
    data = build_data(resolved(data={"_target_": f"{HERE}.OwnSource", "samples": 50, "batch_size": 5}))
    assert isinstance(data, ArrayData)
    assert isinstance(data.source, OwnSource)
    assert (len(data.split.train), data.batch_size) == (30, 5)


def test_a_user_s_data_module_takes_the_batch_size() -> None:
    data = build_data(resolved(data=OWN_DATA))
    assert isinstance(data, OwnData)
    assert data.batch_size == 8


class FixedData(OwnData):
    """Says itself how large its batches are."""

    def __init__(self) -> None:
        super().__init__(batch_size=8)


def test_a_batch_size_that_a_user_s_data_module_does_not_take_is_named() -> None:
    fixed = {"_target_": f"{__name__}.FixedData"}
    assemble(resolved(data=fixed, model=OWN_MODULE))
    with pytest.raises(UserError, match=rf"^data.batch_size: {__name__}.FixedData takes no argument batch_size; "):
        assemble(resolved(data={**fixed, "batch_size": 16}, model=OWN_MODULE))


@pytest.mark.parametrize("key", ["limit_train_batches", "max_steps", "check_val_every_n_epoch", "fast_dev_run"])
def test_what_counts_a_trainers_batches_is_not_for_a_plain_module(key: str) -> None:
    with pytest.raises(UserError, match=rf"^trainer.{key}: 2 is not for an nn.Module, whose epochs autotune trains"):
        assemble(resolved(trainer={key: 2}))


def test_a_user_s_lightning_module_may_keep_its_own_optimizer() -> None:
    assembly = assemble(resolved(model=OWN_MODULE, data=OWN_DATA, optimizer=OWN, schedule=OWN))
    assert isinstance(assembly.module, OwnModule)
    assert assembly.schedule is None
    optimizer = assembly.module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_the_config_s_optimizer_and_schedule_take_over_a_user_s_lightning_module() -> None:
    schedule = {"_target_": "autotune.optim.schedules.Exponential", "decay": 0.5}
    assembly = assemble(resolved(model=OWN_MODULE, data=OWN_DATA, schedule=schedule))
    assert assembly.schedule == Exponential(0.5)
    optimizer: Any = assembly.module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert [id(one) for one in optimizer.param_groups[0]["params"]] == [id(one) for one in assembly.module.parameters()]


def test_a_user_s_lightning_module_is_given_clipping_by_its_trainer() -> None:
    config = resolved(model=OWN_MODULE, data=OWN_DATA, trainer={"gradient_clip_val": 1.0})
    assert assemble(config).trainer["gradient_clip_val"] == 1.0


def test_a_user_s_lightning_module_gets_data_in_memory_a_batch_at_a_time() -> None:
    assembly = assemble(resolved(model=OWN_MODULE, trainer={"max_epochs": 2}, seed=6))
    module, data = assembly.module, assembly.data
    assert isinstance(module, OwnModule)
    assert isinstance(data, ArrayData)
    fit(assembly)
    features = data.split.train.features
    expected = [rows for epoch in (0, 1) for rows in torch.split(features[epoch_order(6, epoch, 60)], 16)]
    assert len(module.seen) == 8
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(module.seen, expected, strict=True))


def test_a_constant_schedule_takes_over_too() -> None:
    assert assemble(resolved(model=OWN_MODULE, data=OWN_DATA)).schedule == Constant()


# What does not go together, or is nothing of the kind.


def test_a_schedule_does_not_go_with_an_optimizer_of_the_module_s_own() -> None:
    schedule = {"name": "cosine", "_target_": "autotune.optim.schedules.Cosine"}
    config = resolved(model=OWN_MODULE, data=OWN_DATA, optimizer=OWN, schedule=schedule)
    expected = "schedule: cosine does not go with optimizer=own; give schedule=own, or an optimizer"
    assert mistake(lambda: assemble(config)) == expected


@pytest.mark.parametrize("model", [{"name": "mlp"}, OWN_MODULE], ids=["nn.Module", "LightningModule"])
def test_a_schedule_of_the_module_s_own_does_not_go_with_the_config_s_optimizer(model: dict[str, Any]) -> None:
    expected = "schedule: own leaves the rate to the module, and autotune's optimizer is used; give schedule=constant"
    assert mistake(lambda: assemble(resolved(model=model, schedule=OWN))) == expected


def test_a_plain_module_has_no_optimizer_of_its_own() -> None:
    expected = "optimizer: own leaves the optimizer to the module, and this is an nn.Module; name one: optimizer=adam"
    assert mistake(lambda: assemble(resolved(optimizer=OWN)).module.configure_optimizers()) == expected


def test_a_plain_module_needs_data_that_says_its_task() -> None:
    expected = (
        "model._target_: tests.test_assembly.FixedNet is a plain nn.Module, and a LightningDataModule says no task; "
        "give a LightningModule, or data that autotune holds in memory"
    )
    assert mistake(lambda: assemble(resolved(model={"_target_": f"{HERE}.FixedNet"}, data=OWN_DATA))) == expected


def test_a_user_s_data_module_is_trained_on_both_parts() -> None:
    config = resolved(data=OWN_DATA)
    alone, both = (len(build_data(config, on).train_dataloader().dataset) for on in ("train", "train+val"))
    assert (alone, both) == (40, 80)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            "data",
            "data._target_: tests.test_assembly.Said makes no data; "
            "name an autotune.data.source.Source or a LightningDataModule",
        ),
        (
            "model",
            "model._target_: tests.test_assembly.Said makes no model; name an nn.Module or a LightningModule",
        ),
        (
            "schedule",
            "schedule._target_: tests.test_assembly.Said makes no schedule; name one of autotune.optim.schedules",
        ),
    ],
)
def test_a_target_that_makes_something_else_is_refused(section: str, expected: str) -> None:
    config = resolved(**{section: {"_target_": f"{HERE}.Said", "word": "hello"}})
    assert mistake(lambda: assemble(config)) == expected


def test_a_target_that_makes_no_optimizer_is_refused() -> None:
    config = resolved(optimizer={"_target_": f"{HERE}.Said"})
    expected = f"optimizer._target_: {HERE}.Said makes no optimizer; name one of torch.optim"
    assert mistake(lambda: assemble(config).module.configure_optimizers()) == expected


def test_an_optimizer_that_evaluates_the_loss_itself_is_refused() -> None:
    with pytest.raises(UserError, match=r"^optimizer._target_: torch.optim.LBFGS evaluates the loss again within a"):
        list(assemble(resolved(optimizer={"_target_": "torch.optim.LBFGS"})).module.configure_optimizers())


@pytest.mark.parametrize("name", ["Adamax", "Adadelta", "ASGD", "Rprop", "Adafactor"])
def test_any_other_of_torchs_optimizers_is_taken(name: str) -> None:
    module = assemble(resolved(optimizer={"_target_": f"torch.optim.{name}", "lr": 0.01})).module
    assert type(module.configure_optimizers()).__name__ == name


def test_an_unknown_task_is_refused() -> None:
    expected = "data.task: no task binray; did you mean binary?"
    assert mistake(lambda: assemble(resolved(data={"task": "binray"}))) == expected


# What cannot be trained, found without training: seed_mlp has 60 training samples.

NORMALISED = {"batch_norm": True}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (resolved(), None),
        (resolved(data={"batch_size": "full"}), None),
        (resolved(data={"batch_size": 60}), None),
        (resolved(data={"batch_size": 1}), None),
        (resolved(data={"batch_size": 59}), None),
        (resolved(model=NORMALISED), None),
        (resolved(model=NORMALISED, data={"batch_size": "full"}), None),
        (resolved(model=NORMALISED, data={"batch_size": 58}), None),
        (
            resolved(data={"batch_size": 61}),
            "data.batch_size=61 is larger than the training set of 60",
        ),
        (
            resolved(model=NORMALISED, data={"batch_size": 59}),
            "BatchNorm cannot normalise a batch of one, and 60 samples in batches of 59 end with one",
        ),
        (
            resolved(model=NORMALISED, data={"batch_size": 1}),
            "BatchNorm cannot normalise a batch of one, and 60 samples in batches of 1 end with one",
        ),
        (
            resolved(model={"_target_": f"{HERE}.Net"}, data={"batch_size": 59}),
            "BatchNorm cannot normalise a batch of one, and 60 samples in batches of 59 end with one",
        ),
        (resolved(model=OWN_MODULE, data=OWN_DATA), None),
        (
            resolved(model=OWN_MODULE, data={**OWN_DATA, "batch_size": "full"}),
            "data.batch_size=full needs data that autotune holds in memory",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(config: dict[str, Any], why: str | None) -> None:
    assert refusal(config) == why


def test_what_is_refused_would_indeed_fail() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        fit(assemble(resolved(model=NORMALISED, data={"batch_size": 59})))


def test_what_cannot_be_built_raises_when_it_is_looked_at() -> None:
    config = resolved(data={"_target_": "autotune.data.digits.Digit"})
    assert mistake(lambda: refusal(config)).startswith("data._target_: autotune.data.digits.Digit cannot be imported")


# A module's own groups of parameters, under the config's optimizer.


class Grouped(OwnModule):
    """Its optimizer has groups, as the test says."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def configure_optimizers(self) -> Any:
        weight, bias = [self.layer.weight], [self.layer.bias]
        match self.kind:
            case "decays":
                groups = [{"params": weight, "weight_decay": 0.01}, {"params": bias, "weight_decay": 0.0}]
                return {"optimizer": torch.optim.AdamW(groups, lr=3.0)}
            case "rates":
                return torch.optim.SGD([{"params": weight, "lr": 0.02}, {"params": bias}], lr=0.2)
            case "rates of its own":
                made = torch.optim.Adam([{"params": weight, "lr": 0.1}, {"params": bias, "lr": 0.4}])
                return [made], [torch.optim.lr_scheduler.LambdaLR(made, lambda _: 0.0)]
            case "one":
                return torch.optim.SGD(bias, lr=3.0, weight_decay=0.5)
            case "several":
                return [torch.optim.SGD(weight), torch.optim.SGD(bias)]
        raise LookupError("no such kind")


def grouped(kind: str) -> Any:
    adam = {"name": "adam", "_target_": "torch.optim.Adam", "lr": 0.5, "weight_decay": 0.25}
    model = {"_target_": f"{HERE}.Grouped", "kind": kind}
    made = assemble(resolved(model=model, data=OWN_DATA, optimizer=adam)).module
    return made.configure_optimizers()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("decays", [(10, 0.5, 0.01), (1, 0.5, 0.0)]),
        ("rates", [(10, 0.05, 0.25), (1, 0.5, 0.25)]),
        ("rates of its own", [(10, 0.125, 0.25), (1, 0.5, 0.25)]),
        ("one", [(1, 0.5, 0.25)]),
        ("broken", [(11, 0.5, 0.25)]),
    ],
)
def test_a_module_s_own_groups_stay_with_their_decays_and_the_ratios_of_their_rates(
    kind: str, expected: list[tuple[int, float, float]]
) -> None:
    made = grouped(kind)
    assert type(made) is torch.optim.Adam
    found = [
        (sum(each.numel() for each in group["params"]), group["lr"], group["weight_decay"])
        for group in made.param_groups
    ]
    assert found == [pytest.approx(each) for each in expected]


def test_several_optimizers_are_not_replaced_by_one() -> None:
    assert mistake(lambda: grouped("several")).startswith(
        "optimizer: Grouped makes 2 optimizers of its own, and adam is one for all of it; give optimizer=own schedule="
    )


def test_an_optimizer_and_a_scheduler_of_torch_may_be_parts_of_a_model() -> None:
    parts = {
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.125},
        "scheduler": {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "_partial_": True, "patience": 3},
    }
    config = resolved(model={"_target_": f"{HERE}.Kept", "parts": parts}, data=OWN_DATA, optimizer=OWN, schedule=OWN)
    module: Any = assemble(config).module
    made = module.parts["optimizer"](params=module.parameters())
    assert (type(made), made.param_groups[0]["lr"]) == (torch.optim.Adam, 0.125)
    assert module.parts["scheduler"](made).patience == 3


class Kept(OwnModule):
    """Keeps what it is given."""

    def __init__(self, parts: Any) -> None:
        super().__init__()
        self.parts = parts
