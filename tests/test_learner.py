"""The learner against plain PyTorch and against numbers computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from autotune.assembly import Assembly, assemble
from autotune.data import batches
from autotune.data.batches import ArrayData, Batch, epoch_order
from autotune.data.source import held_out
from autotune.executors.lightning import QUIET
from autotune.learner import Interrupted, Learner
from autotune.models.mlp import MLP
from autotune.optim.schedules import Constant, Exponential, Schedule
from autotune.optim.update import Update
from autotune.task import Task

from .fakes import Loader, resolved


class History(Callback):
    """Keeps what was logged in each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


class Given(LightningDataModule):
    """Serves the same batches every epoch, and judges by them where no others are given."""

    def __init__(self, train: list[Batch], val: list[Batch] | None = None) -> None:
        super().__init__()
        self.train, self.val = train, val or train

    def train_dataloader(self) -> Loader:
        return Loader([self.train])

    def val_dataloader(self) -> Loader:
        return Loader(self.val)


def trainer(epochs: int, **arguments: Any) -> tuple[Trainer, History]:
    history = History()
    made = Trainer(
        **{**QUIET, "accelerator": "cpu", "max_epochs": epochs, **arguments},
        enable_checkpointing=False,
        callbacks=[history],
    )
    return made, history


def fit(assembly: Assembly) -> list[dict[str, float]]:
    """Train what was assembled; what each epoch measured."""
    made, history = trainer(assembly.trainer["max_epochs"], **assembly.trainer)
    made.fit(assembly.module, datamodule=assembly.data)
    return history.epochs


def line(weights: list[float]) -> nn.Linear:
    """A linear model without bias."""
    made = nn.Linear(len(weights), 1, bias=False)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([weights]))
    return made


def train_line(
    weights: list[float],
    train: list[Batch],
    lr: float = 0.1,
    epochs: int = 1,
    schedule: Schedule | None = None,
    **clip: Any,
) -> list[float]:
    """Train a line by gradient descent on squared errors; the weights after it."""
    network = line(weights)
    learner = Learner(
        network,
        Task("regression", 1),
        partial(torch.optim.SGD, lr=lr),
        schedule or Constant(),
        len(train),
        epochs,
        Update(**clip),
    )
    made, _ = trainer(epochs)
    made.fit(learner, datamodule=Given(train))
    return [float(weight) for weight in network.weight.detach()[0]]


def batch(*samples: tuple[list[float], float]) -> Batch:
    return torch.tensor([features for features, _ in samples]), torch.tensor([target for _, target in samples])


# (w x - y)^2 has the gradient 2 (w x - y) x.
ONE, TWO = ([1.0], 0.0), ([2.0], 0.0)


def test_sgd_goes_against_the_gradient_of_each_batch() -> None:
    # theta - a g: w = 1, g = 2, w = 1 - 0.1 * 2 = 0.8; then g = 2 * 1.6 * 2 = 6.4, w = 0.8 - 0.64 = 0.16.
    assert train_line([1.0], [batch(ONE), batch(TWO)]) == pytest.approx([0.16])


def test_bgd_goes_against_the_mean_gradient_of_all_samples_once_an_epoch() -> None:
    # theta - a (1/m) sum g: g = (2 w + 8 w) / 2 = 5 w, so w halves every epoch.
    assert train_line([1.0], [batch(ONE, TWO)], epochs=1) == pytest.approx([0.5])
    assert train_line([1.0], [batch(ONE, TWO)], epochs=3) == pytest.approx([0.125])


def test_the_schedule_scales_the_rate_of_each_epoch() -> None:
    # With half the rate in the second epoch w goes to 0.5 and then to 0.5 - 0.05 * 2.5 = 0.375.
    assert train_line([1.0], [batch(ONE, TWO)], epochs=2, schedule=Exponential(0.5)) == pytest.approx([0.375])


# x = (3, 4), y = -1/2, w = 0: the gradient is 2 * 1/2 * (3, 4), of norm 5.
STEEP = [batch(([3.0, 4.0], -0.5))]


@pytest.mark.parametrize(
    ("clip", "gradient"),
    [
        ({}, [3.0, 4.0]),
        ({"clip": None}, [3.0, 4.0]),
        ({"clip": 1.0}, [0.6, 0.8]),
        ({"clip": 1.0, "clip_by": "norm"}, [0.6, 0.8]),
        ({"clip": 6.0, "clip_by": "norm"}, [3.0, 4.0]),
        ({"clip": 3.5, "clip_by": "value"}, [3.0, 3.5]),
    ],
    ids=["none", "null", "norm by default", "norm", "norm not reached", "value"],
)
def test_gradients_are_clipped_before_the_update(clip: dict[str, Any], gradient: list[float]) -> None:
    expected = [-0.1 * g for g in gradient]
    assert train_line([0.0, 0.0], STEEP, **clip) == pytest.approx(expected, rel=1e-5)


def test_the_trainer_s_clipping_settings_are_the_learner_s() -> None:
    steep = {"optimizer": {"lr": 100.0}}
    clipped = resolved(
        **steep, trainer={"gradient_clip_val": 1e-6, "gradient_clip_algorithm": "value", "max_epochs": 1}
    )
    assembly = assemble(clipped)
    before = [parameter.detach().clone() for parameter in assembly.module.parameters()]
    fit(assembly)
    for new, old in zip(assembly.module.parameters(), before, strict=True):
        # Four updates of 100 * 1e-6 at most; float32 rounds a number near 1 to 1e-7.
        assert (new - old).abs().max() <= 4e-4 + 1e-6


def bare(
    config: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, amp: bool = False
) -> list[dict[str, float]]:
    """The same training as a plain PyTorch loop; what each epoch measured."""
    data = data_of(config)
    train, val = data.split.train, data.split.val
    loss_of = nn.BCEWithLogitsLoss()
    measured = []
    for epoch in range(config["trainer"]["max_epochs"]):
        network.train()
        losses = 0.0
        for rows in torch.split(epoch_order(config["seed"], epoch, len(train)), data.batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                loss = loss_of(network(train.features[rows])[:, 0], train.target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item() * len(rows)
        network.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
            outputs = network(val.features)[:, 0]
            judged = loss_of(outputs, val.target).item()
        hits = ((outputs > 0) == (val.target > 0)).float().mean().item()
        measured.append({"train/loss": losses / len(train), "val/loss": judged, "val/accuracy": hits})
    return measured


def data_of(config: dict[str, Any]) -> ArrayData:
    data = assemble(config).data
    assert isinstance(data, ArrayData)
    return data


MakeOptimizer = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]

TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any], MakeOptimizer]] = {
    "sgd": ({}, {"_target_": "torch.optim.SGD", "lr": 0.1}, partial(torch.optim.SGD, lr=0.1)),
    "sgd with momentum and dropout": (
        {"dropout": 0.3},
        {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    ),
    "adam with batch norm": (
        {"batch_norm": True},
        {"_target_": "torch.optim.Adam", "lr": 0.01},
        partial(torch.optim.Adam, lr=0.01),
    ),
}


@pytest.mark.parametrize(("model", "section", "make"), TRAININGS.values(), ids=TRAININGS)
@pytest.mark.parametrize("batch_size", [7, 16], ids=["7, last one 4", "16, last one 12"])
def test_a_training_is_that_of_a_plain_loop_with_the_same_seed_and_batches(
    model: dict[str, Any], section: dict[str, Any], make: MakeOptimizer, batch_size: int
) -> None:
    config = resolved(model=model, optimizer=section, data={"batch_size": batch_size}, seed=5)
    assembly = assemble(config)
    measured = fit(assembly)

    data = data_of(config)
    torch.manual_seed(5)
    network = MLP((10,), 1, (8, 4), **model)
    expected = bare(config, network, make(network.parameters()))

    mine = assembly.module.network.state_dict()  # type: ignore[union-attr]
    for name, value in network.state_dict().items():
        assert torch.equal(mine[name], value), name
    assert len(data.split.train) % batch_size != 0
    assert measured == [pytest.approx(epoch, rel=1e-6) for epoch in expected]


def test_half_precision_casts_the_weights_anew_for_each_batch() -> None:
    # The Trainer's autocast spans the learner's whole epoch: it must not keep the weights of its first batch.
    config = resolved(trainer={"precision": "bf16-mixed"}, optimizer={"lr": 1.0})
    assembly = assemble(config)
    measured = fit(assembly)
    torch.manual_seed(0)
    network = MLP((10,), 1, (8, 4))
    expected = bare(config, network, torch.optim.SGD(network.parameters(), lr=1.0), amp=True)
    for mine, theirs in zip(assembly.module.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert [epoch["train/loss"] for epoch in measured] == pytest.approx([e["train/loss"] for e in expected], rel=1e-5)


class Counting(torch.optim.SGD):
    """Counts its updates."""

    updates = 0

    def step(self, *arguments: Any, **named: Any) -> Any:
        Counting.updates += 1
        return super().step(*arguments, **named)


def test_a_full_batch_makes_one_update_an_epoch_from_the_mean_gradient_of_all_samples() -> None:
    Counting.updates = 0
    optimizer = {"name": "bgd", "_target_": "tests.test_learner.Counting", "lr": 0.5}
    trainer = {"max_epochs": 4, "precision": "64-true"}  # in which rounding errors do not grow to what is compared
    config = resolved(data={"batch_size": "full"}, optimizer=optimizer, trainer=trainer)
    assembly = assemble(config)
    fit(assembly)
    assert Counting.updates == 4

    # theta - a (1/m) sum over the samples of the gradient of each alone
    train = data_of(config).split.train
    torch.manual_seed(0)
    network = MLP((10,), 1, (8, 4)).double()
    for _ in range(4):
        gradients = [torch.zeros_like(parameter) for parameter in network.parameters()]
        for features, target in zip(train.features.double(), train.target.double(), strict=True):
            loss = nn.functional.binary_cross_entropy_with_logits(network(features[None])[0, 0], target)
            for total, gradient in zip(gradients, torch.autograd.grad(loss, list(network.parameters())), strict=True):
                total += gradient
        with torch.no_grad():
            for parameter, total in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.5 * total / len(train)
    for mine, theirs in zip(assembly.module.parameters(), network.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)


def test_losses_are_means_over_samples_not_over_batches() -> None:
    # w = 1 throughout: squared errors 1, 1, 1 in one batch and 16 in another are 19/4 each, not (1 + 16) / 2.
    small, large = batch(ONE, ONE, ONE), batch(([4.0], 0.0))
    learner = Learner(line([1.0]), Task("regression", 1), partial(torch.optim.SGD, lr=0.0), Constant(), 2, 1)
    made, history = trainer(1)
    made.fit(learner, datamodule=Given([small, large]))
    assert history.epochs[0]["train/loss"] == pytest.approx(19 / 4)
    assert history.epochs[0]["val/loss"] == pytest.approx(19 / 4)
    assert history.epochs[0]["val/rmse"] == pytest.approx((19 / 4) ** 0.5)


def test_metrics_are_those_of_the_whole_part_and_begin_anew_each_epoch() -> None:
    # The sign of x is the class; two of three in the first batch and none in the second are right.
    val = [batch(([1.0], 1.0), ([-1.0], 0.0), ([1.0], 0.0)), batch(([-1.0], 1.0))]
    learner = Learner(line([1.0]), Task("binary", 1), partial(torch.optim.SGD, lr=0.0), Constant(), 1, 2)
    made, history = trainer(2)
    made.fit(learner, datamodule=Given([batch(ONE)], val))
    assert [epoch["val/accuracy"] for epoch in history.epochs] == [0.5, 0.5]


def test_validation_in_uneven_slices_is_validation_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(assemble(resolved()))
    monkeypatch.setattr(batches, "EVALUATION_BATCH", 7)
    assert fit(assemble(resolved())) == [pytest.approx(epoch, rel=1e-6) for epoch in whole]


def test_the_objective_s_metric_is_logged_too() -> None:
    (epoch,) = fit(assemble(resolved(objective={"metric": "val/f1"}, trainer={"max_epochs": 1})))
    assert set(epoch) == {"train/loss", "val/loss", "val/accuracy", "val/f1"}


def test_testing_judges_the_test_part_in_evaluation_mode() -> None:
    assembly = assemble(resolved(model={"dropout": 0.5}))
    fit(assembly)
    made, _ = trainer(1)
    (tested,) = made.test(assembly.module, datamodule=assembly.data, verbose=False)
    part = held_out(data_of(resolved()).source)
    with torch.no_grad():
        outputs: Tensor = assembly.module.eval()(part.features)[:, 0]
    assert tested == {
        "test/loss": pytest.approx(nn.functional.binary_cross_entropy_with_logits(outputs, part.target).item()),
        "test/accuracy": pytest.approx(((outputs > 0) == (part.target > 0)).float().mean().item()),
    }


def test_asked_to_stop_it_raises_before_the_next_batch() -> None:
    network = line([1.0])
    learner = Learner(network, Task("regression", 1), partial(torch.optim.SGD, lr=0.1), Constant(), 2, 5)
    answers = iter([False, True])
    learner.stop_requested = lambda: next(answers)
    made, history = trainer(5)
    with pytest.raises(Interrupted):
        made.fit(learner, datamodule=Given([batch(ONE), batch(TWO)]))
    assert float(network.weight.detach()) == pytest.approx(0.8)  # after one update, see SGD above
    assert history.epochs == []
