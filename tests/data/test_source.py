from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotune.data.preprocess import Standardize
from autotune.data.source import Arrays, Part, Source, held_out, split
from autotune.errors import UserError

from .sources import Numbered, Watched, numbers

SOURCES = st.builds(
    Numbered,
    samples=st.integers(30, 120),
    classes=st.integers(2, 4),
    validation=st.floats(0.15, 0.4),
    test=st.floats(0.15, 0.4),
    seed=st.integers(0, 2**32 - 1),
    task=st.sampled_from(["multiclass", "regression"]),
)


def parts(source: Source) -> tuple[Part, Part, Part]:
    made = split(source)
    return made.train, made.val, held_out(source)


@given(SOURCES)
def test_every_sample_is_in_exactly_one_part(source: Numbered) -> None:
    taken = [number for part in parts(source) for number in numbers(part)]
    assert sorted(taken) == list(range(source.samples))


@given(SOURCES)
def test_each_part_has_its_share(source: Numbered) -> None:
    train, val, test = parts(source)
    assert abs(len(test) - source.test * source.samples) <= 1
    assert abs(len(val) - source.validation * source.samples) <= 2  # rounded twice
    assert len(train) > 0


@given(SOURCES)
def test_each_class_has_its_share_of_each_part(source: Numbered) -> None:
    whole = Counter(number % source.classes for number in range(source.samples))
    for part in parts(replace(source, task="multiclass")):
        for label, count in Counter(part.target.tolist()).items():
            # scikit-learn rounds the counts of a split to one sample, and there are two splits.
            assert abs(count - len(part) * whole[label] / source.samples) <= 2


@given(SOURCES)
def test_features_and_targets_stay_together(source: Numbered) -> None:
    mean, std = split(source).target_scale
    for part in parts(source):
        if source.task == "regression":
            expected = torch.tensor([(number - mean) / std for number in numbers(part)])
            assert torch.allclose(part.target, expected, atol=1e-5)
        else:
            assert part.target.tolist() == [number % source.classes for number in numbers(part)]


@given(SOURCES)
def test_the_same_seed_splits_the_same_way_whatever_the_global_random_state(source: Numbered) -> None:
    first = [numbers(part) for part in parts(source)]
    split.cache_clear()
    held_out.cache_clear()
    numpy.random.seed(source.samples)
    assert [numbers(part) for part in parts(source)] == first


def test_another_seed_splits_another_way() -> None:
    assert [numbers(part) for part in parts(Numbered(seed=0))] != [numbers(part) for part in parts(Numbered(seed=1))]


def test_a_search_of_train_and_val_together_leaves_the_same_test_part() -> None:
    source = Numbered()
    train, val, test = parts(source)
    together = split(source, "train+val")
    assert sorted(numbers(together.train)) == sorted(numbers(train) + numbers(val))
    assert len(together.val) == 0
    assert numbers(held_out(source, "train+val")) == numbers(test)


def test_targets_are_classes_for_multiclass_and_numbers_otherwise() -> None:
    multiclass, binary, regression = (split(Numbered(task=task)) for task in ("multiclass", "binary", "regression"))
    assert (multiclass.train.target.dtype, multiclass.outputs) == (torch.int64, 2)
    assert (binary.train.target.dtype, binary.outputs) == (torch.float32, 1)
    assert (regression.train.target.dtype, regression.outputs) == (torch.float32, 1)
    assert set(binary.train.target.tolist()) == {0.0, 1.0}
    assert binary.target_scale == multiclass.target_scale == (0.0, 1.0)


def test_a_regression_target_is_standardised_by_the_training_part() -> None:
    source = Numbered(task="regression")
    made = split(source)
    raw = numpy.array(numbers(made.train), float)
    assert made.target_scale == pytest.approx((raw.mean(), raw.std()))
    assert float(made.train.target.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(made.train.target.std(correction=0)) == pytest.approx(1.0, abs=1e-6)


def test_examples_are_the_first_training_samples_before_preprocessing() -> None:
    source = Normal()
    made = split(source)
    assert torch.equal(made.preprocess(made.examples), made.train.features[: len(made.examples)])
    assert not torch.equal(made.examples, made.train.features[: len(made.examples)])


@dataclass(frozen=True, kw_only=True)
class Normal(Source):
    """Random numbers, preprocessed per feature; what lies outside the rows `kept` is replaced by `tampered`."""

    task: str = "regression"
    kept: tuple[int, ...] | None = None
    tampered: float = 0.0

    def load(self) -> Arrays:
        random = numpy.random.default_rng(0)
        features, target = random.normal(3.0, 2.0, (40, 3)), random.normal(-5.0, 4.0, 40)
        if self.kept is not None:
            others = numpy.setdiff1d(numpy.arange(40), self.kept)
            features[others], target[others] = self.tampered, self.tampered
        return Arrays(features, target)


def rows_of(name: str) -> tuple[int, ...]:
    """Which samples a part of `Normal` has: a split depends on the number of samples and the seed alone."""
    source = Numbered(task="regression", samples=40)
    part = {"train": split(source).train, "val": split(source).val, "test": held_out(source)}[name]
    return tuple(numbers(part))


@pytest.mark.parametrize("tampered", [0.0, 1e6, float("nan")])
def test_what_is_fitted_does_not_hear_of_the_values_outside_the_training_part(tampered: float) -> None:
    honest, other = split(Normal()), split(Normal(kept=rows_of("train"), tampered=tampered))
    assert torch.equal(other.preprocess.mean, honest.preprocess.mean)
    assert torch.equal(other.preprocess.std, honest.preprocess.std)
    assert other.target_scale == honest.target_scale
    assert torch.equal(other.train.features, honest.train.features)
    assert torch.equal(other.train.target, honest.train.target)
    assert not torch.equal(other.val.features, honest.val.features)


def test_what_is_fitted_hears_of_the_values_of_the_training_part() -> None:
    honest, other = split(Normal()), split(Normal(kept=rows_of("val"), tampered=7.0))
    assert not torch.equal(other.preprocess.mean, honest.preprocess.mean)
    assert other.target_scale != honest.target_scale


def test_all_parts_are_preprocessed_by_what_the_training_part_was() -> None:
    source = Normal()
    arrays = source.load()
    train = list(rows_of("train"))
    mean, std = arrays.features[train].mean(axis=0), arrays.features[train].std(axis=0)
    for name, part in zip(("train", "val", "test"), parts(source), strict=True):
        expected = torch.tensor((arrays.features[list(rows_of(name))] - mean) / std, dtype=torch.float32)
        assert torch.allclose(part.features, expected, atol=1e-5)


def test_a_split_does_not_depend_on_the_test_part() -> None:
    honest, other = split(Normal()), split(Normal(kept=rows_of("train") + rows_of("val"), tampered=float("nan")))
    for mine, theirs in ((other.train, honest.train), (other.val, honest.val)):
        assert torch.equal(mine.features, theirs.features)
        assert torch.equal(mine.target, theirs.target)
    assert held_out(Normal(kept=rows_of("train") + rows_of("val"), tampered=float("nan"))).features.isnan().all()


@dataclass(frozen=True, kw_only=True)
class Guarded(Numbered):
    """Writes down which rows of the features are read."""

    def load(self) -> Arrays:
        plain = super().load()
        watched = plain.features.view(Watched)
        watched.taken = READ
        return Arrays(watched, plain.target)


READ: set[int] = set()


def test_only_held_out_reads_the_test_part() -> None:
    READ.clear()
    source = Guarded()
    made = split(source, "train")
    assert set(numbers(made.train) + numbers(made.val)) == READ
    READ.clear()
    test = numbers(held_out(source, "train"))
    assert set(test) == READ


def test_two_sources_with_equal_settings_share_one_split() -> None:
    assert split(Numbered(seed=5)) is split(Numbered(seed=5))


def test_parts_that_leave_nothing_to_train_on_are_refused() -> None:
    message = "data.validation: 0.6 and data.test=0.4 leave nothing to train on; make them smaller"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Numbered(validation=0.6, test=0.4)


def test_too_few_samples_to_split_are_refused() -> None:
    with pytest.raises(UserError, match=r"^data: 3 samples cannot be split \(.+\); give more samples$"):
        split(Numbered(samples=3))


def test_a_source_may_know_better_than_standardising_each_feature() -> None:
    assert isinstance(split(Numbered()).preprocess, Standardize)
    assert float(split(Numbered()).preprocess.std) == 1.0


# Sources that know more.


@dataclass(frozen=True, kw_only=True)
class Apart(Numbered):
    """Has a test part of its own: the samples from 1000 on."""

    test: float = 0.0

    @property
    def has_test(self) -> bool:
        return True

    def load_test(self) -> Arrays:
        number = numpy.arange(1000, 1007)
        return Arrays(numpy.stack([number, -number], axis=1).astype(float), number % self.classes)


@pytest.mark.parametrize("on", ["train", "train+val"])
def test_a_test_part_of_its_own_is_the_test_part(on: str) -> None:
    made = split(Apart(validation=0.3), on)
    assert sorted(numbers(made.train) + numbers(made.val)) == list(range(50))
    assert len(made.val) == (15 if on == "train" else 0)
    assert numbers(held_out(Apart(validation=0.3), on)) == list(range(1000, 1007))


@dataclass(frozen=True, kw_only=True)
class Labelled(Numbered):
    """Two labels: whether the sample's number is even, and whether it is below `rare`."""

    task: str = "multilabel"
    rare: int = 25

    def load(self) -> Arrays:
        number = numpy.arange(self.samples)
        target = numpy.stack([number % 2 == 0, number < self.rare], axis=1).astype(float)
        return Arrays(super().load().features, target, ("even", "low"))


@given(st.integers(0, 2**32 - 1))
def test_each_combination_of_labels_has_its_share_of_each_part(seed: int) -> None:
    source = Labelled(seed=seed, samples=100, rare=50)
    made = split(source)
    assert (made.outputs, made.class_names) == (2, ("even", "low"))
    for part in (made.train, made.val, held_out(source)):
        assert part.target.shape == (len(part), 2)
        assert part.target.dtype == torch.float32
        for even, low in ((0, 0), (0, 1), (1, 0), (1, 1)):
            share = ((part.target[:, 0] == even) & (part.target[:, 1] == low)).sum()
            assert abs(int(share) - len(part) / 4) <= 2  # scikit-learn rounds counts, and there are two splits


@given(st.integers(0, 30))
def test_rare_combinations_of_labels_do_not_keep_data_from_being_split(rare: int) -> None:
    parts_of_it = parts(Labelled(rare=rare))
    assert sorted(number for part in parts_of_it for number in numbers(part)) == list(range(50))


@dataclass(frozen=True, kw_only=True)
class Finding(Numbered):
    """Finds its task, or does not."""

    task: str | None = None  # type: ignore[assignment]
    found: str = ""

    def load(self) -> Arrays:
        plain = super().load()
        return Arrays(plain.features, plain.target, task=self.found)


def test_a_source_may_find_its_task() -> None:
    assert split(Finding(found="multiclass")).task == "multiclass"
    assert split(Finding(found="regression", task="binary")).target_scale != (0.0, 1.0)
    assert split(Numbered(task="binary")).task == "binary"
    message = "data.task: Finding does not say its task; give it: data.task=multiclass"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        split(Finding())
