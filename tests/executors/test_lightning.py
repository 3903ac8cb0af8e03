from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from autotune.errors import UserError
from autotune.executors.lightning import LightningExecutor
from autotune.executors.memory import out_of_memory
from autotune.trial import Epoch, Executor, Reason
from autotune.trust.targets import Allowed, allowing

from ..fakes import FakeDesk, resolved
from ..test_assembly import OWN, OWN_DATA, OWN_MODULE, OwnData
from .contract import ExecutorContract

HERE = "tests.executors.test_lightning"


@pytest.fixture
def executor() -> LightningExecutor:
    return LightningExecutor()


class TestLightningExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return LightningExecutor()


# A user's own LightningModule on a LightningDataModule of 40 samples in batches of 8.


class Mapped(LightningModule):
    """Has no forward, answers a mapping, logs a name of its own, writes down the rates; its losses may be given."""

    rates: list[float]

    def __init__(self, losses: list[float] | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 1)
        self.losses = losses
        Mapped.rates = []

    def training_step(self, batch: Any, index: int) -> dict[str, Tensor]:
        Mapped.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        loss = ((self.layer(batch[0])[:, 0] - batch[1]) ** 2).mean()
        if self.losses is not None:
            loss = loss * 0 + self.losses[self.current_epoch]
        return {"loss": loss}

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("quality", -((self.layer(batch[0])[:, 0] - batch[1]) ** 2).mean())


def own(**changes: Any) -> dict[str, Any]:
    return resolved(**{"model": OWN_MODULE, "data": OWN_DATA, "objective": {"metric": "val_loss"}, **changes})


def mapped(schedule: dict[str, Any], losses: list[float] | None = None, **trainer: Any) -> dict[str, Any]:
    model = {"_target_": f"{HERE}.Mapped", "losses": losses}
    return own(model=model, schedule=schedule, trainer=trainer)


class Halving(Mapped):
    """Halves its rate with each epoch, by a scheduler of Lightning's."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def test_the_rate_of_a_schedule_of_the_modules_own_is_that_of_the_epochs_updates(executor: LightningExecutor) -> None:
    config = own(model={"_target_": f"{HERE}.Halving"}, optimizer=OWN, schedule=OWN, objective={"metric": "quality"})
    desk = FakeDesk([config])
    executor.run(desk)
    told = [epoch.metrics["lr"] for epoch in desk.epochs]
    assert told == [0.2 * 0.5**epoch for epoch in range(len(told))]
    batches = len(Mapped.rates) // len(told)
    assert told == Mapped.rates[batches - 1 :: batches]


@pytest.mark.parametrize(
    "config", [own(), own(optimizer=OWN, schedule=OWN)], ids=["autotune's optimizer", "its own optimizer"]
)
def test_a_user_s_lightning_module_is_trained_judged_and_costed(
    executor: LightningExecutor, config: dict[str, Any]
) -> None:
    desk = FakeDesk([config], judge=lambda epoch: Reason.PRUNED if epoch.epoch == 1 else None)
    executor.run(desk)
    assert [epoch.epoch for epoch in desk.epochs] == [0, 1]
    assert all(set(epoch.metrics) == {"train_loss", "val_loss", "lr"} for epoch in desk.epochs)
    assert desk.epochs[1].metrics["val_loss"] < desk.epochs[0].metrics["val_loss"]
    assert desk.epochs[0].metrics["lr"] == (0.25 if config["optimizer"] == OWN else 0.1)
    end = desk.end_of(0)
    assert end.reason == Reason.PRUNED
    assert end.cost["cost/parameters"] == 11
    assert end.cost["cost/samples_per_second"] * end.cost["cost/epoch_seconds"] == pytest.approx(40)
    assert {"cost/latency_batch_seconds", "cost/latency_sample_seconds"} < set(end.cost)


def test_a_user_s_lightning_module_measures_exactly_the_same_twice(executor: LightningExecutor) -> None:
    desk = FakeDesk([own(), own(), own(seed=1)])
    executor.run(desk)
    first, second, other = ([epoch.metrics for epoch in desk.epochs_of(number)] for number in range(3))
    assert first == second
    assert first != other


class Logging(Mapped):
    """Logs by every way there is."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch: Any, index: int) -> dict[str, Tensor]:
        found = super().training_step(batch, index)
        self.log("train_loss", found["loss"], on_step=True, on_epoch=True)
        if self.logger is not None:
            self.logger.log_metrics({"by_hand": 1.0}, step=self.global_step)
        return found

    def on_validation_epoch_end(self) -> None:
        if self.logger is not None:
            self.logger.experiment.add_image("picture", torch.zeros(1, 2, 2), self.current_epoch)  # type: ignore[union-attr]

    def on_fit_end(self) -> None:
        if self.logger is not None:
            self.logger.log_metrics({"at_last": 2.0}, step=100)


def logging_module(**trainer: Any) -> dict[str, Any]:
    model = {"_target_": f"{HERE}.Logging"}
    return own(
        model=model, objective={"metric": "quality"}, trainer={"max_epochs": 2, "log_every_n_steps": 2, **trainer}
    )


def test_what_a_module_logs_through_its_logger_is_told(executor: LightningExecutor, tmp_path: Path) -> None:
    desk = FakeDesk([logging_module()], folders=tmp_path)
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    logged = [each.logged for each in (*desk.epochs, desk.end_of(0))]
    values = [(each.name, each.step) for part in logged for each in part.values]
    assert [step for name, step in values if name == "by_hand"] == list(range(10))
    # Five batches an epoch; the epoch's own values are among its metrics and not told again.
    assert [step for name, step in values if name == "steps/train_loss_step"] == [1, 3, 5, 7, 9]
    assert {name for name, _ in values} == {"by_hand", "steps/train_loss_step", "at_last"}
    assert ("at_last", 100) in [(each.name, each.step) for each in logged[-1].values]
    assert logged[0].hyperparameters == {"size": "3"}
    assert logged[-1].files == {
        f"images/picture/{epoch}.png": tmp_path / f"0/images/picture/{epoch}.png" for epoch in (0, 1)
    }
    assert set(desk.epochs[0].metrics) == {"train_loss", "train_loss_step", "train_loss_epoch", "quality", "lr"}


def test_a_module_has_no_logger_where_that_is_turned_off(executor: LightningExecutor, tmp_path: Path) -> None:
    desk = FakeDesk([logging_module(logger=False)], folders=tmp_path)
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    assert not any(each.logged for each in (*desk.epochs, desk.end_of(0)))
    assert not list(tmp_path.iterdir())


def test_hyperparameters_of_module_and_data_may_differ(executor: LightningExecutor) -> None:
    model = {"_target_": f"{HERE}.Named", "size": 3}
    data = {"_target_": f"{HERE}.NamedData", "size": 4}
    desk = FakeDesk([own(model=model, data=data, objective={"metric": "quality"})])
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED


class Named(Mapped):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.save_hyperparameters()


class NamedData(OwnData):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.save_hyperparameters()


MONITOR = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor"}


@pytest.mark.parametrize("config", [own(), resolved()], ids=["a user's module", "our own"])
def test_a_callback_that_needs_a_logger_has_one(executor: LightningExecutor, config: dict[str, Any]) -> None:
    config["trainer"] = {**config["trainer"], "callbacks": [MONITOR]}
    desk = FakeDesk([config])
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    assert [epoch.metrics["lr-SGD"] for epoch in desk.epochs] == pytest.approx([0.1] * 3)
    assert not any(epoch.logged.values for epoch in desk.epochs)


CHECKPOINTS = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "save_top_k": -1, "filename": "{epoch}"}


@pytest.mark.parametrize("logger", [True, False])
@pytest.mark.parametrize(("dirpath", "within"), [(None, "checkpoints"), ("mine/best", "mine/best")])
def test_files_of_callbacks_lie_in_the_trial_s_folder(
    executor: LightningExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logger: bool,
    dirpath: str | None,
    within: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    callback = {**CHECKPOINTS, "dirpath": dirpath}
    desk = FakeDesk([own(trainer={"callbacks": [callback], "logger": logger})] * 2, folders=tmp_path / "trials")
    with allowing(Allowed(("tests", "lightning.pytorch.callbacks.ModelCheckpoint"))):
        for _ in range(2):  # as if the trial was run again: what an earlier run left is in no one's way
            executor.run(FakeDesk([own(trainer={"callbacks": [callback]})], folders=tmp_path / "trials"))
        executor.run(desk)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    expected = {f"trials/{number}/{within}/epoch={epoch}.ckpt" for number in (0, 1) for epoch in range(3)}
    assert names == expected


def test_a_logger_of_the_user_s_takes_the_place_of_ours(executor: LightningExecutor, tmp_path: Path) -> None:
    logger = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "logs"}
    desk = FakeDesk([own(trainer={"logger": logger})], folders=tmp_path)
    with allowing(Allowed(("tests", "lightning.pytorch.loggers.CSVLogger"))):
        executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    assert list(tmp_path.rglob("metrics.csv")) == [tmp_path / "0/logs/lightning_logs/version_0/metrics.csv"]


class Sparse(Mapped):
    """Logs its quality in some epochs alone, counted from 0."""

    def __init__(self, epochs: list[int], losses: list[float] | None = None) -> None:
        super().__init__(losses)
        self.epochs = epochs

    def validation_step(self, batch: Any, index: int) -> None:
        if self.current_epoch in self.epochs:
            super().validation_step(batch, index)


def measured_in(desk: FakeDesk) -> list[int]:
    """The epochs that have a quality."""
    return [epoch.epoch for epoch in desk.epochs if "quality" in epoch.metrics]


@pytest.mark.parametrize("epochs", [[0, 1, 2, 3], [1, 3], [0, 3], [2], []])
def test_what_was_not_logged_in_an_epoch_is_not_told_of_it(executor: LightningExecutor, epochs: list[int]) -> None:
    model = {"_target_": f"{HERE}.Sparse", "epochs": epochs}
    desk = FakeDesk([own(model=model, trainer={"max_epochs": 4})])
    executor.run(desk)
    assert measured_in(desk) == epochs
    assert [epoch.epoch for epoch in desk.epochs] == [0, 1, 2, 3]
    assert desk.end_of(0).reason == Reason.COMPLETED


@pytest.mark.parametrize(
    ("trainer", "epochs"),
    [
        ({"check_val_every_n_epoch": 2}, [1, 3]),
        ({"check_val_every_n_epoch": 4}, [3]),
        ({"check_val_every_n_epoch": None, "val_check_interval": 7}, [1, 2]),  # of 5 batches an epoch
        ({"val_check_interval": 0.4}, [0, 1, 2, 3]),
    ],
)
def test_an_epoch_without_validation_has_no_value(
    executor: LightningExecutor, trainer: dict[str, Any], epochs: list[int]
) -> None:
    constant = {"_target_": "autotune.optim.schedules.Constant"}
    desk = FakeDesk([mapped(constant, max_epochs=4, **trainer)])
    executor.run(desk)
    assert measured_in(desk) == epochs
    values = [epoch.metrics["quality"] for epoch in desk.epochs if "quality" in epoch.metrics]
    assert len(set(values)) == len(values)


def test_a_training_loss_that_is_no_number_is_told_though_no_loss_is_logged(executor: LightningExecutor) -> None:
    constant = {"_target_": "autotune.optim.schedules.Constant"}
    desk = FakeDesk([mapped(constant, losses=[1.0, math.nan, 1.0])])
    executor.run(desk)
    assert "train/loss" not in desk.epochs[0].metrics
    assert math.isnan(desk.epochs[1].metrics["train/loss"])


def test_a_metric_that_autotune_s_own_training_has_not_is_refused_before_it(executor: LightningExecutor) -> None:
    with pytest.raises(
        UserError, match=r"^objective.metric: val/acuracy is not logged; logged are lr, train/loss, val/"
    ):
        executor.rehearse(resolved(objective={"metric": "val/acuracy"}))


def test_a_user_s_lightning_module_trains_on_data_in_memory(executor: LightningExecutor) -> None:
    desk = FakeDesk([own(data={"_target_": "autotune.data.seed_mlp.SeedMLP", "batch_size": 16})])
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    assert len(desk.epochs) == 3


def test_a_user_s_lightning_module_is_interrupted_between_batches(executor: LightningExecutor) -> None:
    desk = FakeDesk([mapped({"_target_": "autotune.optim.schedules.Constant"})], interrupted=lambda asked: asked >= 2)
    executor.run(desk)
    assert desk.epochs == []
    assert desk.end_of(0).reason == Reason.INTERRUPTED
    assert len(Mapped.rates) == 3


def test_the_latency_of_a_module_without_forward_is_that_of_what_its_step_calls(executor: LightningExecutor) -> None:
    desk = FakeDesk([mapped({"_target_": "autotune.optim.schedules.Constant"})])
    executor.run(desk)
    assert set(desk.epochs[0].metrics) == {"quality", "lr"}
    assert set(desk.end_of(0).cost) == {
        "cost/parameters",
        "cost/model_bytes",
        "cost/peak_memory_bytes",
        "cost/epoch_seconds",
        "cost/samples_per_second",
        "cost/latency_batch_seconds",
        "cost/latency_sample_seconds",
    }


def test_a_schedule_sets_the_rates_of_a_user_s_module_batch_by_batch(executor: LightningExecutor) -> None:
    executor.run(FakeDesk([mapped({"_target_": "autotune.optim.schedules.Exponential", "decay": 0.5})]))
    assert Mapped.rates == pytest.approx([0.1] * 5 + [0.05] * 5 + [0.025] * 5)


def test_with_accumulated_gradients_the_rate_changes_from_update_to_update(executor: LightningExecutor) -> None:
    # Five batches are two updates of two and one of one: three an epoch, six in all.
    cosine = {"_target_": "autotune.optim.schedules.Cosine"}
    executor.run(FakeDesk([mapped(cosine, max_epochs=2, accumulate_grad_batches=2)]))
    updates = [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    cosines = [1.0, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]  # (1 + cos(k pi / 6)) / 2
    assert Mapped.rates == pytest.approx([0.1 * cosines[update] for update in updates])


def test_the_dynamic_rate_hears_the_training_losses_of_a_user_s_module(executor: LightningExecutor) -> None:
    # The falls are 2, 1 and 0, so smooth is 0, 1/2 and 1 in the epochs after, the rate 0.1 / (1 + smooth).
    dynamic = {"_target_": "autotune.optim.schedules.Dynamic", "decay": 1.0, "memory": 0.0}
    executor.run(FakeDesk([mapped(dynamic, losses=[4.0, 2.0, 1.0, 1.0, 1.0], max_epochs=5)]))
    assert Mapped.rates == pytest.approx([0.1] * 15 + [0.1 / 1.5] * 5 + [0.05] * 5)


class Stream(IterableDataset[Any]):
    """40 samples without a length."""

    def __iter__(self) -> Iterator[Any]:
        draw = torch.Generator().manual_seed(0)
        return ((torch.rand(10, generator=draw), torch.tensor(1.0)) for _ in range(40))


class Streamed(LightningDataModule):
    """A stream to train on."""

    def train_dataloader(self) -> Any:
        return DataLoader(Stream(), 8)

    def val_dataloader(self) -> Any:
        return DataLoader(Stream(), 8)


def streamed(schedule: dict[str, Any], **trainer: Any) -> dict[str, Any]:
    return {**mapped(schedule, **trainer), "data": {"name": "stream", "_target_": f"{HERE}.Streamed"}}


SCHEDULES = "autotune.optim.schedules"


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ({"_target_": f"{SCHEDULES}.Constant"}, [1.0] * 15),
        ({"_target_": f"{SCHEDULES}.Exponential", "decay": 0.5}, [1.0] * 5 + [0.5] * 5 + [0.25] * 5),
        ({"_target_": f"{SCHEDULES}.Step", "decay": 0.5, "every": 2}, [1.0] * 10 + [0.5] * 5),
        (
            {"_target_": f"{SCHEDULES}.InverseTime", "decay": 1.0},
            [1.0] * 5 + [1 / (1 + update / 5) for update in range(5, 15)],  # the first epoch is counted
        ),
    ],
    ids=["constant", "exponential", "step", "inverse time"],
)
def test_data_without_a_length_is_trained_by_schedules_that_count_epochs(
    schedule: dict[str, Any], factors: list[float], executor: LightningExecutor
) -> None:
    desk = FakeDesk([streamed(schedule)])
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    assert Mapped.rates == pytest.approx([0.1 * factor for factor in factors])


@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_a_schedule_that_counts_all_updates_is_refused_where_the_data_has_no_length(
    warmup: float, executor: LightningExecutor
) -> None:
    name = "Constant" if warmup else "Cosine"
    with pytest.raises(UserError, match=r"^schedule: .* has no length .*; give \+trainer.limit_train_batches=N or"):
        executor.run(FakeDesk([streamed({"_target_": f"{SCHEDULES}.{name}", "warmup": warmup})]))
    assert Mapped.rates == []


@pytest.mark.parametrize("more", [{"max_steps": 8}, {"max_steps": 8, "max_epochs": -1}, {"limit_train_batches": 4}])
def test_with_an_end_such_a_schedule_counts_to_it(more: dict[str, Any], executor: LightningExecutor) -> None:
    desk = FakeDesk([streamed({"_target_": f"{SCHEDULES}.Linear"}, **{"max_epochs": 2, **more})])
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    assert Mapped.rates == pytest.approx([0.1 * (1 - update / 8) for update in range(8)])


def test_steps_end_a_trial_within_an_epoch_which_is_judged_as_its_last(executor: LightningExecutor) -> None:
    desk = FakeDesk([mapped({"_target_": f"{SCHEDULES}.Linear"}, max_epochs=9, max_steps=7)])
    executor.run(desk)
    assert Mapped.rates == pytest.approx([0.1 * (1 - update / 7) for update in range(7)])
    assert [(epoch.epoch, epoch.is_last, "quality" in epoch.metrics) for epoch in desk.epochs] == [
        (0, False, True),
        (1, True, True),
    ]
    assert desk.epochs[0].metrics["quality"] != desk.epochs[1].metrics["quality"]
    assert desk.end_of(0).reason == Reason.COMPLETED


class ByHand(LightningModule):
    """Optimizes by hand, with two optimizers."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = nn.Linear(10, 4), nn.Linear(4, 1)
        self.lr = lr

    def training_step(self, batch: Any, index: int) -> None:
        both: Any = self.optimizers()
        one, other = both
        loss = ((self.second(self.first(batch[0]))[:, 0] - batch[1]) ** 2).mean()
        for each in (one, other):
            each.zero_grad()
        self.manual_backward(loss)
        for each in (one, other):
            each.step()

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", ((self.second(self.first(batch[0]))[:, 0] - batch[1]) ** 2).mean())

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(each.parameters(), self.lr) for each in (self.first, self.second)], []


def test_a_module_that_optimizes_by_hand_trains_by_its_own_optimizers(executor: LightningExecutor) -> None:
    desk = FakeDesk([own(model={"_target_": f"{HERE}.ByHand"}, optimizer=OWN, schedule=OWN)])
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    losses = [epoch.metrics["val_loss"] for epoch in desk.epochs]
    assert losses == sorted(losses, reverse=True)


def test_with_any_other_optimizer_it_is_refused_before_it_trains(executor: LightningExecutor) -> None:
    said = (
        r"^optimizer: ByHand optimizes by hand \(automatic_optimization = False\) and makes 2 optimizers of its own, "
        r"and \S+ is one for all of it; give optimizer=own schedule=own"
    )
    with pytest.raises(UserError, match=said):
        executor.rehearse(own(model={"_target_": f"{HERE}.ByHand"}))


# The Trainer is told what the config says.


def test_a_callback_of_the_user_s_may_end_a_training(executor: LightningExecutor) -> None:
    stopping = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss", "patience": 1}
    rising = {"optimizer": {"lr": 1e-12}}
    desk = FakeDesk([resolved(**rising, trainer={"max_epochs": 50, "callbacks": [{**stopping, "min_delta": 1.0}]})])
    executor.run(desk)
    assert [epoch.epoch for epoch in desk.epochs] == [0, 1]
    assert desk.end_of(0).reason == Reason.COMPLETED


def test_turning_checkpoints_off_changes_nothing(executor: LightningExecutor) -> None:
    desk = FakeDesk([resolved(trainer={"enable_checkpointing": False})])
    executor.run(desk)
    assert len(desk.epochs) == 3


def test_nothing_is_written(executor: LightningExecutor, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    executor.run(FakeDesk([resolved(), own()]))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """Lightning leaves SIGINT ignored after a Ctrl-C; whoever listened before listens again."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_a_ctrl_c_stays_one(executor: LightningExecutor) -> None:
    def judge(_: Epoch) -> None:
        raise KeyboardInterrupt

    desk = FakeDesk([resolved()], judge=judge)
    with pytest.raises(KeyboardInterrupt):
        executor.run(desk)
    assert desk.ends == []


def test_a_sigterm_that_lightning_hears_is_an_interrupt(executor: LightningExecutor) -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        desk = FakeDesk([resolved()], judge=lambda _: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            executor.run(desk)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (heard, desk.ends) == ([signal.SIGTERM], [])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("the user's queue is out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: BaseException, expected: bool) -> None:
    assert out_of_memory(error) is expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("config", [resolved(), own()], ids=["shipped", "a user's own"])
def test_on_a_gpu_a_trial_is_trained_and_costed(executor: LightningExecutor, config: dict[str, Any]) -> None:
    desk = FakeDesk([{**config, "trainer": {**config["trainer"], "accelerator": "gpu"}}])
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    assert desk.end_of(0).cost["cost/latency_sample_seconds"] > 0


def test_a_model_whose_weights_are_averaged_is_costed_once(executor: LightningExecutor) -> None:
    plain, averaged = FakeDesk([resolved()]), FakeDesk([resolved(trainer={"ema": 0.9})])
    executor.run(plain)
    executor.run(averaged)
    for name in ("cost/parameters", "cost/model_bytes"):
        assert averaged.end_of(0).cost[name] == plain.end_of(0).cost[name]
