from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import pytest
import torch

from autotune.construct import accepts, construct, target
from autotune.errors import UserError
from autotune.models.mlp import MLP
from autotune.optim.schedules import Exponential
from autotune.trust.targets import Allowed, allowing


class Recorder:
    """Keeps the arguments it was made of."""

    def __init__(self, first: Any, second: Any = None, name: str = "unnamed", *, size: int = 0) -> None:
        self.given = {"first": first, "second": second, "name": name, "size": size}


class Nameless:
    """Takes no name."""

    def __init__(self, size: int = 0) -> None:
        self.size = size


class Picky:
    """Takes no size at all."""

    def __init__(self, size: int) -> None:
        raise ValueError(f"no such size: {size}")


def anything(*arguments: Any, **named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return arguments, named


HERE = "tests.test_construct"


def refusal_of(key: str, section: dict[str, Any], *arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        construct(key, section, *arguments)
    return str(caught.value)


def test_a_section_becomes_what_it_names_made_of_its_values() -> None:
    made = construct(
        "schedule", {"name": "exponential", "_target_": "autotune.optim.schedules.Exponential", "decay": 0.5}
    )
    assert made == Exponential(0.5)


def test_positional_arguments_come_in_front() -> None:
    made = construct("x", {"_target_": f"{HERE}.Recorder", "second": 2}, 1)
    assert made.given == {"first": 1, "second": 2, "name": "unnamed", "size": 0}


def test_given_values_fill_what_the_section_leaves_open() -> None:
    made = construct("x", {"_target_": f"{HERE}.Recorder", "first": 1}, first="other", size=3)
    assert made.given == {"first": 1, "second": None, "name": "unnamed", "size": 3}


def test_given_values_that_the_target_does_not_take_are_left_out() -> None:
    assert construct("x", {"_target_": f"{HERE}.Nameless"}, size=3, outputs=4).size == 3


def test_a_section_s_name_is_an_argument_only_where_one_is_called_so() -> None:
    assert construct("x", {"_target_": f"{HERE}.Recorder", "name": "n", "first": 1}).given["name"] == "n"
    assert construct("x", {"_target_": f"{HERE}.Nameless", "name": "n"}).size == 0


def test_what_a_section_fixes_elsewhere_is_no_argument() -> None:
    fixing = {"_target_": f"{HERE}.Nameless", "_fix_": {"data.batch_size": "full"}, "size": 2}
    assert construct("optimizer", fixing).size == 2


def test_a_target_that_takes_any_name_is_given_any() -> None:
    assert construct("x", {"_target_": f"{HERE}.anything", "b": 2}, 1) == ((1,), {"b": 2})


def test_accepts_lists_names_and_whether_any_other_goes() -> None:
    assert accepts(Recorder) == ({"first", "second", "name", "size"}, False)
    assert accepts(anything) == (set(), True)


def test_nested_sections_are_made_first() -> None:
    section = {
        "_target_": f"{HERE}.Recorder",
        "first": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1},
        "second": [{"_target_": "torch.nn.ReLU"}, {"deep": {"_target_": "torch.nn.Tanh"}}],
    }
    made = construct("model", section).given
    assert isinstance(made["first"], torch.nn.Linear)
    assert isinstance(made["second"][0], torch.nn.ReLU)
    assert isinstance(made["second"][1]["deep"], torch.nn.Tanh)


def test_values_without_a_target_stay_as_they_are() -> None:
    values = [1, [2.5, None], {"a": OrderedDict(b=(3, 4))}]
    assert construct("x", {"_target_": f"{HERE}.Recorder", "first": values}).given["first"] is values


def test_a_nested_section_that_cannot_be_found_is_named_by_its_key() -> None:
    section = {"_target_": f"{HERE}.Recorder", "first": {"_target_": "torch.nn.Lienar"}}
    expected = (
        "model.first._target_: torch.nn.Lienar cannot be imported (No module named 'torch.nn.Lienar'); "
        "give the full name of a class"
    )
    assert refusal_of("model", section) == expected


def test_a_nested_section_with_a_wrong_argument_says_so() -> None:
    section = {"_target_": f"{HERE}.Recorder", "first": [{"_target_": f"{HERE}.Nameless", "sise": 1}]}
    expected = "model.first.0.sise: tests.test_construct.Nameless takes no argument sise; did you mean size?"
    assert refusal_of("model", section) == expected


def test_a_part_takes_arguments_by_place_and_may_be_left_to_be_made() -> None:
    section = {
        "_target_": f"{HERE}.Recorder",
        "first": {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]},
        "second": {"_target_": "torch.nn.Linear", "_partial_": True, "in_features": 2},
    }
    made = construct("model", section).given
    assert isinstance(made["first"][0], torch.nn.ReLU)
    assert made["second"](out_features=3).weight.shape == (3, 2)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"_partial_": True}, "model._partial_: is Hydra's, and is not taken here; leave it out"),
        ({"_args_": [1]}, "model._args_: is Hydra's, and is not taken here; leave it out"),
        ({"_convert_": "all"}, "model._convert_: is Hydra's, and is not taken here; leave it out"),
        (
            {"size": {"_target_": f"{HERE}.Nameless", "_recursive_": False}},
            "model.size._recursive_: is Hydra's, and is not taken here; leave it out",
        ),
        (
            {"size": {"_target_": f"{HERE}.Nameless", "_args_": 3}},
            "model.size._args_: 3 is no list; list the arguments: [...]",
        ),
    ],
)
def test_other_keys_of_hydras_are_refused(section: dict[str, Any], expected: str) -> None:
    assert refusal_of("model", {"_target_": f"{HERE}.Nameless", **section}) == expected


@pytest.mark.parametrize("section", [{}, {"_target_": None}, {"_target_": ""}], ids=["none", "null", "empty"])
def test_a_section_that_names_nothing_is_refused(section: dict[str, Any]) -> None:
    expected = "model._target_: names nothing; give the full name of a class: package.module.Class"
    assert refusal_of("model", section) == expected


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere.Net", "No module named 'nowhere'"),
        ("torch.nn.Lienar", "No module named 'torch.nn.Lienar'"),
        ("Net", "No module named 'Net'"),
        (".Net", "there is a part without a name"),
    ],
)
def test_a_target_that_cannot_be_imported_is_refused_with_the_reason(path: str, why: str) -> None:
    expected = f"model._target_: {path} cannot be imported ({why}); give the full name of a class"
    with allowing(Allowed(names=frozenset([path]))):
        assert refusal_of("model", {"_target_": path}) == expected


def test_a_target_that_makes_nothing_is_refused() -> None:
    expected = "model._target_: math.pi is not callable; give the full name of a class"
    with allowing(Allowed(names=frozenset(["math.pi"]))):
        assert refusal_of("model", {"_target_": "math.pi"}) == expected


def test_the_target_is_what_the_path_names() -> None:
    assert target("model", {"_target_": "autotune.models.mlp.MLP"}) is MLP


@pytest.mark.parametrize(
    ("key", "section", "arguments", "expected"),
    [
        (
            "optimizer",
            {"_target_": "torch.optim.SGD", "momentun": 0.9},
            ([],),
            "optimizer.momentun: torch.optim.SGD takes no argument momentun; did you mean momentum?",
        ),
        (
            "schedule",
            {"_target_": "autotune.optim.schedules.Dynamic", "xyz": 1},
            (),
            "schedule.xyz: autotune.optim.schedules.Dynamic takes no argument xyz; known are decay, memory",
        ),
        (
            "schedule",
            {"_target_": "autotune.optim.schedules.Constant", "decay": 1},
            (),
            "schedule.decay: autotune.optim.schedules.Constant takes no argument decay; none are known",
        ),
    ],
)
def test_an_unknown_argument_is_answered_with_the_nearest_known_one(
    key: str, section: dict[str, Any], arguments: tuple[Any, ...], expected: str
) -> None:
    assert refusal_of(key, section, *arguments) == expected


def test_an_optimizer_s_parameters_are_not_offered_as_an_argument() -> None:
    message = refusal_of("optimizer", {"_target_": "torch.optim.SGD", "parms": 1}, [])
    assert message.startswith("optimizer.parms: torch.optim.SGD takes no argument parms; known are ")
    assert "params" not in message


def test_a_missing_argument_is_named() -> None:
    expected = (
        "schedule: autotune.optim.schedules.Exponential cannot be made (missing a required argument: 'decay'); "
        "give the missing value"
    )
    assert refusal_of("schedule", {"_target_": "autotune.optim.schedules.Exponential"}) == expected


def test_what_a_library_refuses_is_a_mistake_in_the_config() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    said = refusal_of("optimizer", {"_target_": "torch.optim.SGD", "lr": -1}, parameters)
    assert said == "optimizer: torch.optim.SGD refuses its arguments (Invalid learning rate: -1); see its documentation"


def test_what_the_users_own_code_raises_passes_through() -> None:
    with pytest.raises(ValueError, match=re.escape("no such size: 7")):
        construct("x", {"_target_": f"{HERE}.Picky", "size": 7})
