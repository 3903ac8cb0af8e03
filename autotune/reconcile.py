"""What "nothing lost" means: a study, its mirror in MLflow and its files say the same of every trial, each once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autotune.errors import UserError
from autotune.kept.outcome import Outcome, read, studies, study_folder
from autotune.kept.storage import StudyLock
from autotune.report.files import summary
from autotune.tracking import entries
from autotune.tracking.entries import Identity
from autotune.tracking.mirror import config_text, local_folder
from autotune.tracking.runs import children_of, runs_of
from autotune.tracking.store import Store
from autotune.trial import Reason, Record, State
from autotune.trust import addresses
from autotune.trust.masking import mask

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRACKER = "autotune.tracking.mlflow.MlflowTracker"
# Of a confirmation that ended so the study keeps nothing: it is trained anew, or stopped the search.
_UNKEPT = ("KILLED", "FAILED")


@dataclass(slots=True)
class Difference:
    """What a study and its mirror do not agree on.

    Attributes:
        parent: Of the search's own run, in words.
        children: Of each trial's and confirmation's run.
    """

    parent: list[str] = field(default_factory=list)
    children: dict[Identity, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.parent or self.children)

    def words(self) -> list[str]:
        """All of it."""
        return [*self.parent, *(f"{each}: {word}" for each, words in self.children.items() for word in words)]


def reconcile(home: Path, uri: str | None = None) -> list[str]:
    """What is lost or said twice in a home, in words, by study; empty where nothing is.

    Compared are, of every study that no search holds, its trials and kept confirmations with the child runs in MLflow
    (each once; state, reason, seed, params, final objective, resolved config), the search's own run, and best.yaml and
    summary.json with the study. A study that is not tracked has its files compared alone, and one that is being
    searched nothing: its mirror lags behind it.

    Args:
        home: The home.
        uri: Where the runs are kept; see `mirror_of`.

    Raises:
        UserError: A study is kept in a database whose address is not known here.
        Exception: Whatever MLflow says where it cannot be read.
    """
    return [f"{study}: {word}" for study in studies(home) for word in _lost(study, home, uri)]


def _lost(study: str, home: Path, uri: str | None) -> Iterator[str]:
    folder = study_folder(study, home)
    if StudyLock.is_held(folder):
        return
    try:
        outcome = read(study, home)
    except UserError as error:
        if (folder / "summary.json").exists() or "has no" not in error.problem:
            yield error.problem
        return  # it ended before it had a trial
    if outcome.holder is not None:
        return
    for record in outcome.records:
        if record.state == State.RUNNING:
            yield f"trial {record.number} is RUNNING, and no search holds the study"
    place = mirror_of(outcome, home, uri)
    if place is not None:
        yield from difference(outcome, *place).words()
    yield from _files(outcome, folder)


def mirror_of(outcome: Outcome, home: Path, uri: str | None = None) -> tuple[Store, str] | None:
    """Where a study is mirrored: the store and the experiment's name; None where it is not.

    Args:
        outcome: The study.
        home: Its home.
        uri: The store's address as typed; None takes that of the environment, or else the home's own.

    Raises:
        UserError: config.yaml names another one, which is not taken from a file.
    """
    section = outcome.config.get("tracking")
    if not isinstance(section, Mapping) or section.get("_target_") != TRACKER:
        return None
    kept = section.get("uri")
    if uri is None and kept is not None:
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if addresses.in_folder(str(kept), home):
            uri = str(kept)
        elif uri is None or mask(uri) != kept:
            raise addresses.refusal("uri", f"config.yaml of {outcome.name}", kept)
    return Store(uri, home), str(section.get("experiment") or "autotune")


def difference(outcome: Outcome, store: Store, experiment: str) -> Difference:
    """What a study and its mirror do not agree on.

    Args:
        outcome: The study; no search holds it.
        store: Where its runs are kept.
        experiment: The experiment's name.

    Raises:
        Exception: Whatever MLflow says where it cannot be read.
    """
    found = Difference()
    told = [*outcome.records, *outcome.confirmations]
    if not store.exists:
        found.parent.append(f"there is no {store.shown}")
        found.children = {Identity.of(record): ["has no run"] for record in told}
        return found
    with closing(store):
        _compare(found, outcome, told, *store.connect(experiment))
    return found


def _compare(
    found: Difference, outcome: Outcome, told: Sequence[Record], client: MlflowClient, experiment_id: str
) -> None:
    assert outcome.study is not None
    named = entries.study_tags(outcome.study)
    runs = [run for run in runs_of(client, experiment_id, outcome.study) if run.data.tags.get("kind") != "train"]
    parents = [run for run in runs if run.data.tags.get("kind") == entries.SEARCH]
    parent = parents[0] if parents else None
    ours = [] if parent is None else list(children_of(client, experiment_id, parent.info.run_id))
    known = {run.info.run_id for run in ours}
    running = [run for run in runs if run.info.status == "RUNNING" and run.info.run_id not in known]
    if parent is None:
        found.parent.append("the search has no run")
    elif not _has_artifact(client, parent, "config.yaml"):
        found.parent.append("the search's run has no config.yaml")
    if parent is not None:
        found.parent += [f"the search's run {word}" for word in _differing(parent, named)]
    children: dict[Identity, list[Run]] = {}
    for run in ours:
        identity = Identity.tagged(run.data.tags)
        if identity is not None:
            children.setdefault(identity, []).append(run)
    for run in running:
        what = "the search's run" if run is parent else f"the run {run.info.run_name} of an earlier search"
        found.parent.append(f"{what} is RUNNING, and no search holds the study")
    for record in told:
        there = children.pop(Identity.of(record), [])
        if words := list(_child(client, record, there, named)):
            found.children[Identity.of(record)] = words
    for identity, there in children.items():
        if identity.stage == entries.SEARCH or any(run.info.status not in _UNKEPT for run in there):
            found.children[identity] = ["has a run, and the study does not have it"]


def _differing(run: Run, tags: Mapping[str, str]) -> Iterator[str]:
    for key, value in tags.items():
        if run.data.tags.get(key, "") != value:
            yield f"has the {key} {run.data.tags.get(key)} in MLflow, and {value} in the study"


def _child(client: MlflowClient, record: Record, runs: list[Run], named: Mapping[str, str]) -> Iterator[str]:
    if len(runs) != 1:
        yield f"has {len(runs)} runs" if runs else "has no run"
        return
    (run,) = runs
    is_left = record.state == State.RUNNING  # by a search that was killed
    state = State.WAITING if is_left else record.state
    status, reason = entries.STATUS[state], "interrupted" if is_left else record.reason
    tags = {**named, "state": state.value, "reason": reason or "", "seed": str(record.config.get("seed"))}
    if run.info.status != status:
        yield f"is {run.info.status} in MLflow, and {state} in the study"
    yield from _differing(run, tags)
    if entries.sampled(run.data.params) != entries.params(record.params):
        yield f"has the params {run.data.params} in MLflow, and {entries.params(record.params)} in the study"
    told, shown = record.objective, run.data.metrics.get(entries.OBJECTIVE)
    if told is None and record.reason == Reason.DIVERGED:
        if shown is not None and not math.isnan(shown):
            yield f"has the objective {shown} in MLflow, and none in the study"
    elif told is not None and not _same(entries.finite(told), shown):
        yield f"has the objective {shown} in MLflow, and {told} in the study"
    if _text(client, run, "config.yaml") != config_text(record.config):
        yield "has no config.yaml, or another one"


def _same(told: float, shown: float | None) -> bool:
    return shown is not None and (told == shown or (math.isnan(told) and math.isnan(shown)))


def _has_artifact(client: MlflowClient, run: Run, name: str) -> bool:
    folder = local_folder(run.info.artifact_uri)
    if folder is not None:
        return (folder / name).is_file()
    return any(each.path == name for each in client.list_artifacts(run.info.run_id))


def _text(client: MlflowClient, run: Run, name: str) -> str | None:
    """An artifact's text; None where there is none."""
    if not _has_artifact(client, run, name):
        return None
    folder = local_folder(run.info.artifact_uri)
    path = folder / name if folder is not None else Path(client.download_artifacts(run.info.run_id, name))
    return path.read_text()


def _files(outcome: Outcome, folder: Path) -> Iterator[str]:
    """What best.yaml and summary.json do not say as the study does."""
    path = folder / "summary.json"
    wanted = json.loads(json.dumps(summary(outcome)))
    try:
        shown = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        yield f"summary.json cannot be read ({type(error).__name__})"
    else:
        for key in wanted:
            if shown.get(key) != wanted[key]:
                yield f"summary.json has the {key} {shown.get(key)}, and the study {wanted[key]}"
    if outcome.winner is None:
        return
    try:
        best = OmegaConf.to_container(OmegaConf.load(folder / "best.yaml"))
        assert isinstance(best, dict)
        origin = best.pop("origin")
    except (OSError, KeyError, AssertionError, yaml.YAMLError, OmegaConfBaseException) as error:
        yield f"best.yaml cannot be read ({type(error).__name__})"
        return
    if (origin["trial"], origin["value"]) != (outcome.winner.number, outcome.winner.objective):
        yield f"best.yaml is of trial {origin['trial']}, and the winner is trial {outcome.winner.number}"
    elif best != json.loads(json.dumps(dict(outcome.winner.config))):
        yield "best.yaml is not the winner's config"
