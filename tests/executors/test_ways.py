from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autotune import dropout
from autotune.executors.ways import Fused, InTurn, Seat, Way, can_go_abreast
from autotune.stacking.network import StackedNetwork
from autotune.stacking.stack import Row, Stack
from autotune.task import Task

TASK = Task("multiclass", 3)
MEMBERS = 5


def layers(batch_norm: bool = False, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 5),
        nn.BatchNorm1d(5) if batch_norm else nn.Tanh(),
        nn.Dropout(dropout) if dropout else nn.Identity(),
        nn.Linear(5, 3),
    )


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


class Lane:
    """Members on their seats, their numbers stacked, and a batch for each."""

    def __init__(
        self, build: Callable[[], nn.Module] = layers, shape: tuple[int, ...] = (4,), averaged: bool = False
    ) -> None:
        self.seats = []
        for seed in range(MEMBERS):
            torch.manual_seed(seed)
            self.seats.append(Seat(build().double().train(), torch.Generator().manual_seed(seed)))
        random = torch.Generator().manual_seed(100)
        self.features = torch.randn(MEMBERS, 6, *shape, generator=random, dtype=torch.float64)
        self.target = torch.randint(0, 3, (MEMBERS, 6), generator=random)
        self.network = StackedNetwork(self.seats[0].network, self.features[0, :4])
        self.stack = Stack(self.seats[0].network, [Row.of(seat.network, averaged) for seat in self.seats])
        if self.stack.averages is not None:
            self.stack.averages += 0.1

    def fused(self, size: int = MEMBERS) -> Way:
        return Fused(self.network, self.stack, TASK, self.seats, size)

    def in_turn(self, channels_last: bool = False, abreast: int = 1) -> Way:
        return InTurn(self.stack, TASK, self.seats, channels_last, abreast)

    def state(self) -> dict[str, Tensor]:
        return {
            "parameters": self.stack.parameters.clone(),
            "gradients": self.stack.gradients.clone(),
            **{name: each.clone() for name, each in self.stack.buffers.items()},
        }


WAYS: dict[str, Callable[[Lane], Way]] = {
    "fused": lambda lane: lane.fused(),
    "fused by two": lambda lane: lane.fused(2),
    "fused by one": lambda lane: lane.fused(1),
    "in turn": lambda lane: lane.in_turn(),
    "two abreast": lambda lane: lane.in_turn(abreast=2),
}

# As on devices where torch's own dropout draws otherwise.
every_draw = pytest.mark.parametrize("as_torch", [("cpu",), ()], ids=["", "drawn apart from torch"])

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "layers": (layers, (4,)),
    "batch norm": (lambda: layers(batch_norm=True), (4,)),
    "dropout": (lambda: layers(dropout=0.4), (4,)),
    "both": (lambda: layers(batch_norm=True, dropout=0.4), (4,)),
    "convolutions": (convolutions, (2, 6, 6)),
}

every_network = pytest.mark.parametrize(("build", "shape"), NETWORKS.values(), ids=NETWORKS)


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, equal_nan=True)


def by_hand(lane: Lane) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Each member's loss, gradient and buffers, by its own network, as it was built."""
    found, gradients, buffers = [], [], []
    for seed, seat in enumerate(lane.seats):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            loss = TASK.loss(seat.network(lane.features[seed]), lane.target[seed])
        gradients.append(
            torch.cat([each.flatten() for each in torch.autograd.grad(loss, [*seat.network.parameters()])])
        )
        found.append(loss.detach())
        buffers.append(dict(seat.network.named_buffers()))
    return (
        torch.stack(found),
        torch.stack(gradients),
        {name: torch.stack([each[name] for each in buffers]) for name in buffers[0]},
    )


@every_draw
@every_way
@every_network
def test_losses_gradients_and_buffers_are_each_network_s_own(
    way: Callable[[Lane], Way],
    build: Callable[[], nn.Module],
    shape: tuple[int, ...],
    as_torch: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss, gradients, buffers = by_hand(Lane(build, shape))
    monkeypatch.setattr(dropout, "AS_TORCH", as_torch)
    lane = Lane(build, shape)
    close(way(lane).differentiate(lane.features, lane.target), loss)
    close(lane.stack.gradients, gradients)
    close(lane.stack.buffers, buffers)


@every_way
def test_gradients_are_added_by_their_shares(way: Callable[[Lane], Way]) -> None:
    loss, gradients, _ = by_hand(Lane())
    lane = Lane()
    chosen = way(lane)
    shares = torch.linspace(0.1, 0.9, MEMBERS, dtype=torch.float64)
    close(chosen.differentiate(lane.features, lane.target, shares), loss)
    close(lane.stack.gradients, shares[:, None] * gradients)
    close(chosen.differentiate(lane.features, lane.target, 1 - shares, add=True), loss)
    close(lane.stack.gradients, gradients)
    chosen.differentiate(lane.features, lane.target)
    close(lane.stack.gradients, gradients)


@every_way
@every_network
def test_a_way_goes_on_from_where_another_has_brought_them(
    way: Callable[[Lane], Way], build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    one, other = Lane(build, shape), Lane(build, shape)
    for number, chosen in enumerate([one.fused(), one.fused(), one.fused()]):
        chosen.differentiate(one.features, one.target)
        one.stack.parameters -= 0.1 * one.stack.gradients
        another = [other.in_turn, lambda: way(other), other.fused][number]()
        another.differentiate(other.features, other.target)
        other.stack.parameters -= 0.1 * other.stack.gradients
    close(other.state(), one.state())
    for seat, same_seat in zip(one.seats, other.seats, strict=True):
        assert torch.equal(seat.generator.get_state(), same_seat.generator.get_state())


@every_way
def test_a_way_sees_steps_that_were_made_since(way: Callable[[Lane], Way]) -> None:
    lane = Lane()
    chosen = way(lane)
    before = chosen.differentiate(lane.features, lane.target)
    lane.stack.parameters -= 0.5 * lane.stack.gradients
    after = chosen.differentiate(lane.features, lane.target)
    assert (after < before).all()


@every_way
@every_network
def test_the_judged_networks_answer_as_in_evaluation(
    way: Callable[[Lane], Way], build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    lane = Lane(build, shape, averaged=True)
    chosen = way(lane)
    chosen.differentiate(lane.features, lane.target)
    before = lane.state()
    with torch.no_grad():
        outputs = chosen.outputs(lane.features[0])
    close(lane.state(), before)
    assert lane.stack.averages is not None
    for number, seat in enumerate(Lane(build, shape).seats):
        with torch.no_grad():
            for name, parameter in seat.network.named_parameters():
                parameter.copy_(lane.stack.views(lane.stack.averages)[name][number])
            for name, buffer in seat.network.named_buffers():
                buffer.copy_(lane.stack.buffers[name][number])
            close(outputs[number], seat.network.eval()(lane.features[0]))
    assert all(seat.network.training for seat in lane.seats)


@every_way
def test_training_goes_on_from_the_parameters_after_averages_were_judged(way: Callable[[Lane], Way]) -> None:
    loss, gradients, _ = by_hand(Lane())
    lane = Lane(averaged=True)
    chosen = way(lane)
    with torch.no_grad():
        chosen.outputs(lane.features[0])
    close(chosen.differentiate(lane.features, lane.target), loss)
    close(lane.stack.gradients, gradients)


@every_draw
@every_way
def test_dropout_draws_from_the_seats_generators_and_from_nothing_else(
    way: Callable[[Lane], Way], as_torch: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropout, "AS_TORCH", as_torch)
    lane = Lane(lambda: layers(dropout=0.4))
    state, own = torch.get_rng_state(), [seat.generator.get_state() for seat in lane.seats]
    way(lane).differentiate(lane.features, lane.target)
    assert torch.equal(torch.get_rng_state(), state)
    moved = [seat.generator.get_state() for seat in lane.seats]
    assert not any(torch.equal(before, after) for before, after in zip(own, moved, strict=True))
    with torch.no_grad():
        way(lane).outputs(lane.features[0])
    assert all(torch.equal(seat.generator.get_state(), before) for seat, before in zip(lane.seats, moved, strict=True))


def test_channels_last_is_the_same() -> None:
    one, other = (Lane(convolutions, (2, 6, 6)) for _ in range(2))
    first, last = one.in_turn(), other.in_turn(channels_last=True)
    close(last.differentiate(other.features, other.target), first.differentiate(one.features, one.target))
    close(other.state(), one.state())
    with torch.no_grad():
        close(last.outputs(other.features[0]), first.outputs(one.features[0]))


def test_members_abreast_are_the_same_to_the_last_bit() -> None:
    one, other = (Lane(convolutions, (2, 6, 6)) for _ in range(2))
    alone, abreast = one.in_turn(), other.in_turn(abreast=3)
    for _ in range(5):
        assert torch.equal(
            abreast.differentiate(other.features, other.target), alone.differentiate(one.features, one.target)
        )
    expected = one.state()
    assert all(torch.equal(each, expected[name]) for name, each in other.state().items())
    with torch.no_grad():
        answers = abreast.outputs(other.features[0])
        assert torch.equal(answers, alone.outputs(one.features[0]))
        assert not answers.requires_grad


class Noting(nn.Module):
    """Notes by which thread it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.threads: set[str] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.threads.add(threading.current_thread().name)
        answer: Tensor = self.layer(x)
        return answer


@pytest.mark.parametrize("precision", ["full", "autocast"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_members_go_abreast_where_threads_share_nothing(dropout: float, precision: str) -> None:
    lane = Lane(lambda: nn.Sequential(Noting(), nn.Dropout(dropout) if dropout else nn.Identity()))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        assert can_go_abreast(lane.seats, torch.device("cpu")) == (precision == "full" and dropout == 0)
        lane.in_turn(abreast=2).differentiate(lane.features, lane.target)
    threads = {thread for seat in lane.seats for thread in seat.network[0].threads}
    assert all(thread.startswith("member") for thread in threads) == (precision == "full" and dropout == 0)
    assert not can_go_abreast(lane.seats, torch.device("cuda"))


# One member's numbers or mistakes are its own.


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), 1e300])
@every_way
@every_network
def test_a_member_that_explodes_leaves_the_others_to_the_last_bit(
    way: Callable[[Lane], Way], build: Callable[[], nn.Module], shape: tuple[int, ...], spoilt: float
) -> None:
    one, other = Lane(build, shape), Lane(build, shape)
    other.stack.parameters[2] = spoilt
    others = [0, 1, 3, 4]
    found = [way(lane).differentiate(lane.features, lane.target) for lane in (one, other)]
    assert torch.equal(found[0][others], found[1][others])
    expected, spoilt_too = one.state(), other.state()
    for name, each in expected.items():
        assert torch.equal(each[others], spoilt_too[name][others])
    with torch.no_grad():
        answers = [way(lane).outputs(lane.features[0]) for lane in (one, other)]
    assert torch.equal(answers[0][others], answers[1][others])


class Failing(nn.Module):
    """Raises in training, or only when it is judged, once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.fails_in: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.fails_in == self.training:
            raise KeyError("pixels")
        answer: Tensor = self.layer(x)
        return answer


def test_in_turn_a_member_s_failure_in_training_is_its_own() -> None:
    loss, gradients, _ = by_hand(Lane(Failing))
    lane = Lane(Failing)
    lane.seats[1].network.fails_in = True
    way = lane.in_turn()
    for _ in range(2):
        found = way.differentiate(lane.features, lane.target)
        assert found[1].isnan()
        assert isinstance(lane.seats[1].failure, KeyError)
        assert not lane.stack.gradients[1].any()
        others = [0, 2, 3, 4]
        close(found[others], loss[others])
        close(lane.stack.gradients[others], gradients[others])
    with torch.no_grad():
        outputs = way.outputs(lane.features[0])
    assert outputs[1].isnan().all()
    assert outputs[others].isfinite().all()
    assert [seat.failure is None for seat in lane.seats] == [True, False, True, True, True]


def test_in_turn_a_member_s_failure_among_micro_batches_leaves_no_half_of_a_gradient() -> None:
    lane = Lane(Failing)
    way = lane.in_turn()
    way.differentiate(lane.features, lane.target)
    lane.seats[1].network.fails_in = True
    way.differentiate(lane.features, lane.target, add=True)
    assert not lane.stack.gradients[1].any()
    assert lane.stack.gradients[0].any()


def test_in_turn_a_member_s_failure_in_evaluation_is_its_own() -> None:
    lane = Lane(Failing, averaged=True)
    lane.seats[1].network.fails_in = False
    way = lane.in_turn()
    with torch.no_grad():
        outputs = way.outputs(lane.features[0])
    assert outputs.shape == (MEMBERS, 6, 3)
    assert outputs.isnan().all(2).all(1).tolist() == [False, True, False, False, False]
    assert isinstance(lane.seats[1].failure, KeyError)
    assert lane.seats[1].network.training


def test_in_turn_all_of_them_may_fail() -> None:
    lane = Lane(Failing)
    for seat in lane.seats:
        seat.network.fails_in = True
    way = lane.in_turn()
    assert way.differentiate(lane.features, lane.target).isnan().all()
    with torch.no_grad():
        assert way.outputs(lane.features[0]).isnan().all()
    assert all(isinstance(seat.failure, KeyError) for seat in lane.seats)


def test_in_turn_a_failure_leaves_the_generators_in_their_places() -> None:
    class Stumbling(Failing):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.drop(x))

    lane = Lane(Stumbling)
    lane.seats[1].network.fails_in = True
    state = torch.get_rng_state()
    lane.in_turn().differentiate(lane.features, lane.target)
    assert torch.equal(torch.get_rng_state(), state)
