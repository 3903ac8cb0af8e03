"""Several studies on one page: their answers, their best by trial and by seconds, and what differs in their configs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from autotune import naming
from autotune.kept.outcome import Outcome
from autotune.report.ends import best_so_far, measured
from autotune.report.findings import Findings
from autotune.report.page import render, subtitle
from autotune.report.plots import COLOURS, Plot, active_seconds, as_plot, focus, safe
from autotune.report.sentences import Section, Table, answer, difference, listed, score
from autotune.standing import CONFIDENCE, Contender, Estimate

# Keys whose values differ between any two studies, and say nothing of how they search.
IGNORED = ("study.name", "home", "hydra")


def comparison(outcomes: Sequence[Outcome]) -> str:
    """The page that compares studies."""
    names = [outcome.name for outcome in outcomes]
    sections = [Section("answer", "The answer", _answer(outcomes)), _side_by_side(outcomes), _differences(outcomes)]
    for index, outcome in enumerate(outcomes):
        told = answer(Findings.of(outcome))
        sections.append(Section(f"study-{index}", f"The answer of {outcome.name}", told.lines))
    plots = [plot for plot in (_by_trial(outcomes), _by_seconds(outcomes)) if plot is not None]
    return render(f"Studies compared: {', '.join(names)}", "; ".join(map(subtitle, outcomes)), sections, plots)


def _answer(outcomes: Sequence[Outcome]) -> list[str]:
    objectives = {(outcome.objective.metric, outcome.objective.direction) for outcome in outcomes}
    if len(objectives) > 1:
        metrics = listed([f"{outcome.objective.metric} in {outcome.name}" for outcome in outcomes])
        return [f"These studies search for different things ({metrics}): their scores cannot be compared."]
    lines = [_against(outcomes[0], other) for other in outcomes[1:]]
    data = {repr(outcome.config.get("data")) for outcome in outcomes}
    if len(data) > 1:
        lines.append("Their data differ in the config: a difference of the scores may be one of the data.")
    return lines


def _against(one: Outcome, two: Outcome) -> str:
    metric = one.objective.metric
    if one.winner is None or two.winner is None:
        missing = one if one.winner is None else two
        return f"{missing.name} has no trial that was trained to its end."
    if one.standing is not None and two.standing is not None:
        ahead = _lead(one, one.standing.winner, two.standing.winner)
        same = set(one.standing.winner.values) & set(two.standing.winner.values)
        how = f"on the same {len(same)} seeds" if len(same) > 1 else "by Welch's interval, the seeds being different"
        sure = "" if ahead.is_sure else "; chance alone can make that"
        return (
            f"The winner of {one.name} is {difference(ahead)} better in confirmed {metric} than that of {two.name}, "
            f"{how}{sure}."
        )
    sign = 1 if one.objective.direction == "maximize" else -1
    far = sign * ((one.winner.objective or 0.0) - (two.winner.objective or 0.0))
    return (
        f"The best of {one.name} is {far:+.3g} better in {metric} than that of {two.name}, on one seed each: they were "
        "not both confirmed, so that chance may have made it."
    )


def _lead(outcome: Outcome, one: Contender, two: Contender) -> Estimate:
    """By how much one confirmed configuration is better than another: seed by seed where both have the same seeds."""
    if len(set(one.values) & set(two.values)) > 1:
        ahead = one.ahead_of(two)
    else:
        ahead = welch(list(one.values.values()), list(two.values.values()))
    if outcome.objective.direction == "maximize":
        return ahead
    return Estimate(-ahead.mean, -ahead.high, -ahead.low, ahead.count)


def welch(one: Sequence[float], two: Sequence[float]) -> Estimate:
    """The difference of two means with the interval of Welch (1947), which lets their spreads differ."""
    from scipy.stats import t

    counts, means = [len(one), len(two)], [sum(one) / len(one), sum(two) / len(two)]
    mean = means[0] - means[1]
    if min(counts) < 2:
        return Estimate(mean, -math.inf, math.inf, min(counts))
    parts = [
        sum((value - centre) ** 2 for value in values) / (count - 1) / count
        for values, centre, count in zip((one, two), means, counts, strict=True)
    ]
    variance = sum(parts)
    if variance == 0:
        return Estimate(mean, mean, mean, min(counts))
    freedom = variance**2 / sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half, min(counts))


def _side_by_side(outcomes: Sequence[Outcome]) -> Section:
    rows: list[tuple[str, ...]] = []
    for outcome in outcomes:
        winner, standing = outcome.winner, outcome.standing
        rows.append(
            (
                outcome.name,
                "nothing learnable"
                if outcome.is_noise
                else "none"
                if winner is None
                else naming.strategy(winner.config, winner.params),
                "" if winner is None else score(winner.objective),
                "" if standing is None else f"{standing.winner.score}",
                f"{len(outcome.records):,}",
                f"{sum(map(measured, outcome.records)):,}",
                f"{sum(record.epochs for record in outcome.records):,}",
                f"{outcome.seconds:,.0f}",
            )
        )
    head = ("study", "best strategy", "in the search", "confirmed", "trials", "to their end", "epochs", "seconds")
    return Section("studies", "Side by side", [], Table(head, tuple(rows)))


def _differences(outcomes: Sequence[Outcome]) -> Section:
    rows = [row for row in _rows("", [outcome.config for outcome in outcomes]) if not row[0].startswith(IGNORED)]
    title = "What differs in their configs"
    if not rows:
        return Section("configs", title, ["Nothing: they differ by when they ran."])
    return Section("configs", title, [], Table(("key", *(outcome.name for outcome in outcomes)), tuple(rows)))


def _rows(key: str, values: Sequence[Any]) -> list[tuple[str, ...]]:
    """The keys below one at which some values differ; what is in a section that some have not is not gone through."""
    if all(value == values[0] for value in values):
        return []
    if all(isinstance(value, Mapping) for value in values):
        inner = dict.fromkeys(name for value in values for name in value)
        path = f"{key}." if key else ""
        return [row for name in inner for row in _rows(f"{path}{name}", [each.get(name, _ABSENT) for each in values])]
    return [(key, *map(_written, values))]


def _written(value: Any) -> str:
    if value is _ABSENT:
        return ""
    return "there" if isinstance(value, Mapping) else f"{value}"


_ABSENT = object()


def _by_trial(outcomes: Sequence[Outcome]) -> Plot | None:
    at = [{record.number: float(record.number) for record in outcome.records} for outcome in outcomes]
    return _curves(outcomes, at, "trials", "Best so far by trial", "trial")


def _by_seconds(outcomes: Sequence[Outcome]) -> Plot | None:
    at = [active_seconds(outcome.records) for outcome in outcomes]
    return _curves(outcomes, at, "seconds", "Best so far by seconds", "seconds of searching")


def _curves(
    outcomes: Sequence[Outcome], at: Sequence[Mapping[int, float]], key: str, title: str, axis: str
) -> Plot | None:
    figure = go.Figure()
    values: list[float] = []
    for index, (outcome, places) in enumerate(zip(outcomes, at, strict=True)):
        done = sorted((record for record in outcome.records if measured(record)), key=lambda each: places[each.number])
        best = best_so_far([record.objective or 0.0 for record in done], outcome.objective)
        if not best:
            continue
        values += best
        figure.add_scatter(
            x=[*(places[record.number] for record in done), max(places.values())],
            y=[*best, best[-1]],
            mode="lines",
            name=safe(outcome.name),
            line={"shape": "hv", "width": 2, "color": COLOURS[index % len(COLOURS)]},
            hovertemplate="%{y:.4g}<extra>" + safe(outcome.name) + "</extra>",
        )
    if not values:
        return None
    figure.update_layout(xaxis_title=axis, yaxis_title=safe(outcomes[0].objective.metric))
    focus(figure, values, outcomes[0])
    return as_plot(key, title, "Of the trials that were trained to their end.", figure)
