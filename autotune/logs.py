"""What a command says: its own lines on the terminal, everything else in its log file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIBRARIES = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities", "mlflow", "optuna", "alembic")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Within it, autotune's lines go to the terminal and, with those of the libraries and all warnings, to a file."""
    file = logging.FileHandler(path, delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    terminal = logging.StreamHandler(sys.stdout)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    root, ours = logging.getLogger(), logging.getLogger("autotune")
    levels = {logger: logger.level for logger in (root, ours)}
    root.addHandler(file)
    ours.addHandler(terminal)
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.INFO)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers = [handler for handler in library.handlers if not isinstance(handler, logging.StreamHandler)]
        library.propagate = True
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
