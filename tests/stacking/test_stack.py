from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autotune.stacking.stack import Row, Stack

from .members import members_of


def networks(count: int = 3) -> list[nn.Module]:
    return members_of(lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)), count)


def stack_of(members: list[nn.Module], averaged: bool = False) -> Stack:
    return Stack(members[0], [Row.of(member, averaged) for member in members])


def test_views_are_the_parameters_by_name_and_of_the_same_memory() -> None:
    members = networks()
    stack = stack_of(members)
    views = stack.views(stack.parameters)
    for number, member in enumerate(members):
        for name, parameter in member.named_parameters():
            assert torch.equal(views[name][number], parameter)
    views["0.bias"][1] = 7.0
    assert (stack.parameters[1] == 7.0).sum() == 5


def test_views_of_some_rows() -> None:
    members = networks()
    stack = stack_of(members)
    assert torch.equal(stack.views(stack.parameters[1:])["2.weight"][0], members[1][2].weight)


def test_rows_go_from_one_stack_to_the_next() -> None:
    members = networks()
    stack = stack_of(members, averaged=True)
    stack.parameters += 1
    stack.buffers["1.running_mean"] += torch.arange(3.0, dtype=torch.float64)[:, None]
    later = Stack(members[0], [stack.row(2), Row.of(members[0], True), stack.row(0)])
    assert len(later) == 3
    assert torch.equal(
        later.parameters, torch.stack([stack.parameters[2], Row.of(members[0], True).parameters, stack.parameters[0]])
    )
    assert later.averages is not None
    assert torch.equal(later.averages[0], Row.of(members[2], True).parameters)
    assert later.buffers["1.running_mean"][:, 0].tolist() == [2.0, 0.0, 0.0]


def test_a_stack_is_a_copy_of_its_rows() -> None:
    members = networks()
    stack = stack_of(members, averaged=True)
    before = Row.of(members[0], True).parameters.clone()
    stack.parameters.zero_()
    assert torch.equal(Row.of(members[0], False).parameters, before)
    assert torch.equal(stack.judged[0], before)


@pytest.mark.parametrize("by", ["norm", "value"])
def test_gradients_are_clipped_as_torch_clips_each_member_s(by: str) -> None:
    members = networks()
    stack = stack_of(members)
    torch.manual_seed(0)
    stack.gradients.copy_(torch.randn_like(stack.gradients))
    limits = [0.1, 1.0, 1e6]
    for number, (member, limit) in enumerate(zip(members, limits, strict=True)):
        for name, parameter in member.named_parameters():
            parameter.grad = stack.views(stack.gradients)[name][number].clone()
        clip = nn.utils.clip_grad_norm_ if by == "norm" else nn.utils.clip_grad_value_
        clip(member.parameters(), limit)
    stack.clip(torch.tensor(limits, dtype=torch.float64)[:, None], by)
    for number, member in enumerate(members):
        expected = torch.cat([parameter.grad.flatten() for parameter in member.parameters()])
        torch.testing.assert_close(stack.gradients[number], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("by", ["norm", "value"])
@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), 1e300])
def test_a_member_s_gradient_that_explodes_clips_no_other_s(by: str, spoilt: float) -> None:
    stack, other = (stack_of(networks()) for _ in range(2))
    torch.manual_seed(0)
    for each in (stack, other):
        each.gradients.copy_(torch.ones_like(each.gradients))
    other.gradients[1, 3] = spoilt
    for each in (stack, other):
        each.clip(torch.full((3, 1), 0.1, dtype=torch.float64), by)
    assert torch.equal(stack.gradients[[0, 2]], other.gradients[[0, 2]])


def test_averages_move_by_each_member_s_own_weight() -> None:
    stack = stack_of(networks(), averaged=True)
    before = stack.judged.clone()
    stack.parameters += 1.0
    weights = torch.tensor([[1.0], [0.25], [0.0]], dtype=torch.float64)
    stack.average(weights)
    torch.testing.assert_close(stack.judged, before + weights)


def test_an_average_of_nan_is_its_own_alone() -> None:
    stack = stack_of(networks(), averaged=True)
    stack.parameters[1] = float("nan")
    stack.average(torch.full((3, 1), 0.5, dtype=torch.float64))
    assert stack.judged.isnan().any(1).tolist() == [False, True, False]


def test_without_averages_the_parameters_are_judged() -> None:
    stack = stack_of(networks())
    stack.average(torch.ones(3, 1, dtype=torch.float64))
    assert stack.judged is stack.parameters


def test_buffers_are_put_back_in_their_place() -> None:
    stack = stack_of(networks())
    kept: dict[str, Tensor] = stack.kept_buffers()
    places = {name: buffer.data_ptr() for name, buffer in stack.buffers.items()}
    for buffer in stack.buffers.values():
        buffer += 1
    stack.restore(kept)
    for name, buffer in stack.buffers.items():
        assert torch.equal(buffer, kept[name])
        assert buffer.data_ptr() == places[name]
