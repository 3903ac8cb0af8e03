"""How much of the difference between configurations of one family each parameter makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from autotune.kept.outcome import Outcome
from autotune.report.surrogate import Surrogate, role

POINTS = 64
FEWEST = 10  # trials of a family

COMPUTED = (
    "Of points spread evenly over the space of one optimizer, the part of the variance of the predicted score that "
    "a parameter makes alone or with others (total Sobol index of the Gaussian process, by Jansen's estimator). "
    "Parts can add up to more than 1, where parameters work together. Importances of the trials themselves, PED-ANOVA "
    "for one, would say how the sampler chose, too."
)


def importances(outcome: Outcome, surrogate: Surrogate | None) -> dict[str, dict[str, float]]:
    """For each family with at least ten trials, parameter names to their parts, the largest first."""
    if surrogate is None:
        return {}
    families: dict[str, int] = defaultdict(int)
    branches: dict[str, Mapping[str, object]] = {}
    for record in outcome.records:
        families[record.family] += 1
        branches.setdefault(record.family, {k: v for k, v in record.params.items() if k == "optimizer"})
    return {
        family: found
        for family, count in sorted(families.items())
        if count >= FEWEST and (found := _importances(surrogate, branches[family]))
    }


def _importances(surrogate: Surrogate, branch: Mapping[str, object]) -> dict[str, float]:
    draws = surrogate.draws
    points = [draws.point(branch) for _ in range(POINTS)]
    others = [draws.point(branch) for _ in range(POINTS)]
    scores = surrogate.predicted(points)
    variance = float(np.var(scores))
    names = sorted({_group(name) for point in points for name in point if name not in branch})
    if variance <= 0:
        return {}
    found = {}
    for name in names:
        moved = [
            draws.point({**_without(one, name), **_only(two, name), **branch})
            for one, two in zip(points, others, strict=True)
        ]
        found[name] = float(np.mean((scores - surrogate.predicted(moved)) ** 2)) / (2 * variance)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _group(name: str) -> str:
    """What is varied together: a choice of groups with all that is searched within its branches."""
    return name.split(".")[0] if name.startswith("schedule.") else role(name)


def _without(point: Mapping[str, object], group: str) -> dict[str, object]:
    return {name: value for name, value in point.items() if _group(name) != group}


def _only(point: Mapping[str, object], group: str) -> dict[str, object]:
    return {name: value for name, value in point.items() if _group(name) == group}
