"""Imports that take no longer than they must, nor the end of a process that made them."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it the garbage collector rests: an import leaves no garbage, and looking for it costs a third on top."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def leave_unswept() -> None:
    """Have this process end without looking for garbage, which takes a second or two where torch or MLflow is loaded.

    What must be closed must be closed by itself: nothing is because nobody refers to it any more.
    """
    atexit.register(gc.freeze)
