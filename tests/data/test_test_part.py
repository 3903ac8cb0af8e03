"""The test part cannot be reached during a search; these try."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from autotune.data.batches import ArrayData
from autotune.data.source import Arrays, held_out, split
from autotune.errors import UserError
from autotune.executors.lightning import LightningExecutor
from autotune.trial import Reason

from ..fakes import FakeDesk, resolved
from .sources import Numbered, Watched, numbers, rows

HERE = "tests.data.test_test_part"
READ: set[int] = set()


@dataclass(frozen=True, kw_only=True)
class Guarded(Numbered):
    """Writes down which rows of the features are read."""

    task: str = "binary"

    def load(self) -> Arrays:
        plain = super().load()
        watched = plain.features.view(Watched)  # type: ignore[union-attr]
        watched.taken = READ
        return Arrays(watched, plain.target)


DATA = {"_target_": f"{HERE}.Guarded", "batch_size": 8}


def held_back() -> set[int]:
    """Which samples the test part has; afterwards nothing counts as read."""
    split.cache_clear()
    held_out.cache_clear()
    test = set(numbers(held_out(Guarded())))  # type: ignore[arg-type]
    split.cache_clear()
    held_out.cache_clear()
    READ.clear()
    return test


def test_nothing_that_data_shows_of_itself_holds_a_test_sample() -> None:
    test = held_back()
    data = ArrayData(Guarded(), 8, order_seed=0)
    shown = {number for part in (data.split.train, data.split.val) for number in numbers(part)}  # type: ignore[arg-type]
    shown |= set(rows(data.split.examples))
    shown |= {number for epoch in data.train_dataloader() for batch in epoch for number in rows(batch[0])}
    shown |= {number for batch in data.val_dataloader() for number in rows(batch[0])}
    assert not shown & test
    assert not READ & test


def test_a_search_s_trials_read_none_of_it() -> None:
    test = held_back()
    desk = FakeDesk([resolved(data=DATA), resolved(data=DATA, seed=1)])
    executor = LightningExecutor()
    assert executor.refuses(resolved(data=DATA)) is None
    executor.rehearse(resolved(data=DATA))
    executor.run(desk)
    assert [desk.end_of(number).reason for number in (0, 1)] == [Reason.COMPLETED] * 2
    assert READ
    assert not READ & test


class Curious(Callback):
    """Asks for the test part at a moment of the training."""

    def __init__(self, moment: str) -> None:
        setattr(self, moment, self._ask)

    def _ask(self, trainer: Trainer, *_: Any) -> None:
        trainer.datamodule.test_dataloader()  # type: ignore[attr-defined]


class Module(LightningModule):
    """A user's own, which asks for the test part while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, index: int) -> None:
        self.trainer.datamodule.test_dataloader()  # type: ignore[attr-defined]

    def validation_step(self, batch: Any, index: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


REFUSED = (
    r"^data.test: the test part cannot be reached while a model is trained; "
    r"judge by the validation part: val_dataloader\(\)$"
)


@pytest.mark.parametrize("moment", ["on_fit_start", "on_train_epoch_end", "on_validation_epoch_end"])
def test_a_callback_of_a_trial_that_asks_for_it_is_refused(moment: str) -> None:
    test = held_back()
    curious = {"callbacks": [{"_target_": f"{HERE}.Curious", "moment": moment}]}
    with pytest.raises(UserError, match=REFUSED):
        LightningExecutor().run(FakeDesk([resolved(data=DATA, trainer=curious)]))
    assert not READ & test


def test_a_module_that_asks_for_it_is_refused() -> None:
    test = held_back()
    own = {"name": "own"}
    config = resolved(data=DATA, model={"_target_": f"{HERE}.Module"}, optimizer=own, schedule=own)
    with pytest.raises(UserError, match=REFUSED):
        LightningExecutor().run(FakeDesk([config]))
    assert not READ & test


def test_final_training_reads_it_after_the_training() -> None:
    test = held_back()
    data = ArrayData(Guarded(), 8, order_seed=0)
    assert {number for batch in data.test_dataloader() for number in rows(batch[0])} == test
    assert test <= READ


def test_the_own_test_files_of_a_folder_are_not_even_opened(tmp_path: Path) -> None:
    from autotune.data.idx import Idx

    from .test_idx import folder

    path = folder(tmp_path)
    source = Idx(path=str(path))
    for file in path.glob("t10k*"):
        file.write_bytes(b"torn")
    assert len(split(source).train) == 32
    with pytest.raises(UserError, match="t10k"):
        held_out(source)
