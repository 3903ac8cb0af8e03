"""How the table of an experiment's runs opens in MLflow's UI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autotune.tracking.entries import NOTE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

VIEW = "autotune"
_TAG = "mlflow.sharedViewState."
VIEW_TAG = f"{_TAG}{VIEW}"
# Columns as MLflow names them, with their widths in pixels, in their order.
_FIXED = {"attributes.`Run Name`": 280, "runDateAndNestInfo": 130}
_CHOSEN = {
    "metrics.`objective`": 90,
    "tags.`family`": 90,
    "tags.`schedule`": 110,
    "tags.`state`": 100,
    "tags.`reason`": 100,
    "tags.`study`": 160,
    "attributes.`Description`": 330,  # MLflow shows 50 characters of it
}
_STATE = {
    # Not the same configs trained again with other seeds, of which there may be more than trials.
    "searchFilter": "tags.stage != 'confirm' and tags.stage != 'final-seed'",
    # Only searches and final trainings have a description, and what has none comes last, newest first. Any order but
    # the one by date lists children as rows of their own, instead of behind a button of their parent.
    "orderByKey": f"tags.`{NOTE}`",
    "orderByAsc": False,
    "selectedColumns": list(_CHOSEN),
    "columnOrder": [*_FIXED, *_CHOSEN],
    "columnWidths": _FIXED | _CHOSEN,
}
# MLflow sorts by one column and knows no direction of a metric, so that there is a view for each.
_BY_OBJECTIVE = {
    "autotune-highest": ("Highest objective first", False),
    "autotune-lowest": ("Lowest objective first", True),
}


def page(experiment_id: str) -> str:
    """Where the UI shows an experiment's runs in the shared view, relative to the server's root."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


def share_view(client: MlflowClient, experiment: Experiment) -> None:
    """Give an experiment views of its runs, that of `page` among them, and a description that links to it.

    They are saved views of MLflow 3.17: whoever opens the UI some other way finds them under Views. A description that
    somebody wrote is left as it is.
    """
    created = experiment.creation_time or 0
    wanted = {VIEW_TAG: _view("Trials", created, _STATE)}
    for key, (name, ascending) in _BY_OBJECTIVE.items():
        wanted[_TAG + key] = _view(
            name,
            created,
            {
                **_STATE,
                "searchFilter": "tags.stage = 'search' and tags.trial_number LIKE '%'",
                "orderByKey": "metrics.`objective`",
                "orderByAsc": ascending,
            },
        )
    if NOTE not in experiment.tags:
        link = page(experiment.experiment_id)
        wanted[NOTE] = f"[All trials with objective, family, schedule, state and reason]({link})"
    for key, value in wanted.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)


def _view(name: str, created: int, state: Mapping[str, Any]) -> str:
    """A saved view as MLflow's front end keeps it: a name, a date in ms since 1970, the state as JSON in a text."""
    return json.dumps({"name": name, "createdAt": created, "state": json.dumps(state)})
