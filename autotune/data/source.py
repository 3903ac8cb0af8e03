"""Where data comes from, how it is split and what is fitted on its training part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from autotune.data.preprocess import Preprocess, Standardize
from autotune.data.rows import Rows, SelectedRows
from autotune.errors import UserError

EXAMPLES = 3

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Arrays:
    """All samples, before they are split.

    Attributes:
        features: [n, ...].
        target: [n], classes counted from 0, or numbers; [n, labels], 0 or 1, for multilabel.
        class_names: What each class is called, or each label; empty where they have no names.
        task: What the source found; empty where its setting says.
        lazy: Whether features are read when a batch asks for them.
    """

    features: numpy.ndarray | Rows
    target: numpy.ndarray
    class_names: tuple[str, ...] = ()
    task: str = ""
    lazy: bool = False


@dataclass(frozen=True)
class Part:
    """One part of the data in memory, ready to be trained or judged on.

    Attributes:
        features: Preprocessed, float32, [n, ...].
        target: [n]; int64 classes for multiclass, else float32. Standardised for regression. [n, labels] for
            multilabel.
    """

    features: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def batches(self, order: Tensor, length: int) -> Iterator[Batch]:
        """The samples of these numbers, so many at a time."""
        for rows in torch.split(order.to(self.target.device), length):
            yield self.features[rows], self.target[rows]

    def slices(self, length: int) -> Iterator[Batch]:
        """All samples in order, so many at a time."""
        return zip(torch.split(self.features, length), torch.split(self.target, length), strict=True)


@dataclass(frozen=True)
class LazyPart:
    """One part of the data, whose features are read when a batch asks for them.

    Attributes:
        rows: Raw.
        preprocess: For them.
        target: As in `Part`.
    """

    rows: Rows
    preprocess: Preprocess
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def read(self, rows: numpy.ndarray) -> Tensor:
        """The preprocessed features of some samples, given by their numbers."""
        return self.preprocess(_raw(self.rows[rows], self.preprocess))


@dataclass(frozen=True)
class Split:
    """The parts a search may see, and what was fitted on the training part.

    Attributes:
        train: To train on.
        val: To judge by; empty where it is trained on too.
        examples: Raw features of a few training samples.
        preprocess: Turns raw features into what the model is given.
        target_scale: Mean and standard deviation that a regression target was standardised by; (0, 1) otherwise.
        outputs: How many numbers the model answers with.
        task: binary, multiclass, multilabel or regression.
        input_shape: Of one sample as the model is given it.
        cardinalities: How many categories each of its last columns has.
        class_names: What each class is called, or each label.
    """

    train: Part | LazyPart
    val: Part | LazyPart
    examples: Tensor
    preprocess: Preprocess
    target_scale: tuple[float, float]
    outputs: int
    task: str
    input_shape: tuple[int, ...]
    cardinalities: tuple[int, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Data to split; two sources with equal settings hold the same data.

    Args:
        task: binary, multiclass, multilabel or regression; None where the source finds out.
        validation: The part of all samples that trials are judged by, in (0, 1).
        test: The part of all samples that only final training sees, in (0, 1).
        seed: Of the split, and of the data where it is made.
    """

    task: str | None
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
        """All samples, always in the same order; without the test part where the source has one of its own."""

    def load_test(self) -> Arrays | None:
        """The source's own test part; None where one is split off `load`."""
        return None

    @property
    def has_test(self) -> bool:
        """Whether there is a test part of its own."""
        return False

    def fit(self, features: numpy.ndarray) -> Preprocess:
        """The preprocessing that suits the training part; per-feature standardising unless a source knows better."""
        return Standardize.fitted(features)

    def prepare(self, arrays: Arrays, rows: numpy.ndarray) -> Preprocess:
        """`fit` on these rows; a source whose features may be lazy reads them in portions."""
        return self.fit(arrays.features[rows])


@lru_cache(maxsize=2)
def split(source: Source, on: str = "train") -> Split:
    """The training and validation parts of a source. The test part is left out: only `held_out` reads it.

    Args:
        source: Where the samples come from.
        on: One of `autotune.settings.TRAINED_ON`: ``train+val`` makes one training part of both.
    """
    arrays = source.load()
    task = _task(source, arrays)
    rows = _rows(source, task, arrays.target, on)
    preprocess = source.prepare(arrays, rows["train"])
    scale, outputs = (0.0, 1.0), 1
    if task == "regression":
        train_target = arrays.target[rows["train"]]
        scale = (float(train_target.mean()), float(train_target.std()) or 1.0)
    elif task == "multiclass":
        outputs = int(arrays.target.max()) + 1
    elif task == "multilabel":
        outputs = arrays.target.shape[1]
    train, val = (_part(task, arrays, rows[name], preprocess, scale) for name in ("train", "val"))
    examples = _raw(arrays.features[rows["train"][:EXAMPLES]], preprocess)
    return Split(
        train,
        val,
        examples,
        preprocess,
        scale,
        outputs,
        task,
        tuple(preprocess(examples).shape[1:]),
        preprocess.cardinalities,
        arrays.class_names,
    )


@lru_cache(maxsize=1)
def held_out(source: Source, on: str = "train") -> Part | LazyPart:
    """The test part of a source, preprocessed by what was fitted on its training part."""
    fitted = split(source, on)
    arrays = source.load_test()
    if arrays is None:
        arrays = source.load()
        rows = _rows(source, fitted.task, arrays.target, on)["test"]
    else:
        rows = numpy.arange(len(arrays.target))
    return _part(fitted.task, arrays, rows, fitted.preprocess, fitted.target_scale)


def _task(source: Source, arrays: Arrays) -> str:
    task = arrays.task or source.task
    if task is None:
        raise UserError("data.task", f"{type(source).__name__} does not say its task", "give it: data.task=multiclass")
    return task


def _part(
    task: str, arrays: Arrays, rows: numpy.ndarray, preprocess: Preprocess, scale: tuple[float, float]
) -> Part | LazyPart:
    numbers = torch.as_tensor((arrays.target[rows] - scale[0]) / scale[1])
    target = numbers.long() if task == "multiclass" else numbers.float()
    if arrays.lazy:
        return LazyPart(SelectedRows(arrays.features, rows), preprocess, target)
    return Part(preprocess(_raw(arrays.features[rows], preprocess)), target)


def _raw(features: numpy.ndarray, preprocess: Preprocess) -> Tensor:
    return torch.as_tensor(features, dtype=preprocess.raw_dtype)


def _rows(source: Source, task: str, target: numpy.ndarray, on: str) -> dict[str, numpy.ndarray]:
    """Seeded, disjoint, stratified by class where there are classes."""
    rest, test = numpy.arange(len(target)), numpy.arange(0)
    validation = source.validation
    strata = _strata(task, target)
    try:
        if not source.has_test:
            rest, test = _parted(rest, source.test, source.seed, strata)
            validation /= 1 - source.test
        train, val = _parted(rest, validation, source.seed, strata)
    except ValueError as error:
        said = " ".join(str(error).split())
        raise UserError("data", f"{len(target)} samples cannot be split ({said})", "give more samples") from error
    if on == "train+val":
        train, val = numpy.concatenate([train, val]), val[:0]
    return {"train": train, "val": val, "test": test}


def _parted(
    rows: numpy.ndarray, size: float, seed: int, strata: numpy.ndarray | None
) -> tuple[numpy.ndarray, numpy.ndarray]:
    stratify = None if strata is None else strata[rows]
    first, second = train_test_split(rows, test_size=size, random_state=seed, stratify=stratify)
    return first, second


def _strata(task: str, target: numpy.ndarray) -> numpy.ndarray | None:
    """What each part has its share of: classes, or combinations of labels, rare ones of which count as one."""
    if task == "regression":
        return None
    if task != "multilabel":
        return target
    _, combination, counts = numpy.unique(target, axis=0, return_inverse=True, return_counts=True)
    combination = combination.ravel()
    rare = counts[combination] < 10
    # Too few of them for a share in each part are left to chance, with the most frequent one.
    combination[rare] = -1 if rare.sum() >= 10 else counts.argmax()
    return combination
