"""Which rule is whose: exactly torch's own classes with the options a rule reads, else one member after another."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop

from autotune.assembly import build_optimizer
from autotune.compose import conf_dir
from autotune.optim.stacked import (
    OneByOne,
    StackedAdafactor,
    StackedAdagrad,
    StackedAdam,
    StackedNAdam,
    StackedOptimizer,
    StackedRAdam,
    StackedRMSprop,
    StackedSGD,
    stacked_for,
)

from .members import Adafactor, OwnSGD

CLASSES: dict[type[Optimizer], type[StackedOptimizer]] = {
    SGD: StackedSGD,
    Adam: StackedAdam,
    AdamW: StackedAdam,
    RMSprop: StackedRMSprop,
    Adagrad: StackedAdagrad,
    NAdam: StackedNAdam,
    RAdam: StackedRAdam,
    **({} if Adafactor is None else {Adafactor: StackedAdafactor}),
}
RULES: dict[str, type[StackedOptimizer]] = {
    "sgd": StackedSGD,
    "bgd": StackedSGD,
    "adam": StackedAdam,
    "adamw": StackedAdam,
    "rmsprop": StackedRMSprop,
    "adagrad": StackedAdagrad,
    "nadam": StackedNAdam,
    "radam": StackedRAdam,
    "adafactor": StackedAdafactor,
    "muon": OneByOne,
}
NOT_COVERED: dict[str, Any] = {
    "maximize": True,
    "amsgrad": True,
    "capturable": True,
    "differentiable": True,
    "centered": True,
    "alpha": 1.0,
    "lr": torch.tensor(0.1),
}
NEEDS = {"adafactor": "Adafactor", "muon": "Muon"}


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2, 3, dtype=dtype)), nn.Parameter(torch.ones(3, dtype=dtype))]


def section(name: str) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(conf_dir() / "optimizer" / f"{name}.yaml"))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def test_every_branch_of_sweep_all_is_looked_at() -> None:
    assert set(section("sweep_all")["only"]) == set(RULES)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_the_optimizers_of_sweep_all_step_at_once_but_for_muon(name: str, decoupled: bool) -> None:
    if name in NEEDS and not hasattr(torch.optim, NEEDS[name]):
        pytest.skip(f"the installed torch has no {NEEDS[name]}")
    content = {key: value for key, value in section(name).items() if key != "_fix_"}
    if decoupled and "decoupled" in content:
        content |= {"decoupled": True, "weight_decay": 0.1}
    assert stacked_for(build_optimizer(content, iter(parameters()))) is RULES[name]


@pytest.mark.parametrize("optimizer", CLASSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rule_claims_its_own_class_alone(optimizer: type[Optimizer], dtype: torch.dtype) -> None:
    made = optimizer(parameters(dtype))  # type: ignore[call-arg]
    assert stacked_for(made) is CLASSES[optimizer]
    assert [rule for rule in {*CLASSES.values()} if rule.claims(made)] == [CLASSES[optimizer]]


@pytest.mark.parametrize("optimizer", CLASSES)
def test_how_torch_computes_a_step_is_no_matter(optimizer: type[Optimizer]) -> None:
    assert stacked_for(optimizer(parameters(), foreach=True)) is CLASSES[optimizer]  # type: ignore[call-arg]


def test_parameters_may_have_names() -> None:
    named = [(f"layer.{i}", each) for i, each in enumerate(parameters())]
    try:
        made = SGD(named, lr=0.1)
    except TypeError:
        pytest.skip("the installed torch takes no names")
    assert stacked_for(made) is StackedSGD


@pytest.mark.parametrize(
    ("optimizer", "option"),
    [(each, option) for each in CLASSES for option in NOT_COVERED if option in inspect.signature(each).parameters],
)
def test_an_option_a_rule_does_not_cover_is_left_to_the_optimizer(optimizer: type[Optimizer], option: str) -> None:
    made = optimizer(parameters(), **{option: NOT_COVERED[option]})
    assert stacked_for(made) is OneByOne


@pytest.mark.parametrize("optimizer", CLASSES)
def test_an_option_of_a_later_torch_is_left_to_the_optimizer_where_it_is_on(optimizer: type[Optimizer]) -> None:
    made = optimizer(parameters())  # type: ignore[call-arg]
    made.param_groups[0]["cautious"] = False
    assert stacked_for(made) is CLASSES[optimizer]
    made.param_groups[0]["cautious"] = True
    assert stacked_for(made) is OneByOne


@pytest.mark.parametrize("optimizer", CLASSES)
def test_several_groups_are_left_to_the_optimizer(optimizer: type[Optimizer]) -> None:
    groups = [{"params": [each]} for each in parameters()]
    assert stacked_for(optimizer(groups)) is OneByOne  # type: ignore[call-arg]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("optimizer", CLASSES)
def test_other_numbers_are_left_to_the_optimizer(optimizer: type[Optimizer], dtype: torch.dtype) -> None:
    assert stacked_for(optimizer(parameters(dtype))) is OneByOne  # type: ignore[call-arg]


@pytest.mark.parametrize("optimizer", [OwnSGD, Adadelta])
def test_any_other_class_is_left_to_the_optimizer(optimizer: type[Optimizer]) -> None:
    assert stacked_for(optimizer(parameters(), lr=0.1)) is OneByOne  # type: ignore[call-arg]
