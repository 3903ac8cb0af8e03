"""A trial that was killed between two of its epochs goes on from its checkpoint as if it had not been."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from autotune.executors import lane
from autotune.executors.choice import ALL, Choice, Manner
from autotune.executors.lightning import LightningExecutor
from autotune.executors.population import PopulationExecutor
from autotune.executors.resumption import chance, set_chance
from autotune.trial import Epoch, Executor, Reason, add_epoch

from ..fakes import FakeDesk, resolved
from .lanes import optimizer, same_curve, schedule

HERE = "tests.executors.test_resumption"
EPOCHS = 6

Make = Callable[[float | None], Executor]


class Killed(BaseException):
    """What nothing catches."""


def fix_way(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Have every lane computed in one way."""
    manner = Manner(ALL if way == "one pass" else None)
    # The fourth of what it is given are the members.
    monkeypatch.setattr(lane, "choose", lambda *given: Choice(manner, {}, len(given[3]), settled=True))


@pytest.fixture(params=["lightning", "one pass", "in turn"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an executor, given its checkpoint_seconds; a lane's way is not left to the clock."""
    if request.param == "lightning":
        return LightningExecutor

    fix_way(monkeypatch, request.param)
    return lambda seconds: PopulationExecutor(slots=8, checkpoint_seconds=seconds)


def config(**changes: Any) -> dict[str, Any]:
    """Batches of 16, 16, 16 and 12, in another order each epoch; BatchNorm and dropout."""
    model = {"batch_norm": True, "dropout": 0.3, **changes.pop("model", {})}
    trainer = {"max_epochs": EPOCHS, **changes.pop("trainer", {})}
    return {"task": changes.pop("task", {}), **resolved(**changes, model=model, trainer=trainer)}


def run(executor: Executor, desk: FakeDesk) -> None:
    """Train; whether it is killed is the desk's to say."""
    try:
        executor.run(desk)
    except Killed:
        assert not desk.ends


def killed_at(epoch: int) -> Callable[[Epoch], Reason | None]:
    """Judges nothing, and kills in an epoch."""

    def judge(heard: Epoch) -> None:
        if heard.epoch == epoch:
            raise Killed

    return judge


def whole(make: Make, configs: Sequence[Mapping[str, Any]]) -> FakeDesk:
    desk = FakeDesk(configs)
    run(make(None), desk)
    assert [end.reason for end in desk.ends] == [Reason.COMPLETED] * len(configs)
    return desk


def told(desk: FakeDesk, number: int) -> list[Epoch]:
    """All that a desk heard of a trial."""
    return [*desk.earlier.get(number, []), *desk.epochs_of(number)]


TRIALS: dict[str, dict[str, Any]] = {
    "adam plateau ema clip": config(
        optimizer=optimizer("adam", lr=0.02, weight_decay=0.01),
        schedule=schedule("plateau", patience=0, decay=0.5),
        trainer={"ema": 0.9, "gradient_clip_val": 0.1},
    ),
    "sgd one_cycle": config(
        optimizer=optimizer("sgd", lr=0.2, momentum=0.9),
        schedule=schedule("one_cycle"),
        trainer={"accumulate_grad_batches": 2, "gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"},
        seed=1,
    ),
    "adamw warmup dynamic": config(
        optimizer=optimizer("adamw"), schedule=schedule("dynamic", warmup=0.2), model={"batch_norm": False}, seed=2
    ),
    "nadam cosine": config(optimizer=optimizer("nadam"), schedule=schedule("cosine"), seed=3),
    "radam": config(optimizer=optimizer("radam"), seed=3),
    "rmsprop": config(optimizer=optimizer("rmsprop", momentum=0.5), trainer={"ema": 0.5}, seed=4),
    "adagrad": config(optimizer=optimizer("adagrad"), seed=4),
    "adafactor": config(optimizer=optimizer("adafactor"), schedule=schedule("wsd")),
    "muon": config(optimizer=optimizer("muon"), schedule=schedule("cosine"), seed=5),
    "bgd": config(optimizer=optimizer("bgd"), data={"batch_size": "full"}, schedule=schedule("dynamic")),
    "double": config(optimizer=optimizer("adam"), trainer={"precision": "64-true", "ema": 0.9}),
}


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_goes_on_as_if_it_had_not_been_killed(name: str, make: Make, tmp_path: Path) -> None:
    expected = whole(make, [TRIALS[name]])
    for epoch in (1, 4):
        folder = tmp_path / str(epoch)
        folder.mkdir()
        run(make(0.0), FakeDesk([TRIALS[name]], killed_at(epoch), checkpoints=folder / "c"))
        desk = FakeDesk([TRIALS[name]], checkpoints=folder / "c")
        run(make(0.0), desk)
        assert len(desk.earlier[0]) == epoch
        assert told(desk, 0) == expected.epochs  # to the last digit
        assert desk.end_of(0).reason == Reason.COMPLETED


def test_it_may_be_killed_again_and_again(make: Make, tmp_path: Path) -> None:
    trial = TRIALS["adam plateau ema clip"]
    for epoch in range(1, EPOCHS):
        run(make(0.0), FakeDesk([trial], killed_at(epoch), checkpoints=tmp_path / "c"))
    desk = FakeDesk([trial], checkpoints=tmp_path / "c")
    run(make(0.0), desk)
    assert [epoch.epoch for epoch in desk.epochs] == [EPOCHS - 1]
    assert told(desk, 0) == whole(make, [trial]).epochs


@pytest.mark.parametrize("way", ["one pass", "in turn"])
def test_a_trial_goes_on_in_another_lane(way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fix_way(monkeypatch, way)
    optimizers = ("adam", "sgd", "adagrad", "muon", "nadam", "adam", "rmsprop", "sgd")
    trials = [
        config(optimizer=optimizer(name), schedule=schedule("plateau", patience=0), seed=seed)
        for seed, name in enumerate(optimizers)
    ]
    expected = FakeDesk(trials)
    PopulationExecutor(slots=8).run(expected)
    run(PopulationExecutor(slots=8, checkpoint_seconds=0), FakeDesk(trials, killed_at(3), checkpoints=tmp_path / "c"))
    for number in (0, 3, 6):  # these begin anew, beside others that go on
        (tmp_path / "c" / f"{number}.ckpt").unlink()
    desk = FakeDesk(trials, checkpoints=tmp_path / "c")
    run(PopulationExecutor(slots=3, checkpoint_seconds=0), desk)
    assert desk.earlier.keys() == {1, 2, 4, 5, 7}
    for number in range(len(trials)):
        found, alone = (each.epochs_of(number) for each in (desk, expected))
        same_curve(
            [epoch.metrics for epoch in (*desk.earlier.get(number, []), *found)],
            [epoch.metrics for epoch in alone],
            1e-5,
        )


# When a state is kept.


def test_a_trial_shorter_than_the_interval_writes_nothing(make: Make, tmp_path: Path) -> None:
    desk = FakeDesk([config()], checkpoints=tmp_path / "c")
    run(make(3600.0), desk)
    assert desk.end_of(0).reason == Reason.COMPLETED
    assert not (tmp_path / "c").exists()


def test_null_neither_keeps_nor_takes_up(make: Make, tmp_path: Path) -> None:
    run(make(None), FakeDesk([config()], killed_at(3), checkpoints=tmp_path / "c"))
    assert not (tmp_path / "c").exists()
    run(make(0.0), FakeDesk([config()], killed_at(3), checkpoints=tmp_path / "c"))
    desk = FakeDesk([config()], checkpoints=tmp_path / "c")
    run(make(None), desk)
    assert not desk.earlier
    assert len(desk.epochs) == EPOCHS


def test_it_is_said_in_one_line(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(make(0.0), FakeDesk([config()], killed_at(3), checkpoints=tmp_path / "c"))
    with caplog.at_level(logging.INFO, "autotune"):
        run(make(0.0), FakeDesk([config()], checkpoints=tmp_path / "c"))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("autotune.")]
    assert ours == [f"trial 0 goes on after 3 epochs, kept in {tmp_path / 'c' / '0.ckpt'}"]


# What does not hold is not taken up.


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "said"), [(flip, "is damaged: its content is not what was written"), (cut, "is cut off: ")]
)
def test_a_damaged_checkpoint_is_named_and_the_trial_trained_from_the_start(
    damage: Callable[[Path], None], said: str, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c" / "0.ckpt"
    run(make(0.0), FakeDesk([config()], killed_at(3), checkpoints=path.parent))
    damage(path)
    desk = FakeDesk([config()], checkpoints=path.parent)
    run(make(3600.0), desk)
    (warning,) = (record.getMessage() for record in caplog.records if record.name.startswith("autotune."))
    assert warning.startswith(f"{path} {said}")
    assert warning.endswith("; trial 0 is trained from the start")
    assert not desk.earlier
    assert desk.epochs == whole(make, [config()]).epochs


@pytest.mark.parametrize(
    "other", [config(seed=1), config(model={"hidden": [8, 5]}), config(optimizer=optimizer("adam"))]
)
def test_a_checkpoint_of_another_trial_is_not_taken_up(
    other: dict[str, Any], make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(make(0.0), FakeDesk([config()], killed_at(3), checkpoints=tmp_path / "c"))
    desk = FakeDesk([other], checkpoints=tmp_path / "c")
    run(make(3600.0), desk)
    assert f"{tmp_path / 'c' / '0.ckpt'} is of another config; trial 0 is trained from the start" in caplog.text
    assert desk.epochs == whole(make, [other]).epochs


def test_what_the_other_executor_kept_is_not_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(LightningExecutor(0.0), FakeDesk([config()], killed_at(3), checkpoints=tmp_path / "c"))
    desk = FakeDesk([config()], checkpoints=tmp_path / "c")
    run(PopulationExecutor(1, checkpoint_seconds=0.0), desk)
    assert "was written by lightning on cpu, and this is population on cpu; trial 0" in caplog.text
    assert len(desk.epochs) == EPOCHS


# The user's own module, whose batches, schedulers and draws are its own.


class OwnData(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.made(0, 48), 16, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.made(1, 20), 20)

    @staticmethod
    def made(seed: int, samples: int) -> TensorDataset:
        features = torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(features, (features.sum(1) > 0).long())


class OwnModule(LightningModule):
    def __init__(self, breaks: str = "") -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 2))
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.breaks = breaks

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        self.seen += 1
        noisy = batch[0] + 0.1 * torch.randn_like(batch[0])
        return nn.functional.cross_entropy(self.layers(noisy), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val/loss", nn.functional.cross_entropy(self.layers(batch[0]), batch[1]))
        self.log("seen", self.seen)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.breaks:
            raise RuntimeError(self.breaks)


class OwnSchedulers(OwnModule):
    """Two schedulers at each epoch's end, one of which hears a metric."""

    def configure_optimizers(self) -> Any:
        one = torch.optim.Adam(self.layers[0].parameters(), lr=0.05)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(one, factor=0.5, patience=0)
        return {"optimizer": one, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}


class StepScheduler(OwnModule):
    def __init__(self, breaks: str = "") -> None:
        super().__init__(breaks)
        self.register_buffer("seen", torch.zeros(()))  # averages of buffers that are not persistent are kept by none

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.3)]


OWN = {"name": "own"}


def own(module: str, optimizer: Any = OWN, schedule: Any = OWN, trainer: Mapping[str, Any] | None = None) -> Any:
    return resolved(
        data={"_target_": f"{HERE}.OwnData"},
        model={"_target_": f"{HERE}.{module}"},
        optimizer=optimizer,
        schedule=schedule,
        objective={"metric": "val/loss"},
        trainer={"max_epochs": EPOCHS, **(trainer or {})},
    )


def curves(epochs: Sequence[Epoch]) -> dict[str, str]:
    """What was measured, NaN where nothing was, comparable with ==."""
    found: dict[str, list[float]] = {}
    for epoch in epochs:
        add_epoch(found, epoch)
    return {name: str(values) for name, values in found.items()}


@pytest.mark.parametrize(
    "trial",
    [
        own("OwnSchedulers"),
        own("StepScheduler", trainer={"ema": 0.9}),
        own("OwnModule", optimizer("adam"), schedule("plateau", patience=0)),
        own("OwnModule", optimizer("sgd"), schedule("one_cycle"), {"accumulate_grad_batches": 2}),
        own("StepScheduler", trainer={"check_val_every_n_epoch": 2, "num_sanity_val_steps": 1}),
    ],
)
def test_the_users_own_module_goes_on_too(trial: dict[str, Any], tmp_path: Path) -> None:
    expected = whole(LightningExecutor, [trial])
    for epoch in (1, 3, 4):
        folder = tmp_path / str(epoch)
        folder.mkdir()
        run(LightningExecutor(0.0), FakeDesk([trial], killed_at(epoch), checkpoints=folder / "c"))
        desk = FakeDesk([trial], checkpoints=folder / "c")
        run(LightningExecutor(0.0), desk)
        assert len(desk.earlier[0]) == epoch
        assert curves(told(desk, 0)) == curves(expected.epochs)


class Breaking(StepScheduler):
    def __init__(self) -> None:
        super().__init__("it has changed")


def test_what_the_users_module_does_not_load_is_trained_from_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = own("Breaking")
    run(LightningExecutor(0.0), FakeDesk([trial], killed_at(3), checkpoints=tmp_path / "c"))
    desk = FakeDesk([trial], checkpoints=tmp_path / "c")
    run(LightningExecutor(3600.0), desk)
    said = "cannot be gone on with (it has changed); trial 0 is trained from the start"
    assert f"{tmp_path / 'c' / '0.ckpt'} {said}" in caplog.text
    assert not desk.earlier
    assert desk.epochs == whole(LightningExecutor, [trial]).epochs


class Saving(Checkpoint):
    """A callback of the user's, which writes a checkpoint of its own."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)


def test_the_users_own_checkpoints_are_lightnings(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.ckpt"
    callback = {"_target_": f"{HERE}.Saving", "path": str(theirs)}
    trial = own("StepScheduler", trainer={"callbacks": [callback]})
    run(LightningExecutor(0.0), FakeDesk([trial], killed_at(3), checkpoints=tmp_path / "c"))
    assert torch.load(theirs, weights_only=True)["epoch"] == 3
    desk = FakeDesk([trial], checkpoints=tmp_path / "c")
    run(LightningExecutor(0.0), desk)
    assert told(desk, 0) == whole(LightningExecutor, [trial]).epochs


# What is drawn by chance.


def test_only_the_device_that_trains_is_asked_where_its_generator_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: Any) -> None:
        raise AssertionError("CUDA was begun to be used")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("init", "get_rng_state", "get_rng_state_all", "set_rng_state_all"):
        monkeypatch.setattr(torch.cuda, name, begun)
    cpu = torch.device("cpu")
    kept = chance(cpu)
    drawn = torch.rand(3)
    set_chance(kept, cpu)
    assert torch.equal(torch.rand(3), drawn)


def test_the_generator_of_a_gpu_that_trains_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [torch.Generator().manual_seed(number) for number in range(2)]
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "default_generators", gpus)
    second = torch.device("cuda", 1)
    first_before = gpus[0].get_state()
    kept = chance(second)
    drawn = torch.rand(3, generator=gpus[1])
    set_chance(kept, second)
    assert torch.equal(torch.rand(3, generator=gpus[1]), drawn)
    assert torch.equal(gpus[0].get_state(), first_before)
