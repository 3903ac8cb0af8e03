"""The two parts of a user's data as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    StackDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from autotune.data.joined import join, joined
from autotune.errors import UserError

TRAIN, VAL = TensorDataset(torch.arange(10)), TensorDataset(torch.arange(10, 14))


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


class Own(LightningDataModule):
    def setup(self, stage: str) -> None:
        self.parts = (TRAIN, VAL)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.parts[0], 4)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.parts[1], 2)


def served(loader: DataLoader[Any]) -> list[int]:
    return [int(number) for batch in loader for number in batch[0]]


def test_both_parts_come_in_the_batches_of_the_first() -> None:
    def collate(samples: list[Any]) -> list[Any]:
        return [torch.stack([sample[0] for sample in samples]) + 100]

    both = join(DataLoader(TRAIN, 4, drop_last=True, collate_fn=collate), DataLoader(VAL, 1))
    assert [len(batch[0]) for batch in both] == [4, 4, 4]
    assert served(both) == list(range(100, 112))


def test_the_first_says_whether_they_are_shuffled() -> None:
    draw = torch.Generator().manual_seed(0)
    both = join(DataLoader(TRAIN, 4, shuffle=True, generator=draw), DataLoader(VAL, 4))
    once, again = served(both), served(both)
    assert sorted(once) == sorted(again) == list(range(14))
    assert once != again
    assert max(map(once.index, range(10, 14))) != min(map(once.index, range(10, 14))) + 3  # mixed, not behind


def test_parts_that_samplers_choose_of_one_dataset_are_joined() -> None:
    whole = TensorDataset(torch.arange(20))
    train = DataLoader(whole, 4, sampler=SubsetRandomSampler(range(6)))
    val = DataLoader(whole, 4, sampler=SubsetRandomSampler(range(10, 13)))
    assert sorted(served(join(train, val))) == [0, 1, 2, 3, 4, 5, 10, 11, 12]


def test_the_data_itself_stays_as_it_is() -> None:
    data = Own()
    for _ in range(2):
        both = joined(joined(data))
        both.setup("fit")
        assert served(both.train_dataloader()) == list(range(14))
        assert served(both.val_dataloader()) == list(range(10, 14))
    data.setup("fit")
    assert served(data.train_dataloader()) == list(range(10))


PAIRS: Dataset[Any] = StackDataset(x=VAL, y=VAL)


@pytest.mark.parametrize(
    ("train", "val", "said"),
    [
        (DataLoader(Stream()), DataLoader(VAL), "the samples of train_dataloader can only be read one after the other"),
        (DataLoader(TRAIN), [DataLoader(VAL), DataLoader(VAL)], "val_dataloader gives a list, not one DataLoader"),
        (
            DataLoader(TRAIN, sampler=WeightedRandomSampler([1.0] * 10, 10)),
            DataLoader(VAL),
            "train_dataloader has a WeightedRandomSampler, which knows the samples of that part alone",
        ),
        (
            DataLoader(TRAIN, sampler=RandomSampler(TRAIN, num_samples=5)),
            DataLoader(VAL),
            "train_dataloader has a RandomSampler, which knows the samples of that part alone",
        ),
        (
            DataLoader(TRAIN, batch_size=None),
            DataLoader(VAL),
            "train_dataloader makes its batches otherwise than by a batch size",
        ),
        (
            DataLoader(TRAIN),
            DataLoader(PAIRS),
            "a sample of train_dataloader is (Tensor), and one of val_dataloader {x: (Tensor), y: (Tensor)}",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(train: Any, val: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        join(train, val)
    assert str(refused.value) == f"train.on: train+val cannot be joined: {said}; give train.on=train"
