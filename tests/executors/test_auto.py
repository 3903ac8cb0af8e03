from __future__ import annotations

import logging
from typing import Any

import pytest

from autotune.errors import UserError
from autotune.executors.auto import AutoExecutor
from autotune.trial import Executor, Reason

from ..fakes import FakeDesk, resolved
from .contract import ExecutorContract
from .lanes import together
from .test_population import HERE, own_module

OWN = "OwnModule is a LightningModule with a training_step of its own"


class TestAutoExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Executor:
        return AutoExecutor(slots=8)


def said(caplog: pytest.LogCaptureFixture, executor: AutoExecutor, rehearsed: list[dict[str, Any]]) -> list[str]:
    """What is logged of the executor when a search of these begins."""
    for config in rehearsed:
        executor.rehearse(config)
    with caplog.at_level(logging.INFO, logger="autotune"):
        executor.run(FakeDesk([]))
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("executor:")]


def test_where_all_can_be_stacked_the_population_trains(caplog: pytest.LogCaptureFixture) -> None:
    executor = AutoExecutor()
    assert said(caplog, executor, [resolved(), resolved(model={"batch_norm": True})]) == ["executor: population"]
    assert executor.name == "population"


def test_where_nothing_can_be_stacked_lightning_trains_and_it_says_why(caplog: pytest.LogCaptureFixture) -> None:
    executor = AutoExecutor()
    assert said(caplog, executor, [own_module(), own_module()]) == [f"executor: lightning, since {OWN}"]
    assert executor.name == "lightning"


def test_where_some_can_be_stacked_the_population_trains_and_it_says_what_goes_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    executor = AutoExecutor()
    callbacks = resolved(trainer={"callbacks": [{"_target_": "tests.test_assembly.Said", "word": "hello"}]})
    assert said(caplog, executor, [own_module(), resolved(), callbacks]) == [
        f"executor: population; one by one through Lightning where {OWN}; trainer.callbacks is for one training alone"
    ]
    assert executor.name == "population"


@pytest.mark.parametrize("model", ["Recurrent", "Branching"])
def test_networks_no_stack_can_hold_go_to_lightning(caplog: pytest.LogCaptureFixture, model: str) -> None:
    executor = AutoExecutor()
    config = resolved(model={"_target_": f"{HERE}.{model}"})
    (line,) = said(caplog, executor, [config])
    assert line.startswith("executor: lightning, since ")
    desk = FakeDesk([config])
    executor.run(desk)
    assert desk.end_of(0).reason == Reason.COMPLETED


def test_it_says_once_what_trains_however_often_it_is_run(caplog: pytest.LogCaptureFixture) -> None:
    executor = AutoExecutor()
    assert said(caplog, executor, [resolved()]) == ["executor: population"]
    assert said(caplog, executor, []) == ["executor: population"]


def test_what_was_not_rehearsed_is_trained_all_the_same() -> None:
    executor = AutoExecutor(slots=4)
    executor.rehearse(resolved())
    population = together([resolved(), own_module(), resolved(seed=1)], executor=executor)
    assert {end.reason for end in population.desk.ends} == {Reason.COMPLETED}
    assert {number for lane in population.lanes for number in lane} == {0, 2}


def test_a_rehearsal_refuses_what_cannot_be_built_by_either() -> None:
    with pytest.raises(UserError, match=r"^model.activation: no activation rellu; did you mean relu\?$"):
        AutoExecutor().rehearse(resolved(model={"activation": "rellu"}))
