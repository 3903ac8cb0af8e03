from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from autotune.report.findings import Findings
from autotune.report.plots import Plot, active_seconds, figures, plots
from autotune.trial import Reason, State

from . import made

ALL = [
    *("history", "seconds", "curves", "budget", "response", "parallel", "slice", "contour", "importance"),
    *("speed", "memory", "timeline"),
]


def score(params: Mapping[str, Any]) -> float:
    family = params["optimizer"]
    rate = math.log10(params[f"optimizer.{family}.lr"])
    return 0.9 - 0.03 * (rate + 1.5) ** 2 + 0.02 * params["model.batch_norm"]


@pytest.fixture(scope="module")
def drawn() -> dict[str, Plot]:
    return {plot.key: plot for plot in plots(Findings.of(made.study(score, 60)))}


def test_every_figure_is_drawn(drawn: dict[str, Plot]) -> None:
    assert list(drawn) == ALL
    for plot in drawn.values():
        json.dumps(plot.figure, allow_nan=False)
        assert plot.figure["data"]
        assert plot.title
        assert plot.caption


def test_a_figure_that_cannot_be_drawn_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise LookupError("no such figure")

    monkeypatch.setattr("optuna.visualization.plot_optimization_history", broken)
    drawn = plots(Findings.of(made.study(score, 60)))
    assert [plot.key for plot in drawn] == [key for key in ALL if key != "history"]
    assert [message for message in caplog.messages if "left out" in message] == [
        "the figure history is left out (LookupError: no such figure)"
    ]


def test_all_trials_have_their_curves_and_stopped_ones_are_faded(drawn: dict[str, Plot]) -> None:
    study = made.study(score, 60)
    traces = drawn["curves"].figure["data"]
    shown = {number for trace in traces for number in trace["customdata"] if number is not None}
    assert shown == set(range(60))
    stopped = {record.number for record in study.records if record.reason == Reason.PRUNED}
    for trace in traces:
        numbers = {number for number in trace["customdata"] if number is not None}
        assert numbers <= stopped if trace["opacity"] < 0.5 else not numbers & stopped


def test_options_stand_in_their_own_order(drawn: dict[str, Plot]) -> None:
    figure = drawn["parallel"].figure
    axis = list(figure["layout"]["xaxis"]["ticktext"]).index("batch size")
    ticks = {each["text"]: each["y"] for each in figure["layout"]["annotations"] if each["x"] == axis}
    assert sorted(ticks, key=lambda option: ticks[option]) == ["16", "32", "64", "128", "full"]
    lines = [trace for trace in figure["data"] if trace["mode"] == "lines"]
    assert len(lines) == 60
    assert all(trace["y"][axis] == ticks[trace["customdata"][axis][1]] for trace in lines)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    study = made.study(score, 3, prune=False)
    long = [
        replace(each, curves={study.objective.metric: [0.5 + 1e-4 * i for i in range(500)]}) for each in study.records
    ]
    (curves,) = [plot for plot in plots(Findings.of(replace(study, records=long))) if plot.key == "curves"]
    for trace in curves.figure["data"]:
        epochs = [epoch for epoch in trace["x"] if epoch is not None]
        assert len(epochs) <= 40 * 3
        assert {min(epochs), max(epochs)} == {1, 500}


def test_the_time_between_two_runs_is_left_out() -> None:
    records = made.study(score, 4, prune=False).records
    told = []
    for index, start in enumerate([0, 2, 1000, 1001]):
        begun = made.BEGUN + timedelta(seconds=start)
        told.append(replace(records[index], started=begun, ended=begun + timedelta(seconds=5)))
    assert active_seconds(told) == {0: 5.0, 1: 7.0, 2: 12.0, 3: 13.0}


def test_trials_at_the_same_time_have_slots_of_their_own() -> None:
    study = made.study(score, 3, prune=False)
    starts = (0, 1, 6)
    told = []
    for record, start in zip(study.records, starts, strict=True):
        begun = made.BEGUN + timedelta(seconds=start)
        told.append(replace(record, family="adam", started=begun, ended=begun + timedelta(seconds=5)))
    (timeline,) = [plot for plot in plots(Findings.of(replace(study, records=told))) if plot.key == "timeline"]
    (bars,) = timeline.figure["data"]
    assert (bars["y"], bars["base"], bars["x"]) == ([1, 2, 1], [0.0, 1.0, 6.0], [5.0, 5.0, 5.0])


def test_names_are_no_markup() -> None:
    study = made.study(score, 6, prune=False)
    records = [replace(each, name="<b>x</b>", family="<i>y</i>") for each in study.records]
    text = json.dumps([plot.figure for plot in plots(Findings.of(replace(study, records=records)))])
    assert "<b>x" not in text
    assert "<i>y" not in text
    assert "&lt;b&gt;x" in text


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_trials_have_fewer_figures(count: int) -> None:
    study = made.study(score, 2, prune=False)
    few = replace(study, records=study.records[:count], trials=study.trials[:count])
    keys = [plot.key for plot in plots(Findings.of(few))]
    assert set(keys) <= set(ALL)
    assert ("curves" in keys) == (count > 0)


def test_only_failures_draw_nothing_but_what_there_is() -> None:
    study = made.study(score, 3, prune=False)
    failed = [
        replace(each, state=State.FAIL, reason=Reason.ERROR, objective=None, curves={}, cost={})
        for each in study.records
    ]
    trials = [made.frozen(each, trial.distributions, []) for each, trial in zip(failed, study.trials, strict=True)]
    assert [plot.key for plot in plots(Findings.of(replace(study, records=failed, trials=trials)))] == ["timeline"]


def test_values_that_are_no_numbers_are_left_out() -> None:
    study = made.study(score, 5, prune=False)
    metric = study.objective.metric
    odd = replace(
        study.records[0],
        state=State.PRUNED,
        reason=Reason.DIVERGED,
        objective=0.0,
        curves={metric: [0.4, math.nan, math.inf]},
    )
    found = plots(Findings.of(replace(study, records=[odd, *study.records[1:]])))
    json.dumps([plot.figure for plot in found], allow_nan=False)


def test_figures_are_plotlys_objects_by_name() -> None:
    found = figures(made.study(score, 12))
    assert found["curves"].layout.xaxis.title.text == "epoch"
