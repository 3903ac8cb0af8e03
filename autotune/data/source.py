"""Data that fits in memory: where it comes from, how it is split and what is fitted on its training part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from autotune.data.preprocess import Standardize
from autotune.errors import UserError

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Arrays:
    """All samples, before they are split.

    Attributes:
        features: [n, ...].
        target: [n]; classes counted from 0, or numbers.
    """

    features: numpy.ndarray
    target: numpy.ndarray


@dataclass(frozen=True)
class Part:
    """One part of the data, ready to be trained or judged on.

    Attributes:
        features: Preprocessed, float32, [n, ...].
        target: [n]; int64 classes for multiclass, else float32. Standardised for regression.
    """

    features: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Split:
    """The parts a search may see, and what was fitted on the training part.

    Attributes:
        train: To train on.
        val: To judge by.
        preprocess: Turns raw features into what the model is given.
        target_scale: Mean and standard deviation that a regression target was standardised by; (0, 1) otherwise.
        outputs: How many numbers the model answers with.
    """

    train: Part
    val: Part
    preprocess: Standardize
    target_scale: tuple[float, float]
    outputs: int


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Data that fits in memory; two sources with equal settings hold the same data.

    Args:
        task: binary, multiclass or regression.
        validation: The part of all samples that trials are judged by, in (0, 1).
        test: The part of all samples that only final training sees, in (0, 1).
        seed: Of the split, and of the data where it is made.
    """

    task: str
    validation: float = 0.2
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            left = "leave nothing to train on"
            raise UserError(
                "data.validation", f"{self.validation} and data.test={self.test} {left}", "make them smaller"
            )

    @abstractmethod
    def load(self) -> Arrays:
        """All samples, always in the same order."""

    def fit(self, features: numpy.ndarray) -> Standardize:
        """The preprocessing that suits the training part; per-feature standardising unless a source knows better."""
        return Standardize.fitted(features)


@lru_cache(maxsize=2)
def split(source: Source) -> Split:
    """The training and validation parts of a source. The test part is left out: only `held_out` reads it."""
    return _prepare(source)[0]


@lru_cache(maxsize=1)
def held_out(source: Source) -> Part:
    """The test part of a source, preprocessed by what was fitted on its training part."""
    return _prepare(source)[1]


def _prepare(source: Source) -> tuple[Split, Part]:
    arrays = source.load()
    rows = _rows(source, arrays)
    preprocess = source.fit(arrays.features[rows["train"]])
    train_target = arrays.target[rows["train"]]
    scale, outputs = (0.0, 1.0), 1
    if source.task == "regression":
        scale = (float(train_target.mean()), float(train_target.std()) or 1.0)
    elif source.task == "multiclass":
        outputs = int(arrays.target.max()) + 1
    parts = {}
    for name in PARTS:
        features = preprocess(torch.as_tensor(arrays.features[rows[name]], dtype=torch.float32))
        target = torch.as_tensor((arrays.target[rows[name]] - scale[0]) / scale[1])
        parts[name] = Part(features, target.long() if source.task == "multiclass" else target.float())
    return Split(parts["train"], parts["val"], preprocess, scale, outputs), parts["test"]


def _rows(source: Source, arrays: Arrays) -> dict[str, numpy.ndarray]:
    """Seeded, disjoint, stratified by class where there are classes."""
    everything = numpy.arange(len(arrays.target))
    classes = None if source.task == "regression" else arrays.target
    try:
        rest, test = train_test_split(everything, test_size=source.test, random_state=source.seed, stratify=classes)
        train, val = train_test_split(
            rest,
            test_size=source.validation / (1 - source.test),
            random_state=source.seed,
            stratify=None if classes is None else classes[rest],
        )
    except ValueError as error:
        said = " ".join(str(error).split())
        raise UserError("data", f"{len(everything)} samples cannot be split ({said})", "give more samples") from error
    return {"train": train, "val": val, "test": test}
