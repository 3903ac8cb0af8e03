"""Studies that nobody searched: trials made up by a rule, in a real space, told as a search would have left them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune import naming
from autotune.compose import compose, plain, section
from autotune.kept.outcome import Outcome
from autotune.settings import Objective, complete_objective
from autotune.space import Space
from autotune.trial import Reason, Record, State

UP = Objective("val/accuracy", "maximize", 0.0, None)
DOWN = Objective("val/loss", "minimize", 1e4, None)
BEGUN = datetime(2024, 5, 1, 12, tzinfo=UTC)
EPOCHS = 9
RUNGS = (1, 3)
SPACE = ("optimizer=sweep", f"trainer.max_epochs={EPOCHS}", "study.name=made")

Score = Callable[[Mapping[str, Any]], float]


@cache
def composed(*overrides: str) -> DictConfig:
    """A composed config of the search."""
    config = compose("search", list(overrides))
    config.objective = complete_objective(section(config, "objective"))
    return config


def record(
    number: int, reason: Reason | None, curve: Sequence[float], config: Mapping[str, Any], **changes: Any
) -> Record:
    """A trial with this objective at each epoch; each epoch takes a second and begins when the trial's number says."""
    metric = config["objective"]["metric"]
    values = [value for value in curve if math.isfinite(value)]
    best = None if not values else Objective.of(config["objective"]).best(values)
    ended = reason is not None
    state = State.RUNNING if reason is None else reason.state
    begun = BEGUN + timedelta(seconds=number)
    told = Record(
        number=number,
        name=naming.trial(number, config, {}),
        family=naming.family(config),
        state=state,
        reason=reason,
        stage="search",
        params={},
        config=config,
        objective=best if reason in (Reason.COMPLETED, Reason.PRUNED) else None,
        curves={metric: list(curve), "lr": [0.1] * len(curve)} if curve and ended else {},
        cost={
            "cost/epoch_seconds": 1.0 + number % 7,
            "cost/latency_sample_seconds": 1e-4 * (1 + number % 5),
            "cost/peak_memory_bytes": 1e6 * (1 + number % 3),
            "cost/model_bytes": 4e4,
            "cost/parameters": 1e4,
        }
        if ended and curve
        else {},
        started=begun,
        ended=begun + timedelta(seconds=len(curve)) if ended else None,
    )
    return replace(told, **changes)


def frozen(record: Record, distributions: Mapping[str, Any], curve: Sequence[float]) -> FrozenTrial:
    """A record as Optuna keeps it."""
    finished = record.state.value in ("COMPLETE", "PRUNED")
    trial = create_trial(
        state=TrialState[record.state.value],
        value=record.objective if finished else None,
        params=dict(record.params),
        distributions=dict(distributions),
        user_attrs={"config": dict(record.config)},
        intermediate_values={step + 1: value for step, value in enumerate(curve)},
    )
    trial.number = record.number
    trial.datetime_start, trial.datetime_complete = record.started, record.ended
    return trial


def study(
    score: Score,
    trials: int = 60,
    *overrides: str,
    sampler: BaseSampler | None = None,
    prune: bool = True,
    noise: float = 0.003,
    seed: int = 0,
    name: str = "made",
    notes: Mapping[str, Any] | None = None,
) -> Outcome:
    """A search of a space whose trials end at what a rule says of their parameters, give or take the noise.

    A trial comes nearer to its end from epoch to epoch. Where `prune`, it is stopped at a rung of successive halving.
    """
    config = composed(*(overrides or SPACE))
    space = Space(config)
    objective = Objective.of(section(config, "objective"))
    draw = random.Random(seed)
    copy = optuna.create_study(direction=objective.direction, sampler=sampler or RandomSampler(seed=seed))
    rungs: dict[int, list[float]] = {rung: [] for rung in RUNGS}
    records: list[Record] = []
    kept: list[FrozenTrial] = []
    for number in range(trials):
        asked = copy.ask()
        params = space.suggest(asked)
        end = score(params)
        pace = draw.uniform(0.3, 0.6)
        # Worse at first, whichever way is better.
        way = -1 if objective.direction == "maximize" else 1
        curve = [end + way * 0.4 * pace**epoch + draw.gauss(0, noise) for epoch in range(1, EPOCHS + 1)]
        reason = Reason.COMPLETED
        for rung in RUNGS if prune else ():
            value = -way * curve[rung - 1]
            rungs[rung].append(value)
            if value < sorted(rungs[rung])[-max(1, len(rungs[rung]) // 3)]:
                curve, reason = curve[:rung], Reason.PRUNED
                break
        told = record(number, reason, curve, space.resolve(params), params=params)
        records.append(told)
        kept.append(frozen(told, asked.distributions, curve))
        for step, value in kept[-1].intermediate_values.items():
            asked.report(value, step)
        if reason == Reason.COMPLETED:
            copy.tell(asked, told.objective)
        else:
            copy.tell(asked, state=TrialState.PRUNED)
    return Outcome(name, objective, plain(config), kept, records, [], 12.5, dict(notes or {}))


def confirmed(
    outcome: Outcome, numbers: Sequence[int], seeds: Sequence[int], score: Score, noise: float = 0.003
) -> Outcome:
    """The same with trials of it trained again."""
    draw = random.Random(1)
    again = []
    for number in numbers:
        for seed in seeds:
            old = outcome.records[number]
            value = score(old.params) + draw.gauss(0, noise)
            config = {**old.config, "seed": seed}
            again.append(
                replace(
                    record(number, Reason.COMPLETED, [value] * EPOCHS, config, params=old.params),
                    name=naming.confirmation(number, seed, config, old.params),
                    stage="confirm",
                )
            )
    return replace(outcome, confirmations=again)
