from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotune.data import batches
from autotune.data.batches import ArrayData, Batches, Epochs, Slices, batch_lengths, epoch_order
from autotune.data.source import Part

from .sources import Numbered, numbers, rows

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 60)


def part(samples: int) -> Part:
    number = torch.arange(samples)
    return Part(torch.stack([number, -number], dim=1).float(), number % 3)


@given(seed=SEEDS, epoch=st.integers(0, 10_000), samples=SIZES)
def test_an_order_is_a_permutation(seed: int, epoch: int, samples: int) -> None:
    assert sorted(epoch_order(seed, epoch, samples).tolist()) == list(range(samples))


@given(seed=SEEDS, epoch=st.integers(0, 10_000), samples=SIZES, state=st.integers(0, 99))
def test_an_order_depends_on_seed_epoch_and_size_alone_and_leaves_no_trace(
    seed: int, epoch: int, samples: int, state: int
) -> None:
    expected = epoch_order(seed, epoch, samples)
    torch.manual_seed(state)
    before = torch.get_rng_state()
    assert torch.equal(epoch_order(seed, epoch, samples), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_orders_differ_between_epochs_and_between_seeds() -> None:
    # Of 50! orders; and (seed 0, epoch 1) is not (seed 1, epoch 0).
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


@given(samples=SIZES, batch_size=SIZES)
def test_batch_lengths_add_up_and_only_the_last_one_is_smaller(samples: int, batch_size: int) -> None:
    lengths = batch_lengths(samples, batch_size)
    assert sum(lengths) == samples
    assert all(length == batch_size for length in lengths[:-1])
    assert 0 < lengths[-1] <= batch_size


@given(samples=SIZES, batch_size=SIZES, seed=SEEDS, epoch=st.integers(0, 5))
def test_an_epoch_serves_each_sample_once_with_its_target(samples: int, batch_size: int, seed: int, epoch: int) -> None:
    served = list(Epochs(part(samples), batch_size, seed).batches(epoch))
    assert [len(target) for _, target in served] == batch_lengths(samples, batch_size)
    order = [number for features, _ in served for number in rows(features)]
    assert sorted(order) == list(range(samples))
    assert [label for _, target in served for label in target.tolist()] == [number % 3 for number in order]


def test_an_epoch_is_served_in_the_order_of_its_seed_and_number() -> None:
    loader = Epochs(part(10), 4, seed=7)
    for epoch in (0, 1, 2):
        order = [number for features, _ in loader.batches(epoch) for number in rows(features)]
        assert order == epoch_order(7, epoch, 10).tolist()


def test_a_loader_of_epochs_serves_one_whole_epoch_the_one_that_was_set() -> None:
    loader = Epochs(part(10), 4, seed=7)
    loader.sampler.set_epoch(3)
    (epoch,) = list(loader)
    assert len(loader) == 1
    assert [number for features, _ in epoch for number in rows(features)] == epoch_order(7, 3, 10).tolist()


def test_a_loader_of_batches_serves_the_same_batches_one_at_a_time() -> None:
    epochs = Epochs(part(10), 4, seed=7)
    loader = Batches(epochs)
    loader.sampler.set_epoch(3)
    served = list(loader)
    assert len(loader) == len(served) == 3
    for mine, theirs in zip(served, epochs.batches(3), strict=True):
        assert torch.equal(mine[0], theirs[0])
        assert torch.equal(mine[1], theirs[1])


@pytest.mark.parametrize("batch_size", [10, 11])
def test_one_batch_of_everything_is_served_as_it_lies(batch_size: int) -> None:
    ((features, _),) = Epochs(part(10), batch_size, seed=7).batches(2)
    assert rows(features) == list(range(10))


@given(samples=st.integers(1, 30), length=st.integers(1, 12))
def test_slices_serve_a_part_in_order_and_whole(samples: int, length: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "EVALUATION_BATCH", length)
        loader = Slices(part(samples))
        served = list(loader)
        assert len(loader) == len(served)
    assert [len(target) for _, target in served] == batch_lengths(samples, length)
    assert [number for features, _ in served for number in rows(features)] == list(range(samples))


def test_a_full_batch_is_one_update_an_epoch() -> None:
    data = ArrayData(Numbered(samples=50), "full", order_seed=0)
    assert (data.batch_size, data.updates_per_epoch) == (30, 1)


def test_updates_are_counted_with_the_uneven_last_one() -> None:
    data = ArrayData(Numbered(samples=50), 8, order_seed=0)
    assert (data.batch_size, data.updates_per_epoch) == (8, 4)
    (epoch,) = data.train_dataloader()
    assert [len(target) for _, target in epoch] == [8, 8, 8, 6]


def test_a_batch_larger_than_the_training_part_is_the_training_part() -> None:
    assert ArrayData(Numbered(samples=50), 1000, order_seed=0).batch_size == 30


def test_each_loader_serves_its_own_part() -> None:
    source = Numbered(samples=50)
    data = ArrayData(source, 8, order_seed=0)
    (epoch,) = data.train_dataloader()
    train = [number for features, _ in epoch for number in rows(features)]
    val = [number for features, _ in data.val_dataloader() for number in rows(features)]
    test = [number for features, _ in data.test_dataloader() for number in rows(features)]
    assert sorted(train) == sorted(numbers(data.split.train))
    assert val == numbers(data.split.val)
    assert sorted(train + val + test) == list(range(50))


def test_trained_on_both_parts_the_test_part_stays_the_same() -> None:
    source = Numbered(samples=50)
    usual, both = ArrayData(source, 8, 0), ArrayData(source, 8, 0, on="train+val")
    assert len(both.split.train) == 40
    assert both.updates_per_epoch == 5
    assert list(map(numbers, (part for part in [usual.test_dataloader().part]))) == [
        numbers(both.test_dataloader().part)
    ]
