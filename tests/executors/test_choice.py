from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from autotune.executors import choice
from autotune.executors.choice import ALL, Choice, Manner, choose
from autotune.executors.ways import Fused, InTurn, Seat, Way
from autotune.stacking.stack import Stack

from .test_ways import TASK, Lane, convolutions, layers

Cost = Callable[[Way, int, int], float]


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    cost: Cost,
    build: Callable[[], nn.Module] = layers,
    shape: tuple[int, ...] = (4,),
    members: int = 5,
    samples: int = 6,
    threads: int = 1,
    most: int = ALL,
    is_large: bool = False,
) -> tuple[Choice, float]:
    """What is chosen where gradients take what `cost` says by way, members and samples; and what measuring took."""
    spent = 0.0

    def seconds(way: Way, _: Stack, seats: Sequence[Seat], features: Tensor, target: Tensor) -> float:
        nonlocal spent
        assert features.shape[:2] == target.shape[:2]
        assert len(features) == len(seats)
        found = cost(way, len(seats), features.shape[1])
        spent += found
        return found

    monkeypatch.setattr(choice, "_seconds", seconds)
    lane = Lane(build, shape)
    some = lane.seats[:members]
    features = torch.zeros(members, samples, *shape, dtype=torch.float64)
    target = torch.zeros(members, samples, dtype=torch.long)
    found = choose(lane.network, lane.stack, TASK, some, features, target, most, threads, is_large)
    return found, spent


def images(monkeypatch: pytest.MonkeyPatch, cost: Cost, **how: int) -> tuple[Choice, float]:
    return chosen(monkeypatch, cost, convolutions, (2, 6, 6), **how)


@pytest.mark.parametrize(("fused", "at_once"), [(0.1, ALL), (0.99, ALL), (1.15, ALL), (1.25, None), (9.0, None)])
def test_all_at_once_unless_others_are_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, fused: float, at_once: int | None
) -> None:
    found, _ = chosen(
        monkeypatch, lambda way, members, _: 1e-3 * members * (fused if isinstance(way, Fused) else 1.0), threads=4
    )
    assert found.manner == Manner(at_once)


@pytest.mark.parametrize(("last", "is_last"), [(0.5, True), (2.0, False)])
def test_images_are_given_in_the_order_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, last: float, is_last: bool
) -> None:
    def cost(way: Way, members: int, _: int) -> float:
        return members * (9.0 if isinstance(way, Fused) else last if way._channels_last else 1.0)  # type: ignore[attr-defined]

    assert images(monkeypatch, cost)[0].manner == Manner(None, channels_last=is_last)


def in_threads(gain: float, seconds: float) -> Cost:
    """Slow at once; several threads make it so many times as fast."""

    def cost(way: Way, members: int, _: int) -> float:
        if isinstance(way, Fused):
            return 9 * seconds * members
        assert isinstance(way, InTurn)
        wide = way._abreast > 1 or torch.get_num_threads() > 1
        return seconds * members / (gain if wide else 1.0)

    return cost


@pytest.mark.parametrize(
    ("gain", "seconds", "members", "threads", "expected"),
    [
        (1.8, 0.01, 5, 2, Manner(None, abreast=2)),
        (1.1, 0.01, 5, 2, Manner(None)),
        (1.8, 0.001, 5, 2, Manner(None)),  # they would wait for Python's lock
        (1.8, 0.01, 5, 1, Manner(None)),
        (1.8, 0.01, 1, 2, Manner(None, threads=2)),
        (1.1, 0.01, 1, 2, Manner(None)),
    ],
)
def test_members_go_abreast_where_that_gains(
    monkeypatch: pytest.MonkeyPatch, gain: float, seconds: float, members: int, threads: int, expected: Manner
) -> None:
    before = torch.get_num_threads()
    cost = in_threads(gain, seconds)
    assert chosen(monkeypatch, cost, members=members, threads=threads)[0].manner == expected
    assert torch.get_num_threads() == before


def test_members_of_large_batches_do_not_go_abreast(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = chosen(monkeypatch, in_threads(1.8, 0.01), threads=2, is_large=True)
    assert found.manner == Manner(None, threads=2)


def test_members_that_draw_from_one_generator_do_not_go_abreast(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = chosen(monkeypatch, in_threads(1.8, 0.01), lambda: layers(dropout=0.4), threads=2)
    assert found.manner == Manner(None, threads=2)


@pytest.mark.parametrize(("seconds", "threads"), [(0.001, 1), (0.02, 2)])
def test_operations_of_many_at_once_are_spread_where_they_are_slow(
    monkeypatch: pytest.MonkeyPatch, seconds: float, threads: int
) -> None:
    def cost(way: Way, members: int, _: int) -> float:
        if isinstance(way, InTurn):
            return 9 * seconds * members
        return seconds * members / torch.get_num_threads()

    assert chosen(monkeypatch, cost, members=4, threads=2)[0].manner == Manner(ALL, threads=threads)


@pytest.mark.parametrize("samples", [8, 64, 65, 200, 8000])
@pytest.mark.parametrize("slowness", [1e-5, 1e-3])
def test_measuring_costs_little_however_large_a_batch_is(
    monkeypatch: pytest.MonkeyPatch, samples: int, slowness: float
) -> None:
    def cost(way: Way, members: int, measured: int) -> float:
        return slowness * measured * members * (3.0 if isinstance(way, Fused) else 1.0)

    found, spent = images(monkeypatch, cost, samples=samples, threads=2)
    whole = slowness * samples
    assert found.samples == (
        samples if samples <= 64 or whole <= choice.SLOW else max(64, round(choice.SLOW / slowness))
    )
    gradient = max(choice.SLOW, slowness * min(64, samples))
    assert spent <= 25 * gradient


def test_memory_that_does_not_hold_all_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(way: Way, members: int, _: int) -> float:
        if isinstance(way, Fused):
            raise torch.OutOfMemoryError
        return 0.001 * members

    found, _ = chosen(monkeypatch, cost)
    assert found.manner == Manner(None)
    assert math.isinf(found.found[Manner(5)])
    assert str(found) == "one after another, 1 thread; a member and gradient of 6 samples took: " + (
        "one after another, 1 thread 1 ms, 5 at once, 1 thread out of memory"
    )


# What is measured: by a clock that only gradients advance.


class Clock:
    """Counts the seconds that gradients take, and how many there were of each way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, warm: dict[type, float], cold: dict[type, float]) -> None:
        self.now = 0.0
        self.counts = dict.fromkeys(warm, 0)
        monkeypatch.setattr(choice.time, "perf_counter", lambda: self.now)
        for way in warm:
            monkeypatch.setattr(way, "differentiate", self._gradient(way, warm[way], cold[way]))

    def _gradient(self, way: type, warm: float, cold: float) -> Callable[..., None]:
        def differentiate(_: Way, features: Tensor, __: Tensor) -> None:
            self.now += warm * len(features) + (cold if self.counts[way] == 0 else 0.0)
            self.counts[way] += 1

        return differentiate


def measured(monkeypatch: pytest.MonkeyPatch, warm: float, cold: float, device: str, samples: int = 6) -> Choice:
    """The choice where members one after another take a second each a thousand times, and `warm` of that at once."""
    lane = Lane(layers)
    Clock(monkeypatch, {InTurn: 1e-3, Fused: 1e-3 * warm}, {InTurn: 2 * cold, Fused: cold})
    features = torch.zeros(5, samples, 4, dtype=torch.float64, device=device)
    target = torch.zeros(5, samples, dtype=torch.long, device=device)
    return choose(lane.network, lane.stack, TASK, lane.seats, features, target, ALL, 1)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("warm", "at_once"), [(0.3, ALL), (3.0, None)])
@pytest.mark.parametrize("cold", [0.0, 0.2, 0.4])
def test_the_first_start_of_a_way_does_not_decide(
    monkeypatch: pytest.MonkeyPatch, cold: float, warm: float, at_once: int | None, device: str
) -> None:
    found = measured(monkeypatch, warm, cold, device)
    assert found.manner.at_once == at_once
    assert found.found[Manner(5)] == pytest.approx(1e-3 * warm)
    assert found.found[Manner(None)] == pytest.approx(1e-3)


def test_a_gradient_that_is_slow_on_a_cpu_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(layers)
    clock = Clock(monkeypatch, {InTurn: 2.0, Fused: 2.0}, {InTurn: 0.0, Fused: 0.0})
    features, target = torch.zeros(2, 6, 4, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.long)
    choose(lane.network, lane.stack, TASK, lane.seats[:2], features, target, ALL, 1)
    assert clock.counts == {InTurn: 1, Fused: 1}


def test_on_a_device_the_whole_batch_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, 0.3, 0.2, "meta", samples=5000).samples == 5000
    assert measured(monkeypatch, 0.3, 0.2, "cpu", samples=50).samples == 50
