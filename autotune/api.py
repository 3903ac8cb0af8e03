"""autotune from Python: what the commands do, with objects in and out.

result = autotune.run_search(["optimizer=sweep", "budget.trials=50"], data=(features, target))
result.best.config, result.score, result.trials
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig
from optuna.study import StudyDirection

from autotune import search, train
from autotune.claims import named_by_clock
from autotune.compose import compose
from autotune.errors import UserError
from autotune.kept.outcome import Outcome, read, study_folder
from autotune.logs import libraries_hushed
from autotune.process_state import process_state_kept
from autotune.standing import Estimate
from autotune.train import Result
from autotune.trial import Record
from autotune.trust import targets

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure
    from torch import nn

GIVEN = "given"

Config = Sequence[str] | Mapping[str, Any] | DictConfig


@dataclass(frozen=True)
class SearchResult:
    """A study: what it found and all it tried.

    Attributes:
        outcome: All that is known of it.
        folder: Where its files are: best.yaml, report.html, trials.csv, ...
        interrupted: Whether Ctrl-C or SIGTERM ended the run of the search.
    """

    outcome: Outcome = field(repr=False)  # all trials with their curves
    folder: Path
    interrupted: bool = False

    @property
    def name(self) -> str:
        """The study's name; `run_search` with ``study.name=<name>`` goes on with it."""
        return self.outcome.name

    @property
    def best(self) -> Record | None:
        """The winner: its `config`, sampled `params`, `objective` and curves; None where nothing was trained."""
        return self.outcome.winner

    @property
    def score(self) -> Estimate | None:
        """The winner's confirmed mean with its interval; None where nothing was confirmed."""
        return None if self.outcome.standing is None else self.outcome.standing.winner.score

    @cached_property
    def trials(self) -> DataFrame:
        """One row a trial, as in trials.csv."""
        from autotune.report.files import table

        return table(self.outcome)

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """The plots of the report, by name."""
        from autotune.report.plots import figures

        with libraries_hushed():
            return figures(self.outcome)

    @cached_property
    def study(self) -> optuna.Study:
        """The study as Optuna has it, a copy in memory: for `optuna.visualization` and all else that takes a study."""
        with libraries_hushed():
            study = optuna.create_study(
                study_name=self.name, direction=StudyDirection[self.outcome.objective.direction.upper()]
            )
        study.add_trials(self.outcome.trials)
        return study


def run_search(config: Config = (), *, model: Callable[..., nn.Module] | None = None, data: Any = None) -> SearchResult:
    """Search, as ``python -m autotune.search`` does.

    Args:
        config: Overrides as typed (``["optimizer=sweep", "budget.trials=50"]``); the same as a mapping, nested or not
            (``{"optimizer": "sweep", "budget": {"trials": 50}}``); or a config that `autotune.compose.compose` made.
        model: See `autotune.given.model_section`; instead of the group model.
        data: See `autotune.given.data_section`; instead of the group data.

    Raises:
        UserError: The config cannot be searched.
        RehearsalError: The user's code raised before anything was trained.
        TrialCodeError: The user's code raised while a trial was trained; its `__cause__` is what it raised.
    """
    with process_state_kept():
        composed = _composed("search", config, model, data)
        if composed.get("dry_run") in (True,):
            remedy = "leave it out, or type it: python -m autotune.search dry_run=true"
            raise UserError("dry_run", "true searches nothing, and there is no study to return", remedy)
        with targets.allowing(targets.typed_with(composed)):
            ran = search.run(copy.deepcopy(composed), claims_name=named_by_clock(composed, "study"))
    return SearchResult(ran.outcome, ran.folder, ran.exit_code > 1)


def run_train(
    origin: str | Path | SearchResult | None = None,
    config: Config = (),
    *,
    model: Callable[..., nn.Module] | None = None,
    data: Any = None,
) -> Result:
    """Train at full length and test once, as ``python -m autotune.train`` does.

    Args:
        origin: A study that was searched: its result, its name, its best.yaml, or the id of a run in MLflow.
        config: As for `run_search`.
        model: As for `run_search`; not needed for what a study of this process was given.
        data: Likewise.

    Raises:
        UserError: The config cannot be trained.
        KeyboardInterrupt: Interrupted; what was trained before is kept.
        Exception: What the user's code raises.
    """
    if isinstance(origin, SearchResult):
        origin = origin.folder / "best.yaml"
    if origin is not None:
        if isinstance(config, DictConfig):
            raise UserError("from", f"{origin} and a composed config exclude each other", "give overrides")
        config = [f"from={_quoted('from', str(origin))}", *_overrides(config)]
    with process_state_kept():
        composed = _composed("train", config, model, data)
        with targets.allowing(targets.typed_with(composed)):
            plan = train.Plan.of(composed)
            return train.train_plan(plan.claimed() if named_by_clock(composed, "train") else plan)


def load_study(name: str, home: str | Path = "mlruns") -> SearchResult:
    """A study of a home; it may be searched at the moment.

    Raises:
        UserError: There is none, or it has no trial yet.
    """
    return SearchResult(read(name, Path(home)), study_folder(name, Path(home)))


def _composed(command: str, config: Config, model: Callable[..., nn.Module] | None, data: Any) -> DictConfig:
    if isinstance(config, DictConfig):
        if model is not None or data is not None:
            raise UserError("config", "a composed config has its model and data", "give overrides, or neither of them")
        return config
    overrides = _overrides(config)
    for group, given in (("model", model), ("data", data)):
        if given is not None:
            from autotune import given as objects

            section = objects.model_section(given) if group == "model" else objects.data_section(given)
            ConfigStore.instance().store(group=group, name=GIVEN, node=section, provider="autotune")
            overrides = [f"{group}={GIVEN}", *overrides]
    return compose(command, overrides, prepare=train.prepare if command == "train" else list)


def _overrides(config: Sequence[str] | Mapping[str, Any]) -> list[str]:
    if isinstance(config, str):
        raise UserError("config", f"{config} is one text", "give a list of overrides: [...]")
    if isinstance(config, Mapping):
        return [f"{key}={value}" for key, value in _leaves(config, "")]
    return list(config)


def _leaves(config: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    leaves: list[tuple[str, str]] = []
    for key, value in config.items():
        whole = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            leaves += _leaves(value, f"{whole}.")
        else:
            leaves.append((whole, _quoted(whole, value)))
    return leaves


def _quoted(key: str, value: Any) -> str:
    """A value as it is typed behind a key: search values stay what they are, other texts are quoted where needed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(_quoted(key, each) for each in value)}]"
    if not isinstance(value, str | Path):
        return str(value)
    text = str(value)
    try:
        OverridesParser.create().parse_override(f"{key}={text}")
    except HydraException:
        return str(QuotedString(text, Quote.single).with_quotes())
    return text
