"""What a user's module may do with its logger."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from autotune.executors.logger import PICTURES, VALUES_A_TRIAL, VALUES_AN_EPOCH, TrialLogger


def taken(logger: TrialLogger, *of_epoch: str) -> list[tuple[str, float, int]]:
    return [(each.name, each.value, each.step) for each in logger.take(of_epoch).values]


def test_values_are_handed_on_once_at_the_steps_they_were_logged_with() -> None:
    logger = TrialLogger()
    logger.log_metrics({"a": 1.5, "epoch": 0}, step=49)
    logger.log_metrics({"a": torch.tensor(2.0), "b": True, "said": "text", "several": torch.ones(2)}, step=99)
    logger.log_metrics({"c": math.nan})
    values = taken(logger)
    assert values[:3] == [("a", 1.5, 49), ("a", 2.0, 99), ("b", 1.0, 99)]
    assert values[3][::2] == ("c", 99)
    assert math.isnan(values[3][1])
    assert taken(logger) == []


def test_a_metric_of_the_epoch_is_not_logged_twice_and_one_logged_within_it_has_a_name_of_its_own() -> None:
    logger = TrialLogger()
    for step in (1, 2):
        logger.log_metrics({"train_loss": 1 / step}, step)
    logger.log_metrics({"val_loss": 0.5}, 2)
    assert taken(logger, "train_loss", "val_loss") == [("steps/train_loss", 1.0, 1), ("steps/train_loss", 0.5, 2)]


@given(st.integers(1, 5000))
def test_an_epoch_has_so_many_values_of_a_metric_at_equal_distances(count: int) -> None:
    logger = TrialLogger()
    for step in range(count):
        logger.log_metrics({"a": 0.0}, step)
    steps = [step for _, _, step in taken(logger)]
    assert len(steps) <= VALUES_AN_EPOCH
    assert len(steps) >= min(count, VALUES_AN_EPOCH // 2)
    assert steps == list(range(0, count, steps[1] - steps[0] if len(steps) > 1 else 1))[: len(steps)]
    assert steps[0] == 0


def test_a_trial_has_so_many_values_in_all() -> None:
    logger = TrialLogger()
    count = 0
    for _ in range(3):
        for number in range(VALUES_A_TRIAL // 2):
            logger.log_metrics({f"m{number}": 0.0}, 1)
        count += len(taken(logger))
    assert count == VALUES_A_TRIAL


def test_hyperparameters_are_text_and_what_is_no_plain_value_is_named_by_its_kind() -> None:
    logger = TrialLogger()
    logger.log_hyperparams({"lr": 0.1, "net": nn.Linear(1, 1), "sizes": [1, 2], "inner": {"name": "x", "none": None}})
    expected = {"lr": "0.1", "net": "Linear", "sizes": "[1, 2]", "inner/name": "x", "inner/none": "None"}
    assert logger.take(()).hyperparameters == expected
    assert not logger.take(())


def test_the_experiment_takes_what_tensorboard_takes(tmp_path: Path) -> None:
    logger = TrialLogger(tmp_path)
    experiment = logger.experiment
    experiment.add_scalar("loss", 0.5, 3)
    experiment.add_scalars("rates", {"g": 1.0, "d": 2.0}, global_step=4)
    experiment.log({"score": 0.25}, step=5)
    experiment.add_histogram("weights", torch.zeros(3), 1)
    experiment.add_graph(nn.Linear(1, 1))
    logger.log_image("samples", [torch.zeros(1, 2, 2)])
    logger.log_graph(nn.Linear(1, 1))
    assert taken(logger) == [("loss", 0.5, 3), ("rates/g", 1.0, 4), ("rates/d", 2.0, 4), ("score", 0.25, 5)]
    assert not list(tmp_path.iterdir())
    with pytest.raises(AttributeError, match="TrialLogger has no run_id"):
        _ = logger.run_id


@pytest.mark.parametrize(
    ("pixels", "axes", "size"),
    [
        (torch.rand(3, 4, 6), "CHW", (6, 4)),
        (torch.rand(1, 4, 6), "CHW", (6, 4)),
        (numpy.zeros((4, 6, 3), dtype="uint8"), "HWC", (6, 4)),
        (torch.rand(4, 6), "HW", (6, 4)),
        (torch.rand(2, 3, 4, 6).requires_grad_(), "NCHW", (12, 4)),
    ],
)
def test_pictures_are_files_of_the_trial(tmp_path: Path, pixels: Any, axes: str, size: tuple[int, int]) -> None:
    logger = TrialLogger(tmp_path / "trial")
    add = logger.experiment.add_images if axes == "NCHW" else logger.experiment.add_image
    add("made/samples", pixels, 7, dataformats=axes)
    assert logger.take(()).files == {"images/made/samples/7.png": tmp_path / "trial/images/made/samples/7.png"}
    with Image.open(tmp_path / "trial/images/made/samples/7.png") as image:
        assert image.size == size


def test_floats_are_shown_from_black_to_white(tmp_path: Path) -> None:
    TrialLogger(tmp_path).experiment.add_image("a", torch.tensor([[[0.0, 0.5, 1.0, 2.0, -1.0, math.nan]]]), 0)
    with Image.open(tmp_path / "images/a/0.png") as image:
        assert numpy.asarray(image).tolist() == [[0, 127, 255, 255, 0, 0]]


def test_the_newest_pictures_of_a_name_are_kept_and_never_outside_the_folder(tmp_path: Path) -> None:
    logger = TrialLogger(tmp_path / "trial")
    for step in range(PICTURES + 3):
        logger.experiment.add_image("../../out", torch.zeros(1, 2, 2), step)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    assert files == sorted(Path(f"trial/images/out/{step}.png") for step in range(3, PICTURES + 3))
    assert len(logger.take(()).files) == PICTURES


def test_a_picture_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "trial").write_text("")
    logger = TrialLogger(tmp_path / "trial")
    logger.experiment.add_image("a", torch.zeros(1, 2, 2), 0)
    TrialLogger().experiment.add_image("a", torch.zeros(1, 2, 2), 0)
    TrialLogger(tmp_path).experiment.add_image("a", torch.zeros(2, 2), 0)
    assert not logger.take(()).files
