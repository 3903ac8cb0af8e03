from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from autotune.data.batches import Batch
from autotune.errors import UserError
from autotune.executors.lightning import QUIET
from autotune.learner import Learner
from autotune.models.mlp import MLP
from autotune.optim.schedules import Constant, Exponential
from autotune.optim.update import Update
from autotune.task import Task

from ..fakes import Loader

KINDS = {"binary": 1, "multiclass": 3, "multilabel": 3, "regression": 1}


def data(kind: str, samples: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(samples, 4, generator=generator, dtype=torch.float64)
    shape = (samples, 3) if kind == "multilabel" else (samples,)
    if kind == "regression":
        return features, torch.randn(shape, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3 if kind == "multiclass" else 2, shape, generator=generator)
    return features, target if kind == "multiclass" else target.double()


def learner(network: nn.Module, task: Task, update: Update, updates: int = 1, **more: Any) -> Learner:
    arguments = {
        "make_optimizer": lambda parameters: SGD(parameters, lr=0.1),
        "schedule": Constant(),
        "epochs": 1,
        **more,
    }
    return Learner(network, task, updates_per_epoch=updates, update=update, **arguments)


class Given(LightningDataModule):
    """The same batches every epoch, to train and to judge on."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Loader:
        return Loader([self.batches])

    def val_dataloader(self) -> Loader:
        return Loader(self.batches)


def fit(module: Learner, batches: list[Batch], epochs: int = 1) -> Trainer:
    trainer = Trainer(**QUIET, enable_checkpointing=False, accelerator="cpu", max_epochs=epochs, precision="64-true")
    trainer.fit(module, datamodule=Given(batches))
    return trainer


def weights(network: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in network.parameters()])


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(2, 40), st.integers(1, 41), st.booleans(), st.integers(0, 99))
def test_a_gradient_in_micro_batches_is_the_batchs_own(
    kind: str, samples: int, micro_batch: int, weighted: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    network = MLP((4,), KINDS[kind], hidden=(5,)).double()
    counted = {"binary": 2, "multiclass": 3, "multilabel": 3}
    class_weights = tuple(1.0 + i for i in range(counted[kind])) if weighted and kind in counted else None
    task = Task(kind, KINDS[kind], class_weights=class_weights)
    batch = data(kind, samples, seed)
    task.loss(network(batch[0]), batch[1]).backward()
    expected = [each.grad for each in network.parameters()]
    other = copy.deepcopy(network)
    other.zero_grad()
    pieces = next(Update(micro_batch=micro_batch).groups([batch]))
    assert [len(target) for _, target in pieces] == [len(each) for each in batch[1].split(micro_batch)]
    masses = [task.mass(target) for _, target in pieces]
    for (features, target), mass in zip(pieces, masses, strict=True):
        (task.loss(other(features), target) * (mass / sum(masses))).backward()
    for each, gradient in zip(other.parameters(), expected, strict=True):
        assert each.grad is not None
        torch.testing.assert_close(each.grad, gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("micro_batch", [None, 1, 3, 7, 10])
def test_bgd_makes_one_update_from_the_mean_gradient_of_all_samples(micro_batch: int | None) -> None:
    torch.manual_seed(0)
    network = MLP((4,), 3, hidden=(5,)).double()
    start, task, batch = copy.deepcopy(network), Task("multiclass", 3), data("multiclass", 10)
    gradients = [
        torch.autograd.grad(task.loss(start(batch[0][i : i + 1]), batch[1][i : i + 1]), list(start.parameters()))
        for i in range(10)
    ]
    expected = [p - 0.1 / 10 * sum(g[i] for g in gradients) for i, p in enumerate(start.parameters())]
    fit(learner(network, task, Update(micro_batch=micro_batch)), [batch])
    for each, value in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(each.detach(), value.detach(), rtol=0, atol=1e-10)


def test_accumulated_batches_make_one_update_from_all_their_samples() -> None:
    torch.manual_seed(0)
    together, apart = (MLP((4,), 1, hidden=(5,)).double() for _ in range(2))
    apart.load_state_dict(together.state_dict())
    features, target = data("regression", 11)
    batches = [(features[i : i + 4], target[i : i + 4]) for i in range(0, 11, 4)]
    fit(learner(apart, Task("regression", 1), Update(accumulate=2), updates=2), batches)
    fit(learner(together, Task("regression", 1), Update(), updates=2), [(features[:8], target[:8]), batches[2]])
    torch.testing.assert_close(weights(apart), weights(together), rtol=0, atol=1e-12)


def test_decoupled_decay_of_adam_is_adamws() -> None:
    torch.manual_seed(0)
    ours, theirs = (MLP((4,), 1, hidden=(5,)).double() for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    batches = [data("regression", 8, seed) for seed in range(3)]
    schedule = {"schedule": Exponential(0.5), "epochs": 4}
    task = Task("regression", 1)
    adam, adamw = (lambda p: torch.optim.Adam(p, lr=0.1)), (lambda p: AdamW(p, lr=0.1, weight_decay=0.3))
    fit(learner(ours, task, Update(decay=0.3), 3, make_optimizer=adam, **schedule), batches, 4)
    fit(learner(theirs, task, Update(), 3, make_optimizer=adamw, **schedule), batches, 4)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=1e-12)


def test_decoupled_decay_of_sgd_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        network.weight.fill_(2.0)
    batch = torch.tensor([[0.0]], dtype=torch.float64), torch.tensor([0.0], dtype=torch.float64)
    fit(learner(network, Task("regression", 1), Update(decay=0.5)), [batch])
    # The gradient is 0, so only the decay moves the weight: 2 (1 - 0.1 * 0.5).
    assert float(network.weight.detach()) == pytest.approx(1.9)


def test_the_average_of_the_weights_is_judged_and_kept() -> None:
    torch.manual_seed(0)
    network = MLP((4,), 1, hidden=(5,), batch_norm=True).double()
    batches = [data("regression", 8, seed) for seed in range(3)]
    averaged = learner(network, Task("regression", 1), Update(average=0.9), updates=3)
    shadow: list[Tensor] = []
    step = SGD.step

    def follow(self: SGD, closure: Any = None) -> Any:
        result = step(self, closure)
        now = weights(network)
        shadow.append(now if not shadow else 0.9 * shadow[-1] + 0.1 * now)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SGD, "step", follow)
        trainer = fit(averaged, batches)
    torch.testing.assert_close(weights(averaged.judged_network), shadow[-1], rtol=0, atol=1e-12)
    assert not torch.allclose(weights(network), shadow[-1])
    judged = copy.deepcopy(averaged.judged_network).eval()
    with torch.no_grad():
        loss = torch.stack([averaged.task.loss(judged(x), y) for x, y in batches]).mean()
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(float(loss))


def test_without_an_average_the_network_itself_is_judged() -> None:
    network = MLP((4,), 1)
    assert learner(network, Task("regression", 1), Update()).judged_network is network


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip": 0.0}, "trainer.gradient_clip_val: 0.0 clips everything; give a number above 0, or null"),
        ({"clip_by": "nrom"}, "trainer.gradient_clip_algorithm: nrom is no way to clip; give norm or value"),
        ({"micro_batch": 0}, "optimizer.micro_batch: 0 holds no sample; give 1 or more, or null"),
        ({"average": 1.0}, "trainer.ema: 1.0 is no decay; give a number from 0 to below 1, or null"),
    ],
)
def test_what_cannot_be_an_update_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Update(**arguments)
