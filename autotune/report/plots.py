"""The figures of the report: Optuna's own where it has one, in the same colours and with the same names as the rest."""

from __future__ import annotations

import html
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState, create_trial

from autotune.kept.outcome import Outcome
from autotune.logs import measuring
from autotune.report import importance
from autotune.report.cost import COSTS, front
from autotune.report.ends import best_so_far, curve, measured
from autotune.report.findings import Findings
from autotune.report.ranges import rate_parameter
from autotune.report.sentences import label
from autotune.report.surrogate import role
from autotune.trial import Reason, Record, State

# Told apart by most colour-blind readers, and on white as on black; after Okabe and Ito's set.
COLOURS = (
    *("#0072b2", "#e07b00", "#009e73", "#cc5fa0", "#56a4e9", "#b8a000", "#d55e00", "#7a6fd0", "#2aa198", "#8c8c8c"),
    *("#a05030", "#6a9f2a"),
)
FADED = 0.4
# From worse to better, or from earlier to later, on white as on black.
SCALE = ("#93a1b0", "#d55e00")
POINTS = 40  # of a curve, at most
DIGITS = 5  # significant, of what is plotted
SLICES = 8  # parameters
CONTOURED = 20  # trials trained to their end, without those that were not
LINES = 300  # trials of the parallel coordinates
WIDE = 220  # pixels a slice or a coordinate needs


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure and what is said of it.

    Attributes:
        key: Its anchor.
        title: What stands above it.
        caption: What it shows and how.
        figure: Plotly's JSON: data and layout, without colours of the page.
        width: Pixels that it needs; narrower screens scroll it within itself.
        height: Pixels.
    """

    key: str
    title: str
    caption: str
    figure: Mapping[str, Any]
    width: int = 0
    height: int = 420


def plots(findings: Findings) -> list[Plot]:
    """The figures of a study; those that its trials say nothing to are left out."""
    outcome = findings.outcome
    colours = _colours(outcome)
    draws: Mapping[str, Callable[[], Plot | None]] = {
        "history": lambda: _history(outcome),
        "seconds": lambda: _by_seconds(outcome),
        "curves": lambda: _curves(outcome, colours),
        "budget": lambda: _equal_budget(outcome, colours),
        "response": lambda: _rates(findings, colours),
        "parallel": lambda: _parallel(findings),
        "slice": lambda: _slices(findings),
        "contour": lambda: _contour(findings),
        "importance": lambda: _importances(findings, colours),
        "speed": lambda: _against_cost(outcome, "cost/epoch_seconds", colours),
        "memory": lambda: _against_cost(outcome, "cost/peak_memory_bytes", colours),
        "timeline": lambda: _timeline(outcome, colours),
    }
    drawn: list[Plot] = []
    for name, draw in draws.items():
        with measuring(f"the figure {name}"):
            plot = draw()
            drawn += [] if plot is None else [plot]
    return drawn


def figures(outcome: Outcome) -> dict[str, go.Figure]:
    """The figures of a study as Plotly's objects, by key."""
    return {plot.key: go.Figure(plot.figure) for plot in plots(Findings.of(outcome))}


def _colours(outcome: Outcome) -> dict[str, str]:
    families = sorted({record.family for record in outcome.records})
    return {family: COLOURS[index % len(COLOURS)] for index, family in enumerate(families)}


# The search as it went.


def _study(outcome: Outcome) -> Study:
    """The study in memory, its names safe to show."""
    study = optuna.create_study(direction=StudyDirection[outcome.objective.direction.upper()])
    for record in outcome.records:
        value = record.objective
        if measured(record):
            study.add_trial(create_trial(value=value))
        else:
            study.add_trial(create_trial(state=TrialState.FAIL))  # keeps the numbers
    return study


def _history(outcome: Outcome) -> Plot | None:
    if not any(map(measured, outcome.records)):
        return None
    figure = optuna.visualization.plot_optimization_history(_study(outcome), target_name=safe(outcome.objective.metric))
    figure.data[0].marker.color = COLOURS[4]
    figure.data[1].line = {"color": COLOURS[6], "shape": "hv"}
    figure.data[0].name, figure.data[1].name = "trial", "best so far"
    names = [safe(record.name) for record in outcome.records if measured(record)]
    figure.data[0].update(text=names, hovertemplate="%{text}<br>%{y:.4g}<extra></extra>")
    figure.update_layout(title=None, xaxis_title="trial")
    values = [record.objective or 0.0 for record in outcome.records if measured(record)]
    focus(figure, values, outcome)
    return as_plot(
        "history", "Optimization history", "Every trial that was trained to its end, and the best so far.", figure
    )


def _by_seconds(outcome: Outcome) -> Plot | None:
    done = [record for record in outcome.records if measured(record) and record.ended is not None]
    if not done:
        return None
    at = active_seconds(outcome.records)
    done.sort(key=lambda record: (at[record.number], record.number))
    seconds = [at[record.number] for record in done]
    best = best_so_far([record.objective or 0.0 for record in done], outcome.objective)
    figure = go.Figure()
    figure.add_scatter(
        x=seconds,
        y=[record.objective for record in done],
        mode="markers",
        name="trial",
        marker={"color": COLOURS[4], "size": 7},
        text=[safe(record.name) for record in done],
        hovertemplate="%{text}<br>%{y:.4g} after %{x:.3g} s<extra></extra>",
    )
    figure.add_scatter(
        x=seconds, y=best, mode="lines", name="best so far", line={"shape": "hv", "color": COLOURS[6], "width": 2}
    )
    figure.update_layout(xaxis_title="seconds of searching", yaxis_title=safe(outcome.objective.metric))
    focus(figure, [record.objective or 0.0 for record in done], outcome)
    return as_plot("seconds", "Best so far by seconds", "Pauses between two runs of the search are left out.", figure)


def active_seconds(records: Iterable[Record]) -> dict[int, float]:
    """When each trial ended, in seconds of searching: the time in which no trial was in training is left out."""
    done = [record for record in records if record.ended is not None]
    found: dict[int, float] = {}
    spans: list[tuple[datetime, datetime]] = []
    for record in sorted(done, key=lambda each: each.started):
        end = record.ended
        assert end is not None
        if spans and record.started <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((record.started, end))
    for record in done:
        end = record.ended
        assert end is not None
        before = sum((min(stop, end) - start for start, stop in spans if start < end), timedelta())
        found[record.number] = before.total_seconds()
    return found


def _curves(outcome: Outcome, colours: Mapping[str, str]) -> Plot | None:
    """Two traces a family, faded and not, with gaps between the curves: a trace for each would draw for minutes."""
    x: dict[tuple[str, bool], list[float | None]] = defaultdict(list)
    y: dict[tuple[str, bool], list[float | None]] = defaultdict(list)
    number: dict[tuple[str, bool], list[int | None]] = defaultdict(list)
    values: list[tuple[int, float]] = []
    for record in outcome.records:
        points = [
            (epoch, value) for epoch, value in enumerate(curve(outcome, record.number), 1) if math.isfinite(value)
        ]
        key = (record.family, record.state in (State.PRUNED, State.FAIL))
        for epoch, value in _thinned(points):
            x[key].append(epoch)
            y[key].append(value)
            number[key].append(record.number)
            values.append((epoch, value))
        if points:
            for each in (x, y):
                each[key].append(None)
            number[key].append(None)
    if not values:
        return None
    figure = go.Figure()
    for family, faded in sorted(x, key=lambda key: (not key[1], key[0])):
        key = (family, faded)
        figure.add_scatter(
            x=x[key],
            y=y[key],
            customdata=number[key],
            mode="lines+markers",
            name=safe(family) + (", stopped" if faded else ""),
            legendgroup=safe(family),
            showlegend=not faded or (family, False) not in x,
            opacity=FADED if faded else 0.9,
            line={"color": colours[family], "width": 1 if faded else 1.6},
            marker={"size": 3 if faded else 4},
            hovertemplate="trial %{customdata}, epoch %{x}<br>%{y:.4g}<extra></extra>",
        )
    figure.update_layout(xaxis_title="epoch", yaxis_title=safe(outcome.objective.metric))
    begun = max(epoch for epoch, _ in values) / 10  # what the first epochs bring tells few trials apart
    focus(figure, [value for epoch, value in values if epoch > begun] or [value for _, value in values], outcome)
    caption = "Every trial, coloured by its optimizer; those that were stopped early or failed are faded."
    return as_plot("curves", "Learning curves", caption, figure, height=460)


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """A few points of a curve evenly, first and last among them."""
    if len(points) <= POINTS:
        return points
    return [points[round(index * (len(points) - 1) / (POINTS - 1))] for index in range(POINTS)]


def _equal_budget(outcome: Outcome, colours: Mapping[str, str]) -> Plot | None:
    done: dict[str, list[Record]] = defaultdict(list)
    for record in outcome.records:
        if record.ended is not None and record.epochs:
            done[record.family].append(record)
    if len(done) < 2 or not any(map(measured, outcome.records)):
        return None
    figure = go.Figure()
    shown: list[float] = []
    for family, records in sorted(done.items()):
        records.sort(key=lambda each: (each.ended, each.number))
        spent = list(accumulate(record.epochs for record in records))
        best = best_so_far(
            [(record.objective or 0.0) if measured(record) else math.nan for record in records], outcome.objective
        )
        points = [(x, y) for x, y in zip(spent, best, strict=True) if math.isfinite(y)]
        if points:
            points = [
                each
                for index, each in enumerate(points)
                if index in (0, len(points) - 1) or each[1] != points[index - 1][1]
            ]
            shown += [y for _, y in points]
            figure.add_scatter(
                x=[x for x, _ in points],
                y=[y for _, y in points],
                mode="lines+markers",
                name=safe(family),
                line={"shape": "hv", "color": colours[family]},
                hovertemplate="%{y:.4g} after %{x} epochs<extra></extra>",
            )
    figure.update_layout(
        xaxis_title="epochs trained in this family", yaxis_title=f"best {safe(outcome.objective.metric)}"
    )
    focus(figure, shown, outcome)
    caption = (
        "How good each family was for the same number of trained epochs, those of stopped trials included: compare the "
        "lines at one place of the axis. A family begins where its first trial was trained to its end."
    )
    return as_plot("budget", "Best of each family at equal budget", caption, figure)


# The space.


def _rates(findings: Findings, colours: Mapping[str, str]) -> Plot | None:
    outcome = findings.outcome
    points: dict[tuple[str, bool], list[tuple[float, float, str]]] = defaultdict(list)
    reached = _reached(outcome)
    for record in outcome.records:
        name = rate_parameter(record.params)
        if name is not None and record.number in reached:
            points[record.family, measured(record)].append((record.params[name], reached[record.number], record.name))
    if not points:
        return None
    figure = go.Figure()
    for family, is_measured in sorted(points, key=lambda key: (key[1], key[0])):
        several = points[family, is_measured]
        figure.add_scatter(
            x=[rate for rate, _, _ in several],
            y=[value for _, value, _ in several],
            text=[safe(name) for _, _, name in several],
            mode="markers",
            name=safe(family) + ("" if is_measured else ", stopped"),
            legendgroup=safe(family),
            showlegend=is_measured or (family, True) not in points,
            opacity=0.95 if is_measured else FADED,
            marker={
                "color": colours[family],
                "size": 9 if is_measured else 7,
                "symbol": "circle" if is_measured else "x",
            },
            hovertemplate="%{text}<br>%{y:.4g}<extra></extra>",
        )
    # The good range of each family as a bar below the points, where no point hides it.
    good = [each for each in findings.rates if not math.isnan(each.low)]
    for index, each in enumerate(good):
        figure.add_scatter(
            x=[each.low, each.high],
            y=[-0.03 - 0.03 * index] * 2,
            yaxis="y2",
            mode="lines",
            line={"color": colours[each.family], "width": 5},
            legendgroup=safe(each.family),
            showlegend=False,
            hovertemplate=f"good rates of {safe(each.family)}: %{{x:.2g}}<extra></extra>",
        )
    figure.update_layout(
        xaxis={"title": "learning rate", "type": "log", "anchor": "y2"},
        yaxis={"title": safe(outcome.objective.metric), "domain": [0.04 + 0.03 * len(good), 1]},
        yaxis2={
            "domain": [0, 0.02 + 0.03 * len(good)],
            "range": [-0.03 - 0.03 * len(good), 0],
            "visible": False,
            "fixedrange": True,
        },
    )
    focus(figure, [value for several in points.values() for _, value, _ in several], outcome)
    caption = (
        "Dots were trained to their end; crosses were stopped, and stand at the best they had reached. Bars below: the "
        "good rates of each family."
    )
    return as_plot("response", "Learning-rate response", caption, figure, height=460)


def _common(
    outcome: Outcome, family: str | None = None, most: int | None = None, finished_only: bool = False
) -> tuple[Study, list[str]]:
    """A study in which all trials have the same parameters, so that one figure holds all families; and their names.

    What stands in the same role in different branches is one parameter; a parameter that some trials have not is left
    out, but for the batch size, which a full-batch optimizer fixes. Trials stand at the best they reached.

    Args:
        outcome: The study.
        family: Its trials alone.
        most: So many trials at most, the best.
        finished_only: Leave out those that were not trained to their end.
    """
    reached = _reached(outcome)
    if finished_only:
        reached = {number: value for number, value in reached.items() if measured(outcome.records[number])}
    chosen = [record for record in outcome.records if record.number in reached and family in (None, record.family)]
    sign = -1 if outcome.objective.direction == "maximize" else 1
    chosen = sorted(chosen, key=lambda record: sign * reached[record.number])[:most]
    chosen.sort(key=lambda record: record.number)
    rows = {record.number: _roles(record) for record in chosen}
    names = [name for name in _first(rows.values()) if all(name in row for row in rows.values())]
    names = [name for name in names if len({repr(row[name]) for row in rows.values()}) > 1]
    distributions = {
        name: _distribution([row[name] for row in rows.values()], _is_log(outcome, name)) for name in names
    }
    study = optuna.create_study(direction=StudyDirection[outcome.objective.direction.upper()])
    shown = {name: safe(label(name)) for name in names}
    for number, row in rows.items():
        study.add_trial(
            create_trial(
                value=reached[number],
                params={
                    shown[name]: _shown(row[name]) if isinstance(each, CategoricalDistribution) else row[name]
                    for name, each in distributions.items()
                },
                distributions={shown[name]: each for name, each in distributions.items()},
            )
        )
    return study, [shown[name] for name in names]


def _reached(outcome: Outcome) -> dict[int, float]:
    """The best of each trial's curve, by number; of those that have one."""
    found = {}
    for record in outcome.records:
        values = [
            value for value in best_so_far(curve(outcome, record.number), outcome.objective) if math.isfinite(value)
        ]
        if values:
            found[record.number] = values[-1]
    return found


def _first(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(next(iter(rows), {}))


def _roles(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {role(name): value for name, value in record.params.items()}
    batch = record.config["data"].get("batch_size")
    if batch is not None:
        row["data.batch_size"] = batch
    return row


def _is_log(outcome: Outcome, name: str) -> bool:
    return any(
        role(each) == name and isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log
        for trial in outcome.trials
        for each, distribution in trial.distributions.items()
    )


def _distribution(values: Sequence[Any], log: bool) -> BaseDistribution:
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numeric and all(isinstance(value, int) for value in values):
        doubled = min(values) > 0 and max(values) >= 8 * min(values)
        return IntDistribution(min(values), max(values), log=log or doubled)
    if numeric and any(isinstance(value, float) for value in values):
        return FloatDistribution(min(values), max(values), log=log)
    options: list[str] = sorted({_shown(value) for value in values}, key=_ascending)
    return CategoricalDistribution(tuple(options))


def _shown(value: Any) -> str:
    return safe(f"{value}")


def _parallel(findings: Findings) -> Plot | None:
    study, names = _common(findings.outcome, most=LINES)
    if len(names) < 2 or len(study.trials) < 2:
        return None
    figure = optuna.visualization.plot_parallel_coordinate(
        study, params=names, target_name=safe(findings.outcome.objective.metric)
    )
    figure.update_layout(title=None, margin={"l": 40, "r": 20, "t": 20, "b": 30})
    for at, name in enumerate(sorted(names), start=1):  # as Optuna orders the axes, behind that of the score
        _sort_options(figure, at, study.trials[0].distributions[name])
    for trace in figure.data:
        if trace.mode == "lines":
            part = trace.y[0] if findings.outcome.objective.direction == "maximize" else 1 - trace.y[0]
            trace.line.color = _between(part**3)  # the best stand out
        elif trace.marker.colorscale is not None:
            trace.marker.showscale = False
    caption = (
        "Each line is a trial, orange ones are better. Here and in the next two, a trial that was stopped "
        "stands at the best "
        "it had reached."
    )
    if len(study.trials) == LINES:
        caption += f" The {LINES} best are drawn."
    return as_plot("parallel", "Parallel coordinates", caption, figure, width=130 * (len(names) + 1))


def _sort_options(figure: Any, axis: int, distribution: BaseDistribution) -> None:
    """Give the options of an axis their own order from bottom to top; Optuna takes that of their first trials."""
    if not isinstance(distribution, CategoricalDistribution) or len(distribution.choices) < 2:
        return
    height = {f"{option}": at / (len(distribution.choices) - 1) for at, option in enumerate(distribution.choices)}
    for trace in figure.data:
        if trace.mode == "lines":
            heights = list(trace.y)
            heights[axis] = height[trace.customdata[axis][1]]
            trace.y = heights
    for tick in figure.layout.annotations:
        if tick.x == axis and tick.text in height:
            tick.y = height[tick.text]


def _between(part: float) -> str:
    """A colour of the scale."""
    low, high = ([int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in SCALE)
    mixed = [round(one + min(1.0, max(0.0, part)) * (two - one)) for one, two in zip(low, high, strict=True)]
    return f"rgb({','.join(map(str, mixed))})"


def _ascending(text: str) -> tuple[bool, float, str]:
    """Numbers before words."""
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _slices(findings: Findings) -> Plot | None:
    study, names = _common(findings.outcome)
    names = names[:SLICES]
    if not names or len(study.trials) < 2:
        return None
    outcome = findings.outcome
    figure = optuna.visualization.plot_slice(study, params=names, target_name=safe(outcome.objective.metric))
    figure.update_layout(title=None)
    for index, trace in enumerate(figure.data):
        trace.marker.update(colorbar={"title": "trial", "thickness": 12}, colorscale=SCALE, line={"width": 0}, size=7)
        axis = figure.layout["xaxis" if index == 0 else f"xaxis{index + 1}"]
        if axis.type == "category":  # Optuna writes the options as Python would
            trace.x = [text.strip("'") for text in trace.x]
            axis.categoryarray = [text.strip("'") for text in axis.categoryarray]
    focus(figure, [trial.value or 0.0 for trial in study.trials], outcome)
    return as_plot(
        "slice",
        "Slices",
        "Each parameter against the score; the more orange, the later the trial.",
        figure,
        width=WIDE * len(names),
    )


def _contour(findings: Findings) -> Plot | None:
    """The learning rate, where it was searched, and what matters most beside it, of the winner's family."""
    winner = findings.outcome.winner
    if winner is None:
        return None
    finished = sum(measured(record) and record.family == winner.family for record in findings.outcome.records)
    study, names = _common(findings.outcome, winner.family, finished_only=finished >= CONTOURED)
    weights = {safe(label(key)): part for key, part in findings.importances.get(winner.family, {}).items()}

    def telling(name: str) -> tuple[bool, float]:
        """Numbers first, between which there is something to interpolate; then by what matters."""
        return isinstance(study.trials[0].distributions[name], CategoricalDistribution), -weights.get(name, 0.0)

    ranked = sorted(names, key=telling)
    rate = safe(label("optimizer.lr"))
    pair = ([rate] if rate in ranked else []) + [name for name in ranked if name != rate]
    pair = pair[:2]
    if len(pair) < 2 or len(study.trials) < 5:
        return None
    metric = safe(findings.outcome.objective.metric)
    figure = optuna.visualization.plot_contour(study, params=pair, target_name=metric)
    figure.update_layout(title=None)
    which = "its trials that were trained to their end" if finished >= CONTOURED else "its trials"
    caption = f"Of {winner.family}, the winner's family; interpolated between {which} (dots)."
    return as_plot("contour", "Contour", caption, figure, height=460)


def _importances(findings: Findings, colours: Mapping[str, str]) -> Plot | None:
    if not findings.importances:
        return None
    order: dict[str, float] = defaultdict(float)
    for parts in findings.importances.values():
        for name, part in parts.items():
            order[name] = max(order[name], part)
    names = sorted(order, key=lambda name: order[name])
    figure = go.Figure()
    for family, parts in findings.importances.items():
        figure.add_bar(
            x=[parts.get(name) for name in names],
            y=[safe(label(name)) for name in names],
            orientation="h",
            name=safe(family),
            marker={"color": colours[family]},
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    figure.update_layout(xaxis_title="part of the variance", barmode="group", yaxis={"automargin": True})
    height = 120 + len(names) * (20 + 16 * len(findings.importances))
    return as_plot("importance", "What matters, by family", importance.COMPUTED, figure, height=height)


# What it costs.


def _against_cost(outcome: Outcome, key: str, colours: Mapping[str, str]) -> Plot | None:
    priced = [record for record in outcome.records if measured(record) and record.cost.get(key, 0.0) > 0]
    if len(priced) < 2:
        return None
    unit, factor = ("ms", 1e3) if key.endswith("_seconds") else ("MB", 1e-6)
    figure = go.Figure()
    for family in sorted({record.family for record in priced}):
        several = [record for record in priced if record.family == family]
        figure.add_scatter(
            x=[record.cost[key] * factor for record in several],
            y=[record.objective for record in several],
            text=[safe(record.name) for record in several],
            mode="markers",
            name=safe(family),
            marker={"color": colours[family], "size": 9},
            hovertemplate="%{text}<br>%{y:.4g}, %{x:.3g} " + unit + "<extra></extra>",
        )
    best = front(outcome, key, priced)
    figure.add_scatter(
        x=[record.cost[key] * factor for record in best],
        y=[record.objective for record in best],
        mode="lines+markers",
        name="Pareto front",
        line={"shape": "hv", "dash": "dot", "width": 1.5, "color": "#8c8c8c"},
        marker={"symbol": "circle-open", "size": 14, "color": "#8c8c8c"},
        hoverinfo="skip",
    )
    figure.update_layout(
        xaxis={"title": f"{COSTS[key]}, {unit}", "type": "log"}, yaxis_title=safe(outcome.objective.metric)
    )
    focus(figure, [record.objective or 0.0 for record in priced], outcome)
    title = "Score against speed" if key.endswith("_seconds") else "Score against memory"
    caption = "Trials that were trained to their end. On the front no trial is both better and cheaper."
    return as_plot("speed" if key.endswith("_seconds") else "memory", title, caption, figure)


def _timeline(outcome: Outcome, colours: Mapping[str, str]) -> Plot | None:
    done = sorted(outcome.records, key=lambda record: (record.started, record.number))
    last = max((record.ended for record in done if record.ended is not None), default=None)
    if last is None:
        return None
    first = done[0].started
    slots: list[datetime] = []
    bars: dict[str, list[tuple[float, float, int, Record]]] = defaultdict(list)
    for record in done:
        end = record.ended or max(last, record.started)
        slot = next((index for index, free in enumerate(slots) if free <= record.started), len(slots))
        slots[slot : slot + 1] = [end]
        begun = (record.started - first).total_seconds()
        bars[record.family].append((begun, (end - first).total_seconds() - begun, slot + 1, record))
    figure = go.Figure()
    for family, several in sorted(bars.items()):
        figure.add_bar(
            base=[begun for begun, _, _, _ in several],
            x=[length for _, length, _, _ in several],
            y=[slot for _, _, slot, _ in several],
            orientation="h",
            width=0.85,
            name=safe(family),
            marker={
                "color": colours[family],
                "opacity": [0.95 if record.reason == Reason.COMPLETED else 0.45 for _, _, _, record in several],
                "line": {"width": 0},
            },
            text=[safe(f"{record.name}, {record.reason or 'in training'}") for _, _, _, record in several],
            textposition="none",
            hovertemplate="%{text}<br>%{x:.3g} s from %{base:.3g} s on<extra></extra>",
        )
    figure.update_layout(
        barmode="overlay",
        xaxis_title="seconds since the first trial began",
        yaxis={"title": "slot", "dtick": max(1, len(slots) // 10), "range": [len(slots) + 0.5, 0.5]},
    )
    caption = "Which trials were in training at the same time; those that were stopped or failed are faded."
    return as_plot("timeline", "Timeline of slots", caption, figure, height=min(700, 200 + 14 * len(slots)))


# How they are kept.


def focus(figure: go.Figure, values: Sequence[float], outcome: Outcome) -> None:
    """Where the worst eighth lies so far off that all others look the same, it is cut off; a double click shows it."""
    finite = sorted(
        (value for value in values if math.isfinite(value)), reverse=outcome.objective.direction == "maximize"
    )
    if len(finite) < 10:
        return
    best, most, worst = finite[0], finite[-1 - len(finite) // 8], finite[-1]
    if most == best or abs(worst - best) <= 3 * abs(most - best):
        return
    figure.update_layout(yaxis_range=sorted([most + 0.2 * (most - best), best - 0.08 * (most - best)]))


def as_plot(key: str, title: str, caption: str, figure: go.Figure, width: int = 0, height: int = 420) -> Plot:
    """A figure as the page takes it, without Plotly's template and sizes."""
    drawn = json.loads(figure.to_json())
    drawn["layout"].pop("template", None)
    drawn["layout"].pop("width", None)
    drawn["layout"].pop("height", None)
    margin = drawn["layout"].get("margin") or {"l": 60, "r": 16, "t": 16, "b": 48}
    drawn["layout"]["margin"] = margin
    if key not in ("parallel", "slice", "contour"):
        below = -62 / (height - 120)  # the title of the axis, in parts of the plot
        drawn["layout"]["legend"] = {"orientation": "h", "y": below, "yanchor": "top", "x": 0, "xanchor": "left"}
    return Plot(key, title, caption, {"data": _rounded(drawn["data"]), "layout": drawn["layout"]}, width, height)


def _rounded(item: Any) -> Any:
    match item:
        case bool():
            return item
        case float():
            return float(f"{item:.{DIGITS}g}") if math.isfinite(item) else None
        case list():
            return [_rounded(each) for each in item]
        case dict():
            return {key: _rounded(each) for key, each in item.items()}
    return item


def safe(text: str) -> str:
    """A name as Plotly shows it letter by letter, which takes some HTML for markup."""
    return html.escape(text, quote=False)
