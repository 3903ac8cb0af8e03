"""A model of a table in MLflow: rows as a user has them in, probabilities or numbers by name out.

In the model's folder lie the exported network, which takes encoded rows, and preprocess.json, which says how rows are
encoded and what the answers are called. Nothing is pickled; to load the model, autotune has to be installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import torch
from torch import Tensor, nn

from autotune.data.encoder import Encoder

if TYPE_CHECKING:
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature

PREPROCESS = "preprocess.json"
LOADER = "autotune.serving"


@dataclass(frozen=True)
class TablePreprocess:
    """What a model of a table needs besides its network.

    Attributes:
        encoder: For rows.
        task: binary, multiclass, multilabel or regression.
        answers: What each column of an answer is called: classes, labels, or the number that is predicted.
    """

    encoder: Encoder
    task: str
    answers: tuple[str, ...]

    def write(self, folder: Path) -> Path:
        """Keep it in a folder, as preprocess.json."""
        plain = {"task": self.task, "answers": self.answers, "encoder": self.encoder.to_json()}
        file = folder / PREPROCESS
        file.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return file

    @classmethod
    def read(cls, folder: Path) -> TablePreprocess:
        """What `write` kept."""
        plain = json.loads((folder / PREPROCESS).read_text(encoding="utf-8"))
        return cls(Encoder.from_json(plain["encoder"]), plain["task"], tuple(plain["answers"]))

    def frame(self, answers: numpy.ndarray, index: pandas.Index[Any] | None = None) -> pandas.DataFrame:
        """A network's answers by name: [n, classes], or [n] numbers or probabilities of the second of two classes."""
        if self.task == "binary":
            answers = numpy.stack([1 - answers, answers], axis=1)
        elif answers.ndim == 1:
            answers = answers[:, None]
        return pandas.DataFrame(answers, index=index, columns=list(self.answers))


class TableModel:
    """What MLflow calls with rows.

    Args:
        preprocess: Says how rows are encoded and what answers are called.
        network: [n, columns] encoded -> answers.
    """

    def __init__(self, preprocess: TablePreprocess, network: nn.Module) -> None:
        self.preprocess = preprocess
        self.network = network

    def predict(self, rows: pandas.DataFrame, params: Mapping[str, Any] | None = None) -> pandas.DataFrame:
        """Probabilities by class or label, or numbers in the target's own unit.

        Args:
            rows: With the columns the model was trained on, in any order; further ones are ignored.
            params: None are known.
        """
        encoded = self.preprocess.encoder.encode_frame(rows)
        if len(encoded) == 0:
            return pandas.DataFrame(columns=list(self.preprocess.answers), dtype=numpy.float32)
        # An exported network may have taken a batch of one for a special case, and so refuse it.
        alone = len(encoded) == 1
        with torch.no_grad():
            answers: Tensor = self.network(torch.from_numpy(encoded[[0, 0]] if alone else encoded))
        return self.preprocess.frame(answers.numpy()[: len(encoded)], rows.index)


def save_model(
    path: str,
    mlflow_model: Model,
    *,
    preprocess: TablePreprocess,
    rows_signature: ModelSignature,
    rows_example: pandas.DataFrame,
    **network: Any,
) -> None:
    """Write a model's folder, as `mlflow.models.Model.log` asks a flavor to.

    Args:
        path: The folder.
        mlflow_model: Its description.
        preprocess: Goes beside the network.
        rows_signature: Of the whole model.
        rows_example: A few rows.
        network: What `mlflow.pytorch.save_model` is given: the network, with its own signature and example.
    """
    import mlflow.pytorch
    from mlflow.models.utils import _save_example

    mlflow.pytorch.save_model(path=path, mlflow_model=mlflow_model, **network)
    preprocess.write(Path(path) / mlflow_model.flavors["pytorch"]["model_data"])
    ours = mlflow_model.flavors["python_function"]
    ours["loader_module"] = LOADER
    ours.pop("pickle_module_name", None)
    mlflow_model.signature = rows_signature
    _save_example(mlflow_model, rows_example, path)
    mlflow_model.save(str(Path(path) / "MLmodel"))


def signature_of(columns: Sequence[str], answers: Sequence[str]) -> ModelSignature:
    """Rows with these columns -> these answers.

    A column takes values of any type: MLflow would refuse whole numbers for a column of fractions, which is what pandas
    reads where a file happens to hold nothing else.
    """
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

    anything = AnyType()  # type: ignore[no-untyped-call]
    rows = Schema([ColSpec(anything, column) for column in columns])
    return ModelSignature(rows, Schema([ColSpec(DataType.float, answer) for answer in answers]))


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> TableModel:  # noqa: ARG001
    """Called by MLflow with the folder of the network, and with settings that are none of ours."""
    import mlflow.pytorch

    folder = Path(path)
    network = mlflow.pytorch.load_model(str(folder.parent))
    return TableModel(TablePreprocess.read(folder), network)
