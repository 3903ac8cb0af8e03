"""What the values of a resolved config must be, so far as it is known without importing what they are given to.

Each rule is applied to every value a search could hand out (the ends of its ranges, all its choices), so that a mistake
is found before the first trial and before torch is imported. The parts themselves check the rest when they are built.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError, nearest
from autotune.space.tree import Leaf, Space

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


@dataclass(frozen=True, slots=True)
class Rule:
    """What is right for one key; `owner` is the prefix of the ``_target_`` that must stand beside it, empty for any."""

    holds: Callable[[Any], bool]
    right: str
    owner: str = ""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive_whole(value: Any) -> bool:
    return _whole(value) and value > 0


def _part(value: Any) -> bool:
    return _number(value) and 0 < value < 1


def _below_one(value: Any) -> bool:
    return _number(value) and 0 <= value < 1


def _not_negative(value: Any) -> bool:
    return _number(value) and value >= 0


_SEED = Rule(lambda value: _whole(value) and 0 <= value < 2**32, "a whole number from 0 to 4294967295")
_FLAG = "true or false"

RULES = {
    "seed": _SEED,
    "data.seed": _SEED,
    "data.batch_size": Rule(
        lambda value: value == "full" or _positive_whole(value), "a whole number above 0, or full", "autotune."
    ),
    "data.validation": Rule(_part, "a part of the whole, between 0 and 1", "autotune."),
    "data.test": Rule(_part, "a part of the whole, between 0 and 1", "autotune."),
    "data.samples": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "data.features": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "data.classes": Rule(lambda value: _whole(value) and value >= 2, "a whole number from 2 on", "autotune."),
    "data.noise": Rule(_not_negative, "a number not below 0", "autotune."),
    "model.hidden": Rule(
        lambda value: isinstance(value, list) and all(map(_positive_whole, value)),
        "a list of widths above 0: [64,32]",
        "autotune.",
    ),
    "model.hidden.*": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "model.batch_norm": Rule(lambda value: isinstance(value, bool), _FLAG, "autotune."),
    "model.dropout": Rule(_below_one, "a number from 0 to below 1", "autotune."),
    "optimizer.lr": Rule(lambda value: _number(value) and value > 0, "a number above 0", "torch.optim."),
    "optimizer.momentum": Rule(_below_one, "a number from 0 to below 1", "torch.optim."),
    "optimizer.weight_decay": Rule(_not_negative, "a number not below 0", "torch.optim."),
    "optimizer.nesterov": Rule(lambda value: isinstance(value, bool), _FLAG, "torch.optim."),
    "schedule.decay": Rule(_not_negative, "a number not below 0", "autotune."),
    "schedule.floor": Rule(lambda value: _number(value) and 0 <= value <= 1, "a number from 0 to 1", "autotune."),
    "schedule.memory": Rule(_below_one, "a number from 0 to below 1", "autotune."),
    "trainer.max_epochs": Rule(_positive_whole, "a whole number above 0"),
}


def check(space: Space) -> None:
    """Hold every value of a space against the rules.

    Raises:
        UserError: The first value that breaks one.
    """
    for leaf in space.leaves():
        for value in leaf.values:
            _check_value(leaf, value)


def _check_value(leaf: Leaf, value: Any) -> None:
    if leaf.key == "trainer.accelerator" and value not in ACCELERATORS:
        raise UserError(leaf.name, f"no accelerator {value}", nearest(str(value), ACCELERATORS))
    parent, _, last = leaf.key.rpartition(".")
    rule = RULES.get(leaf.key) or RULES.get(f"{parent}.*" if last.isdigit() else "")
    if rule is not None and leaf.target.startswith(rule.owner) and not rule.holds(value):
        raise UserError(leaf.name, f"{value} is not right here", f"give {rule.right}")
