"""SIGTERM as an epoch ends, behind its last look for an interrupt: Lightning hears it too, and ends with code 0."""

from __future__ import annotations

import os
import signal

import pytest

from autotune.executors.lightning import LightningExecutor
from autotune.executors.population import PopulationExecutor
from autotune.trial import Epoch

from ..fakes import FakeDesk, resolved

EXECUTORS = {"lightning": LightningExecutor, "population": PopulationExecutor}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_sigterm_as_an_epoch_ends_is_an_interrupt(executor: str) -> None:
    heard: list[int] = []

    def judge(_: Epoch) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        desk = FakeDesk([resolved()], judge, lambda _: bool(heard))
        with pytest.raises(KeyboardInterrupt):
            EXECUTORS[executor]().run(desk)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(desk.epochs) == 1
