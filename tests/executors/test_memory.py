from __future__ import annotations

import psutil
import pytest
import torch

from autotune.executors import memory
from autotune.executors.memory import freed_memory_kept

pytestmark = pytest.mark.skipif(not memory._HAS_GLIBC, reason="another C library")

LARGE = 2**28


def resident() -> int:
    return psutil.Process().memory_info().rss


def fill() -> None:
    torch.ones(LARGE // 4)


def test_freed_memory_stays_within_it_and_is_given_back_at_its_end() -> None:
    fill()
    before = resident()
    with freed_memory_kept(1):
        fill()
        within = resident()
    assert within - before > LARGE / 2
    assert resident() - before < LARGE / 4
    fill()
    assert resident() - before < LARGE / 4


def test_where_memory_is_short_none_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 2 * LARGE)
    before = resident()
    with freed_memory_kept(LARGE):
        fill()
        assert resident() - before < LARGE / 4


def test_it_is_given_back_where_the_training_fails() -> None:
    def failing() -> None:
        with freed_memory_kept(1):
            fill()
            raise ValueError("broken")

    before = resident()
    with pytest.raises(ValueError, match="broken"):
        failing()
    assert resident() - before < LARGE / 4


def test_without_glibc_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_HAS_GLIBC", False)
    before = resident()
    with freed_memory_kept(1):
        fill()
        assert resident() - before < LARGE / 4
