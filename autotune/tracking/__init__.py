"""Mirrors of a study: what a coordinator tells, a tracker shows elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from autotune.trial import Record


@dataclass(frozen=True, slots=True)
class Study:
    """Which study a search's runs are of; names come twice, where two homes share a store or one is begun anew.

    Attributes:
        name: What it is called.
        id: Its own, whatever it is called; None where it was kept before studies had one.
        known_as: The name by which runs without an id are its own; None where none of them is.
        aside: The study in whose place it was begun, under the name that one has since; None where there is none.
    """

    name: str
    id: str | None
    known_as: str | None = None
    aside: Study | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a search ended.

    Attributes:
        status: FINISHED, KILLED or FAILED.
        best: The winner; None where there is none.
        states: How many trials ended in each state.
        best_history: The best value so far, at each trial that improved it: pairs of trial number and value.
        files: To be shown with the search; those that are missing are left out.
        answer: What came of it, in Markdown; takes the place of the description where it is not empty.
        time: When, ms since 1970.
    """

    status: str
    best: Record | None = None
    states: Mapping[str, int] = field(default_factory=dict)
    best_history: Sequence[tuple[int, float]] = ()
    files: Sequence[Path] = ()
    answer: str = ""
    time: int = field(default_factory=lambda: time.time_ns() // 1_000_000)


class Tracker(Protocol):
    """Hears of a search as it goes; none of its calls waits for what it mirrors to, and none raises."""

    @property
    def ui_command(self) -> str:
        """The command that shows the mirror; empty where there is none."""

    def search_started(self, study: Study, settings: Mapping[str, Any], description: str, resumed: bool) -> None:
        """Hear that a search begins, or goes on."""

    def trial_started(self, record: Record) -> None:
        """Hear that a trial begins."""

    def trial_advanced(self, record: Record) -> None:
        """Hear of a trial's next epoch."""

    def trial_ended(self, record: Record) -> None:
        """Hear how a trial ended."""

    def search_ended(self, ending: Ending) -> None:
        """Hear how the search ended."""

    def close(self) -> None:
        """Write what is not yet written, for a bounded time."""

    def abandon(self) -> None:
        """Write nothing more: the study is another search's."""
