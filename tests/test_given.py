"""Objects that a program gives become sections of a config."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy
import pytest
from lightning.pytorch import LightningDataModule
from torch import nn

from autotune import given
from autotune.construct import construct
from autotune.errors import UserError
from autotune.models.mlp import MLP


class Data(LightningDataModule):
    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.batch_size = batch_size


def test_what_can_be_imported_is_named_as_it_is_imported() -> None:
    assert given.model_section(MLP) == {"name": "mlp", "_target_": "autotune.models.mlp.MLP"}
    made = partial(nn.Linear, in_features=3, out_features="choice(1,2)")
    assert given.model_section(made) == {
        "name": "linear",
        "_target_": "torch.nn.modules.linear.Linear",
        "in_features": 3,
        "out_features": "choice(1,2)",
    }


def test_what_lives_in_a_function_is_kept() -> None:
    class Net(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.width = width

    section = given.model_section(partial(Net, width=7))
    assert section == {"name": "net", "_target_": "autotune.given.Net", "width": 7}
    made = construct("model", section)
    assert isinstance(made, Net)
    assert made.width == 7
    assert given.model_section(lambda: Net(3))["_target_"] == "autotune.given._lambda_"
    assert construct("model", given.model_section(lambda: Net(3))).width == 3


def test_data_is_a_class_or_an_object_that_all_trials_share() -> None:
    assert given.data_section(partial(Data, batch_size="choice(2,4)")) == {
        "name": "data",
        "_target_": "tests.test_given.Data",
        "batch_size": "choice(2,4)",
    }
    data = Data()
    section = given.data_section(data)
    assert construct("data", section) is construct("data", section) is data


def test_arrays_are_named_by_what_they_hold() -> None:
    features, target = numpy.arange(8.0).reshape(4, 2), [0, 1, 0, 1]
    section = given.data_section((features, target))
    assert section == given.data_section((features.copy(), target))
    assert section["arrays"] != given.data_section((features + 1, target))["arrays"]
    assert section["_target_"] == "autotune.data.in_memory.InMemory"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: given.model_section(nn.Linear(1, 1)),  # type: ignore[arg-type]
            "model: Linear is made already, and each trial needs weights of its own; "
            "give its class, or functools.partial(class, argument=...)",
        ),
        (
            lambda: given.model_section(partial(nn.Linear, 3)),
            "model: is a partial with 1 arguments that have no name; "
            "give them by name: functools.partial(class, argument=...)",
        ),
        (
            lambda: given.data_section(7),
            "data: 7 makes nothing; give a class, or functools.partial(class, argument=...)",
        ),
        (
            lambda: given.data_section(([1.0, 2.0], [1])),
            "data: has 2 samples and 1 targets; give as many of both: (features, target)",
        ),
    ],
)
def test_mistakes_are_named(make: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value) == said


def test_what_was_given_to_another_process_is_not_there() -> None:
    with pytest.raises(UserError) as caught:
        construct("model", {"_target_": "autotune.given.Missing"})
    assert str(caught.value) == (
        "model._target_: autotune.given.Missing was given to another process, where it lived and ended; "
        "give it again (autotune.run_search, run_train)"
    )
