from __future__ import annotations

from typing import Any

import pytest

from autotune.errors import UserError
from autotune.space import Space, check

GOOD: dict[str, Any] = {
    "data": {"_target_": "autotune.data.digits.Digits", "batch_size": "choice(16,32)", "validation": 0.2},
    "model": {
        "_target_": "autotune.models.mlp.MLP",
        "hidden": [64, "choice(8,16)"],
        "batch_norm": "choice(true,false)",
    },
    "optimizer": {
        "only": None,
        "sgd": {"_target_": "torch.optim.SGD", "lr": "tag(log,interval(1e-3,1))"},
        "bgd": {"_target_": "torch.optim.SGD", "lr": 1.0, "_fix_": {"data.batch_size": "full"}},
    },
    "trainer": {"max_epochs": 27, "accelerator": "auto"},
    "seed": 0,
}


def changed(section: str, key: str, value: Any) -> Space:
    content = GOOD[section]
    return Space({**GOOD, section: {**content, key: value}})


def test_a_good_space_passes() -> None:
    check(Space(GOOD))


WRONG = {
    "batch size of zero": (
        changed("data", "batch_size", 0),
        "data.batch_size: 0 is not right here; give a whole number above 0, or full",
    ),
    "one of a choice": (
        changed("data", "batch_size", "choice(32,0)"),
        "data.batch_size: 0 is not right here; give a whole number above 0, or full",
    ),
    "word": (
        changed("data", "batch_size", "large"),
        "data.batch_size: large is not right here; give a whole number above 0, or full",
    ),
    "part of more than all": (
        changed("data", "validation", 1.5),
        "data.validation: 1.5 is not right here; give a part of the whole, between 0 and 1",
    ),
    "end of a range": (
        changed("data", "validation", "interval(0.1,1)"),
        "data.validation: 1.0 is not right here; give a part of the whole, between 0 and 1",
    ),
    "width": (
        changed("model", "hidden", [64, -1]),
        "model.hidden: [64, -1] is not right here; give a list of widths above 0: [64,32]",
    ),
    "searched width": (
        changed("model", "hidden", [64, "choice(0,1)"]),
        "model.hidden.1: 0 is not right here; give a whole number above 0",
    ),
    "no flag": (
        changed("model", "batch_norm", "yes please"),
        "model.batch_norm: yes please is not right here; give true or false",
    ),
    "no blocks": (
        changed("model", "channels", []),
        "model.channels: [] is not right here; give a list of at least one number of maps above 0: [16,32]",
    ),
    "maps": (
        changed("model", "channels", "choice([16,32],[16,0])"),
        "model.channels: [16, 0] is not right here; give a list of at least one number of maps above 0: [16,32]",
    ),
    "searched maps": (
        changed("model", "channels", ["choice(0,16)", 32]),
        "model.channels.0: 0 is not right here; give a whole number above 0",
    ),
    "blocks": (
        changed("model", "blocks", "range(0,3)"),
        "model.blocks: 0 is not right here; give a whole number above 0",
    ),
    "width of embeddings": (
        changed("model", "embedding", 2.5),
        "model.embedding: 2.5 is not right here; give a whole number above 0, or null",
    ),
    "frequencies": (
        changed("model", "frequencies", -1),
        "model.frequencies: -1 is not right here; give a whole number above 0",
    ),
    "scale of frequencies": (
        changed("model", "frequency_scale", "interval(0,1)"),
        "model.frequency_scale: 0.0 is not right here; give a number above 0",
    ),
    "width of numbers": (
        changed("model", "numerical_width", 0),
        "model.numerical_width: 0 is not right here; give a whole number above 0",
    ),
    "cardinalities": (
        changed("model", "cardinalities", [2, 0]),
        "model.cardinalities: [2, 0] is not right here; give a list of numbers of categories above 0: [2,5]",
    ),
    "epochs": (
        changed("trainer", "max_epochs", -1),
        "trainer.max_epochs: -1 is not right here; give a whole number from 1 to 1000000",
    ),
    "accelerator": (
        changed("trainer", "accelerator", "gpuu"),
        "trainer.accelerator: no accelerator gpuu; did you mean gpu?",
    ),
    "seed": (Space({**GOOD, "seed": -1}), "seed: -1 is not right here; give a whole number from 0 to 4294967295"),
    "rate in a branch": (
        Space(
            {
                **GOOD,
                "optimizer": {"only": None, "sgd": {"_target_": "torch.optim.SGD", "lr": "interval(-1,1)"}, "x": {}},
            }
        ),
        "optimizer.sgd.lr: -1.0 is not right here; give a number above 0",
    ),
}


@pytest.mark.parametrize(("space", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_right_is_named_as_the_user_wrote_it(space: Space, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(space)
    assert str(caught.value) == message


def test_a_users_own_class_has_its_own_rules() -> None:
    check(
        Space(
            {
                **GOOD,
                "data": {"_target_": "mine.Data", "batch_size": "whatever"},
                "optimizer": {"_target_": "mine.Opt", "lr": -1},
            }
        )
    )
