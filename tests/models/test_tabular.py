from __future__ import annotations

import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autotune.errors import UserError
from autotune.models.mlp import MLP
from autotune.models.tabular import Periodic, Tabular, embedding_width

CARDINALITIES = st.lists(st.integers(1, 6), max_size=3)


def rows(samples: int, numbers: int, cardinalities: list[int]) -> Tensor:
    codes = [torch.randint(0, cardinality, (samples, 1)) for cardinality in cardinalities]
    return torch.cat([torch.randn(samples, numbers), *codes], dim=1)


@settings(max_examples=40)
@given(
    numbers=st.integers(0, 3),
    cardinalities=CARDINALITIES,
    embedding=st.none() | st.integers(1, 4),
    numerical=st.sampled_from(["plain", "periodic"]),
    hidden=st.lists(st.integers(1, 5), max_size=3),
    batch_norm=st.booleans(),
)
def test_any_columns_enter_as_wide_as_they_are_embedded(
    numbers: int,
    cardinalities: list[int],
    embedding: int | None,
    numerical: str,
    hidden: list[int],
    batch_norm: bool,
) -> None:
    columns = numbers + len(cardinalities)
    assume(columns > 0)
    network = Tabular(
        (columns,), 3, cardinalities, embedding, numerical, 2, 0.1, 7, hidden=hidden, batch_norm=batch_norm
    )
    assert network(rows(4, numbers, cardinalities)).shape == (4, 3)
    first = next(part for part in network.trunk.modules() if isinstance(part, nn.Linear))
    widths = sum(embedding or embedding_width(cardinality) for cardinality in cardinalities)
    assert first.in_features == numbers * (7 if numerical == "periodic" else 1) + widths
    assert any(isinstance(part, nn.BatchNorm1d) for part in network.modules()) == (batch_norm and hidden != [])


def test_numbers_and_embedded_categories_stand_side_by_side() -> None:
    torch.manual_seed(0)
    network = Tabular((4,), 3, (3, 5), embedding=2, hidden=(6,))
    colours, places = network.categories
    features = torch.tensor([[0.5, -1.0, 2, 4], [1.5, 0.0, 0, 3]])
    side_by_side = torch.stack(
        [
            torch.cat([torch.tensor([0.5, -1.0]), colours.weight[2], places.weight[4]]),
            torch.cat([torch.tensor([1.5, 0.0]), colours.weight[0], places.weight[3]]),
        ]
    )
    assert torch.equal(network(features), network.trunk(side_by_side))


def test_without_categories_and_waves_it_is_the_mlp() -> None:
    torch.manual_seed(0)
    network = Tabular((4,), 3, hidden=(6, 5))
    torch.manual_seed(0)
    mlp = MLP((4,), 3, (6, 5))
    features = torch.randn(5, 4)
    assert torch.equal(network(features), mlp(features))


@settings(max_examples=25)
@given(cardinality=st.integers(1, 6), data=st.data())
def test_which_code_a_category_has_does_not_matter(cardinality: int, data: st.DataObject) -> None:
    network = Tabular((2,), 2, (cardinality,), hidden=(4,))
    features = rows(5, 1, [cardinality])
    before = network(features)
    code = torch.tensor(data.draw(st.permutations(range(cardinality))))
    features[:, 1] = code[features[:, 1].long()]
    with torch.no_grad():
        network.categories[0].weight[code] = network.categories[0].weight.clone()
    assert torch.equal(network(features), before)


def test_a_batch_teaches_the_categories_it_has() -> None:
    torch.manual_seed(0)
    network = Tabular((3,), 2, (4, 2), hidden=(16,))
    features = torch.tensor([[0.3, 1, 0], [0.1, 3, 0]])
    network(features).square().sum().backward()
    taught = [embedded.weight.grad.abs().sum(1) > 0 for embedded in network.categories]
    assert [each.tolist() for each in taught] == [[False, True, False, True], [True, False]]


# 1.6 n^0.56 by hand: 1.6, 2.36, 5.81, 21.09, and 3662 for a million.
@pytest.mark.parametrize(("cardinality", "width"), [(1, 2), (2, 2), (10, 6), (100, 21), (10**6, 600)])
def test_rarer_categories_get_wider_embeddings(cardinality: int, width: int) -> None:
    assert embedding_width(cardinality) == width


def test_embeddings_start_within_one_over_the_root_of_their_width() -> None:
    torch.manual_seed(0)
    weight = Tabular((1,), 2, (500,), embedding=16).categories[0].weight.detach()
    # Uniform within 1/4. The largest of 8,000 is below 0.249 once in 10^14.
    assert 0.249 < float(weight.abs().max()) <= 0.25


def test_periodic_numbers_by_their_formula() -> None:
    torch.manual_seed(0)
    periodic = Periodic(2, 3, 1.0, 4).double()
    numbers = torch.randn(5, 2, dtype=torch.float64)
    expected = torch.zeros(5, 8, dtype=torch.float64)
    for sample in range(5):
        for number in range(2):
            v = 2 * torch.pi * periodic.frequencies[number] * numbers[sample, number]
            waves = torch.cat([v.cos(), v.sin()])
            embedded = (waves @ periodic.weight[number] + periodic.bias[number]).clamp(min=0)
            expected[sample, 4 * number : 4 * number + 4] = embedded
    assert torch.allclose(periodic(numbers), expected, rtol=1e-12)
    network = Tabular((2,), 3, numerical="periodic", hidden=())
    assert isinstance(network.periodic, Periodic)
    assert torch.equal(network(numbers.float()), network.trunk(network.periodic(numbers.float())))


def test_frequencies_are_drawn_with_their_scale() -> None:
    torch.manual_seed(0)
    drawn = Tabular((50,), 2, numerical="periodic", frequencies=200, frequency_scale=0.3).periodic.frequencies.detach()
    # Of 10,000 the mean is known to 0.3 / 100 and the deviation to 0.3 / sqrt(20,000); six of each.
    assert float(drawn.mean()) == pytest.approx(0, abs=0.018)
    assert float(drawn.std()) == pytest.approx(0.3, abs=0.013)


WRONG = {
    "images": (
        {"input_shape": (1, 28, 28)},
        "model: tabular takes rows of columns, of shape [columns], and the data gives [1, 28, 28]; "
        "give model=cnn for images, or model=mlp, which flattens them",
    ),
    "more categories than columns": (
        {"cardinalities": (2, 3, 4, 5, 6)},
        "model.cardinalities: [2, 3, 4, 5, 6] says that 5 columns are categories, and the data gives [4]; "
        "give one cardinality for each of the last columns of a row",
    ),
    "numerical": ({"numerical": "periodical"}, "model.numerical: no numerical periodical; did you mean periodic?"),
    "activation": ({"activation": "rellu"}, "model.activation: no activation rellu; did you mean relu?"),
}


@pytest.mark.parametrize(("values", "message"), WRONG.values(), ids=WRONG)
def test_what_it_cannot_take_is_said_with_what_would_be_right(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Tabular(**{"input_shape": (4,), "outputs": 3, **values})  # type: ignore[arg-type]
