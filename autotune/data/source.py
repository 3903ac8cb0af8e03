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
TRAINED_ON = ("train", "train+val")
EXAMPLES = 3


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
        val: To judge by; empty where it is trained on too.
        preprocess: Turns raw features into what the model is given.
        target_scale: Mean and standard deviation that a regression target was standardised by; (0, 1) otherwise.
        outputs: How many numbers the model answers with.
        examples: Raw features of a few training samples.
    """

    train: Part
    val: Part
    examples: Tensor
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
def split(source: Source, on: str = "train") -> Split:
    """The training and validation parts of a source. The test part is left out: only `held_out` reads it.

    Args:
        source: Where the samples come from.
        on: One of `TRAINED_ON`: ``train+val`` makes one training part of both.
    """
    return _prepare(source, on)[0]


@lru_cache(maxsize=1)
def held_out(source: Source, on: str = "train") -> Part:
    """The test part of a source, preprocessed by what was fitted on its training part."""
    return _prepare(source, on)[1]


def _prepare(source: Source, on: str) -> tuple[Split, Part]:
    arrays = source.load()
    rows = _rows(source, arrays)
    if on == "train+val":
        rows |= {"train": numpy.concatenate([rows["train"], rows["val"]]), "val": rows["val"][:0]}
    preprocess = source.fit(arrays.features[rows["train"]])
    train_target = arrays.target[rows["train"]]
    scale, outputs = (0.0, 1.0), 1
    if source.task == "regression":
        scale = (float(train_target.mean()), float(train_target.std()) or 1.0)
    elif source.task == "multiclass":
        outputs = int(arrays.target.max()) + 1
    parts = {}
    for name in PARTS:
        features = preprocess(_raw(arrays, rows[name]))
        target = torch.as_tensor((arrays.target[rows[name]] - scale[0]) / scale[1])
        parts[name] = Part(features, target.long() if source.task == "multiclass" else target.float())
    examples = _raw(arrays, rows["train"][:EXAMPLES])
    return Split(parts["train"], parts["val"], examples, preprocess, scale, outputs), parts["test"]


def _raw(arrays: Arrays, rows: numpy.ndarray) -> Tensor:
    return torch.as_tensor(arrays.features[rows], dtype=torch.float32)


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
