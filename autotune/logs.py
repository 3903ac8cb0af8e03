"""What a command says: its own lines on the terminal, everything else in its log file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIBRARIES = (
    *("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities"),
    *("pytorch_lightning", "lightning_fabric"),  # the same again under its older name, which MLflow imports
    *("mlflow", "optuna", "alembic"),
)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Within it, autotune's lines go to the terminal and, with its details and all warnings, to a file."""
    file = logging.FileHandler(path, delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    terminal = logging.StreamHandler(sys.stdout)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    terminal.setLevel(logging.INFO)
    root, ours = logging.getLogger(), logging.getLogger("autotune")
    levels = {logger: logger.level for logger in (root, ours)}
    root.addHandler(file)
    ours.addHandler(terminal)
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.DEBUG)
    hush_libraries()
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(file)
        ours.removeHandler(terminal)
        for logger, level in levels.items():
            logger.setLevel(level)
        file.close()


def hush_libraries() -> None:
    """Keep the libraries' chatter off the terminal; their warnings still reach the log file.

    To be called again after one of them was imported, since some set their handlers and levels up on import.
    """
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers = [handler for handler in library.handlers if not isinstance(handler, logging.StreamHandler)]
        library.propagate = True
        library.setLevel(logging.WARNING)
