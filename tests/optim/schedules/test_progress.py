from __future__ import annotations

from autotune.optim.schedules import Progress


def test_progress_counts_updates_epochs_and_the_part_done() -> None:
    first, later = Progress(0, 4, 10), Progress(7, 4, 10)
    assert (first.made, first.updates, first.epoch, first.part) == (0, 40, 0, 0.0)
    assert (later.made, later.updates, later.epoch, later.part) == (7, 40, 1, 7 / 40)


def test_progress_past_the_end_is_the_end() -> None:
    assert Progress(99, 4, 10).part == 1.0


def test_progress_behind_a_warm_up_counts_from_there() -> None:
    first, later = Progress(3, 4, 10, begun_at=3), Progress(40, 4, 10, begun_at=3)
    assert (first.made, first.updates, first.epoch, first.part) == (0, 37, 0, 0.0)
    assert (later.made, later.updates, later.epoch, later.part) == (37, 37, 9, 1.0)
