"""How the table of an experiment's runs opens in MLflow's UI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from autotune.tracking.entries import NOTE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

VIEW = "autotune"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
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


def page(experiment_id: str) -> str:
    """Where the UI shows an experiment's runs in the shared view, relative to the server's root."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


def share_view(client: MlflowClient, experiment: Experiment) -> None:
    """Give an experiment the view of its runs that `page` opens, and a description that links to it.

    The view is a saved view of MLflow 3.17: whoever opens the UI some other way finds it as "Trials" under Views. A
    description that somebody wrote is left as it is.
    """
    # The format is that of MLflow's front end: a name, a date in ms since 1970, the state as JSON in a text.
    view = json.dumps({"name": "Trials", "createdAt": experiment.creation_time or 0, "state": json.dumps(_STATE)})
    link = f"[All trials with objective, family, schedule, state and reason]({page(experiment.experiment_id)})"
    wanted = {VIEW_TAG: view} if NOTE in experiment.tags else {VIEW_TAG: view, NOTE: link}
    for key, value in wanted.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)
