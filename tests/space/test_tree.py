from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from autotune.errors import UserError
from autotune.space import Space

TREE: dict[str, Any] = {
    "data": {"batch_size": "choice(32, 64)"},
    "optimizer": {
        "only": ["sgd", "bgd", "adam"],
        "sgd": {"name": "sgd", "lr": "tag(log,interval(1e-3,1))", "momentum": 0.9},
        "bgd": {"name": "bgd", "lr": "interval(0.1,10)", "_fix_": {"data.batch_size": "full"}},
        "adam": {"name": "adam", "lr": "tag(log,interval(1e-4,1e-1))"},
    },
    "schedule": {"name": "constant"},
}

FINITE: dict[str, Any] = {
    "data": {"batch_size": "choice(32, 64, 128)"},
    "model": {"hidden": ["choice(8, 16)", 4], "batch_norm": "choice(true,false)"},
    "optimizer": {
        "only": None,
        "sgd": {"name": "sgd", "momentum": "choice(0.0,0.9)"},
        "bgd": {"name": "bgd", "_fix_": {"data.batch_size": "full"}},
    },
}


def study() -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def test_a_parameter_exists_only_where_its_branch_was_chosen() -> None:
    space = Space(TREE)
    asked = study()
    names = {frozenset(space.suggest(asked.ask())) for _ in range(60)}
    assert names == {
        frozenset({"optimizer", "optimizer.sgd.lr", "data.batch_size"}),
        frozenset({"optimizer", "optimizer.bgd.lr"}),
        frozenset({"optimizer", "optimizer.adam.lr", "data.batch_size"}),
    }


def test_the_chosen_branch_stands_in_the_place_of_the_choice() -> None:
    resolved = Space(TREE).resolve({"optimizer": "sgd", "optimizer.sgd.lr": 0.1, "data.batch_size": 64})
    assert resolved == {
        "data": {"batch_size": 64},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "schedule": {"name": "constant"},
    }


def test_a_branch_fixes_values_elsewhere() -> None:
    resolved = Space(TREE).resolve({"optimizer": "bgd", "optimizer.bgd.lr": 0.5})
    assert resolved["data"] == {"batch_size": "full"}
    assert resolved["optimizer"] == {"name": "bgd", "lr": 0.5}


def test_fix_works_where_nothing_is_chosen() -> None:
    fixed = {"data": {"batch_size": "choice(1,2)"}, "optimizer": {"lr": 1.0, "_fix_": {"data.batch_size": "full"}}}
    space = Space(fixed)
    assert space.resolve({}) == {"data": {"batch_size": "full"}, "optimizer": {"lr": 1.0}}
    assert space.suggest(FixedTrial({})) == {}


def test_only_restricts_and_a_single_branch_is_no_parameter() -> None:
    space = Space({**TREE, "optimizer": {**TREE["optimizer"], "only": ["adam"]}})
    assert set(space.parameters()) == {"optimizer.adam.lr", "data.batch_size"}
    assert space.resolve({"optimizer.adam.lr": 0.1, "data.batch_size": 32})["optimizer"]["name"] == "adam"


@pytest.mark.parametrize("only", ["sgd,adam", "choice(sgd,adam)", ["sgd", "adam"]])
def test_only_may_be_written_as_a_comma_list(only: object) -> None:
    space = Space({**TREE, "optimizer": {**TREE["optimizer"], "only": only}})
    assert space.parameters()["optimizer"].options() == ("sgd", "adam")


def test_trees_nest() -> None:
    inner = {"only": None, "step": {"gamma": "choice(0.1,0.5)"}, "constant": {}}
    space = Space({"a": {"only": None, "x": {"schedule": inner}, "y": {"z": 1}}})
    assert set(space.parameters()) == {"a", "a.x.schedule", "a.x.schedule.step.gamma"}
    assert space.resolve({"a": "x", "a.x.schedule": "step", "a.x.schedule.step.gamma": 0.5}) == {
        "a": {"schedule": {"gamma": 0.5}}
    }
    assert space.size() == 4


def test_search_values_in_lists_and_nested_mappings() -> None:
    space = Space({"model": {"hidden": ["choice(8,16)", 4], "deep": {"er": {"type": "int", "low": 1, "high": 3}}}})
    assert set(space.parameters()) == {"model.hidden.0", "model.deep.er"}
    assert space.resolve({"model.hidden.0": 8, "model.deep.er": 2}) == {"model": {"hidden": [8, 4], "deep": {"er": 2}}}


def test_interpolations_see_what_was_sampled() -> None:
    space = Space({"study": {"seed": 7}, "seed": "${study.seed}", "a": {"lr": "interval(0,1)"}, "b": "${a.lr}"})
    assert space.resolve({"a.lr": 0.25}) == {"seed": 7, "a": {"lr": 0.25}, "b": 0.25}


def test_a_dangling_interpolation_is_named() -> None:
    with pytest.raises(UserError, match="nowhere"):
        Space({"a": "${nowhere.to.be.found}"}).resolve({})


def test_every_point_of_a_finite_space_once() -> None:
    space = Space(FINITE)
    points = list(space.points())
    resolved = [repr(space.resolve(point)) for point in points]
    # SGD: 2 momenta x 3 batch sizes x 2 widths x 2; BGD: 2 widths x 2, since its batch size is fixed.
    assert space.size() == len(points) == len(set(resolved)) == 24 + 4


def test_an_infinite_space_has_no_size() -> None:
    assert Space(TREE).size() is None
    with pytest.raises(ValueError, match="no list of points"):
        next(Space(TREE).points())


def test_a_tour_takes_every_branch_and_every_choice() -> None:
    space = Space(TREE)
    points = list(space.tour())
    assert {point["optimizer"] for point in points} == {"sgd", "bgd", "adam"}
    assert {point.get("data.batch_size") for point in points} == {32, 64, None}
    for point in points:
        assert Space(space.resolve(point)).parameters() == {}
    assert len(points) < 10


def test_a_tour_of_nothing_open_is_the_one_point() -> None:
    assert list(Space({"a": 1}).tour()) == [{}]
    assert list(Space({"a": "interval(0,1)"}).tour()) == [{"a": 0.0}]


def test_a_space_of_one_point() -> None:
    assert Space({"a": {"b": 1}}).size() == 1


@given(seed=st.integers(0, 10_000), finite=st.booleans())
def test_what_was_suggested_resolves_to_a_plain_config(seed: int, finite: bool) -> None:
    space = Space(FINITE if finite else TREE)
    params = space.suggest(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask())
    resolved = space.resolve(params)
    assert Space(resolved).parameters() == {}
    assert Space(resolved).resolve({}) == resolved
    assert space.fit(params) == params


MISFITS = [
    ({"batch": 20}, "batch=20 is off the step of range(16, 80, 16)"),
    ({"batch": 20.5}, "batch=20.5 is no whole number of range(16, 80, 16)"),
    ({"batch": 80}, "batch=80 lies outside range(16, 80, 16)"),
    ({"batch": "32"}, "batch=32 is no number of range(16, 80, 16)"),
    ({"batch": True}, "batch=True is no number of range(16, 80, 16)"),
    ({"lr": 0.5}, "lr=0.5 lies outside tag(log, interval(0.0001, 0.1))"),
    ({"lr": float("nan")}, "lr=nan lies outside tag(log, interval(0.0001, 0.1))"),
    ({"drop": 0.15}, "drop=0.15 is off the step of range(0, 0.5, 0.1)"),
    ({"head": 1.5}, "head=1.5 is not among choice(1, 2)"),
    ({"head": True}, "head=True is not among choice(1, 2)"),
    ({"lr": 0.01, "hed": 1}, "hed is no parameter; did you mean head?"),
    ({"depth": 4}, "depth=4 is not 3, which is fixed"),
    ({"optimizer": "sgd"}, "optimizer=sgd is not adam, which is fixed"),
]
FITS = [{"batch": 48.0}, {"lr": 0.1}, {"drop": 0.1 + 0.2}, {"head": 2}, {"depth": 3}, {"optimizer": "adam"}, {}]
STEPS = {
    "batch": "range(16,80,16)",
    "lr": "tag(log,interval(1e-4,1e-1))",
    "drop": "range(0,0.5,0.1)",
    "head": "choice(1,2)",
    "depth": 3,
    "optimizer": {"name": "adam"},
}


@pytest.mark.parametrize(("point", "why"), MISFITS)
def test_a_point_outside_says_why(point: dict[str, Any], why: str) -> None:
    assert Space(STEPS).misfit(point) == why


@pytest.mark.parametrize("point", FITS)
def test_a_point_inside_is_what_a_sampler_draws(point: dict[str, Any]) -> None:
    space = Space(STEPS)
    assert space.misfit(point) is None
    fitted = space.fit(point)
    assert fitted is not None
    study = optuna.create_study()
    study.enqueue_trial(fitted)
    assert space.suggest(study.ask()).items() >= fitted.items()


def test_fit_takes_what_the_space_leaves_open() -> None:
    recipe = {"optimizer": "adam", "optimizer.adam.lr": 1e-3, "data.batch_size": 32, "schedule": "constant"}
    assert Space(TREE).fit(recipe) == {"optimizer": "adam", "optimizer.adam.lr": 1e-3, "data.batch_size": 32}
    assert Space(TREE).fit({**recipe, "optimizer.adam.lr": 0.5}) is None
    assert Space(TREE).fit({**recipe, "data.batch_size": 33}) is None
    assert Space(TREE).fit({**recipe, "schedule": "cosine"}) is None
    fixed = Space({**TREE, "optimizer": {"name": "adam", "lr": "interval(0,1)"}})
    assert fixed.fit(recipe) == {"optimizer.lr": 1e-3, "data.batch_size": 32}
    assert fixed.fit({**recipe, "optimizer": "sgd"}) is None


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "only names no branch": ({"o": {"only": ["sdg"], "sgd": {}}}, "o.only: no branch sdg; did you mean sgd?"),
    "only is empty": ({"o": {"only": [], "sgd": {}}}, "o.only: [] chooses nothing; list some of sgd"),
    "no branches": ({"o": {"only": None}}, "o: a choice has no branches; give it mappings beside the key only"),
    "missing value": ({"data": {"path": "???"}}, "data.path: a value is missing; give it: data.path=..."),
    "search value in a setting": (
        {"budget": {"trials": "choice(1,2)"}},
        "budget.trials: choice(1,2) is a search value; "
        "only what a trial is made of can be searched; --multirun sweeps the rest",
    ),
}


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG)
def test_wrong_spaces_say_what_is_right(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Space(config)
    assert str(caught.value) == message


def test_interpolations_are_resolved_as_omegaconf_would_in_each_trial() -> None:
    config: dict[str, Any] = {
        **TREE,
        "study": {"seed": 7},
        "seed": "${study.seed}",
        "model": {"width": 8, "twice": ["${..width}", "${model.width}"], "name": "m${model.width}"},
        "whole": "${model}",
        "optimizer": {
            **TREE["optimizer"],
            "sgd": {"name": "sgd", "lr": "interval(0.1,1)", "floor": "${optimizer.lr}"},
        },
        "batch": "${data.batch_size}",
        "rate": "${optimizer.lr}",
    }
    space = Space(config)
    sgd = space.resolve({"optimizer": "sgd", "optimizer.sgd.lr": 0.5, "data.batch_size": 64})
    assert (sgd["seed"], sgd["batch"], sgd["rate"], sgd["optimizer"]["floor"]) == (7, 64, 0.5, 0.5)
    assert sgd["model"] == {"width": 8, "twice": [8, 8], "name": "m8"}
    assert sgd["whole"] == sgd["model"]
    bgd = space.resolve({"optimizer": "bgd", "optimizer.bgd.lr": 2.0})
    assert (bgd["batch"], bgd["rate"]) == ("full", 2.0)


def test_an_interpolation_to_what_a_branch_fixes_is_left_to_the_trial() -> None:
    fixed = {"only": None, "a": {"_fix_": {"data.size": 2}}, "b": {"x": 1}}
    space = Space({"data": {"size": 1}, "seen": "${data.size}", "choice": fixed})
    assert space.resolve({"choice": "a"})["seen"] == 2
    assert space.resolve({"choice": "b"})["seen"] == 1
