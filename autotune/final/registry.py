"""A final training in MLflow: its run, linked to the search it comes from, and its model in the registry."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from autotune import naming, serving
from autotune.assembly import Assembly
from autotune.data.batches import ArrayData
from autotune.data.fitting import TableEncoding
from autotune.data.preprocess import Standardize
from autotune.data.source import EXAMPLES
from autotune.divergence import is_loss
from autotune.errors import UserError, first_line
from autotune.final.origin import parsed
from autotune.learner import Learner
from autotune.logs import hush_libraries
from autotune.serving import TablePreprocess
from autotune.settings import Objective
from autotune.task import Task
from autotune.tracking import Study, entries
from autotune.tracking.mirror import config_text
from autotune.tracking.runs import runs_of
from autotune.tracking.store import Store
from autotune.trial import NOTHING_LOGGED, Logged, State
from autotune.trust import yaml_limits

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models.model import ModelInfo
    from pandas import DataFrame

_log = logging.getLogger(__name__)

GIVE = "give the run of a search or of a trial"
REQUIRED = ("mlflow", "torch", "numpy", "pandas")  # where the model is served; that of a table needs autotune too


class Predictor(nn.Module):
    """From raw features to answers: what was fitted on the training part, the network, and what its outputs mean.

    Args:
        preprocess: For raw features.
        network: Trained.
        task: Says what the outputs mean.
        class_names: What each class is called, where they have names.
    """

    def __init__(
        self, preprocess: Standardize, network: nn.Module, task: Task, class_names: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.preprocess = preprocess
        self.network = network
        self._task = task

    def forward(self, features: Tensor) -> Tensor:
        """[n, ...] raw features -> probabilities [n, classes] or [n], or numbers in the target's own unit [n]."""
        return self._task.answer(self.network(self.preprocess(features)))


class TablePredictor(nn.Module):
    """From the encoded rows of a table to answers; `autotune.serving` encodes rows and names the answers.

    Args:
        preprocess: Goes beside it.
        frame: A few rows as a user has them.
        network: Trained.
        task: Says what the outputs mean.
    """

    def __init__(self, preprocess: TablePreprocess, frame: DataFrame, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.table = preprocess
        self.frame = frame
        self.network = network
        self._task = task

    def forward(self, features: Tensor) -> Tensor:
        """[n, columns] encoded -> as `Predictor`."""
        return self._task.answer(self.network(features))


class Forward(nn.Module):
    """The forward pass of the user's own module, and nothing else of it.

    Args:
        module: Trained.
    """

    def __init__(self, module: LightningModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: Tensor) -> Tensor:
        """As the module answers."""
        outputs: Tensor = self.module(features)
        return outputs


def servable(assembly: Assembly) -> tuple[nn.Module, Tensor] | None:
    """What answers at prediction, in evaluation mode on the CPU, and an example of what it is given.

    None where the user's own module has no forward pass from one tensor to another.
    """
    module, data = assembly.module.cpu().eval(), assembly.data
    if isinstance(module, Learner) and isinstance(data, ArrayData):
        split, network = data.split, module.judged_network
        if isinstance(split.preprocess, Standardize):
            return Predictor(split.preprocess, network, module.task, split.class_names).eval(), split.examples
        table = table_preprocess(data)
        if table is None or not isinstance(split.preprocess, TableEncoding):
            return None
        frame = split.preprocess.frame(split.examples)
        return TablePredictor(table, frame, network, module.task).eval(), split.preprocess(split.examples)
    if isinstance(data, ArrayData):
        features = data.split.preprocess(data.split.examples)
    else:
        batch = next(iter(data.val_dataloader()))
        features = batch[0] if isinstance(batch, tuple | list) else batch
    if not isinstance(features, Tensor) or type(module).forward is LightningModule.forward:
        return None
    with torch.no_grad():
        answers = module(features[:EXAMPLES])
    return (Forward(module).eval(), features[:EXAMPLES]) if isinstance(answers, Tensor) else None


def table_preprocess(data: LightningDataModule) -> TablePreprocess | None:
    """How the rows of a table are encoded and what the answers are called; None where the data is no table."""
    if not isinstance(data, ArrayData) or not isinstance(data.split.preprocess, TableEncoding):
        return None
    target = getattr(data.source, "target", "answer")
    return TablePreprocess(data.split.preprocess.encoder, data.split.task, data.split.class_names or (str(target),))


class Measurements:
    """What a run of MLflow is told of a training.

    Args:
        client: MLflow's.
        run_id: The run's.
        objective: What the epochs are compared by; None where they are not.
    """

    def __init__(self, client: MlflowClient, run_id: str, objective: Objective | None = None) -> None:
        self._client = client
        self._run_id = run_id
        self._objective = objective
        self._best: float | None = None
        self._pending: list[entries.Point] = []
        self._params: dict[str, str] = {}
        self._written: set[str] = set()

    def log(self, metrics: Mapping[str, float], step: int, logged: Logged = NOTHING_LOGGED) -> None:
        """Write what an epoch measured and the best so far; what MLflow does not take now is written with the next.

        Args:
            metrics: What it measured.
            step: The epoch.
            logged: What the module logged besides.
        """
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        shown = {**dict(entries.measured(*metric) for metric in metrics.items()), **self._best_so_far(metrics)}
        self._pending += [
            entries.Point(entries.key(name), value, now, step)
            for name, value in shown.items()
            if not math.isnan(value) or is_loss(name)
        ]
        self._pending += entries.logged(logged.values)
        self._params = {**entries.hyperparameters(logged.hyperparameters), **self._params}
        params = [Param(name, value) for name, value in self._params.items() if name not in self._written]
        try:
            self._client.log_batch(self._run_id, [Metric(*point) for point in self._pending], params)
        except Exception as error:  # training does not stop for its mirror
            _log.warning("MLflow did not take the metrics: %s", entries.mask(first_line(error)))
        else:
            self._pending = []
            self._written |= self._params.keys()

    def log_files(self, logged: Logged) -> None:
        """Copy the files of what the module logged into the run's artifacts."""
        for path, file in logged.files.items():
            try:
                self._client.log_artifact(self._run_id, str(file), str(PurePosixPath(path).parent))
            except Exception as error:  # training does not stop for its mirror
                _log.warning("MLflow did not take %s: %s", path, entries.mask(first_line(error)))

    def _best_so_far(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The objective as a trial's run has it; nothing where this is no epoch that says something of it."""
        value = math.nan if self._objective is None else metrics.get(self._objective.metric, math.nan)
        if self._objective is None or math.isnan(value):
            return {}
        if self._best is None or self._objective.better(value, self._best):
            self._best = value
        return {entries.OBJECTIVE: entries.finite(self._best)}


class FinalRun:
    """One final training as a run of MLflow; further seeds and recipes are its children.

    Args:
        uri: See `autotune.tracking.store.Store`.
        experiment: The experiment's name.
        home: The home.

    Raises:
        UserError: MLflow cannot be reached.
    """

    def __init__(self, uri: str | None, experiment: str, home: Path) -> None:
        self._store = Store(uri, home)
        try:
            self._client, self._experiment_id = self._store.connect(experiment)
        except UserError:
            raise
        except Exception as error:  # each back end raises its own kinds; each means there is nothing to write to
            raise _unreachable(self._store, error) from error
        hush_libraries()
        self.run_id = ""

    @property
    def ui_command(self) -> str:
        """What to type to see the run."""
        return self._store.ui_command

    def begin(self, name: str, config: Mapping[str, Any], origin: Mapping[str, Any], family: str, on: str) -> None:
        """Make the run, with links to the search and the trial it comes from."""
        links = self._links(origin)
        tags = {
            "kind": "train",
            **_tags("train", config, family, on),
            "study": origin.get("study"),
            entries.STUDY_ID: origin.get(entries.STUDY_ID),
            "trial_number": origin.get("trial"),
            **{f"{kind}_run": run.info.run_id for kind, run in links.items()},
            "mlflow.note.content": self._note(name, origin, links),
        }
        self.run_id = self._make(name, tags)
        self._measurements = Measurements(self._client, self.run_id, Objective.of(config["objective"]))
        self._write_config(self.run_id, config)

    def log(self, metrics: Mapping[str, float], step: int, logged: Logged = NOTHING_LOGGED) -> None:
        """See `Measurements.log`."""
        self._measurements.log(metrics, step, logged)

    def log_files(self, logged: Logged) -> None:
        """See `Measurements.log_files`."""
        self._measurements.log_files(logged)

    @contextmanager
    def child(self, name: str, stage: str, config: Mapping[str, Any], family: str, on: str) -> Iterator[Measurements]:
        """A further training as a child run, which ends as the block does.

        Args:
            name: Of the run.
            stage: ``final-seed`` or ``recipe``.
            config: What is trained, resolved.
            family: The optimizer's name.
            on: What is trained on.
        """
        tags = {entries.PARENT: self.run_id, **_tags(stage, config, family, on)}
        run_id, status = "", "FAILED"
        try:
            run_id = self._make(name, tags)
            self._write_config(run_id, config)
            yield Measurements(self._client, run_id, Objective.of(config["objective"]))
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            if run_id:
                self._end(run_id, status)

    def _end(self, run_id: str, status: str) -> None:
        """End a run, which no later training goes on with."""
        state, reason = entries.OUTCOME[status]
        self._client.set_tag(run_id, "state", (State.FAIL if state == State.WAITING else state).value)
        self._client.set_tag(run_id, "reason", reason.value)
        self._client.set_terminated(run_id, status)

    def _make(self, name: str, tags: Mapping[str, object]) -> str:
        started = entries.milliseconds(datetime.now(UTC))
        return str(self._client.create_run(self._experiment_id, started, entries.tags(tags), name).info.run_id)

    def _write_config(self, run_id: str, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in entries.settings(config).items()]
        self._client.log_batch(run_id, params=params)
        self._client.log_text(run_id, config_text(config), "config.yaml")

    def log_model(self, model: nn.Module, example: Tensor, registered_as: str | None) -> str:
        """Log the model with its signature and an input example, and register it; returns its URI.

        It is kept as an exported graph (torch.export), which holds no code that loading could run. A model that cannot
        be exported is pickled, and a warning says so.

        Args:
            model: In evaluation mode, on the CPU.
            example: A few raw features, [n, ...].
            registered_as: The name in the registry; None registers nothing.
        """
        import mlflow
        from mlflow.models import Model
        from mlflow.models.signature import infer_signature

        rows = example.numpy()
        with torch.no_grad():
            answers = model(example).numpy()
        unexported = _why_not_exported(model, example)
        if unexported is not None:
            _log.warning("the model cannot be exported (%s); it is pickled: load it where you trust it", unexported)
        mlflow.set_tracking_uri(self._store.uri)
        mlflow.set_experiment(experiment_id=self._experiment_id)  # where the model's files go, whatever its run says
        network = {
            "pytorch_model": model,
            "serialization_format": "pt2" if unexported is None else "pickle",
            "signature": infer_signature(rows, answers),
            "input_example": rows,
            "pip_requirements": [f"{name}=={version(name).partition('+')[0]}" for name in REQUIRED],
        }
        if isinstance(model, TablePredictor):
            named = serving.signature_of(list(model.frame.columns), model.table.answers)
            table = {"preprocess": model.table, "rows_signature": named, "rows_example": model.frame}
            info = Model.log(None, serving, name="model", run_id=self.run_id, **table, **network)
        else:
            names = getattr(model, "class_names", ())
            classes = {"metadata": {"class_names": list(names)}} if names else {}
            info = Model.log(None, mlflow.pytorch, name="model", run_id=self.run_id, **classes, **network)
        return str(info.model_uri) if registered_as is None else self._register(info, registered_as)

    def _register(self, info: ModelInfo, name: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self._client.create_model_version(name, info.model_uri, self.run_id, model_id=info.model_id)
        return f"models:/{name}/{made.version}"

    def end(self, metrics: Mapping[str, float], files: Sequence[Path], status: str) -> None:
        """Write what it came to, and end the run where it was begun."""
        if self.run_id:
            if metrics:
                self.log(metrics, 0)
            for file in files:
                if file.exists():
                    self._client.log_artifact(self.run_id, str(file))
            self._end(self.run_id, status)
        self._store.close()

    def _links(self, origin: Mapping[str, Any]) -> dict[str, Run]:
        """The runs of the search and the trial that a config comes from, where they are here."""
        name, study_id, trial = (origin.get(key) for key in ("study", entries.STUDY_ID, "trial"))
        if name is None or "'" in f"{name}{study_id}{trial}":  # no search wrote that: it would end the query early
            return {}
        study = Study(name, study_id, None if study_id else name)
        only = {"search": "tags.kind = 'search'", "trial": f"tags.trial_number = '{trial}' and tags.stage = 'search'"}
        found = {
            kind: next(runs_of(self._client, self._experiment_id, study, each), None) for kind, each in only.items()
        }
        return {kind: run for kind, run in found.items() if run is not None}

    def _note(self, name: str, origin: Mapping[str, Any], links: Mapping[str, Run]) -> str:
        lines = [f"Final training `{name}`."]
        for kind, run in links.items():
            link = f"#/experiments/{self._experiment_id}/runs/{run.info.run_id}"
            lines.append(f"From the {kind} [{run.info.run_name}]({link}).")
        value = origin.get("value")
        if isinstance(value, int | float):
            lines.append(f"There it reached {origin.get('metric')} {value:.6g} in epoch {origin.get('best_epoch')}.")
        return "\n\n".join(lines)


def config_of_run(run_id: str, home: str, uri: str | None = None) -> str:
    """The text of the resolved config that an MLflow run holds: best.yaml of a search, config.yaml of a trial.

    Raises:
        UserError: There is no such run, or it holds none.
    """
    store = Store(uri, Path(home))
    unknown = UserError("from", f"no run {run_id} in {store.shown}", "give the id of a run there")
    if not store.exists:
        raise unknown
    from mlflow.exceptions import MlflowException

    hush_libraries()
    client = store.client()
    try:
        experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
        client, _ = store.connect(experiment.name)  # follows a home that was moved
        run = client.get_run(run_id)
    except MlflowException as error:
        raise unknown from error
    finally:
        store.close()
    is_search = run.data.tags.get("kind") == "search"
    name = "best.yaml" if is_search else "config.yaml"
    try:
        for file in client.list_artifacts(run_id):
            if file.path == name and (file.file_size or 0) > yaml_limits.LARGEST:
                raise UserError("from", f"{name} of the run {run_id} is larger than {yaml_limits.LARGEST} bytes", GIVE)
        with TemporaryDirectory() as folder:
            text = yaml_limits.read(
                "from", f"{name} of the run {run_id}", Path(client.download_artifacts(run_id, name, folder)), GIVE
            )
    except (MlflowException, OSError) as error:
        raise UserError("from", f"the run {run_id} has no {name}", GIVE) from error
    number = run.data.tags.get("trial_number", "0")
    if not is_search and "study" in run.data.tags and number.isdecimal():
        config = parsed(f"{name} of the run {run_id}", text)
        if isinstance(config, dict) and "origin" not in config:
            known = {key: run.data.tags[key] for key in ("study", entries.STUDY_ID) if key in run.data.tags}
            origin = {**known, "trial": int(number), **_best_epoch(client, run_id, config)}
            text += "\n" + yaml.safe_dump({"origin": origin})
    return text


def _tags(stage: str, config: Mapping[str, Any], family: str, on: str) -> dict[str, object]:
    """What the run of a training is told when it begins."""
    return {
        "stage": stage,
        "state": State.RUNNING.value,
        "family": family,
        "schedule": naming.schedule(config),
        "seed": config["seed"],
        "trained_on": on,
        "mlflow.source.name": "autotune.train",
        "mlflow.source.type": "LOCAL",
    }


def _best_epoch(client: MlflowClient, run_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Which epoch of a trial was its best and what it reached; nothing where its metric was not logged."""
    objective = config.get("objective")
    if not isinstance(objective, dict):
        return {}
    metric = str(objective.get("metric"))
    history = client.get_metric_history(run_id, entries.key(metric))
    if not history:
        return {}
    choose = min if objective.get("direction") == "minimize" else max
    best = choose(history, key=lambda point: point.value)
    return {"metric": metric, "value": best.value, "best_epoch": best.step}


def _why_not_exported(model: nn.Module, example: Tensor) -> str | None:
    try:
        torch.export.export(model, (example,))
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        return first_line(error)
    return None


def _unreachable(store: Store, error: Exception) -> UserError:
    problem = f"{store.shown} cannot be opened ({entries.mask(first_line(error))})"
    return UserError("tracking.uri", problem, "give another, or tracking=none")
