"""Groups of parameters that trials have together."""

from __future__ import annotations

from optuna.distributions import FloatDistribution

from autotune.samplers.groups import Groups

UNIT = FloatDistribution(0, 1)


def grouped(*trials: str) -> list[str]:
    groups = Groups()
    for trial in trials:
        groups.part(dict.fromkeys(trial, UNIT))
    return ["".join(group) for group in groups.searched()]


def test_what_all_trials_have_is_one_group() -> None:
    assert grouped("ba", "ab") == ["ab"]


def test_a_trial_parts_what_it_has_from_what_it_has_not() -> None:
    assert grouped("abc", "ade") == ["a", "bc", "de"]
    assert grouped("abc", "ade", "d") == ["a", "bc", "d", "e"]
    assert grouped("abc", "ade", "d", "ade") == ["a", "bc", "d", "e"]


def test_what_has_one_value_is_not_searched() -> None:
    groups = Groups()
    groups.part({"a": UNIT, "b": FloatDistribution(1, 1)})
    groups.part({"c": FloatDistribution(1, 1)})
    assert groups.searched() == [{"a": UNIT}]


def test_a_range_stays_as_it_was_first_seen() -> None:
    groups = Groups()
    groups.part({"a": UNIT})
    groups.part({"a": FloatDistribution(5, 6), "b": UNIT})
    assert groups.searched() == [{"a": UNIT}, {"b": UNIT}]


def test_an_order_of_names_that_differs_between_runs_does_not_show() -> None:
    names = [f"x{number}" for number in range(20)]
    groups = Groups()
    groups.part(dict.fromkeys(reversed(names), UNIT))
    assert [list(group) for group in groups.searched()] == [sorted(names)]
