"""What every schedule promises, with a warm-up and without. A new one adds a row to SCHEDULES."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.optim import schedules as module
from autotune.optim.schedules import (
    WSD,
    Constant,
    Cosine,
    CosineRestarts,
    Dynamic,
    Exponential,
    InverseTime,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Polynomial,
    Progress,
    Schedule,
    Step,
    Warmup,
)

from .rates import factors, rates, remembered

Schedules = st.SearchStrategy[Schedule]

PART = st.floats(0.0, 1.0)
DECAY = st.floats(0.0, 1.0, exclude_min=True)
BETA = st.floats(0.0, 1e6)
INSIDE = st.floats(0.0, 1.0, exclude_min=True, exclude_max=True)
MEMORY = st.floats(0.0, 1.0, exclude_max=True, allow_subnormal=False)
FEW = st.integers(0, 5)

SCHEDULES: dict[str, Schedules] = {
    "constant": st.builds(Constant),
    "step": st.builds(Step, decay=DECAY, every=st.integers(1, 9)),
    "multistep": st.builds(MultiStep, decay=DECAY, milestones=st.sets(INSIDE, max_size=4).map(sorted)),
    "exponential": st.builds(Exponential, decay=DECAY),
    "inverse_time": st.builds(InverseTime, decay=BETA),
    "polynomial": st.builds(Polynomial, power=st.floats(1e-3, 1e3), floor=PART),
    "linear": st.builds(Linear, floor=PART),
    "cosine": st.builds(Cosine, floor=PART),
    "cosine_restarts": st.builds(CosineRestarts, st.integers(1, 100), st.floats(1.0, 10.0), PART),
    "one_cycle": st.builds(OneCycle, rise=INSIDE, start=DECAY, floor=PART),
    "wsd": st.builds(WSD, decay=DECAY, floor=PART),
    "plateau": st.builds(Plateau, decay=DECAY, patience=FEW, threshold=MEMORY, cooldown=FEW, floor=PART),
    "dynamic": st.builds(Dynamic, decay=BETA, memory=MEMORY),
}
WARMED = {f"warmup+{name}": st.builds(Warmup, schedules, MEMORY) for name, schedules in SCHEDULES.items()}
EVERY = {**SCHEDULES, **WARMED}
FALLING = {name: made for name, made in SCHEDULES.items() if name not in ("cosine_restarts", "one_cycle")}
AT_ONCE = {name: made for name, made in SCHEDULES.items() if name != "one_cycle"}
DEAF = {name: made for name, made in EVERY.items() if "dynamic" not in name and "plateau" not in name}

ANY_LOSSES = st.lists(st.floats(), min_size=1, max_size=12)
UPDATES = st.integers(1, 5)


def each(group: dict[str, Schedules]) -> Callable[[Any], Any]:
    """A test of each schedule of a group; with so many of them, a few examples each are enough."""

    def of(test: Any) -> Any:
        return pytest.mark.parametrize("schedules", group.values(), ids=group)(settings(max_examples=15)(test))

    return of


def test_every_schedule_is_among_those_tested() -> None:
    promised = {name for name in module.__all__ if name not in ("Progress", "Schedule", "Warmup")}
    assert {name.replace("_", "") for name in SCHEDULES} == {name.lower() for name in promised}


@each(EVERY)
@given(data=st.data(), losses=ANY_LOSSES, updates=UPDATES)
def test_a_factor_is_finite_and_never_below_0_nor_above_1_whatever_the_losses(
    schedules: Schedules, data: st.DataObject, losses: list[float], updates: int
) -> None:
    schedule = data.draw(schedules)
    assert all(0 <= factor <= 1 for factor in factors(schedule, losses, updates))


@each(EVERY)
@given(data=st.data(), losses=ANY_LOSSES, beyond=st.integers(0, 20))
def test_training_past_the_planned_end_is_no_mistake(
    schedules: Schedules, data: st.DataObject, losses: list[float], beyond: int
) -> None:
    schedule = data.draw(schedules)
    memory = remembered(schedule, losses)[-1]
    assert 0 <= schedule.factor(Progress(len(losses) * 2 + beyond, 2, len(losses)), memory) <= 1


@each(AT_ONCE)
@given(data=st.data(), losses=ANY_LOSSES, updates=UPDATES)
def test_training_starts_at_the_base_rate(
    schedules: Schedules, data: st.DataObject, losses: list[float], updates: int
) -> None:
    assert factors(data.draw(schedules), losses, updates)[0] == 1


@each(FALLING)
@given(data=st.data(), losses=ANY_LOSSES, updates=UPDATES)
def test_what_only_decays_never_rises(
    schedules: Schedules, data: st.DataObject, losses: list[float], updates: int
) -> None:
    assert all(later <= sooner for sooner, later in pairwise(factors(data.draw(schedules), losses, updates)))


@each(DEAF)
@given(data=st.data(), losses=ANY_LOSSES, updates=UPDATES)
def test_what_follows_progress_alone_does_not_hear_the_loss(
    schedules: Schedules, data: st.DataObject, losses: list[float], updates: int
) -> None:
    schedule = data.draw(schedules)
    assert factors(schedule, losses, updates) == factors(schedule, [0.0] * len(losses), updates)


@given(losses=ANY_LOSSES, updates=UPDATES, memory=MEMORY)
def test_a_decay_factor_that_decays_nothing_is_constant(losses: list[float], updates: int, memory: float) -> None:
    for schedule in (Dynamic(0.0, memory), InverseTime(0.0), Exponential(1.0), Step(1.0, 1), MultiStep(1.0)):
        assert set(factors(schedule, losses, updates)) == {1.0}
    assert set(factors(Plateau(1.0), losses, updates)) == {1.0}


@given(losses=ANY_LOSSES, updates=UPDATES, warmup=MEMORY)
def test_a_warm_up_only_rises_and_the_rest_is_the_schedules(losses: list[float], updates: int, warmup: float) -> None:
    warmed = factors(Warmup(Constant(), warmup), losses, updates)
    total = len(losses) * updates
    ramp = min(round(warmup * total), total - 1)
    assert all(sooner < later for sooner, later in pairwise(warmed[: ramp + 1]))
    assert set(warmed[ramp:]) == {1.0}
    assert warmed[0] > 0


@each(EVERY)
@given(data=st.data(), losses=ANY_LOSSES, updates=UPDATES, base=st.floats(1e-6, 10))
def test_an_optimizer_gets_the_base_rate_times_the_factor(
    schedules: Schedules, data: st.DataObject, losses: list[float], updates: int, base: float
) -> None:
    schedule = data.draw(schedules)
    expected = [base * factor for factor in factors(schedule, losses, updates)]
    assert all(map(math.isfinite, expected))
    assert rates(schedule, losses, updates, base) == expected


@each(EVERY)
@given(data=st.data(), losses=st.lists(st.floats(0, 1e3), min_size=2, max_size=12), updates=UPDATES)
def test_going_on_in_the_middle_gives_the_same_factors(
    schedules: Schedules, data: st.DataObject, losses: list[float], updates: int
) -> None:
    schedule = data.draw(schedules)
    stop = data.draw(st.integers(0, len(losses) - 1))
    memory = copy.deepcopy(remembered(schedule, losses[:stop])[-1])
    again = copy.deepcopy(schedule)
    went_on = []
    for epoch in range(stop, len(losses)):
        here = range(epoch * updates, (epoch + 1) * updates)
        went_on += [again.factor(Progress(update, updates, len(losses)), memory) for update in here]
        memory = again.after_epoch(memory, losses[epoch])
    assert went_on == factors(schedule, losses, updates)[stop * updates :]
