"""A member's training is what it is alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autotune import dropout
from autotune.data.batches import Batch
from autotune.executors import lane
from autotune.executors.lane import Lane
from autotune.executors.population import PopulationExecutor
from autotune.executors.ways import Way
from autotune.models.activations import ACTIVATIONS

from ..data.tables import rows, written
from .lanes import compare, double, made, only, optimizer, resolved, schedule, together

AT_BATCHES = [name for name in only("optimizer") if name != "bgd"]

both = pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch norm"])


# Every optimizer.


@both
def test_every_optimizer_in_one_lane_makes_the_steps_it_makes_alone(batch_norm: bool) -> None:
    compare(
        [double(model={"batch_norm": batch_norm}, optimizer=optimizer(name), seed=7) for name in AT_BATCHES],
    )


@both
def test_in_float32_they_differ_by_rounding(batch_norm: bool) -> None:
    # Two updates: with more of them rounding errors grow, fastest through BatchNorm and through Muon, which computes in
    # bfloat16. One rounding there, 2^-8 of a step of 0.02, is what the tolerance leaves room for.
    common = {"data": {"batch_size": 30}, "model": {"batch_norm": batch_norm}, "trainer": {"max_epochs": 1}}
    compare(
        [resolved(**common, optimizer=optimizer(name), seed=number) for number, name in enumerate(AT_BATCHES)],
        within=1e-3,
    )


@pytest.mark.parametrize("micro_batch", [None, 7, 60])
@both
def test_full_batches_in_pieces_too(batch_norm: bool, micro_batch: int | None) -> None:
    changes: dict[str, Any] = {"data": {"batch_size": "full"}, "model": {"batch_norm": batch_norm}}
    trainer = {"max_epochs": 20}
    compare(
        [
            double(**changes, optimizer=optimizer("bgd", lr=lr, micro_batch=micro_batch), seed=number, trainer=trainer)
            for number, lr in enumerate([0.5, 0.1, 2.0])
        ]
    )


@pytest.mark.parametrize("is_short", [False, True], ids=["", "short of memory"])
@pytest.mark.parametrize("micro_batch", [None, 30])
@pytest.mark.parametrize("kind", ["plain", "batch norm", "dropout"])
def test_a_large_batch_is_taken_in_pieces_or_its_memory_kept(
    kind: str, micro_batch: int | None, is_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, kept = [], 0
    original = Lane._differentiate

    def differentiate(lane: Lane, way: Way, pieces: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        taken.append([target.shape[1] for _, target in pieces])
        return original(lane, way, pieces)

    @contextmanager
    def freed_memory_kept() -> Iterator[None]:
        nonlocal kept
        kept += 1
        yield

    monkeypatch.setattr(Lane, "_differentiate", differentiate)
    monkeypatch.setattr(lane, "freed_memory_kept", freed_memory_kept)
    monkeypatch.setattr(lane, "free_bytes", lambda _: 2**12 if is_short else 2**40)
    monkeypatch.setattr(lane, "PIECE_BYTES", 2**11)
    model = {"batch_norm": kind == "batch norm", "dropout": 0.3 * (kind == "dropout")}
    given = {"data": {"batch_size": "full"}, "model": model, "trainer": {"max_epochs": 3}}
    compare(
        [
            double(**given, optimizer=optimizer("bgd", lr=lr, micro_batch=micro_batch), seed=number)
            for number, lr in enumerate([0.5, 0.1, 2.0])
        ]
    )
    whole = [micro_batch] * (60 // micro_batch) if micro_batch else [60]
    if kind == "plain":
        assert all(len(sizes) > 2 * len(whole) and max(sizes) - min(sizes) <= 1 for sizes in taken)
        assert kept == 0
    else:
        assert taken == [whole] * 3
        assert kept == (0 if is_short else 3)


# What members of a lane may differ in, and what they have in common.


def decayed(name: str, decoupled: bool) -> dict[str, Any]:
    changes = {} if name in ("adamw", "adafactor", "muon") else {"decoupled": decoupled}
    return optimizer(name, weight_decay=0.1, **changes)


SGDS = [
    optimizer("sgd", lr=lr, momentum=momentum, nesterov=nesterov)
    for lr, momentum, nesterov in [(0.1, 0.0, False), (0.2, 0.9, False), (0.05, 0.8, True)]
]
SGD_AND_ADAM = [*SGDS[1:], optimizer("adam", lr=0.01)]

VARIANTS: dict[str, Sequence[dict[str, Any]]] = {
    "learning rates and momentum": [double(optimizer=each) for each in SGDS],
    "seeds": [double(seed=seed) for seed in range(4)],
    **{
        f"weight decay {'beside' if decoupled else 'through'} the gradient": [
            double(optimizer=each) for each in [SGDS[0], *(decayed(name, decoupled) for name in AT_BATCHES)]
        ]
        for decoupled in (False, True)
    },
    "clipped by norm": [
        double(optimizer=each, trainer={"gradient_clip_val": clip}, seed=number)
        for number, (each, clip) in enumerate(zip(SGD_AND_ADAM, [0.01, 10.0, 0.1], strict=True))
    ],
    "clipped by value": [
        double(optimizer=each, trainer={"gradient_clip_val": clip, "gradient_clip_algorithm": "value"}, seed=number)
        for number, (each, clip) in enumerate(zip(SGD_AND_ADAM, [0.01, 10.0, 0.1], strict=True))
    ],
    "running averages": [
        double(optimizer=each, trainer={"ema": decay}, model={"batch_norm": True}, seed=number)
        for number, (each, decay) in enumerate(zip(SGD_AND_ADAM, [0.9, 0.0, 0.999], strict=True))
    ],
    "accumulated batches, of which the last are fewer": [
        double(optimizer=each, trainer={"accumulate_grad_batches": 3}, seed=number)
        for number, each in enumerate(SGD_AND_ADAM)
    ],
    "accumulated batches with BatchNorm": [
        double(optimizer=each, trainer={"accumulate_grad_batches": 2}, model={"batch_norm": True})
        for each in SGD_AND_ADAM
    ],
    "micro-batches": [double(optimizer={**each, "micro_batch": 5}) for each in SGD_AND_ADAM],
    "micro-batches, accumulated and weighted, clipped and averaged": [
        double(
            optimizer={**each, "micro_batch": 6},
            trainer={"accumulate_grad_batches": 3, "gradient_clip_val": 0.1, "ema": 0.8},
            task={"class_weights": [0.25, 2.0], "label_smoothing": 0.1},
            model={"batch_norm": True, "dropout": 0.25},
            seed=number,
        )
        for number, each in enumerate(SGD_AND_ADAM)
    ],
    "dropout": [double(model={"dropout": rate}, seed=seed) for rate, seed in [(0.1, 0), (0.5, 0), (0.9, 1), (0.3, 2)]],
    "dropout behind BatchNorm in micro-batches": [
        double(model={"dropout": rate, "batch_norm": True}, optimizer={**each, "micro_batch": 6}, seed=seed)
        for rate, each, seed in zip([0.1, 0.5, 0.2], SGD_AND_ADAM, range(3), strict=True)
    ],
    "lengths": [double(trainer={"max_epochs": epochs}, schedule=schedule("cosine")) for epochs in (5, 2, 1, 4)],
    "label smoothing": [double(task={"label_smoothing": 0.2}, optimizer=each) for each in SGD_AND_ADAM],
    "class weights": [double(task={"class_weights": [0.5, 2.0]}, optimizer=each) for each in SGD_AND_ADAM],
    "balanced classes": [double(task={"class_weights": "balanced"}, optimizer=each) for each in SGD_AND_ADAM],
    "more classes, smoothed and weighted": [
        double(data=made(shape=(4,)), task={"class_weights": [0.5, 1.0, 4.0], "label_smoothing": 0.1}, optimizer=each)
        for each in SGD_AND_ADAM
    ],
    "more classes": [double(data=made(shape=(4,)), optimizer=each) for each in SGD_AND_ADAM],
    "labels": [double(data=made("multilabel", (4,)), optimizer=each) for each in SGD_AND_ADAM],
    "labels, smoothed and weighted": [
        double(
            data=made("multilabel", (4,)),
            task={"class_weights": [0.5, 1.0, 4.0], "label_smoothing": 0.1},
            optimizer=each,
        )
        for each in SGD_AND_ADAM
    ],
    **{
        f"regression by {loss}": [
            double(
                data={
                    "_target_": "autotune.data.synthetic.Synthetic",
                    "task": "regression",
                    "samples": 80,
                    "batch_size": 16,
                },
                task={"regression_loss": loss},
                objective={"metric": "val/rmse"},
                optimizer={**each, "lr": each["lr"] / 10},
            )
            for each in SGD_AND_ADAM
        ]
        for loss in ("mse", "mae", "huber")
    },
    "all the metrics": [
        double(task={"metrics": ["balanced_accuracy", "f1", "roc_auc", "log_loss"]}, seed=seed) for seed in range(3)
    ],
    "a user's optimizer": [
        double(optimizer={"_target_": "tests.optim.stacked.members.TwoGroups", "lr": lr}) for lr in (0.1, 0.01)
    ],
    "batches larger than the data": [double(data={"batch_size": 500}, optimizer=each) for each in SGD_AND_ADAM],
}


@pytest.mark.parametrize("configs", VARIANTS.values(), ids=VARIANTS)
def test_a_lane_s_members_go_as_each_goes_alone(configs: Sequence[dict[str, Any]]) -> None:
    compare(configs)


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_dropout_is_the_same_alone_where_torch_s_own_layers_draw_otherwise(
    micro_batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"model": {"dropout": 0.3}, "optimizer": {**SGDS[1], "micro_batch": micro_batch}}
    configs = [double(**changes, seed=seed) for seed in range(20, 23)]
    monkeypatch.setattr(dropout, "AS_TORCH", ())
    compare(configs)


# The rate rises where the loss falls no more, so that plateau and dynamic have something to hear.
CHANGED = {
    "step": {"every": 2},
    "plateau": {"patience": 0, "threshold": 0.02, "decay": 0.5},
    "one_cycle": {"rise": 0.4},
}


@pytest.mark.parametrize("warmup", [0.0, 0.3], ids=["at once", "warmed up"])
def test_every_schedule_in_one_lane_gives_the_rates_it_gives_alone(warmup: float) -> None:
    configs = []
    for name in only("schedule"):
        given = schedule(name, **CHANGED.get(name, {}))
        if warmup and name not in ("one_cycle", "wsd"):
            given["warmup"] = warmup
        configs.append(double(schedule=given, optimizer={"lr": 0.3}))
    compare(configs)


def test_schedules_that_hear_the_loss_heard_something() -> None:
    configs = [
        double(schedule=schedule(name, **CHANGED.get(name, {})), optimizer={"lr": 0.3})
        for name in ("plateau", "dynamic")
    ]
    population = together(configs)
    for number in range(2):
        rates = [epoch.metrics["lr"] for epoch in population.desk.epochs_of(number)]
        assert len(set(rates)) > 1


# Other networks.

NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": {"model": {"_target_": "autotune.models.cnn.CNN", "channels": [2, 3], "batch_norm": False}},
    "cnn with BatchNorm and dropout": {
        "model": {"_target_": "autotune.models.cnn.CNN", "channels": [2, 3], "dropout": 0.2, "head": "flatten"}
    },
    "resnet_small": {
        "model": {"_target_": "autotune.models.resnet_small.ResNetSmall", "channels": [2, 3], "batch_norm": False}
    },
    "resnet_small with BatchNorm": {
        "model": {
            "_target_": "autotune.models.resnet_small.ResNetSmall",
            "channels": [2, 3],
            "shortcut": "projection",
        }
    },
    "mlp of images": {"model": {"_target_": "autotune.models.mlp.MLP", "hidden": [6], "batch_norm": True}},
}


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
def test_networks_of_images_go_as_each_goes_alone(changes: dict[str, Any]) -> None:
    optimizers = [SGDS[1], optimizer("adam", lr=0.01), optimizer("muon")]
    compare(
        [
            double(data=made(), **changes, optimizer=each, seed=number, trainer={"max_epochs": 3})
            for number, each in enumerate(optimizers)
        ]
    )


@pytest.mark.parametrize("numerical", ["plain", "periodic"])
def test_networks_of_tables_go_as_each_goes_alone(tmp_path: Path, numerical: str) -> None:
    path = written(tmp_path, rows())
    data = {"_target_": "autotune.data.csv.Csv", "path": str(path), "target": "price", "batch_size": 10}
    model = {
        "_target_": "autotune.models.tabular.Tabular",
        "hidden": [6],
        "numerical": numerical,
        "frequencies": 3,
        "numerical_width": 2,
        # Where BatchNorm follows waves, some gradients are 0 but for rounding, which Adam takes for a direction.
        "batch_norm": numerical == "plain",
        "dropout": 0.1,
    }
    compare(
        [
            double(data=data, model=model, objective={"metric": "val/rmse"}, optimizer=each, seed=number)
            for number, each in enumerate([SGDS[1], optimizer("adam", lr=0.01)])
        ]
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_goes_as_it_goes_alone(activation: str) -> None:
    compare([double(model={"activation": activation}, seed=seed, trainer={"max_epochs": 2}) for seed in range(2)])


# To the last digit that float64 allows, in what is worked out in float32 where one trains alone.


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {"class_weights": [0.3, 0.7]}},
        {"data": made(shape=(4,)), "task": {"class_weights": [0.3, 0.7, 1.1]}},
        {"data": made("multilabel", (4,)), "task": {"class_weights": [0.3, 0.7, 1.1]}},
    ],
    ids=["binary", "multiclass", "multilabel"],
)
def test_class_weights_that_float32_cannot_hold(changes: dict[str, Any]) -> None:
    compare([double(**changes), double(**changes, seed=1)])


class OwnNorm(nn.Module):
    """Keeps a layer's statistics as they are, as one does with what was trained before."""

    def __init__(self, input_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(input_shape[0])
        self.layer = nn.Linear(input_shape[0], outputs)
        self.norm.eval()

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.layer(self.norm(features))
        return answer


def test_a_layer_whose_statistics_are_kept_is_trained_alone() -> None:
    config = double(model={"_target_": "tests.executors.test_lane.OwnNorm"})
    assert PopulationExecutor().unstackable(config) == "its module norm is kept from training"


class Constant(nn.Module):
    """Makes a tensor at each forward pass."""

    def __init__(self, input_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], outputs)

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.layer(3 * features * torch.tensor(0.1))
        return answer


def test_a_tensor_made_in_the_forward_pass_is_of_the_training_s_precision() -> None:
    model = {"_target_": "tests.executors.test_lane.Constant"}
    compare([double(model=model, optimizer={"lr": 1.0}, seed=seed) for seed in range(2)])
