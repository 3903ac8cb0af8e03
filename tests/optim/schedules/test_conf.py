"""The options of conf/schedule: each can be built, each is a branch of sweep_all, mistakes are found beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from autotune.assembly import build_schedule
from autotune.compose import compose, conf_dir
from autotune.errors import UserError
from autotune.optim import schedules
from autotune.optim.schedules import WSD, Schedule, Warmup
from autotune.space import Space, check

FILES = {
    file.stem: file
    for file in sorted((conf_dir() / "schedule").glob("*.yaml"))
    if file.stem not in ("own", "sweep", "sweep_all")
}


def section(file: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@pytest.fixture(scope="module")
def every() -> Space:
    return Space(compose("search", ["schedule=sweep_all", "optimizer=adam"]))


def test_every_schedule_has_an_option() -> None:
    targets = {section(file)["_target_"] for file in FILES.values()}
    names = set(schedules.__all__) - {"Progress", "Schedule", "Warmup"}
    assert targets == {f"autotune.optim.schedules.{name}" for name in names}


@pytest.mark.parametrize("name", FILES)
def test_an_option_is_built_and_bears_its_files_name(name: str) -> None:
    content = section(FILES[name])
    made = build_schedule(content)
    assert isinstance(made, Schedule)
    assert content["name"] == name
    assert isinstance(made, Warmup) == (name == "wsd")


def test_an_option_has_its_classs_own_values() -> None:
    made = build_schedule(section(FILES["wsd"]))
    assert made == Warmup(WSD(), 0.05)
    for name in ("one_cycle", "polynomial", "cosine", "cosine_restarts", "linear"):
        target = section(FILES[name])["_target_"].rpartition(".")[2]
        assert build_schedule(section(FILES[name])) == getattr(schedules, target)()


def test_sweep_all_is_a_choice_among_all_options(every: Space) -> None:
    assert set(every.parameters()["schedule"].options() or ()) == set(FILES)


def test_a_decay_factor_is_searched_where_a_schedule_has_one(every: Space) -> None:
    with_decay = {name for name, file in FILES.items() if "decay" in section(file)}
    assert with_decay == {"step", "multistep", "exponential", "inverse_time", "wsd", "plateau", "dynamic"}
    assert {f"schedule.{name}.decay" for name in with_decay} <= set(every.parameters())


def test_both_ends_of_every_range_can_be_built(every: Space) -> None:
    parameters = every.parameters()
    check(every)
    for branch in FILES:
        names = [name for name in parameters if name.startswith(f"schedule.{branch}.")]
        for end in (0, -1):
            point = {name: search.options()[0] for name, search in parameters.items() if search.options()}  # type: ignore[index]
            point |= {name: list(parameters[name].extremes())[end] for name in names if not parameters[name].choices}
            build_schedule(every.resolve({**point, "schedule": branch})["schedule"])


WRONG = {
    "exponential": ("decay", "interval(0.5,1.5)", "1.5", "give a number above 0 up to 1"),
    "dynamic": ("decay", -1, "-1", "give a number not below 0"),
    "inverse_time": ("decay", -1, "-1", "give a number not below 0"),
    "step": ("every", 0, "0", "give a whole number above 0"),
    "multistep": ("milestones", [15], "[15]", "give parts of the training, rising between 0 and 1: [0.5,0.75]"),
    "polynomial": ("power", 0, "0", "give a number above 0"),
    "linear": ("floor", 2, "2", "give a number from 0 to 1"),
    "cosine_restarts": ("growth", "choice(1,20)", "20", "give a number from 1 to 10"),
    "one_cycle": ("rise", 1, "1", "give a part of the training, between 0 and 1"),
    "wsd": ("decay", 0, "0", "give a number above 0 up to 1"),
    "plateau": ("patience", 0.5, "0.5", "give a whole number from 0 on"),
    "constant": ("warmup", 1, "1", "give a part of the training, from 0 to below 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_right_is_found_before_the_first_trial(name: str) -> None:
    key, value, named, remedy = WRONG[name]
    with pytest.raises(UserError) as caught:
        check(Space({"schedule": {**section(FILES[name]), key: value}}))
    assert str(caught.value) == f"schedule.{key}: {named} is not right here; {remedy}"


@pytest.mark.parametrize("values", [{"decay": 4.0}, {"warmup": 5}])
def test_a_users_own_schedule_has_its_own_rules(values: dict[str, Any]) -> None:
    check(Space({"schedule": {"_target_": "mine.Schedule", **values}}))
