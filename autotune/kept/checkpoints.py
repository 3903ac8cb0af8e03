"""Where the states of trials in training are kept, and what becomes of those nobody will take up."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

FOLDER = "checkpoints"
_SEED = "-seed"


class Checkpoints:
    """A study's folder of checkpoints, there as long as one is in it.

    Args:
        study: The study's folder.
    """

    def __init__(self, study: Path) -> None:
        self._folder = study / FOLDER

    def of_trial(self, number: int) -> Path:
        """A trial's checkpoint."""
        return self._folder / f"{number}.ckpt"

    def of_confirmation(self, number: int, seed: int) -> Path:
        """The checkpoint of a trial's config that is trained again with another seed."""
        return self._folder / f"{number}{_SEED}{seed}.ckpt"

    def drop(self, path: Path) -> None:
        """Remove the checkpoint of what has ended; one that cannot be removed is harmless."""
        with suppress(OSError):
            path.unlink(missing_ok=True)
            self._folder.rmdir()

    def sweep_trials(self, unended: Iterable[int]) -> None:
        """Remove all checkpoints of trials but of those that have not ended, and what a dead process half wrote."""
        kept = {self.of_trial(number) for number in unended}
        for path in [*self._folder.glob("*.ckpt"), *self._folder.glob(".*.new")]:
            if path not in kept and (path.suffix == ".new" or _SEED not in path.name):
                self.drop(path)

    def sweep_confirmations(self) -> None:
        """Remove the checkpoints of all confirmations."""
        for path in list(self._folder.glob(f"*{_SEED}*.ckpt")):
            self.drop(path)
