from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.optim import RMSprop

from .members import Member, same, together


@pytest.mark.parametrize("tiny", [1e-200, -1e-200])
def test_a_step_may_be_infinite_in_the_company_of_members_with_momentum(tiny: float) -> None:
    # The square of so small a gradient is 0, and so is all it is divided by.
    made = [Member(partial(RMSprop, eps=0.0, momentum=each), seed=i) for i, each in enumerate((0.0, 0.9))]
    for each in made:
        each.gradients[:3, 2] = tiny
    expected = torch.stack([each.alone() for each in made])
    assert expected[0, 1:4, 2].isinf().all()
    same(together(made), expected)
