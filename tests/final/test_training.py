"""One final training: which weights are kept, and what is tested of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

from autotune.compose import compose
from autotune.data import batches
from autotune.errors import UserError
from autotune.final.training import Trained, is_tested, train_and_test
from autotune.given import model_section
from autotune.settings import Objective
from autotune.train import Plan


def planned(*overrides: str) -> Plan:
    small = ["trainer.accelerator=cpu", "trainer.max_epochs=4", "model.hidden=[16]", "model.batch_norm=true"]
    return Plan.of(compose("train", [*small, *overrides]))


def run(plan: Plan, folder: Path, heard: list[Any] | None = None) -> Trained:
    def hear(metrics: Mapping[str, float], epoch: int, *_: Any) -> None:
        if heard is not None:
            heard.append((epoch, dict(metrics)))

    return train_and_test(plan.resolved, plan.on, plan.epochs, plan.objective, folder / "best.ckpt", hear)


def test_the_best_epoch_is_kept_and_every_epoch_is_heard(tmp_path: Path) -> None:
    heard: list[Any] = []
    trained = run(planned("optimizer=sgd", "optimizer.lr=1.0"), tmp_path, heard)
    assert [epoch for epoch, _ in heard] == [1, 2, 3, 4]
    accuracies = [metrics["val/accuracy"] for _, metrics in heard]
    assert trained.score == max(accuracies)
    assert trained.kept_epoch == accuracies.index(max(accuracies)) + 1
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    left = trained.assembly.module.state_dict()
    assert all(torch.equal(kept[name], left[name].cpu()) for name in kept)
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt"}


@pytest.mark.parametrize("relative", [False, True])
def test_weights_that_are_not_what_was_written_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    plan = planned()
    monkeypatch.chdir(tmp_path)
    weights = Path("best.ckpt") if relative else tmp_path / "best.ckpt"

    def flip_at_the_end(_: Mapping[str, float], epoch: int, *__: Any) -> None:
        if epoch == 4:
            content = bytearray(weights.read_bytes())
            content[len(content) // 2] ^= 1
            weights.write_bytes(content)

    with pytest.raises(UserError) as refused:
        train_and_test(plan.resolved, plan.on, plan.epochs, plan.objective, weights, flip_at_the_end)
    assert str(refused.value) == f"disk: {weights} is damaged: its content is not what was written; train again"


def test_it_is_a_function_of_config_and_seed(tmp_path: Path) -> None:
    once = run(planned("seed=3"), tmp_path)
    other = run(planned("seed=4"), tmp_path)
    again = run(planned("seed=3"), tmp_path)
    assert (once.tested, once.score, once.kept_epoch) == (again.tested, again.score, again.kept_epoch)
    assert once.tested != other.tested
    assert set(once.tested) == {"test/loss", "test/accuracy"}


class Own(LightningModule):
    """A module that keeps another one, a path and a number among its hyperparameters."""

    def __init__(self, input_shape: Any, outputs: int, state: Any = None) -> None:
        super().__init__()
        net = torch.nn.Linear(input_shape[0], outputs)
        self.save_hyperparameters({"net": net, "file": Path("x"), "outputs": outputs})
        self.net, self.state = net, state

    def get_extra_state(self) -> Any:
        return None if self.state is None else Path("somewhere")

    def set_extra_state(self, state: Any) -> None:
        assert state is None

    def training_step(self, batch: Any, _: int) -> Any:
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1].long())
        self.log("val/accuracy", -loss)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        self.net(batch[0])

    test_step = validation_step


LIGHTNINGS_ADVICE = pytest.mark.filterwarnings("ignore:Attribute 'net' is an instance")


def of_own(**arguments: Any) -> Plan:
    plan = planned("trainer.max_epochs=2")
    return replace(plan, resolved={**plan.resolved, "model": model_section(partial(Own, **arguments))})


@LIGHTNINGS_ADVICE
def test_hyperparameters_that_are_no_plain_data_are_left_out_and_said_before_the_first_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    said = "best.ckpt is without what is no plain data: hyper_parameters.net, hyper_parameters.file; "
    plan = of_own()

    def hear(_: Mapping[str, float], epoch: int, *_more: Any) -> None:
        heard.append((epoch, [record.message for record in caplog.records if record.message.startswith(said)]))

    with caplog.at_level(logging.INFO):
        trained = train_and_test(plan.resolved, plan.on, 2, plan.objective, tmp_path / "best.ckpt", hear)
    assert [(epoch, len(lines)) for epoch, lines in heard] == [(1, 1), (2, 1)]
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert kept["hyper_parameters"] == {"outputs": 10}
    assert torch.equal(kept["state_dict"]["net.weight"], trained.assembly.module.state_dict()["net.weight"].cpu())
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt"}


@LIGHTNINGS_ADVICE
def test_weights_that_cannot_be_read_back_are_refused_before_the_first_epoch(tmp_path: Path) -> None:
    heard: list[Any] = []
    with pytest.raises(UserError, match=r"^model: its state cannot be read back as plain data \(pathlib.*; keep "):
        run(of_own(state=1), tmp_path, heard)
    assert heard == []
    assert list(tmp_path.iterdir()) == []


def test_the_test_part_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out, looked = batches.held_out, []

    def counted(*arguments: Any) -> Any:
        looked.append(arguments)
        return held_out(*arguments)

    monkeypatch.setattr(batches, "held_out", counted)
    run(planned(), tmp_path)
    assert len(looked) == 1


def test_on_both_parts_the_last_epoch_is_kept(tmp_path: Path) -> None:
    heard: list[Any] = []
    trained = run(planned("train.on=train+val"), tmp_path, heard)
    assert (trained.kept_epoch, trained.score) == (4, None)
    assert not any(name.startswith("val/") for _, metrics in heard for name in metrics)
    assert "test/accuracy" in trained.tested


def test_a_metric_that_nothing_logs(tmp_path: Path) -> None:
    plan = planned()
    objective = Objective("val/acuracy", "maximize", 0.0, None)
    with pytest.raises(
        UserError, match=r"^objective.metric: val/acuracy is not logged; logged are lr, train/loss, val"
    ):
        train_and_test(plan.resolved, "train", 1, objective, tmp_path / "best.ckpt", lambda *_: None)


def test_an_epoch_without_a_value_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autotune.learner import Learner

    note = Learner._note

    def every_second(self: Learner, name: str, value: torch.Tensor) -> None:
        if name != "val/accuracy" or self.trainer.current_epoch % 2 == 1 or self.trainer.testing:
            note(self, name, value)

    monkeypatch.setattr(Learner, "_note", every_second)
    heard: list[Any] = []
    trained = run(planned("optimizer=sgd", "optimizer.lr=1.0"), tmp_path, heard)
    measured = {epoch: metrics["val/accuracy"] for epoch, metrics in heard if "val/accuracy" in metrics}
    assert list(measured) == [2, 4]
    assert trained.score == max(measured.values()) == measured[trained.kept_epoch]


def test_a_module_without_a_test_step_is_not_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autotune.learner import Learner

    monkeypatch.setattr(Learner, "test_step", LightningModule.test_step)
    trained = run(planned("trainer.max_epochs=1"), tmp_path)
    assert trained.tested == {}
    assert not is_tested(trained.assembly)
