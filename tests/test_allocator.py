from __future__ import annotations

import psutil
import pytest
import torch

from autotune import allocator
from autotune.allocator import freed_memory_kept, give_back

pytestmark = pytest.mark.skipif(not allocator._is_glibc(), reason="another C library")

LARGE = 2**28


def resident() -> int:
    return psutil.Process().memory_info().rss


def fill() -> None:
    torch.ones(LARGE // 4)


def test_freed_memory_stays_within_it_and_is_given_back_at_its_end() -> None:
    fill()
    before = resident()
    with freed_memory_kept():
        fill()
        within = resident()
    assert within - before > LARGE / 2
    assert resident() - before < LARGE / 4
    fill()
    assert resident() - before < LARGE / 4


def test_it_is_given_back_where_the_training_fails() -> None:
    def failing() -> None:
        with freed_memory_kept():
            fill()
            raise ValueError("broken")

    before = resident()
    with pytest.raises(ValueError, match="broken"):
        failing()
    assert resident() - before < LARGE / 4


def test_without_glibc_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_is_glibc", lambda: False)
    give_back()
    before = resident()
    with freed_memory_kept():
        fill()
        assert resident() - before < LARGE / 4
