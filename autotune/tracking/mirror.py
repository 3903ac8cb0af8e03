"""A study's runs in MLflow, brought up to date call by call. Waits for MLflow and raises what it says."""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from autotune import naming
from autotune.tracking import Ending, Study, entries
from autotune.tracking.entries import Identity
from autotune.tracking.runs import children_of, runs_of
from autotune.tracking.store import Store
from autotune.trial import Record, State
from autotune.trust import resolved_yaml

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# What MLflow answers where the same call will never succeed.
_FINAL = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}
_TEXT = {".yaml", ".json", ".csv", ".html", ".md"}


@dataclass(frozen=True, slots=True)
class Beginning:
    """A search as it begins or goes on; see `autotune.tracking.Tracker.search_started`."""

    study: Study
    settings: Mapping[str, Any]
    description: str
    resumed: bool
    time: int  # ms since 1970


@dataclass(slots=True)
class _Run:
    """A run as MLflow has it, as far as is known here."""

    run_id: str
    artifacts: str
    status: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    epochs: int = 0
    logged: int = 0
    has_config: bool = False
    metrics: tuple[str, ...] = ()  # of earlier processes, their history not read yet
    history: set[tuple[str, int, float | None]] = field(default_factory=set)

    @classmethod
    def of(cls, run: Run) -> _Run:
        info, data = run.info, run.data
        return cls(
            info.run_id, info.artifact_uri, info.status, dict(data.tags), dict(data.params), metrics=tuple(data.metrics)
        )


class Mirror:
    """The parent run of a search and one child run for each of its trials.

    Every call may be made again after it raised: what was written already is written once. A run that MLflow may have
    made without our hearing of it is looked up before another is made.

    Args:
        store: Where the runs are kept.
        experiment: The experiment's name; made where it is missing.
    """

    def __init__(self, store: Store, experiment: str) -> None:
        self._store = store
        self._experiment = experiment
        self._opened: tuple[MlflowClient, str] | None = None
        self._study: Study | None = None
        self._parent: _Run | None = None
        self._children: dict[Identity, _Run] = {}
        self._complete = True  # whether _children has all there are

    @property
    def _client(self) -> MlflowClient:
        return self._connection()[0]

    def _connection(self) -> tuple[MlflowClient, str]:
        if self._opened is None:
            self._opened = self._store.connect(self._experiment)
        return self._opened

    def doubt(self) -> None:
        """Hear that a call failed, and so may have reached MLflow or not."""
        self._complete = False

    def open(self) -> None:
        """Open the store."""
        self._connection()

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def begin(self, beginning: Beginning) -> None:
        """Make the parent run, or go on with the one there is."""
        self._study = beginning.study
        if self._parent is None:
            self._parent = self._find_parent(beginning) or self._make_parent(beginning)
            self._complete = self._complete and not beginning.resumed
        parent = self._parent
        if parent.status != "RUNNING":
            self._client.update_run(parent.run_id, status="RUNNING")
            parent.status = "RUNNING"
        self._call(parent, beginning.study)
        if beginning.study.aside is not None:
            self._rename(beginning.study.aside)
        # A param can't be changed: of a search that goes on with other settings, config.yaml has the new ones.
        params = {key: value for key, value in entries.settings(beginning.settings).items() if key not in parent.params}
        tags = entries.tags({"state": State.RUNNING.value, entries.NOTE: beginning.description})
        if "reason" in parent.tags:  # of an earlier end
            tags["reason"] = ""
        self._log(parent, [], params, tags)
        parent.params |= params

    def adopt(self, beginning: Beginning) -> None:
        """Take up the parent run of a search that has ended, as it is; make it where it is missing."""
        self._study = beginning.study
        self._parent = self._find_parent(beginning) or self._make_parent(beginning)
        self._complete = False
        self._call(self._parent, beginning.study)
        settings = entries.settings(beginning.settings)
        missing = {key: value for key, value in settings.items() if key not in self._parent.params}
        self._log(self._parent, [], missing, {})
        self._parent.params |= missing

    @property
    def status(self) -> str | None:
        """How the parent run ended; None where it has not."""
        return None if self._parent is None or self._parent.status == "RUNNING" else self._parent.status

    def write(self, record: Record, times: Sequence[int], heard: int, is_doubted: bool = False) -> None:
        """Bring a trial's run up to what a record says.

        Args:
            record: The trial.
            times: When each of its epochs ended, ms since 1970.
            heard: When the record was heard, ms since 1970.
            is_doubted: Whether a run that says it has all of it is written to all the same.
        """
        assert self._parent is not None
        assert self._study is not None
        identity = Identity.of(record)
        child = self._child(identity)
        wanted = entries.params(record.params)
        if child is not None and not entries.sampled(child.params).items() <= wanted.items():
            # Of a trial whose end the study lost with its journal's: params cannot be changed.
            self.remove(identity)
            child = None
        tags = entries.trial_tags(record, self._study, self._parent.run_id)
        status = entries.STATUS[record.state]
        if child is None:
            child = self._make(record.name, entries.milliseconds(record.started), tags)
            self._children[identity] = child
        elif not is_doubted and self._is_written(child, record, tags, status):
            self._log(child, [], {}, tags)  # the study's name or id, where it had another one
            return
        elif child.status != "RUNNING":
            self._client.update_run(child.run_id, status="RUNNING")
            child.status = "RUNNING"
        ended = heard if record.ended is None else entries.milliseconds(record.ended)
        wanted |= entries.hyperparameters(record.logged.hyperparameters)
        params = {key: value for key, value in wanted.items() if key not in child.params}
        stale = {"reason", "error"} & child.tags.keys() - tags.keys()  # of a trial that is run again
        tags |= dict.fromkeys(stale, "")
        self._log(child, self._points(child, record, times, ended), params, tags)
        child.epochs, child.logged = record.epochs, len(record.logged.values)
        child.params |= params
        if not child.has_config:
            self._write_text(child, "config.yaml", config_text(record.config))
            child.has_config = True
        if status != "RUNNING":
            for path, file in record.logged.files.items():
                self._write_file(child, file, path)
            self._client.set_terminated(child.run_id, status, ended)
            child.status = status

    def remove(self, identity: Identity) -> None:
        """Delete the run of a trial that the study does not have; MLflow keeps it among the deleted ones."""
        child = self._child(identity)
        if child is not None:
            self._client.delete_run(child.run_id)
            del self._children[identity]

    def end(self, ending: Ending) -> None:
        """Write the outcome to the parent and end it, and with it every trial that never ended."""
        assert self._parent is not None
        self._load_missing()
        for child in self._children.values():
            if child.status == "RUNNING":
                self._log(child, [], {}, {"state": State.WAITING.value, "reason": "interrupted"})
                self._client.set_terminated(child.run_id, "KILLED", ending.time)
                child.status = "KILLED"
        parent = self._parent
        points = [
            entries.Point("best_value", float(value), ending.time, number) for number, value in ending.best_history
        ]
        known = self._history(parent)
        points = [point for point in points if _reading(point) not in known]
        points += [
            entries.Point(f"trials/{state.value}", float(ending.states.get(state.value, 0)), ending.time, 0)
            for state in State
        ]
        state, reason = entries.OUTCOME[ending.status]
        tags: dict[str, object] = {"state": state.value, "reason": reason.value, entries.NOTE: ending.answer or None}
        if ending.best is not None:
            best = self._children.get(Identity.of(ending.best))
            tags |= {
                "best_trial": ending.best.number,
                "best_name": ending.best.name,
                "best_run": best and best.run_id,
                "family": ending.best.family,
                "schedule": naming.schedule(ending.best.config),
            }
            if ending.best.objective is not None:
                value = entries.finite(ending.best.objective)
                points.append(entries.Point(entries.OBJECTIVE, value, ending.time, 0))
        self._log(parent, points, {}, entries.tags(tags))
        for file in ending.files:
            self._write_file(parent, file)
        self._client.set_terminated(parent.run_id, ending.status, ending.time)
        parent.status = ending.status

    # Runs: found or made.

    def _find_parent(self, beginning: Beginning) -> _Run | None:
        if not beginning.resumed and self._complete:
            return None
        found = next(runs_of(*self._connection(), beginning.study, "tags.kind = 'search'"), None)
        return None if found is None else _Run.of(found)

    def _make_parent(self, beginning: Beginning) -> _Run:
        tags = {
            **entries.study_tags(beginning.study),
            "kind": "search",
            "stage": "search",
            "state": State.RUNNING.value,
            entries.NOTE: beginning.description,
            "mlflow.source.name": "autotune.search",
            "mlflow.source.type": "LOCAL",
        }
        return self._make(beginning.study.name, beginning.time, entries.tags(tags))

    def _call(self, parent: _Run, study: Study) -> None:
        """Have the run of a search say which study it is."""
        if parent.tags.get(entries.RUN_NAME, study.name) != study.name:
            self._client.update_run(parent.run_id, name=study.name)
            parent.tags[entries.RUN_NAME] = study.name
        self._log(parent, [], {}, entries.study_tags(study))

    def _rename(self, study: Study) -> None:
        """Have the runs of a study that was set aside bear the name it has since, the search's own run last."""
        client, experiment_id = self._connection()
        found = next(runs_of(client, experiment_id, study, "tags.kind = 'search'"), None)
        if found is None or found.data.tags.get("study") == study.name:
            return
        parent = _Run.of(found)
        others = [*children_of(client, experiment_id, parent.run_id), *runs_of(client, experiment_id, study)]
        for other in {run.info.run_id: run for run in others if run.info.run_id != parent.run_id}.values():
            self._log(_Run.of(other), [], {}, entries.study_tags(study))
        self._call(parent, study)

    def _make(self, name: str, started: int, tags: dict[str, str]) -> _Run:
        client, experiment_id = self._connection()
        info = client.create_run(experiment_id, started, tags, entries.text(name, entries.KEY_CHARACTERS)).info
        return _Run(info.run_id, info.artifact_uri, "RUNNING", dict(tags))

    def _child(self, identity: Identity) -> _Run | None:
        if identity not in self._children:
            self._load_missing()
        return self._children.get(identity)

    def _load_missing(self) -> None:
        """Learn of the children that an earlier process, or a call that failed, has made."""
        if self._complete:
            return
        assert self._parent is not None
        found = children_of(*self._connection(), self._parent.run_id)
        for run in sorted(found, key=lambda run: run.info.status == "RUNNING"):  # one that has its end goes first
            identity = Identity.tagged(run.data.tags)
            if identity is None:
                continue
            child = self._children.setdefault(identity, _Run.of(run))
            if child.run_id != run.info.run_id:  # made twice, as by a client that heard of no answer and asked again
                self._client.delete_run(run.info.run_id)
        self._complete = True

    def _is_written(self, child: _Run, record: Record, tags: Mapping[str, str], status: str) -> bool:
        """Whether the run says all of it already; a run is ended after all else is written."""
        is_over = record.state not in (State.RUNNING, State.WAITING)
        said = tags.items() - entries.study_tags(self._study).items() if self._study else tags.items()
        return is_over and child.status == status and said <= child.tags.items()

    # What is written into them.

    def _log(
        self, run: _Run, points: Sequence[entries.Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Write in one call, or as many as MLflow's limits ask for; tags that are there already are left out."""
        from mlflow.entities import Metric, Param, RunTag

        changed = {key: value for key, value in tags.items() if run.tags.get(key) != value}
        if points or params or changed:
            self._client.log_batch(
                run.run_id,
                [Metric(*point) for point in points],
                [Param(key, value) for key, value in params.items()],
                [RunTag(key, value) for key, value in changed.items()],
            )
            run.tags |= changed

    def _points(self, child: _Run, record: Record, times: Sequence[int], ended: int) -> list[entries.Point]:
        history = self._history(child)
        behind = max((step for key, step, _ in history if key == entries.OBJECTIVE), default=0)
        points = entries.points(record, child.epochs, times, ended, behind)
        points += entries.logged(record.logged.values[child.logged :])
        return [point for point in points if _reading(point) not in history] if history else points

    def _history(self, run: _Run) -> set[tuple[str, int, float | None]]:
        """What earlier processes measured in a run: a trial that is run again measures it once more."""
        for key in run.metrics:
            for metric in self._client.get_metric_history(run.run_id, key):
                run.history.add(_reading(entries.Point(metric.key, metric.value, metric.timestamp, metric.step)))
        run.metrics = ()
        return run.history

    def _write_file(self, run: _Run, file: Path, path: str = "") -> None:
        """Write a file to a run's artifacts, by a path there or by its own name; one that is gone is left out."""
        folder = local_folder(run.artifacts)
        there = PurePosixPath(path or file.name)
        if not file.exists():
            return
        if file.suffix in _TEXT:
            self._write_text(run, str(there), file.read_text())
        elif folder is None:
            self._client.log_artifact(run.run_id, str(file), None if there.parent.name == "" else str(there.parent))
        else:
            (folder / there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / there)

    def _write_text(self, run: _Run, name: str, content: str) -> None:
        folder = local_folder(run.artifacts)
        if folder is None:
            self._client.log_text(run.run_id, entries.mask(content), name)
        else:  # what the client does too, after three queries
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(entries.mask(content))


def config_text(config: Mapping[str, Any]) -> str:
    """A resolved config as a run's config.yaml has it, passwords masked."""
    return entries.mask(resolved_yaml.dump(config))


def is_final(error: Exception) -> bool:
    """Whether a call that raised this will raise it again however often it is made."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, MlflowException):
        # MLflow says BAD_REQUEST of a connection that its database closed, too: that has nothing to do with the call.
        return error.error_code in _FINAL and "InterfaceError" not in str(error)
    return not isinstance(error, OSError | sqlite3.Error | SQLAlchemyError)


def _reading(point: entries.Point) -> tuple[str, int, float | None]:
    return point.key, point.step, None if math.isnan(point.value) else point.value


def local_folder(uri: str) -> Path | None:
    """The folder that an artifact URI names; None where it names none on this machine."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(uri) if parts.scheme == "" else None
