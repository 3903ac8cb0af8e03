"""A study's runs in MLflow, found by the id that they carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from autotune.tracking import Study, entries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000


def runs_of(client: MlflowClient, experiment_id: str, study: Study, only: str = "") -> Iterator[Run]:
    """A study's runs in an experiment, the latest first.

    Those that carry its id. Where none does, those without an id that are its own by a name (`Study.known_as`).

    Args:
        client: MLflow's.
        experiment_id: The experiment's.
        study: Whose.
        only: A further condition, as MLflow's search takes it.

    Raises:
        Exception: Whatever MLflow says where it cannot be read.
    """
    further = f" and {only}" if only else ""
    is_found = False
    if study.id is not None:
        for run in search(client, experiment_id, f"tags.{entries.STUDY_ID} = '{study.id}'{further}"):
            is_found = True
            yield run
    if not is_found and study.known_as is not None:
        # MLflow's servers of before version 3 cannot be asked for a tag that is missing.
        for run in search(client, experiment_id, f"tags.study = '{study.known_as}'{further}"):
            if entries.STUDY_ID not in run.data.tags:
                yield run


def children_of(client: MlflowClient, experiment_id: str, parent: str) -> Iterator[Run]:
    """The child runs of a run, the latest first. Raises whatever MLflow says."""
    return search(client, experiment_id, f"tags.`{entries.PARENT}` = '{parent}'")


def search(client: MlflowClient, experiment_id: str, only: str) -> Iterator[Run]:
    """All runs of an experiment that fulfil a condition, the latest first. Raises whatever MLflow says."""
    token = None
    while True:
        order = ["attributes.start_time DESC"]
        page = client.search_runs([experiment_id], only, max_results=PAGE, order_by=order, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
