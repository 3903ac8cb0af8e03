"""The training and validation parts of the user's own data as one, for a final training on both."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from autotune.errors import UserError


def joined(data: LightningDataModule) -> LightningDataModule:
    """A copy of the user's data that trains on both parts; the data itself stays as it is."""
    both = copy.copy(data)
    both.train_dataloader = lambda: join(data_of(both, "train"), data_of(both, "val"))  # type: ignore[method-assign]
    return both


def data_of(data: LightningDataModule, part: str) -> Any:
    """What a data's own class says are the loaders of a part."""
    return getattr(type(data), f"{part}_dataloader")(data)


def join(train: Any, val: Any) -> DataLoader[Any]:
    """A loader of the samples of two, with all that the first says of batches, order, collation and workers.

    Raises:
        UserError: The samples cannot be taken together.
    """
    parts = [_samples("train", train), _samples("val", val)]
    first, second = (_kind(part[0]) for part in parts)
    if first != second:
        raise _refusal(f"a sample of train_dataloader is {first}, and one of val_dataloader {second}")
    further = {} if train.num_workers == 0 else {"prefetch_factor": train.prefetch_factor}
    return DataLoader(
        ConcatDataset(parts),
        train.batch_size,
        shuffle=not isinstance(train.sampler, SequentialSampler),
        num_workers=train.num_workers,
        collate_fn=train.collate_fn,
        pin_memory=train.pin_memory,
        drop_last=train.drop_last,
        timeout=train.timeout,
        worker_init_fn=train.worker_init_fn,
        multiprocessing_context=train.multiprocessing_context,
        generator=train.generator,
        persistent_workers=train.persistent_workers,
        **further,
    )


def _samples(part: str, loader: Any) -> Any:
    """The samples that a loader goes through, each once an epoch.

    Raises:
        UserError: It is no such loader.
    """
    name = f"{part}_dataloader"
    if type(loader) is not DataLoader:
        raise _refusal(f"{name} gives a {type(loader).__name__}, not one DataLoader")
    dataset: Dataset[Any] = loader.dataset
    if isinstance(dataset, IterableDataset):
        raise _refusal(f"the samples of {name} can only be read one after the other")
    if type(loader.batch_sampler) is not BatchSampler:
        raise _refusal(f"{name} makes its batches otherwise than by a batch size")
    match loader.sampler:
        case SubsetRandomSampler(indices=indices):
            return Subset(dataset, indices)
        case SequentialSampler():
            return dataset
        case RandomSampler(replacement=False) as sampler if sampler.num_samples == len(dataset):  # type: ignore[arg-type]
            return dataset
    raise _refusal(f"{name} has a {type(loader.sampler).__name__}, which knows the samples of that part alone")


def _kind(sample: Any) -> str:
    """What a sample is made of."""
    if isinstance(sample, Mapping):
        return f"{{{', '.join(f'{key}: {_kind(value)}' for key, value in sample.items())}}}"
    if isinstance(sample, tuple | list):
        return f"({', '.join(map(_kind, sample))})"
    return type(sample).__name__


def _refusal(problem: str) -> UserError:
    return UserError("train.on", f"train+val cannot be joined: {problem}", "give train.on=train")
