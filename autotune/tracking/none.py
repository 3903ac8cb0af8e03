"""No mirror: the study's own files are all there is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.tracking import Ending, Study
from autotune.trial import Record


class NoTracker:
    """Hears everything and does nothing (`autotune.tracking.Tracker`).

    Args:
        home: Not used; every tracker is given it.
    """

    ui_command = ""

    def __init__(self, home: Path | str) -> None:
        del home

    def search_started(self, study: Study, settings: Mapping[str, Any], description: str, resumed: bool) -> None:
        """Nothing."""

    def trial_started(self, record: Record) -> None:
        """Nothing."""

    def trial_advanced(self, record: Record) -> None:
        """Nothing."""

    def trial_ended(self, record: Record) -> None:
        """Nothing."""

    def search_ended(self, ending: Ending) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def abandon(self) -> None:
        """Nothing."""
