"""A table's model as MLflow serves it: raw rows in, named answers out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow
import numpy
import pandas
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from autotune.assembly import Assembly, assemble
from autotune.data.fitting import TableEncoding
from autotune.final.registry import FinalRun, Predictor, TablePredictor, servable, table_preprocess
from autotune.serving import TableModel, TablePreprocess

from .commands import environment as clean_environment
from .commands import run
from .data.tables import rows, written
from .data.test_images import folder as image_folder
from .fakes import resolved

DROPPED = {"city": ["price"], "garden": ["price"], "price": []}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield
    mlflow.set_tracking_uri(None)


def assembled(folder: Path, target: Any = "price", frame: pandas.DataFrame | None = None, **settings: Any) -> Assembly:
    """An untrained model of the rows in `tests.data.tables`."""
    path = written(folder, rows() if frame is None else frame)
    data = {"_target_": "autotune.data.csv.Csv", "path": str(path), "target": target, "batch_size": 8, **settings}
    model = {"_target_": "autotune.models.tabular.Tabular", "hidden": [8], "batch_norm": True, "dropout": 0.5}
    return assemble(resolved(data={"drop_missing_target": True, **data}, model=model))


def table_model(assembly: Assembly) -> TableModel:
    found = servable(assembly)
    assert found is not None
    network = found[0]
    assert isinstance(network, TablePredictor)
    return TableModel(network.table, network)


def logged(assembly: Assembly, home: Path) -> tuple[Any, Path]:
    """The model as it comes out of MLflow, and its folder."""
    found = servable(assembly)
    assert found is not None
    final = FinalRun(None, "autotune", home)
    final.begin("a", resolved(), {}, "sgd", "train")
    try:
        uri = final.log_model(*found, "tables")
        loaded = mlflow.pyfunc.load_model(uri)
        (folder,) = (path.parent for path in home.rglob("MLmodel"))
        return loaded, folder
    finally:
        final.end({}, [], "FINISHED")


# Answers.


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("price", ["price"]),
        ("city", ["Bonn", "Köln", "Trier"]),
        ("garden", ["false", "true"]),
        (["garden"], ["garden"]),
    ],
    ids=["regression", "multiclass", "binary", "multilabel"],
)
def test_answers_are_called_by_what_they_are_of(tmp_path: Path, target: Any, names: list[str]) -> None:
    model = table_model(assembled(tmp_path, target))
    answers = model.predict(rows().head(4))
    assert list(answers.columns) == names
    assert len(answers) == 4
    if target in ("city", "garden"):
        assert numpy.allclose(answers.sum(axis=1), 1.0, atol=1e-6)


def test_answers_are_those_of_the_trained_network_on_the_rows_it_saw(tmp_path: Path) -> None:
    assembly = assembled(tmp_path)
    split = assembly.data.split  # type: ignore[attr-defined]
    assert isinstance(split.preprocess, TableEncoding)
    frame = split.preprocess.frame(split.examples)
    with torch.no_grad():
        outputs = assembly.module.eval()(split.train.features[: len(frame)])[:, 0]
    mean, std = split.target_scale
    answers = table_model(assembly).predict(frame)
    assert numpy.allclose(answers["price"], outputs * std + mean, rtol=1e-5)


def test_the_positive_class_s_probability_is_the_network_s(tmp_path: Path) -> None:
    assembly = assembled(tmp_path, "garden")
    split = assembly.data.split  # type: ignore[attr-defined]
    with torch.no_grad():
        logits = assembly.module.eval()(split.train.features[:3])[:, 0]
    frame = split.preprocess.frame(split.examples)
    assert numpy.allclose(table_model(assembly).predict(frame)["true"], torch.sigmoid(logits), atol=1e-6)


def test_rows_keep_their_index_and_order(tmp_path: Path) -> None:
    model = table_model(assembled(tmp_path))
    frame = rows().head(5).set_index(pandas.Index([7, 3, 9, 1, 2]))
    answers = model.predict(frame)
    assert answers.index.tolist() == [7, 3, 9, 1, 2]
    assert numpy.allclose(model.predict(frame[::-1]), answers[::-1])


def test_one_row_and_none_are_answered_too(tmp_path: Path) -> None:
    model = table_model(assembled(tmp_path))
    frame = rows().head(3)
    assert numpy.allclose(model.predict(frame.head(1)), model.predict(frame).head(1), rtol=1e-5)
    assert model.predict(frame.head(0)).shape == (0, 1)


def test_what_was_never_seen_is_answered(tmp_path: Path) -> None:
    model = table_model(assembled(tmp_path))
    strange = pandas.DataFrame(
        {"area": ["?", None, 1e300], "rooms": [0, -1, numpy.inf], "city": ["Ulm", 7, None], "garden": "perhaps"}
    ).assign(sold=["2050-01-01", "never", None])
    assert numpy.isfinite(model.predict(strange).to_numpy()).all()


def test_it_is_kept_as_json_that_a_person_can_read(tmp_path: Path) -> None:
    assembly = assembled(tmp_path, "city")
    table = table_preprocess(assembly.data)
    assert table is not None
    file = table.write(tmp_path)
    assert file == tmp_path / "preprocess.json"
    assert TablePreprocess.read(tmp_path) == table
    plain = json.loads(file.read_text(encoding="utf-8"))
    assert (plain["task"], plain["answers"]) == ("multiclass", ["Bonn", "Köln", "Trier"])
    assert "Köln" in file.read_text(encoding="utf-8")
    assert table_preprocess(assemble(resolved()).data) is None


# In MLflow.


def test_a_logged_model_takes_raw_rows_and_holds_nothing_pickled(tmp_path: Path) -> None:
    assembly = assembled(tmp_path, "city")
    model, folder = logged(assembly, tmp_path / "home")
    frame = rows().drop(columns="city")
    answers = model.predict(frame)
    assert list(answers.columns) == ["Bonn", "Köln", "Trier"]
    assert numpy.allclose(answers, table_model(assembly).predict(frame), atol=1e-6)
    assert numpy.allclose(model.predict(frame[frame.columns[::-1]]), answers)

    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"data/model.pt2", "data/preprocess.json"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pth", ".py"))]
    described = Model.load(str(folder))
    assert described.flavors["python_function"]["loader_module"] == "autotune.serving"
    assert described.get_input_schema().input_names() == ["area", "rooms", "garden", "sold", "price"]
    assert described.get_output_schema().input_names() == ["Bonn", "Köln", "Trier"]
    example = described.load_input_example(str(folder))
    assert list(example.columns) == described.get_input_schema().input_names()
    assert model.predict(example).shape == (3, 3)
    (width,) = assembly.data.split.input_shape  # type: ignore[attr-defined]
    assert mlflow.pytorch.load_model(str(folder))(torch.zeros(2, width)).shape == (2, 3)
    with pytest.raises(MlflowException, match="area"):
        model.predict(frame.drop(columns="area"))


@pytest.mark.parametrize(
    "text",
    [
        "area,rooms,city,garden,sold\n100.5,3,Bonn,True,2021-05-06\n90,2,Ulm,False,\n",
        "sold,city,rooms,garden,area,more\n2021-05-06,Bonn,3,true,100.5,1\n,Ulm,2,false,90,2\n",
        # pandas reads these as other types: whole numbers, no number at all, dates of another kind, no flags.
        "area,rooms,city,garden,sold\n100,3,Bonn,,2021-05-06T00:00:00\n90,,,,\n",
        "area,rooms,city,garden,sold\n?,3.0,5,1,\n,2.0,6,0,\n",
    ],
    ids=["usual", "other order", "gaps", "other types"],
)
def test_a_logged_model_takes_what_pandas_makes_of_a_file(logged_price: Any, text: str) -> None:
    answers = logged_price.predict(pandas.read_csv(StringIO(text)))
    assert list(answers.columns) == ["price"]
    assert len(answers) == 2
    assert numpy.isfinite(answers["price"]).all()


@pytest.fixture(scope="module")
def logged_price(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("price")
    model, _ = logged(assembled(folder), folder / "home")
    return model


def test_a_model_of_images_says_what_its_classes_are_called(tmp_path: Path) -> None:
    data = {"_target_": "autotune.data.images.Images", "path": str(image_folder(tmp_path)), "size": 8, "batch_size": 4}
    assembly = assemble(resolved(data=data))
    found = servable(assembly)
    assert found is not None
    assert isinstance(found[0], Predictor)
    model, folder = logged(assembly, tmp_path / "home")
    assert Model.load(str(folder)).metadata == {"class_names": ["cat", "dog"]}
    assert model.predict(found[1].numpy()).shape == (3,)


# From the command on.


@pytest.mark.slow
def test_a_table_is_trained_registered_and_served_by_the_commands(tmp_path: Path) -> None:
    frame = rows(120)
    written(tmp_path, frame)
    small = ("trainer.accelerator=cpu", "trainer.max_epochs=2", "model=tabular", "model.hidden=[8]")
    ended = run("train", "data=csv", "data.path=rows.csv", "data.target=price", "objective=rmse", *small, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "data: regression of price from 5 columns" in ended.out
    (kept,) = (tmp_path / "mlruns" / "trained").glob("*/preprocess.json")
    assert TablePreprocess.read(kept.parent).answers == ("price",)
    asked = frame.drop(columns="price").head(4)
    asked.to_csv(tmp_path / "asked.csv", index=False)
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    arguments = ["-m", "models:/autotune/1", "-i", "asked.csv", "-t", "csv", "--env-manager", "local", "-o", "out.json"]
    place = {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": os.fspath(Path(__file__).parents[1])}
    told = subprocess.run(
        [sys.executable, "-m", "mlflow", "models", "predict", *arguments],
        cwd=tmp_path,
        env={**clean_environment(), **place, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    answers = [row["price"] for row in json.loads((tmp_path / "out.json").read_text())["predictions"]]
    mlflow.set_tracking_uri(uri)
    expected = mlflow.pyfunc.load_model("models:/autotune/1").predict(asked)["price"]
    assert answers == pytest.approx(expected.tolist(), rel=1e-6)
