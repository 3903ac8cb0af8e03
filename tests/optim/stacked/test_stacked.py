"""What holds of every rule: a member's way is the one it goes alone under torch's own optimizer."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autotune.optim.stacked import StackedOptimizer

from .members import AT_ONCE, MAKES, SHAPES, SIZES, UPDATES, Member, P, every_family, members, rule_of, same, together

SPOILT = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}


@every_family
def test_each_makes_its_own_optimizers_steps(family: str) -> None:
    given = members(family)
    same(together(given), torch.stack([each.alone() for each in given]))


@every_family
def test_each_makes_its_own_optimizers_steps_in_single_precision(family: str) -> None:
    given = members(family, torch.float32)
    same(together(given), torch.stack([each.alone() for each in given]), 2e-5)


@every_family
def test_a_member_goes_the_same_way_alone_as_in_company(family: str) -> None:
    given = members(family)
    for way, each in zip(together(given), given, strict=True):
        same(together([each])[0], way)


Order = tuple[str, int]
ORDERS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(0, 5)),
        st.tuples(st.just("keep"), st.integers(0, 999)),
        st.tuples(st.just("step"), st.integers(1, 4)),
    ),
    min_size=3,
    max_size=12,
)


@every_family
@settings(max_examples=20, deadline=None)
@given(orders=ORDERS)
def test_a_members_way_does_not_depend_on_who_joins_leaves_or_changes_places(family: str, orders: list[Order]) -> None:
    every, there, made = members(family), [], []
    rule, rows = rule_of(every), torch.empty(0, P, dtype=torch.float64)
    for seed, (what, number) in enumerate(orders):
        if what == "join":
            make = MAKES[family][number % len(MAKES[family])]
            there.append(Member(make, 0.1 * (number % 2), seed))
            made.append(0)
            rule.join(there[-1].optimizer(), there[-1].decay)
            rows = torch.cat([rows, there[-1].start[None]])
        elif what == "keep":
            generator = torch.Generator().manual_seed(number)
            staying = torch.randperm(len(there), generator=generator)[: max(1, number % (len(there) + 1))].tolist()
            rule.keep(staying)
            there, made = [there[i] for i in staying], [made[i] for i in staying]
            rows = rows[staying]
        else:
            updates = min(number, UPDATES - max(made, default=0))
            # More is planned than is made, as where training ends early.
            rule.plan([[m.factors[min(n + i, 24)] for m, n in zip(there, made, strict=True)] for i in range(9)])
            for _ in range(updates):
                gradients = [each.gradients[n] for each, n in zip(there, made, strict=True)]
                rule.step(rows, torch.stack(gradients) if there else torch.empty_like(rows))
                made = [n + 1 for n in made]
        assert len(rule) == len(there)
    for row, each, n in zip(rows, there, made, strict=True):
        same(row, each.alone(n)[-1])


@pytest.mark.parametrize("value", SPOILT.values(), ids=SPOILT)
@every_family
def test_a_member_that_diverges_leaves_the_others_as_they_are(family: str, value: float) -> None:
    given = members(family, torch.float32)
    expected = together(given)
    for spoilt in range(len(given)):
        given[spoilt].gradients[3, 4] = value
        given[spoilt].gradients[5] = value
        found = together(given)
        assert not found[spoilt].isfinite().all()
        others = [i for i in range(len(given)) if i != spoilt]
        assert torch.equal(found[others], expected[others])
        given[spoilt].__post_init__()


@pytest.mark.parametrize("value", SPOILT.values(), ids=SPOILT)
@every_family
def test_a_member_diverges_as_it_does_alone(family: str, value: float) -> None:
    given = members(family)
    for each in given:
        each.gradients[3, 4] = value  # in a matrix
        each.gradients[6, SIZES[0]] = value  # in a vector
        each.gradients[8, -1] = 1e200  # its square is infinite
    same(together(given), torch.stack([each.alone() for each in given]))


@every_family
def test_infinite_weights_stay_what_they_are_alone(family: str) -> None:
    given = members(family)
    for each in given:
        each.start[4] = float("inf")
        each.start[SIZES[0]] = float("nan")
    same(together(given), torch.stack([each.alone() for each in given]))


@every_family
def test_a_rate_of_zero_leaves_the_weights_alone(family: str) -> None:
    given = members(family)
    for each in given:
        each.factors[:2] = [0.0, 0.0]
        each.factors[12] = 0.0
    found = together(given)
    same(found[:, 2], found[:, 0])
    same(found, torch.stack([each.alone() for each in given]))


def asked(family: str) -> tuple[StackedOptimizer, Tensor]:
    rule = rule_of(members(family))
    for each in members(family)[:2]:
        rule.join(each.optimizer())
    return rule, torch.ones(2, P, dtype=torch.float64)


@pytest.mark.parametrize("family", ["adam", "own"])
def test_only_what_is_planned_is_made(family: str) -> None:
    rule, rows = asked(family)
    with pytest.raises(RuntimeError, match=r"^no update is planned$"):
        rule.step(rows, rows.clone())
    rule.plan([[1.0, 1.0]])
    rule.step(rows, rows.clone())
    with pytest.raises(RuntimeError, match=r"^no update is planned$"):
        rule.step(rows, rows.clone())


@pytest.mark.parametrize("family", ["adam", "own"])
def test_who_joins_or_leaves_ends_the_plan(family: str) -> None:
    rule, rows = asked(family)
    rule.plan([[1.0, 1.0]])
    rule.join(members(family)[0].optimizer())
    with pytest.raises(RuntimeError, match=r"^no update is planned$"):
        rule.step(rows, rows.clone())
    rule.plan([[1.0, 1.0, 1.0]])
    rule.keep([0, 1])
    with pytest.raises(RuntimeError, match=r"^no update is planned$"):
        rule.step(rows, rows.clone())


@pytest.mark.parametrize("family", ["adam", "own"])
def test_a_plan_has_a_factor_for_each_member(family: str) -> None:
    rule, _ = asked(family)
    with pytest.raises(ValueError, match=f"^{re.escape('factors are planned for 2 members, one each')}$"):
        rule.plan([[1.0, 1.0], [1.0]])


@every_family
def test_without_members_nothing_is_done(family: str) -> None:
    rule, rows = rule_of(members(family)), torch.empty(0, P, dtype=torch.float64)
    rule.keep([])
    rule.plan([[]])
    rule.step(rows, rows.clone())
    assert len(rule) == 0


# torch's own Adafactor divides by the number of elements.
@pytest.mark.parametrize("family", [each for each in AT_ONCE if each != "adafactor"])
def test_a_parameter_may_have_no_elements(family: str) -> None:
    rule = type(rule_of(members(family)))((*SHAPES, torch.Size((0, 3))), torch.empty(0, dtype=torch.float64))
    rule.join(members(family)[0].optimizer())
    rule.plan([[1.0]])
    rows = torch.ones(1, P, dtype=torch.float64)
    rule.step(rows, rows.clone())
    assert rows.isfinite().all()


@pytest.mark.parametrize("family", AT_ONCE)
def test_a_step_never_waits_for_a_number_from_the_device(family: str) -> None:
    every = members(family)
    like = torch.empty(0, device="meta")  # a device that has no numbers to wait for
    rule = type(rule_of(every))(SHAPES, like)
    for each in every:
        rule.join(each.optimizer(), each.decay)
    rule.plan([each.factors[:1] * len(every) for each in every * 3])
    rows = like.new_empty(2, len(every), P)
    for _ in range(3 * len(every)):
        rule.step(rows[0], rows[1])
    rule.keep([1])
    assert len(rule) == 1
