from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autotune.models.mlp import MLP
from autotune.stacking.fitness import Unstackable
from autotune.stacking.network import StackedNetwork
from autotune.stacking.structure import structure

from ..models.test_contract import MODELS
from .members import same_as_alone, stacked
from .networks import EITHER, REFUSED, WORKING, Written, mlp, vectors

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap says so of some operations

Pair = tuple[Callable[[], nn.Module], Callable[[], nn.Module]]


def each_of(names: Iterable[str]) -> pytest.MarkDecorator:
    """A test for each."""
    return pytest.mark.parametrize("name", list(names))


@pytest.mark.parametrize("dropout", [0.0, 0.3], ids=["", "dropout"])
@pytest.mark.parametrize("batch_norm", [False, True], ids=["", "batch norm"])
@pytest.mark.parametrize("name", MODELS)
def test_our_models_answer_learn_and_remember_as_each_does_alone(name: str, batch_norm: bool, dropout: float) -> None:
    case = MODELS[name]
    same_as_alone(stacked(lambda: case.build(batch_norm=batch_norm, dropout=dropout), case.draw), case.draw)


@each_of(WORKING)
def test_a_user_s_networks_answer_learn_and_remember_as_each_does_alone(name: str) -> None:
    build, draw = WORKING[name]
    same_as_alone(stacked(build, draw), draw)


@each_of(EITHER)
def test_what_is_taken_at_all_answers_learns_and_remembers_as_each_does_alone(name: str) -> None:
    build, draw = EITHER[name]
    try:
        together = stacked(build, draw)
    except Unstackable:
        return
    same_as_alone(together, draw)


@each_of(REFUSED)
def test_what_no_stack_can_hold_is_refused_with_a_reason(name: str) -> None:
    build, draw, said = REFUSED[name]
    torch.manual_seed(3)
    random.seed(3)
    with pytest.raises(Unstackable, match=said) as caught:
        StackedNetwork(build(), draw(4))
    assert "\n" not in str(caught.value)
    assert 5 < len(str(caught.value)) < 250


MIXING = {
    "embedding whose gradients are scaled",
    "batch norm of images",
    "batch norm without factors",
    "batch norm of its own momentum",
    "batch norm that remembers nothing",
    "conv1d",
    "looks at its length",
    "dropout",
    "dropout of maps",
    "dropout of everything",
}


@each_of(WORKING)
def test_whose_gradients_are_the_same_in_pieces_is_known(name: str) -> None:
    build, draw = WORKING[name]
    torch.manual_seed(3)
    assert StackedNetwork(build(), draw(8)).samples_are_apart == (name not in MIXING)


def _counting(self: nn.Module, x: Tensor) -> Tensor:
    self.batches.add_(1)
    answer: Tensor = self.a(x)
    return answer


def test_what_counts_batches_is_not_given_pieces() -> None:
    network = Written(_counting, a=nn.Linear(4, 3), batches=torch.zeros(()))
    assert not StackedNetwork(network, vectors(8)).samples_are_apart
    assert network.batches == 0


def test_what_a_pass_keeps_does_not_depend_on_what_its_samples_are_a_part_of() -> None:
    found = {StackedNetwork(mlp(), vectors(samples)[:8]).bytes_a_sample for samples in (8, 10_000)}
    assert len(found) == 1


# Dropout.


def dropping(first: float, second: float) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Linear(4, 5), nn.Dropout(first), nn.Linear(5, 5), nn.Dropout(second), nn.Linear(5, 3)
    )


def test_each_member_drops_out_at_its_own_rate() -> None:
    same_as_alone(stacked([dropping(0.1, 0.2), dropping(0.5, 0.9), dropping(0.7, 1.0)], vectors), vectors)


@pytest.mark.parametrize("rates", [[(0.3, 0.5), (0.0, 0.5), (0.3, 0.0)], [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5)]])
def test_a_rate_of_0_draws_nothing_as_torch_draws_nothing(rates: list[tuple[float, float]]) -> None:
    same_as_alone(stacked([dropping(*each) for each in rates], vectors), vectors)


def test_what_drops_nothing_out_is_never_among_what_does() -> None:
    assert structure(dropping(0.0, 0.5)()) != structure(dropping(0.1, 0.5)())
    assert structure(dropping(0.0, 0.5)()) == structure(dropping(0.0, 0.9)())


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        (nn.Dropout1d, 0.5),
        (nn.AlphaDropout, 0.5),
        (nn.FeatureAlphaDropout, 0.5),
    ],
)
def test_dropouts_of_maps_on_rows_and_of_other_kinds_are_refused_or_the_same(
    kind: type[nn.Module], rate: float
) -> None:
    def network(rate: float) -> Callable[[], nn.Module]:
        return lambda: nn.Sequential(nn.Linear(4, 5), kind(rate), nn.Linear(5, 3))

    try:
        together = stacked([network(each) for each in (rate, 0.5, 0.5)], vectors)
    except Unstackable:
        return
    same_as_alone(together, vectors)


def test_dropout_draws_from_the_members_generators_alone() -> None:
    together = stacked(dropping(0.5, 0.5), vectors)
    before = torch.get_rng_state()
    together.stacked_answer(torch.ones(3, 6, 4, dtype=torch.float64))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(
        torch.equal(generator.get_state(), state)
        for generator, state in zip(together.generators, together.own_states, strict=True)
    )


def test_a_mask_depends_on_the_member_s_generator_alone() -> None:
    features = torch.ones(3, 6, 4, dtype=torch.float64)
    one, other = (stacked(dropping(0.5, 0.5), vectors) for _ in range(2))
    other.generators.reverse()
    other.parameters = one.parameters = {name: each[:1].expand_as(each) for name, each in one.parameters.items()}
    assert torch.equal(one.stacked_answer(features).flip(0), other.stacked_answer(features))


# Trying a network changes nothing.


@pytest.mark.parametrize("name", ["dropout", "batch norm of images", "looks at its length"])
def test_the_network_tried_is_left_as_it_is(name: str) -> None:
    build, draw = WORKING[name]
    network, features = build().eval(), draw(4)
    kept, given = {key: each.clone() for key, each in network.state_dict().items()}, features.clone()
    StackedNetwork(network, features)
    assert torch.equal(features, given)
    assert not network.training
    assert all(torch.equal(each, kept[key]) for key, each in network.state_dict().items())


def test_the_number_of_samples_it_is_tried_on_means_nothing() -> None:
    together = stacked(WORKING["view by its number of samples"][0], WORKING["view by its number of samples"][1])
    for samples in (1, 2, 9):
        assert together.stacked_answer(torch.zeros(3, samples, 2, 6, 6, dtype=torch.float64)).shape == (3, samples, 3)


# What has one structure.


def outer(x: Tensor) -> Tensor:
    return x


def norm(**changes: Any) -> nn.Module:
    return nn.BatchNorm1d(4, **changes)


ALIKE: dict[str, Pair] = {
    "weights": (mlp, mlp),
    "rates of dropout": (lambda: MLP((4,), 3, (5,), dropout=0.1), lambda: MLP((4,), 3, (5,), dropout=0.5)),
    "rates of dropout of maps": (lambda: nn.Dropout2d(0.1), lambda: nn.Dropout2d(0.5)),
    "buffers' values": (lambda: Written(outer, b=torch.zeros(3)), lambda: Written(outer, b=torch.ones(3))),
    "lists and tuples of plain values": (
        lambda: Written(outer, sizes=[1, (2, 3)], names={"a": 1.0}),
        lambda: Written(outer, sizes=[1, (2, 3)], names={"a": 1.0}),
    ),
    "a function of a module": (lambda: Written(functional.relu), lambda: Written(functional.relu)),
}

UNLIKE: dict[str, Pair] = {
    "training or not": (mlp, lambda: mlp().eval()),
    "widths": (lambda: MLP((4,), 3, (5,)), lambda: MLP((4,), 3, (6,))),
    "depths": (lambda: MLP((4,), 3, (5,)), lambda: MLP((4,), 3, (5, 5))),
    "activations": (lambda: MLP((4,), 3, (5,)), lambda: MLP((4,), 3, (5,), activation="tanh")),
    "batch norm": (lambda: MLP((4,), 3, (5,)), lambda: MLP((4,), 3, (5,), batch_norm=True)),
    "dropout or none": (lambda: MLP((4,), 3, (5,)), lambda: MLP((4,), 3, (5,), dropout=0.1)),
    "slopes": (lambda: nn.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.2)),
    "approximations": (lambda: nn.GELU(), lambda: nn.GELU(approximate="tanh")),
    "strides": (lambda: nn.Conv2d(2, 2, 3, 1, 1), lambda: nn.Conv2d(2, 2, 3, 2, 1)),
    "paddings": (lambda: nn.Conv2d(2, 2, 3), lambda: nn.Conv2d(2, 2, 3, padding=1)),
    "paddings of another kind": (
        lambda: nn.Conv2d(2, 2, 3, padding=1),
        lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
    ),
    "momenta of statistics": (norm, lambda: norm(momentum=0.2)),
    "what is added to variances": (norm, lambda: norm(eps=1e-3)),
    "dropout in place": (nn.Dropout, lambda: nn.Dropout(inplace=True)),
    "the rate of what is no dropout": (lambda: Written(outer, p=0.1), lambda: Written(outer, p=0.2)),
    "dtypes": (mlp, lambda: mlp().double()),
    "frozen parameters": (mlp, lambda: mlp().requires_grad_(False)),
    "biases": (lambda: nn.Linear(4, 3), lambda: nn.Linear(4, 3, bias=False)),
    "numbers": (lambda: Written(outer, scale=1.0), lambda: Written(outer, scale=2.0)),
    "words": (lambda: Written(outer, mode="a"), lambda: Written(outer, mode="b")),
    "numbers in a list": (lambda: Written(outer, sizes=[1, 2]), lambda: Written(outer, sizes=[2, 1])),
    "numbers in a mapping": (lambda: Written(outer, sizes={"a": 1}), lambda: Written(outer, sizes={"a": 2})),
    "classes": (nn.ReLU, nn.ReLU6),
    "names": (lambda: nn.Sequential(), lambda: nn.ModuleList()),
    "functions": (lambda: Written(functional.relu), lambda: Written(functional.gelu)),
    "closures": (lambda: Written(lambda _, x: x), lambda: Written(lambda _, x: x)),
    "closures over other values": (
        lambda: Written((lambda scale: lambda _, x: x * scale)(1)),
        lambda: Written((lambda scale: lambda _, x: x * scale)(2)),
    ),
    "tensors that are no buffers": (
        lambda: Written(outer, held=[torch.zeros(1)]),
        lambda: Written(outer, held=[torch.ones(1)]),
    ),
    "objects": (lambda: Written(outer, held=object()), lambda: Written(outer, held=object())),
    "the order of layers": (
        lambda: nn.Sequential(nn.ReLU(), nn.Tanh()),
        lambda: nn.Sequential(nn.Tanh(), nn.ReLU()),
    ),
}


@pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)
def test_networks_that_may_share_a_lane_have_one_structure(
    pair: Pair,
) -> None:
    one, other = (structure(build()) for build in pair)
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("pair", UNLIKE.values(), ids=UNLIKE)
def test_networks_that_may_not_share_a_lane_have_different_structures(
    pair: Pair,
) -> None:
    one, other = (structure(build()) for build in pair)
    assert one != other
    assert len({one, other}) == 2


def test_every_one_of_our_models_has_one_structure_whatever_its_seed() -> None:
    found = [structure(case.model(seed)) for case in MODELS.values() for seed in range(2)]
    assert found[::2] == found[1::2]
    assert len(set(found)) == len(MODELS)
