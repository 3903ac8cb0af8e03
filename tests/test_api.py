"""autotune from Python."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy
import pytest
import torch
from torch import Tensor, nn

import autotune
from autotune.api import _overrides
from autotune.compose import compose
from autotune.errors import UserError
from autotune.trial import TrialCodeError

DRAW = numpy.random.default_rng(0)
FEATURES = DRAW.normal(size=(200, 6)).astype("float32")
TARGET = (FEATURES[:, 0] + FEATURES[:, 1] > 0).astype(int)


class Net(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers(features)
        return found


class Leaving(Net):
    def forward(self, features: Tensor) -> Tensor:
        raise KeyboardInterrupt


class Broken(Net):
    def forward(self, features: Tensor) -> Tensor:
        raise LookupError("no such thing")


def small(home: Path, **more: Any) -> dict[str, Any]:
    """Overrides of a search of a few seconds."""
    return {
        "home": home,
        "study.name": "s",
        "budget.trials": 4,
        "optimizer": "sgd,adam",
        "schedule": "constant",
        "trainer": {"max_epochs": 3, "accelerator": "cpu"},
        "tracking": "none",
        "confirm": {"top": 2, "seeds": 2, "most_seeds": 2},
        "live": False,
        **more,
    }


def test_importing_autotune_stays_light() -> None:
    code = (
        "import sys, autotune; assert not {'torch', 'hydra', 'optuna', 'mlflow'} & set(sys.modules); "
        "print(autotune.run_search.__module__, autotune.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["autotune.api", autotune.__version__]
    with pytest.raises(AttributeError, match="module autotune has no attribute run_serch"):
        _ = autotune.run_serch


def test_a_dry_run_is_refused_since_it_has_no_study_to_return(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        autotune.run_search(small(tmp_path / "mlruns", dry_run=True))
    assert str(error.value) == (
        "dry_run: true searches nothing, and there is no study to return; "
        "leave it out, or type it: python -m autotune.search dry_run=true"
    )
    assert not list(tmp_path.iterdir())


def test_a_search_of_the_users_own_model_and_arrays(tmp_path: Path) -> None:
    model = partial(Net, width="choice(4,8,16)")
    found = autotune.run_search(small(tmp_path), model=model, data=(FEATURES, TARGET))
    assert found.folder == tmp_path / "studies" / "s"
    assert not found.interrupted
    assert found.best is not None
    assert found.best.config["model"]["_target_"] == f"{__name__}.Net"
    assert found.best.config["model"]["width"] in (4, 8, 16)
    assert found.score is not None
    assert found.score.count == 2
    assert list(found.trials["number"]) == [0, 1, 2, 3]
    assert [trial.number for trial in found.study.trials] == [0, 1, 2, 3]
    assert found.study.best_value == found.trials["objective"].max()
    assert found.figures
    again = autotune.load_study("s", tmp_path)
    assert again.best == found.best
    trained = autotune.run_train(found, {"home": tmp_path, "tracking": "none", "train.name": "t"})
    assert trained.folder == tmp_path / "trained" / "t"
    assert trained.weights.is_file()
    assert set(trained.test) == {"test/loss", "test/accuracy"}
    longer = autotune.run_search(small(tmp_path, **{"budget.trials": 6}), model=model, data=(FEATURES, TARGET))
    assert len(longer.trials) == 6


def test_a_composed_config_is_taken_as_it_is(tmp_path: Path) -> None:
    config = compose("search", _overrides(small(tmp_path, data="seed_mlp", **{"budget.trials": 2})))
    result = autotune.run_search(config)
    assert len(result.trials) == 2
    assert max(len(repr(result)), len(repr(result.best))) < 1000
    with pytest.raises(UserError, match=r"^config: a composed config has its model and data; "):
        autotune.run_search(config, model=Net)


def test_mistakes_are_raised_and_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^optimizer: no option adm; did you mean adam\?$"):
        autotune.run_search(["optimizer=adm", f"home={tmp_path}"])
    with pytest.raises(UserError, match=r"^config: optimizer=adam is one text; give a list of overrides: \[\.\.\.\]$"):
        autotune.run_search("optimizer=adam")
    with pytest.raises(UserError, match=r"^from: no study s in "):
        autotune.load_study("s", tmp_path)
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.iterdir())


def test_what_the_users_code_raises_is_the_cause(tmp_path: Path) -> None:
    with pytest.raises(TrialCodeError) as caught:
        autotune.run_search(small(tmp_path), model=Broken, data=(FEATURES, TARGET))
    assert isinstance(caught.value.__cause__, LookupError)


def test_overrides_may_be_a_mapping() -> None:
    given = {
        "optimizer": "sgd,adam",
        "optimizer.lr": "tag(log,interval(1e-4,1))",
        "model": {"hidden": [8, 4], "batch_norm": True},
        "budget": {"seconds": None},
        "data.path": Path("a b.csv"),
    }
    assert _overrides(given) == [
        "optimizer=sgd,adam",
        "optimizer.lr=tag(log,interval(1e-4,1))",
        "model.hidden=[8,4]",
        "model.batch_norm=true",
        "budget.seconds=null",
        "data.path=a b.csv",
    ]
    assert _overrides({"study.name": "it's=[1"}) == [r"study.name='it\'s=[1'"]


def drawn() -> tuple[float, float, float]:
    return random.random(), float(numpy.random.random()), float(torch.rand(()))


@pytest.mark.parametrize("model", [None, Broken, Leaving])
def test_a_search_leaves_the_process_as_it_was(model: type[Net] | None, tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(False)  # whatever another test left
    torch.manual_seed(1)
    numpy.random.seed(1)
    random.seed(1)
    expected = [drawn(), drawn()]
    torch.manual_seed(1)
    numpy.random.seed(1)
    random.seed(1)
    environment, level = dict(os.environ), logging.getLogger("optuna").level
    found = [drawn()]
    with suppress(TrialCodeError, KeyboardInterrupt):
        autotune.run_search(small(tmp_path, **{"confirm.top": 0}), model=model, data=(FEATURES, TARGET))
    found.append(drawn())
    assert found == expected
    assert not torch.are_deterministic_algorithms_enabled()
    assert (dict(os.environ), logging.getLogger("optuna").level) == (environment, level)


def test_a_training_leaves_mlflow_to_the_program(tmp_path: Path) -> None:
    config = {"home": tmp_path, "data": "seed_mlp", "trainer": {"max_epochs": 1, "accelerator": "cpu"}}
    environment, uri = dict(os.environ), mlflow.get_tracking_uri()
    autotune.run_train(None, {**config, "optimizer": "adam", "schedule": "constant", "data.batch_size": 16})
    assert (dict(os.environ), mlflow.get_tracking_uri()) == (environment, uri)


def test_searches_that_begin_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    """Each is a new study, whatever data it has; so is each of one composed config."""
    from concurrent.futures import ThreadPoolExecutor

    config = {key: value for key, value in small(tmp_path, **{"budget.trials": 1}).items() if key != "study.name"}
    others = [(FEATURES, (FEATURES[:, column] > 0).astype(int)) for column in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda data: autotune.run_search({**config, "confirm.top": 0}, data=data), others))
    composed = compose("search", _overrides({**config, "confirm.top": 0, "data": "seed_mlp"}))
    found += [autotune.run_search(composed), autotune.run_search(composed)]
    assert [len(each.trials) for each in found] == [1] * 5
    assert len({each.name for each in found}) == 5 == len(list((tmp_path / "studies").iterdir()))


def test_a_search_that_is_refused_leaves_no_name_behind(tmp_path: Path) -> None:
    config = {key: value for key, value in small(tmp_path).items() if key != "study.name"}
    with pytest.raises(UserError):
        autotune.run_search(
            {**config, "objective": {"metric": "val/f2", "direction": "maximize"}}, data=(FEATURES, TARGET)
        )
    assert not list(tmp_path.glob("studies/*"))


def test_a_search_in_another_thread_is_a_search(tmp_path: Path) -> None:
    """Signals reach the main thread alone."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(autotune.run_search, small(tmp_path, data="seed_mlp")).result()
    assert len(found.trials) == 4
