"""What a trial answers on each row, found by training it again."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch import LightningModule

from autotune.executors.evidence import luck_of_answers

from ..fakes import resolved


class Own(LightningModule):
    def training_step(self, *_: Any) -> None: ...


DIGITS = {"_target_": "autotune.data.digits.Digits"}
NOISE = {"_target_": "autotune.data.seed_mlp.SeedMLP"}


def config(data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return resolved(data={"batch_size": 16, **data}, **more)


def test_what_is_learnt_is_no_luck_and_noise_is() -> None:
    assert (luck_of_answers(config(DIGITS), 2, lambda: False) or 1) < 1e-6
    assert (luck_of_answers(config(NOISE), 3, lambda: False) or 0) > 0.01


def test_one_that_is_left_says_nothing() -> None:
    assert luck_of_answers(config(DIGITS), 2, lambda: True) is None


def test_what_raises_leaves_the_question_open(caplog: pytest.LogCaptureFixture) -> None:
    broken = config({**DIGITS, "no_such_setting": 3})
    assert luck_of_answers(broken, 2, lambda: False) is None
    assert "the answers on the validation part are not known" in caplog.text


def test_an_epoch_that_it_does_not_come_to_says_nothing() -> None:
    assert luck_of_answers(config(DIGITS), 9, lambda: False) is None


def test_a_module_that_judges_as_it_likes_has_no_rows() -> None:
    own = {"_target_": f"{__name__}.Own"}
    assert luck_of_answers(config(NOISE, model=own), 1, lambda: False) is None
